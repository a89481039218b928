/* Blocks of a call, for any threads. See blocks.h. */
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "blocks.h"
#include "library.h"

/* The least work of a block that repays a second thread, in multiplications with an addition. */
static const double WORTH_A_THREAD = 2e6;

int64_t parts_of(const struct call *call) { return call->arrays[call->work == SUMS ? STRIPS : X].sizes[0]; }

/* Return the multiplications with an addition of a call, over all parts. */
static double work_of(const struct call *call)
{
    const struct array *a = call->arrays, *of = &a[call->work == SUMS ? D_X : X];
    const int64_t *recurrent = a[RECURRENT].sizes, *kernel = a[KERNEL].sizes;
    if (call->work == SUMS)
        return (double)of->sizes[0] * of->sizes[1] * of->sizes[2] * (a[SUMS_H].sizes[1] + a[SUMS_X].sizes[1]);
    return (double)of->sizes[0] * of->sizes[1] *
           (recurrent[1] * recurrent[2] + (call->work == BACK ? 0 : kernel[1] * kernel[2]));
}

int64_t blocks_of(const struct call *call)
{
    int64_t blocks = work_of(call) / WORTH_A_THREAD, pairs = (parts_of(call) + 1) / 2;
    blocks = blocks < pairs ? blocks : pairs;
    return blocks < 1 ? 1 : blocks;
}

/* What the threads share. `users` counts the threads that still need this memory. */
struct shared {
    const struct call *call;
    int64_t parts, blocks;
    atomic_int_fast64_t taken, done, users;
};

static void leave(struct shared *shared)
{
    if (atomic_fetch_sub(&shared->users, 1) == 1)
        free(shared);
}

static void take_blocks(void *data)
{
    struct shared *shared = data;
    int64_t parts = shared->parts, blocks = shared->blocks, block;
    while ((block = atomic_fetch_add(&shared->taken, 1)) < blocks) {
        rnnstate_run(shared->call, block * parts / blocks, (block + 1) * parts / blocks);
        atomic_fetch_add(&shared->done, 1);
    }
    leave(shared);
}

void run_in_blocks(const struct call *call, int64_t blocks, schedule_task *schedule, const void *threads)
{
    struct shared *shared = blocks > 1 ? malloc(sizeof *shared) : 0;
    if (!shared) {
        rnnstate_run(call, 0, parts_of(call));
        return;
    }
    *shared = (struct shared){.call = call, .parts = parts_of(call), .blocks = blocks};
    atomic_init(&shared->taken, 0), atomic_init(&shared->done, 0), atomic_init(&shared->users, blocks + 1);
    for (int64_t other = 1; other < blocks; other++)
        if (!schedule(threads, take_blocks, shared))
            leave(shared);
    take_blocks(shared);
    while (atomic_load(&shared->done) < blocks)
        sched_yield();
    leave(shared);
}
