/* Blocks on the threads of PyTorch.
 *
 * PyTorch computes with OpenMP, whose threads look for work again and again for a while after each operation. Additional
 * threads would have to share the cores with them, so the loops use the threads of OpenMP. Python finds the function that
 * starts them, `GOMP_parallel`. It returns when all threads have returned. OpenMP may start fewer threads.
 */
#include "blocks.h"
#include "library.h"

typedef void start_team(void (*task)(void *), void *data, unsigned threads, unsigned flags);

static void take(void *blocks) { take_blocks(blocks); }

void rnnstate_run_team(const struct call *call, int64_t threads, start_team *start)
{
    struct blocks blocks;
    cut(&blocks, call, threads);
    start(take, &blocks, threads, 0);
}
