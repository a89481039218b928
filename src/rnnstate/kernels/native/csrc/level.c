/* The loops for one level of instructions. This file is compiled once for each level, with `LEVEL` as its name. */
#include "operations.h"
#include "sums.h"

static void pack_kernels(const struct call *call)
{
    const struct array *input = &call->arrays[KERNEL];
    const struct array *kernel = call->work == GRADIENT_OF_X ? input : &call->arrays[RECURRENT];
    float *strips = call->arrays[STRIPS].data;
    if (call->work != FORWARD) {
        pack_turned(strips, kernel->data, kernel->sizes[2], kernel->sizes[1]);
        return;
    }
    pack(strips, kernel->data, kernel->sizes[1], kernel->sizes[2]);
    if (!is_empty(input))
        pack(strips + strips_size(kernel->sizes[1], kernel->sizes[2]), input->data, input->sizes[1], input->sizes[2]);
}

/* Rows that go through the window together. The rows of a step, and their scratch, then stay in the caches next to the core.
 * Fewer rows would read the strips too often. */
enum { GROUP = 24 };

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
