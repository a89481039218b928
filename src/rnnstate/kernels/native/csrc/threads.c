/* Blocks of rows on the threads of XLA.
 *
 * The threads of XLA look for work again and again while they wait. Additional threads would have to share the cores with
 * them, so the loops use the threads of XLA.
 *
 *     thread that XLA called     take a block, run it, take the next one, ...   then wait until all blocks are done
 *     other threads of XLA            take a block, run it, ...                 leave when no block is left
 *
 * The counter `taken` gives each block to exactly one thread. If the other threads come late or never, the calling thread
 * runs all blocks itself. It waits only for blocks that another thread has begun. The last thread to leave frees the memory.
 */
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "library.h"
#include "xla.h"

/* The least work of a block that repays a second thread, in multiplications with an addition. */
static const double WORTH_A_THREAD = 2e6;

/* The places of two functions in XLA's table of functions, in bytes. Python reads them in the header of JAX. */
static int64_t schedule_place, count_place;

OFFERED void rnnstate_use_pool(int64_t schedule_at, int64_t count_at)
{
    schedule_place = schedule_at, count_place = count_at;
}

/* Call a function of the table. It returns an error, or null. */
static void *call_xla(const struct frame *frame, int64_t place, void *given)
{
    void *(*const *function)(void *) = (void *(*const *)(void *))(frame->api + place);
    return (*function)(given);
}

int64_t count_threads(const struct frame *frame)
{
    int64_t count = 1;
    struct count_call given = {sizeof given, 0, frame->ctx, &count};
    return call_xla(frame, count_place, &given) ? 1 : count;
}

int schedule(const struct frame *frame, void (*task)(void *), void *data)
{
    struct schedule_call given = {sizeof given, 0, frame->ctx, task, data};
    return !call_xla(frame, schedule_place, &given);
}

/* What the threads share. `users` counts the threads that still need this memory. */
struct shared {
    const struct call *call;
    int64_t rows, blocks;
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
    int64_t rows = shared->rows, blocks = shared->blocks, block;
    while ((block = atomic_fetch_add(&shared->taken, 1)) < blocks) {
        rnnstate_run(shared->call, block * rows / blocks, (block + 1) * rows / blocks);
        atomic_fetch_add(&shared->done, 1);
    }
    leave(shared);
}

/* Return in how many blocks to run: each thread gets one, if its work repays the thread. */
static int64_t blocks_of(const struct frame *frame, int64_t rows, double work)
{
    int64_t blocks = work / WORTH_A_THREAD, pairs = (rows + 1) / 2, threads;
    blocks = blocks < pairs ? blocks : pairs;
    if (blocks < 2)
        return 1;
    threads = count_threads(frame);
    return threads < 1 ? 1 : blocks < threads ? blocks : threads;
}

/* `work` counts the multiplications with an addition, over all rows. */
void run_in_blocks(const struct frame *frame, const struct call *call, int64_t rows, double work)
{
    int64_t blocks = blocks_of(frame, rows, work);
    struct shared *shared = blocks > 1 ? malloc(sizeof *shared) : 0;
    if (!shared) {
        rnnstate_run(call, 0, rows);
        return;
    }
    *shared = (struct shared){.call = call, .rows = rows, .blocks = blocks};
    atomic_init(&shared->taken, 0), atomic_init(&shared->done, 0), atomic_init(&shared->users, blocks + 1);
    for (int64_t other = 1; other < blocks; other++)
        if (!schedule(frame, take_blocks, shared))
            leave(shared);
    take_blocks(shared);
    while (atomic_load(&shared->done) < blocks)
        sched_yield();
    leave(shared);
}
