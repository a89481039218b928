/* A call in blocks: rows of a loop, or strips of sums, that several threads take from a shared counter.
 *
 *     calling thread     take a block, run it, take the next one, ...   then wait until all blocks are done
 *     other threads           take a block, run it, ...                 leave when no block is left
 *
 * The counter `taken` gives each block to exactly one thread. If the other threads come late or never, the calling thread
 * runs all blocks itself. It waits only for blocks that another thread has begun. The last thread to leave frees the memory.
 */
#pragma once
#include "call.h"

/* Let a thread call a function at some time. `threads` says which threads. Return whether they accepted it. */
typedef int schedule_task(const void *threads, void (*task)(void *), void *data);

/* Return how many rows or strips a call has. */
int64_t parts_of(const struct call *call);
/* Return in how many blocks a call repays as many threads. */
int64_t blocks_of(const struct call *call);
/* Run all parts of a call in so many blocks, on this thread and on those that `schedule` finds. */
void run_in_blocks(const struct call *call, int64_t blocks, schedule_task *schedule, const void *threads);
