/* What the library offers to Python, by `ctypes`, and to XLA. A level must be chosen before the first call. */
#pragma once
#include "call.h"

#define OFFERED __attribute__((visibility("default")))

/* The number of levels in this library, the name of one, and whether the processor has its instructions. The last level is
 * the fastest. */
OFFERED int64_t rnnstate_levels(void);
OFFERED const char *rnnstate_level_name(int64_t level);
OFFERED int64_t rnnstate_has_level(int64_t level);
/* Use a level from now on. Return the width of its strips. */
OFFERED int64_t rnnstate_use_level(int64_t level);
/* Return the width of the strips of the chosen level. */
int64_t rnnstate_width(void);

/* Copy the kernels of a call into strips, if the call has strips. */
OFFERED void rnnstate_pack(const struct call *call);
/* Run the rows lo to hi of a loop, or the strips lo to hi of sums. */
OFFERED void rnnstate_run(const struct call *call, int64_t lo, int64_t hi);

/* Run operations. Return how many of them ran: all, or those before the first one whose indices are wrong. */
OFFERED int64_t rnnstate_run_operations(const struct operation *operations, int64_t count);

/* Run a call on so many threads of OpenMP, which `start` starts. They pack the kernels first. */
OFFERED void rnnstate_run_team(const struct call *call, int64_t threads,
                               void (*start)(void (*)(void *), void *, unsigned, unsigned));

/* How many strips the kernels of a call are copied into, and the copy of the strips lo to hi. */
int64_t count_strips(const struct call *call);
void pack_strips(const struct call *call, int64_t lo, int64_t hi);

/* Ask for large pages for the arrays that a call forward fills. */
void use_large_pages(const struct call *call);
