/* The threads of a call stay on different cores.
 *
 * Linux sometimes wakes a helping thread on the core of the thread that called it, and leaves another core idle for 20 ms and
 * more. So each thread of a call marks its core. A thread that finds its core marked moves to a core that is not:
 *
 *     cores the thread may use     1 1 1 1
 *     marked                       0 1 0 0     by the thread that came first to core 1
 *     allowed for a moment         1 0 1 1     Linux moves the thread at once
 *     cores the thread may use     1 1 1 1     as before
 *
 * Without a free core, and on other systems, the threads stay where they are.
 */
#ifdef __linux__
#define _GNU_SOURCE
#include <sched.h>
#endif

#include "blocks.h"

#ifdef __linux__
enum { BITS = 64 };

/* Mark the core on which this thread runs. Return whether it was free. */
static int mark_core(struct blocks *blocks)
{
    int core = sched_getcpu();
    if (core < 0 || core >= CORES)
        return 1;
    uint64_t bit = 1ULL << core % BITS;
    return !(atomic_fetch_or(&blocks->cores[core / BITS], bit) & bit);
}

/* Leave out the marked cores. Return how many are left. */
static int keep_free(cpu_set_t *cores, const struct blocks *blocks)
{
    for (int core = 0; core < CORES; core++)
        if (atomic_load(&blocks->cores[core / BITS]) >> core % BITS & 1)
            CPU_CLR(core, cores);
    return CPU_COUNT(cores);
}

void move_apart(struct blocks *blocks)
{
    cpu_set_t allowed, others;
    if (!blocks->apart || mark_core(blocks) || sched_getaffinity(0, sizeof allowed, &allowed))
        return;
    others = allowed;
    if (keep_free(&others, blocks) && !sched_setaffinity(0, sizeof others, &others)) {
        sched_setaffinity(0, sizeof allowed, &allowed);
        mark_core(blocks);
    }
}
#else
void move_apart(struct blocks *blocks) { (void)blocks; }
#endif
