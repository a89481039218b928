#include "blocks.h"

#include <sched.h>

void cut(struct blocks *blocks, const struct call *call, int64_t parts, int64_t count)
{
    *blocks = (struct blocks){.call = call, .strips = count_strips(call), .parts = parts, .count = count};
    atomic_init(&blocks->next_strip, 0), atomic_init(&blocks->packed, 0);
    atomic_init(&blocks->next, 0), atomic_init(&blocks->done, 0);
}

/* Wait until a counter has counted everything. Another process may take the core meanwhile. */
static void wait(atomic_int_fast64_t *counter, int64_t all)
{
    while (atomic_load(counter) < all)
        sched_yield();
}

void take_blocks(struct blocks *blocks)
{
    int64_t parts = blocks->parts, count = blocks->count, number;
    while ((number = atomic_fetch_add(&blocks->next_strip, 1)) < blocks->strips) {
        pack_strips(blocks->call, number, number + 1);
        atomic_fetch_add(&blocks->packed, 1);
    }
    wait(&blocks->packed, blocks->strips);
    while ((number = atomic_fetch_add(&blocks->next, 1)) < count) {
        rnnstate_run(blocks->call, number * parts / count, (number + 1) * parts / count);
        atomic_fetch_add(&blocks->done, 1);
    }
}

void wait_for_blocks(struct blocks *blocks) { wait(&blocks->done, blocks->count); }
