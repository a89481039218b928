/* The loops for one level of instructions. This file is compiled once for each level, with `LEVEL` as its name. */
#include "operations.h"
#include "sums.h"

static long least(long one, long other) { return one < other ? one : other; }

/* The strips of the recurrent kernel come first, and then those of the kernel of the input. */
static void pack_kernels(const struct call *call, long lo, long hi)
{
    const struct array *input = &call->arrays[KERNEL];
    const struct array *kernel = call->work == GRADIENT_OF_X ? input : &call->arrays[RECURRENT];
    float *strips = call->arrays[STRIPS].data;
    if (call->work != FORWARD) {
        pack_turned(strips, kernel->data, kernel->sizes[2], kernel->sizes[1], lo, hi);
        return;
    }
    long inner = kernel->sizes[1], columns = kernel->sizes[2], first = count_strips_of(columns);
    pack(strips, kernel->data, inner, columns, lo, least(hi, first));
    if (hi > first)
        pack(strips + strips_size(inner, columns), input->data, input->sizes[1], columns, lo > first ? lo - first : 0, hi - first);
}

static void run(const struct call *call, long lo, long hi)
{
    if (call->work == SUMS) {
        sum_both(call, lo, hi);
        return;
    }
    if (call->work == GRADIENT_OF_X) {
        project(call, lo, hi);
        return;
    }
    long rows = hi - lo, groups = (rows + GROUP - 1) / GROUP;
    for (long group = 0; group < groups; group++) {
        long first = lo + group * rows / groups, end = lo + (group + 1) * rows / groups;
        if (call->work == BACK)
            rows_back(call, first, end);
        else
            rows_forward(call, first, end);
    }
}

#define TEXT_OF(name) #name
#define TEXT(name) TEXT_OF(name)
const struct level LEVEL = {TEXT(LEVEL), WIDTH, pack_kernels, run, run_operations};
