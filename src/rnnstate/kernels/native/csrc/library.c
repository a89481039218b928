/* The levels, and the choice among them. The compiler gets them as LEVELS, such as `LEVEL(baseline) LEVEL(avx2)`. */
#include <string.h>

#include "library.h"

#define LEVEL(name) extern const struct level name;
LEVELS
#undef LEVEL
#define LEVEL(name) &name,
static const struct level *const levels[] = {LEVELS};
static const struct level *chosen;

int64_t rnnstate_levels(void) { return sizeof levels / sizeof *levels; }

const char *rnnstate_level_name(int64_t level) { return levels[level]->name; }

int64_t rnnstate_has_level(int64_t level)
{
#ifdef __x86_64__
    __builtin_cpu_init();
    if (!strcmp(levels[level]->name, "avx2"))
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (!strcmp(levels[level]->name, "avx512"))
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("fma");
#endif
    return !strcmp(levels[level]->name, "baseline");
}

int64_t rnnstate_use_level(int64_t level)
{
    chosen = levels[level];
    return chosen->width;
}

int64_t rnnstate_width(void) { return chosen->width; }

static int64_t strips_of(int64_t columns) { return (columns + chosen->width - 1) / chosen->width; }

int64_t count_strips(const struct call *call)
{
    const struct array *recurrent = &call->arrays[RECURRENT], *kernel = &call->arrays[KERNEL];
    if (call->work == SUMS || is_empty(&call->arrays[STRIPS]))
        return 0;
    if (call->work == FORWARD)
        return strips_of(recurrent->sizes[2]) + (is_empty(kernel) ? 0 : strips_of(kernel->sizes[2]));
    return strips_of(call->work == BACK ? recurrent->sizes[1] : kernel->sizes[1]);
}

void pack_strips(const struct call *call, int64_t lo, int64_t hi) { chosen->pack(call, lo, hi); }

void rnnstate_pack(const struct call *call)
{
    int64_t strips = count_strips(call);
    if (strips)
        pack_strips(call, 0, strips);
}

void rnnstate_run(const struct call *call, int64_t lo, int64_t hi) { chosen->run(call, lo, hi); }

int64_t rnnstate_run_operations(const struct operation *operations, int64_t count)
{
    return chosen->run_operations(operations, count);
}
