/* What the operator of TensorFlow does: it fills a `struct call`, or two, from its inputs, and runs it.
 *
 *     work           numbers                                                          results
 *     FORWARD        x, kernel, recurrent, state, initial, bias                       h, gates, kept, final, outputs
 *     BACK           recurrent, h, state, initial, d_outputs, d_final, gates, kept    d_x, d_kept, d_state, d_initial
 *     SUMS           x, h, d_x, state, initial, d_kept                                d_kernel, d_recurrent, d_bias
 *     GRADIENT_OF_X  d_x, kernel                                                      gradient of x
 *
 * `state`, `initial`, `final` and their gradients are one array for each leaf, (batch, units), but only that of h for SUMS.
 * `initial` and `d_initial` are there with resets, and `bias` if `biases` is 1. `outputs` are there if `holds` is 1: the
 * outputs at masked steps then are not h. `kept` and `d_kept` are there for an LSTM and a GRU, and those of SUMS for a GRU.
 * `rows.h` and `sums.h` describe the arrays.
 */
#include <string.h>

#include "held.h"
#include "library.h"
#include "pool.h"
#include "tensorflow.h"

static int gates_of(const struct run *run) { return run->cell == LSTM ? 4 : run->cell == GRU ? 3 : 1; }
static int leaves_of(const struct run *run) { return run->cell == LSTM ? 2 : 1; }

/* Return the units of a kernel. */
static int64_t units_of(struct run *run, int64_t width)
{
    if (!run->failed && width % gates_of(run))
        fail(run, "A kernel of a native loop must have columns for all gates.");
    return width / gates_of(run);
}

static void copy_array(float *to, const float *from, int64_t count) { memcpy(to, from, count * sizeof(float)); }

/* Return leaves as one array, (leaves, batch, units). */
static struct array take_leaves(struct run *run, int64_t batch, int64_t units)
{
    if (leaves_of(run) == 1)
        return take(run, 2, 1, batch, units);
    struct array all = scratch(run, leaves_of(run), batch, units);
    for (int leaf = 0; leaf < leaves_of(run); leaf++) {
        struct array one = take(run, 2, 1, batch, units);
        if (!run->failed)
            copy_array(place(&all, leaf, 0), one.data, batch * units);
    }
    return all;
}

/* Return an array for leaves that the call fills. `give_leaves` then makes them results. */
static struct array place_of_leaves(struct run *run, int64_t batch, int64_t units)
{
    return leaves_of(run) == 1 ? give(run, 2, 1, batch, units) : scratch(run, leaves_of(run), batch, units);
}

static void give_leaves(struct run *run, const struct array *all)
{
    for (int leaf = 0; leaves_of(run) > 1 && leaf < leaves_of(run); leaf++) {
        struct array one = give(run, 2, 1, all->sizes[1], all->sizes[2]);
        if (!run->failed)
            copy_array(one.data, place(all, leaf, 0), all->sizes[1] * all->sizes[2]);
    }
}

/* Return scratch for the columns of a matrix in strips of so many lines. */
static struct array strips_of(struct run *run, int64_t lines, int64_t columns)
{
    int64_t width = rnnstate_width();
    return scratch(run, (columns + width - 1) / width, lines, width);
}

/* Fewer rows of a step, and of all steps, do not repay to lay a kernel in strips. */
static int lie_in_strips(int64_t rows, int64_t steps) { return rows >= 4 && rows * steps >= 16; }

/* Let a call multiply by the transpose of a kernel: laid in strips, or transposed here for few rows. */
static void turn_kernel(struct run *run, struct call *call, int number, int64_t rows, int64_t steps)
{
    struct array *kernel = &call->arrays[number];
    int64_t lines = kernel->sizes[1], columns = kernel->sizes[2];
    if (lie_in_strips(rows, steps)) {
        call->arrays[STRIPS] = strips_of(run, columns, lines);
        return;
    }
    struct array turned = scratch(run, 1, columns, lines);
    for (int64_t line = 0; !run->failed && line < lines; line++)
        for (int64_t column = 0; column < columns; column++)
            place(&turned, 0, column)[line] = place(kernel, 0, line)[column];
    *kernel = turned;
}

static void run_loop(const struct run *run, const struct call *call)
{
    if (run->failed)
        return;
    use_large_pages(call);
    run_on_pool(call);
}

