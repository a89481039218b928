/* The loops for one level of instructions. This file is compiled once for each level, with `LEVEL` as its name. */
#include "rows.h"

static void pack_recurrent(const struct call *call)
{
    const struct array *kernel = &call->arrays[RECURRENT];
    pack(call->arrays[STRIPS].data, kernel->data, kernel->sizes[1], kernel->sizes[2]);
}

static void run(const struct call *call, long lo, long hi)
{
    if (call->back)
        rows_back(call, lo, hi);
    else
        rows_forward(call, lo, hi);
}

#define TEXT_OF(name) #name
#define TEXT(name) TEXT_OF(name)
const struct level LEVEL = {TEXT(LEVEL), WIDTH, pack_recurrent, run};
