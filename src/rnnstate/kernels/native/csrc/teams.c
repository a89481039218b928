/* Blocks of rows on the threads of PyTorch.
 *
 * PyTorch computes with OpenMP, whose threads look for work again and again for a while after each operation. Additional
 * threads would have to share the cores with them, so the loops use the threads of OpenMP. Python finds the function that
 * starts them, `GOMP_parallel`. It returns when all threads have returned: also those that came too late for a block, because
 * another process had their core. So each call says what it has gained, and Python leaves the threads alone if they lose.
 */
#include <stdatomic.h>
#include <time.h>

#include "library.h"

typedef void start_team(void (*task)(void *), void *data, unsigned threads, unsigned flags);

/* What the threads share. The counter `taken` gives each block to exactly one thread: OpenMP may start fewer threads.
 * `fastest` is the time of the fastest block, in nanoseconds. */
struct shared {
    const struct call *call;
    int64_t parts, blocks;
    atomic_int_fast64_t taken, fastest;
};

static int64_t nanoseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static void note_time(struct shared *shared, int64_t taken)
{
    int_fast64_t fastest = atomic_load(&shared->fastest);
    while (taken < fastest && !atomic_compare_exchange_weak(&shared->fastest, &fastest, taken))
        ;
}

static void take_blocks(void *data)
{
    struct shared *shared = data;
    int64_t parts = shared->parts, blocks = shared->blocks, block;
    while ((block = atomic_fetch_add(&shared->taken, 1)) < blocks) {
        int64_t begin = nanoseconds();
        rnnstate_run(shared->call, block * parts / blocks, (block + 1) * parts / blocks);
        note_time(shared, nanoseconds() - begin);
    }
}

int64_t rnnstate_run_team(const struct call *call, int64_t parts, int64_t blocks, start_team *start)
{
    struct shared shared = {.call = call, .parts = parts, .blocks = blocks};
    int64_t begin = nanoseconds();
    atomic_init(&shared.taken, 0), atomic_init(&shared.fastest, INT64_MAX / blocks);
    start(take_blocks, &shared, blocks, 0);
    return blocks * atomic_load(&shared.fastest) - (nanoseconds() - begin);
}