/* Set the biases of the input and of the recurrent product. Only a GRU has the second one. */
static void take_biases(struct run *run, struct call *call, int64_t width)
{
    struct array *a = call->arrays;
    a[INPUT_BIAS] = run->biases ? take(run, 1 + (run->cell == GRU), 1, 2 - (run->cell != GRU), width) : scratch(run, 1, 1, width);
    if (!run->failed && !run->biases)
        memset(a[INPUT_BIAS].data, 0, width * sizeof(float));
    if (!run->failed && run->biases && run->cell == GRU)
        a[BIAS] = (struct array){place(&a[INPUT_BIAS], 0, 1), {1, 1, width}};
    a[INPUT_BIAS].sizes[1] = 1;
}

static void run_forward(struct run *run)
{
    struct call call = {run->cell, FORWARD, {{0}}};
    struct array *a = call.arrays;
    a[GIVEN] = take(run, 3, ANY, ANY, ANY);
    const int64_t batch = a[GIVEN].sizes[0], time = a[GIVEN].sizes[1], features = a[GIVEN].sizes[2];
    a[KERNEL] = take(run, 2, 1, features, ANY);
    const int64_t width = a[KERNEL].sizes[2], units = units_of(run, width);
    a[RECURRENT] = take(run, 2, 1, units, width);
    a[START] = take_leaves(run, batch, units);
    if (run->resets)
        a[INITIAL] = take_leaves(run, batch, units);
    take_biases(run, &call, width);
    if (run->masks)
        a[MASK] = take(run, 2, 1, batch, time);
    if (run->resets)
        a[RESET] = take(run, 2, 1, batch, time);
    a[OUTPUTS] = give(run, 3, batch, time, units);
    a[X] = give(run, 3, batch, time, width);
    if (run->cell != RNN)
        a[KEPT] = give(run, 3, batch, time, units);
    a[FINAL] = place_of_leaves(run, batch, units);
    a[SPARE] = scratch(run, batch, 1, width + features);
    if (lie_in_strips(batch, time))
        a[STRIPS] = strips_of(run, units + features, width);
    run_loop(run, &call);
    give_leaves(run, &a[FINAL]);
    if (run->holds) {
        struct array outputs = give(run, 3, batch, time, units);
        if (!run->failed)
            hold(&outputs, &a[OUTPUTS], &a[MASK]);
    }
}

/* Replace the gradient of the outputs by that of h. */
static void hold_gradient(struct run *run, struct array *a)
{
    struct array d_h = scratch(run, a[D_OUTPUTS].sizes[0], a[D_OUTPUTS].sizes[1], a[D_OUTPUTS].sizes[2]);
    if (!run->failed)
        hold_back(&d_h, &a[D_OUTPUTS], &a[MASK]);
    a[D_OUTPUTS] = d_h;
}

static void run_back(struct run *run)
{
    struct call call = {run->cell, BACK, {{0}}};
    struct array *a = call.arrays;
    a[RECURRENT] = take(run, 2, 1, ANY, ANY);
    const int64_t width = a[RECURRENT].sizes[2], units = units_of(run, width);
    if (!run->failed && a[RECURRENT].sizes[1] != units)
        fail(run, "A recurrent kernel of a native loop must have a row for each unit.");
    a[OUTPUTS_BEFORE] = take(run, 3, ANY, ANY, units);
    const int64_t batch = a[OUTPUTS_BEFORE].sizes[0], time = a[OUTPUTS_BEFORE].sizes[1];
    a[START] = take_leaves(run, batch, units);
    if (run->resets)
        a[INITIAL] = take_leaves(run, batch, units);
    a[D_OUTPUTS] = take(run, 3, batch, time, units);
    a[D_FINAL] = take_leaves(run, batch, units);
    a[X] = take_over(run, batch, time, width);
    if (run->cell == LSTM)
        a[KEPT_BACK] = take(run, 3, batch, time, units);
    else if (run->cell == GRU)
        a[KEPT_BACK] = take_over(run, batch, time, units);
    if (run->masks)
        a[MASK] = take(run, 2, 1, batch, time);
    if (run->holds)
        hold_gradient(run, a);
    if (run->resets)
        a[RESET] = take(run, 2, 1, batch, time);
    a[D_START] = place_of_leaves(run, batch, units);
    a[D_INITIAL] = run->resets ? place_of_leaves(run, batch, units) : scratch(run, leaves_of(run), batch, units);
    a[SPARE] = scratch(run, batch, 1, width);
    turn_kernel(run, &call, TRANSPOSED, batch, time);
    run_loop(run, &call);
    give_leaves(run, &a[D_START]);
    if (run->resets)
        give_leaves(run, &a[D_INITIAL]);
}

