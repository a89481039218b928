/* Blocks of rows on the threads of PyTorch.
 *
 * PyTorch computes with OpenMP, whose threads look for work again and again for a while after each operation. Additional
 * threads would have to share the cores with them, so the loops use the threads of OpenMP. Python finds the function that
 * starts them, `GOMP_parallel`. It returns when all threads have returned.
 */
#include <stdatomic.h>

#include "library.h"

typedef void start_team(void (*task)(void *), void *data, unsigned threads, unsigned flags);

/* What the threads share. The counter `taken` gives each block to exactly one thread: OpenMP may start fewer threads. */
struct shared {
    const struct call *call;
    int64_t parts, blocks;
    atomic_int_fast64_t taken;
};

static void take_blocks(void *data)
{
    struct shared *shared = data;
    int64_t parts = shared->parts, blocks = shared->blocks, block;
    while ((block = atomic_fetch_add(&shared->taken, 1)) < blocks)
        rnnstate_run(shared->call, block * parts / blocks, (block + 1) * parts / blocks);
}

void rnnstate_run_team(const struct call *call, int64_t parts, int64_t blocks, start_team *start)
{
    struct shared shared = {.call = call, .parts = parts, .blocks = blocks};
    atomic_init(&shared.taken, 0);
    start(take_blocks, &shared, blocks, 0);
}
