/* Blocks on the threads of PyTorch.
 *
 * PyTorch computes with OpenMP, whose threads look for work again and again for a while after each operation. Additional
 * threads would have to share the cores with them, so the loops use the threads of OpenMP. Python finds the function that
 * starts them, `GOMP_parallel`. It returns when all threads have returned: also those that came too late for a block, because
 * another process had their core. So each call says what it has gained, and Python leaves the threads alone if they lose.
 * OpenMP may start fewer threads than blocks.
 */
#include <time.h>

#include "blocks.h"
#include "library.h"

typedef void start_team(void (*task)(void *), void *data, unsigned threads, unsigned flags);

/* `fastest` is the time of a block in the fastest thread, in nanoseconds. */
struct team {
    struct blocks blocks;
    atomic_int_fast64_t fastest;
};

static int64_t nanoseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static void note_time(struct team *team, int64_t taken)
{
    int_fast64_t fastest = atomic_load(&team->fastest);
    while (taken < fastest && !atomic_compare_exchange_weak(&team->fastest, &fastest, taken))
        ;
}

static void take(void *data)
{
    struct team *team = data;
    int64_t begin = nanoseconds(), blocks = take_blocks(&team->blocks);
    if (blocks)
        note_time(team, (nanoseconds() - begin) / blocks);
}

int64_t rnnstate_run_team(const struct call *call, int64_t count, start_team *start)
{
    struct team team;
    int64_t begin = nanoseconds();
    cut(&team.blocks, call, count);
    atomic_init(&team.fastest, INT64_MAX / count);
    start(take, &team, count, 0);
    return count * atomic_load(&team.fastest) - (nanoseconds() - begin);
}