/* Set the scratch of sums: blocks of both left factors, and the strips of the right factor and of both results. Lines at a
 * distance of a large power of two would share few places of a cache, so a line is an odd number of cache lines. */
static void scratch_of_sums(struct run *run, struct array *a, int64_t columns, int64_t width)
{
    enum { STEPS = 128 };
    int64_t line = ((columns + 1) / 16 + 1) | 1;
    a[STRIPS] = strips_of(run, STEPS + columns + 2, width);
    a[SPARE] = scratch(run, a[STRIPS].sizes[0], STEPS, line * 16);
}

/* Give rows of a result of sums, from one on. */
static void give_rows(struct run *run, const struct array *sums, int64_t rows)
{
    struct array result = give(run, 2, 1, rows, sums->sizes[2]);
    if (!run->failed)
        copy_array(result.data, sums->data, rows * sums->sizes[2]);
}

/* Give the gradient of the bias: the last row of a sum, or of both sums. */
static void give_bias(struct run *run, const struct array *a)
{
    const int is_gru = run->cell == GRU;
    const int64_t width = a[SUMS_X].sizes[2];
    struct array result = give(run, 1 + is_gru, 1, 1 + is_gru, width);
    if (run->failed)
        return;
    copy_array(result.data, place(&a[SUMS_X], 0, a[SUMS_X].sizes[1] - 1), width);
    if (is_gru)
        copy_array(place(&result, 0, 1), place(&a[SUMS_H], 0, a[SUMS_H].sizes[1] - 1), width);
}

static void run_sums(struct run *run)
{
    struct call call = {run->cell, SUMS, {{0}}};
    struct array *a = call.arrays;
    const int is_gru = run->cell == GRU;
    a[GIVEN] = take(run, 3, ANY, ANY, ANY);
    const int64_t batch = a[GIVEN].sizes[0], time = a[GIVEN].sizes[1], features = a[GIVEN].sizes[2];
    a[BEFORE] = take(run, 3, batch, time, ANY);
    const int64_t units = a[BEFORE].sizes[2], width = units * gates_of(run);
    a[D_X] = take(run, 3, batch, time, width);
    a[START] = take(run, 2, 1, batch, units);
    if (run->resets)
        a[INITIAL] = take(run, 2, 1, batch, units);
    if (is_gru)
        a[D_KEPT] = take(run, 3, batch, time, units);
    if (run->resets)
        a[RESET] = take(run, 2, 1, batch, time);
    a[SUMS_X] = scratch(run, 1, features + 1, width);
    a[SUMS_H] = scratch(run, 1, units + is_gru, width);
    scratch_of_sums(run, a, units + features, width);
    if (!run->failed)
        run_on_pool(&call);
    give_rows(run, &a[SUMS_X], features);
    give_rows(run, &a[SUMS_H], units);
    give_bias(run, a);
}

static void run_gradient_of_x(struct run *run)
{
    struct call call = {run->cell, GRADIENT_OF_X, {{0}}};
    struct array *a = call.arrays;
    a[GIVEN] = take(run, 3, ANY, ANY, ANY);
    const int64_t batch = a[GIVEN].sizes[0], time = a[GIVEN].sizes[1];
    a[KERNEL] = take(run, 2, 1, ANY, a[GIVEN].sizes[2]);
    const int64_t features = a[KERNEL].sizes[1];
    a[INPUT_BIAS] = scratch(run, 1, 1, features);
    if (!run->failed)
        memset(a[INPUT_BIAS].data, 0, features * sizeof(float));
    a[X] = give(run, 3, batch, time, features);
    turn_kernel(run, &call, KERNEL, batch * time, 1);
    run_loop(run, &call);
}

void run_operator(struct run *run)
{
    static void (*const works[])(struct run *) = {
        [FORWARD] = run_forward, [BACK] = run_back, [SUMS] = run_sums, [GRADIENT_OF_X] = run_gradient_of_x};
    works[run->work](run);
}
