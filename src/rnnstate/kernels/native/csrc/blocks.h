/* A call in blocks: rows of a loop, or strips of sums. Any number of threads share them, and each takes what is left. A thread
 * that must share its core with another process takes fewer:
 *
 *     strips of the kernels     0 1 2 3 ...     taken one by one, and packed
 *     blocks                    0 1 ...         taken one by one, and run, once all strips are packed
 *
 * Each counter `next` gives a number to exactly one thread. A thread that comes late, or never, does no harm: the others take
 * all blocks. A thread waits only for strips, and the calling thread for blocks, that another thread has begun.
 */
#pragma once
#include <stdatomic.h>

#include "call.h"

/* `apart`: whether the call repays moves of threads to other cores. `cores` has a bit for each core on which a thread takes
 * blocks. */
enum { CORES = 1024 };
struct blocks {
    const struct call *call;
    int64_t strips, parts, count, apart;
    atomic_int_fast64_t next_strip, packed, next, done;
    atomic_uint_fast64_t cores[CORES / 64];
};

/* Return how many threads a call repays. */
int64_t threads_for(const struct call *call);
/* Cut a call into blocks for so many threads. */
void cut(struct blocks *blocks, const struct call *call, int64_t threads);
/* If the call repays it, move this thread to a core on which no other thread of the call runs. */
void move_apart(struct blocks *blocks);
/* Take strips and blocks until none is left. */
void take_blocks(struct blocks *blocks);

/* Let a thread call a function at some time. `pool` says which threads. Return whether they accepted it. */
typedef int schedule_task(const void *pool, void (*task)(void *), void *data);
/* Run a call on so many threads: this one, and those that `schedule` finds in `pool`. */
void run_in_blocks(const struct call *call, int64_t threads, schedule_task *schedule, const void *pool);
