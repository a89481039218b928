/* The blocks of one call. Any number of threads share them, and each thread takes what is left:
 *
 *     strips of the kernels     0 1 2 3 ...     taken one by one, and packed
 *     blocks of rows            0 1 ...         taken one by one, and run, once all strips are packed
 *
 * Each counter `next` gives a number to exactly one thread. A thread that comes late, or never, does no harm: the others take
 * all blocks. A thread waits only for strips that another thread has begun.
 */
#pragma once
#include <stdatomic.h>

#include "library.h"

struct blocks {
    const struct call *call;
    int64_t strips, parts, count;
    atomic_int_fast64_t next_strip, packed, next, done;
};

/* Cut the parts of a call into so many blocks: rows of a loop, or strips of sums. */
void cut(struct blocks *blocks, const struct call *call, int64_t parts, int64_t count);
/* Take strips and blocks until none is left. */
void take_blocks(struct blocks *blocks);
/* Wait until all blocks are done. */
void wait_for_blocks(struct blocks *blocks);
