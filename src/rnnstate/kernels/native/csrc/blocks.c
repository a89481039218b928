#include "blocks.h"

#include <sched.h>

#include "library.h"

/* The work of a thread that repays a second thread, in multiplications with an addition. */
static const double WORTH_A_THREAD = 2e6;

/* The least work of a call that repays moves of threads, in the same unit: a few milliseconds. A move takes some 50 us. */
static const double WORTH_A_MOVE = 5e8;

/* Return how many rows or strips a call has. */
static int64_t parts_of(const struct call *call) { return call->arrays[call->work == SUMS ? STRIPS : X].sizes[0]; }

/* Return the multiplications with an addition of a call. */
static double work_of(const struct call *call)
{
    const struct array *a = call->arrays, *of = &a[call->work == SUMS ? D_X : X];
    const int64_t *recurrent = a[RECURRENT].sizes, *kernel = a[KERNEL].sizes;
    double steps = (double)of->sizes[0] * of->sizes[1];
    if (call->work == SUMS)
        return steps * of->sizes[2] * (a[SUMS_H].sizes[1] + a[SUMS_X].sizes[1]);
    return steps * (recurrent[1] * recurrent[2] + (call->work == BACK ? 0 : kernel[1] * kernel[2]));
}

int64_t threads_for(const struct call *call)
{
    int64_t threads = work_of(call) / WORTH_A_THREAD, pairs = (parts_of(call) + 1) / 2;
    threads = threads < pairs ? threads : pairs;
    return threads < 1 ? 1 : threads;
}

/* Return the number of blocks: each thread has as many, with at most GROUP rows. A block of sums copies a factor that the
 * other blocks copy too, so there each thread has one. */
static int64_t blocks_of(const struct call *call, int64_t threads)
{
    int64_t parts = parts_of(call), per_thread = (parts + threads * GROUP - 1) / (threads * GROUP);
    if (call->work == SUMS || threads == 1)
        return threads;
    return threads * per_thread < parts ? threads * per_thread : parts;
}

void cut(struct blocks *blocks, const struct call *call, int64_t threads)
{
    int64_t count = blocks_of(call, threads);
    *blocks = (struct blocks){.call = call, .strips = count_strips(call), .parts = parts_of(call), .count = count};
    blocks->apart = threads > 1 && work_of(call) >= WORTH_A_MOVE;
    atomic_init(&blocks->next_strip, 0), atomic_init(&blocks->packed, 0);
    atomic_init(&blocks->next, 0), atomic_init(&blocks->done, 0);
}

void take_blocks(struct blocks *blocks)
{
    int64_t parts = blocks->parts, count = blocks->count, number;
    move_apart(blocks);
    while ((number = atomic_fetch_add(&blocks->next_strip, 1)) < blocks->strips) {
        pack_strips(blocks->call, number, number + 1);
        atomic_fetch_add(&blocks->packed, 1);
    }
    while (atomic_load(&blocks->packed) < blocks->strips)
        sched_yield();
    while ((number = atomic_fetch_add(&blocks->next, 1)) < count) {
        rnnstate_run(blocks->call, number * parts / count, (number + 1) * parts / count);
        atomic_fetch_add(&blocks->done, 1);
    }
}
