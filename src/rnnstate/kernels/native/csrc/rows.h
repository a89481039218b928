/* The loops: some rows of a batch run through all steps of a window, forward or back.
 *
 * The rows of a batch do not depend on each other. Each core therefore takes a block of rows through the whole window and
 * waits for no other core. Masked steps and resets mean the same as in kernels/loops/definition.py. One step of the forward
 * loop reads and writes these places, for the rows lo to hi. A wide loop projects its input in the step, and the array X of a
 * narrow one is filled before:
 *
 *     t - 1          t                              t + 1
 *     h, c  ------>  spare = x[:, t] + h @ recurrent,  or wide:  bias + given[:, t] @ kernel + h @ recurrent
 *                    x[:, t] = gates
 *                    cell(spare, h, c)  --------->  h, c
 *                    outputs[:, t] = h,  kept[:, t] = c
 *
 * The rows of SPARE lie next to each other in memory, and those of x[:, t] do not. Rows whose distance is a large power of
 * two would share few places of a cache, so both factors and the result of the product are read and written in SPARE.
 *
 * The arrays, by their names in `call.h`:
 *
 *     START       leaves before the window, (leaves, batch, units)
 *     INITIAL     leaves at which a row starts after a reset, like START
 *     MASK        (batch, time), not 0 at valid steps, or empty
 *     RESET       (batch, time), not 0 where a row is reset before the step, or empty
 *     RECURRENT   recurrent kernel, (units, gates * units)
 *     BIAS        bias of the recurrent product of a GRU, (3 * units), or empty
 *     GIVEN       input that this loop projects to X, (batch, time, features), or empty
 *     KERNEL      kernel of the input, (features, gates * units), or empty
 *     INPUT_BIAS  bias of the projected input, (gates * units), or empty
 *     X           projected input, (batch, time, gates * units); the gates overwrite it, with zeros at masked steps
 *     OUTPUTS     receives h, (batch, time, units)
 *     KEPT        receives c of an LSTM, or the last third of the recurrent product of a GRU, (batch, time, units)
 *     FINAL       receives the leaves after the window, like START
 *     SPARE       scratch, (batch, 1, gates * units + features)
 *     STRIPS      the recurrent kernel in strips, then the kernel of the input, or empty
 *
 * The way back:
 *
 *     TRANSPOSED  with STRIPS, the recurrent kernel, which is transposed while it is laid in strips; without STRIPS, the
 *                 transposed kernel, (gates * units, units)
 *     SPARE       scratch, (batch, 1, gates * units), which holds the left factor of the product
 *     D_OUTPUTS   gradient of the outputs, (batch, time, units)
 *     D_FINAL     gradient of the leaves after the window, like START
 *     X           the gates; the gradient of the projected input overwrites them
 *     KEPT_BACK   what KEPT received; for a GRU, the gradient of the same product overwrites it
 *     D_START     receives the gradient of the leaves before the window, like START
 *     D_INITIAL   receives the gradient of the leaves after a reset, like START
 *
 * The gradient of x:
 *
 *     GIVEN       gradient of the projected input, (batch, time, gates * units)
 *     KERNEL      kernel of the input, with and without STRIPS like TRANSPOSED
 *     INPUT_BIAS  zeros, (features)
 *     X           receives GIVEN @ transposed kernel, (batch, time, features)
 */
#pragma once
#include "call.h"
#include "cells.h"
#include "products.h"

INLINE void fill(float *to, long count) { memset(to, 0, count * sizeof(float)); }

INLINE void add(float *to, const float *from, long count)
{
    for (long u = 0; u < count; u++)
        to[u] += from[u];
}

/* Return a kernel as a factor. Strips of the way back and of a gradient of x hold the transposed kernel. */
static struct matrix factor(const struct call *call, const struct array *kernel, const float *strips)
{
    int turned = strips && call->work != FORWARD;
    return (struct matrix){kernel->sizes[1 + turned], kernel->sizes[2 - turned], kernel->data, strips};
}

static struct matrix recurrent(const struct call *call)
{
    const struct array *strips = &call->arrays[STRIPS];
    return factor(call, &call->arrays[RECURRENT], is_empty(strips) ? 0 : strips->data);
}

/* The strips of the kernel of the input follow those of the recurrent kernel. */
static struct matrix input_kernel(const struct call *call)
{
    struct matrix first = recurrent(call);
    return factor(call, &call->arrays[KERNEL], first.strips ? first.strips + strips_size(first.inner, first.columns) : 0);
}

/* Return the rows of an array (batch, time, width) from a row on, at a step. */
static struct rows rows_at(const struct array *array, long row, long t)
{
    return (struct rows){place(array, row, t), array->sizes[1] * array->sizes[2]};
}

/* Return the rows of a leaf of an array (leaves, batch, width). */
static struct rows leaf_at(const struct array *array, long leaf, long row)
{
    return (struct rows){place(array, leaf, row), array->sizes[2]};
}

/* Return rows of an array (batch, time, width) at a step as an area to ask for. */
static struct area area_at(const struct array *array, long lo, long hi, long t)
{
    return (struct area){rows_at(array, lo, t), is_empty(array) ? 0 : hi - lo, array->sizes[2]};
}

static void reset_rows(const struct call *call, long lo, long hi, long t)
{
    const struct array *a = call->arrays;
    for (long row = lo; row < hi; row++)
        for (long leaf = 0; flag(&a[RESET], row, t, 0) && leaf < a[START].sizes[0]; leaf++)
            copy(place(&a[FINAL], leaf, row), place(&a[INITIAL], leaf, row), a[START].sizes[2]);
}

/* From this width on, a loop is wide: its rows of X do not stay in the caches next to the core from one pass to the next. */
enum { WIDE = 512 };

/* Steps of all rows whose input is projected together: their input stays in the caches next to the core. */
enum { PROJECTED = 48 };

/* Return the rows that are projected next. Narrow rows come from the caches in time. */
static struct ahead ahead_of_projection(struct rows given, long left, long columns, long tiles)
{
    struct ahead ahead = {{{given, left < PROJECTED ? left : PROJECTED, columns}}};
    if (columns >= WIDE / 2)
        share_lines(&ahead, tiles);
    return ahead;
}

/* Write the projected input of all steps of some rows. They lie next to each other in memory. */
static void project(const struct call *call, long lo, long hi)
{
    const struct array *a = call->arrays;
    struct rows bias = {a[INPUT_BIAS].data, 0}, given = {place(&a[GIVEN], lo, 0), a[GIVEN].sizes[2]};
    struct rows x = {place(&a[X], lo, 0), a[X].sizes[2]};
    struct matrix kernel = input_kernel(call);
    for (long left = (hi - lo) * a[X].sizes[1], count; left > 0; left -= count) {
        count = left < PROJECTED ? left : PROJECTED;
        struct rows after = moved(given, count, 0);
        struct ahead ahead = ahead_of_projection(after, left - count, a[GIVEN].sizes[2], tiles_of_product(count, &kernel));
        add_product(count, x, bias, given, &kernel, &ahead);
        given = after, x = moved(x, count, 0);
    }
}

/* Write z = input bias + input @ kernel for one step. The rows of the input are first copied next to each other, behind the
 * product in SPARE. */
static void project_step(const struct call *call, const struct matrix *kernel, struct rows z, long lo, long hi, long t,
                         struct ahead *ahead)
{
    const struct array *a = call->arrays;
    struct rows given = rows_at(&a[GIVEN], lo, t), near = moved(rows_at(&a[SPARE], lo, 0), 0, a[X].sizes[2]);
    for (long row = 0; row < hi - lo; row++)
        copy(moved(near, row, 0).at, moved(given, row, 0).at, kernel->inner);
    add_product(hi - lo, z, (struct rows){a[INPUT_BIAS].data, 0}, near, kernel, ahead);
}

/* Return the rows to which a GRU adds its recurrent product: the bias, or zeros in SPARE. */
static struct rows gru_addend(const struct call *call, long lo, long hi)
{
    const struct array *a = call->arrays;
    struct rows spare = rows_at(&a[SPARE], lo, 0);
    if (!is_empty(&a[BIAS]))
        return (struct rows){a[BIAS].data, 0};
    for (long row = 0; row < hi - lo; row++)
        fill(moved(spare, row, 0).at, a[X].sizes[2]);
    return spare;
}

/* Return the projected input of a step. Tiles read column by column, so a wide row is copied to SPARE first: a processor loads
 * a row ahead of its use, and does not load a column ahead. */
static struct rows addend(const struct call *call, long lo, long hi, long t)
{
    const struct array *a = call->arrays;
    struct rows x = rows_at(&a[X], lo, t), spare = rows_at(&a[SPARE], lo, 0);
    if (a[X].sizes[2] < WIDE)
        return x;
    for (long row = 0; row < hi - lo; row++)
        copy(moved(spare, row, 0).at, moved(x, row, 0).at, a[X].sizes[2]);
    return spare;
}

/* Write the products of a step to SPARE: the projected input and the recurrent product, or for a GRU the bias and the
 * recurrent product. With a kernel, the step projects its input, for a GRU to X. */
static void multiply(const struct call *call, const struct matrix *matrix, const struct matrix *kernel, long lo, long hi,
                     long t, struct ahead *ahead)
{
    const struct array *a = call->arrays;
    int is_gru = call->cell == GRU;
    struct rows spare = rows_at(&a[SPARE], lo, 0), from = spare;
    if (kernel)
        project_step(call, kernel, is_gru ? rows_at(&a[X], lo, t) : spare, lo, hi, t, ahead);
    if (is_gru)
        from = gru_addend(call, lo, hi);
    else if (!kernel)
        from = addend(call, lo, hi, t);
    add_product(hi - lo, spare, from, leaf_at(&a[FINAL], 0, lo), matrix, ahead);
}

static void step_forward(const struct call *call, long row, long t)
{
    const struct array *a = call->arrays;
    long units = a[START].sizes[2];
    float *x = place(&a[X], row, t), *kept = place(&a[KEPT], row, t), *output = place(&a[OUTPUTS], row, t);
    float *h = place(&a[FINAL], 0, row), *c = place(&a[FINAL], a[START].sizes[0] - 1, row);
    const float *p = place(&a[SPARE], row, 0);
    if (!flag(&a[MASK], row, t, 1)) {
        fill(x, a[X].sizes[2]);
        copy(output, h, units);
        if (call->cell == LSTM)
            copy(kept, c, units);
        else
            fill(kept, a[KEPT].sizes[2]);
    } else if (call->cell == LSTM)
        EACH_PART(lstm_forward, p, x, h, c, output, kept);
    else if (call->cell == GRU)
        EACH_PART(gru_forward, x, p, h, output, kept);
    else
        EACH_PART(rnn_forward, p, h, output);
}

/* Return what the next step forward reads and writes, to ask for it in the products of this step. A narrow loop finds it in
 * the caches. */
static struct ahead ahead_forward(const struct call *call, const struct matrix *matrix, const struct matrix *kernel, long lo,
                                  long hi, long t)
{
    const struct array *a = call->arrays;
    long next = t + 1, end = next < a[X].sizes[1] ? hi : lo;
    if (a[X].sizes[2] < WIDE)
        return (struct ahead){0};
    struct ahead ahead = {
        {area_at(&a[X], lo, end, next), area_at(&a[OUTPUTS], lo, end, next), area_at(&a[KEPT], lo, end, next)}};
    if (kernel)
        ahead.areas[3] = area_at(&a[GIVEN], lo, end, next);
    share_lines(&ahead, tiles_of_product(hi - lo, matrix) + (kernel ? tiles_of_product(hi - lo, kernel) : 0));
    return ahead;
}

static void rows_forward(const struct call *call, long lo, long hi)
{
    const struct array *a = call->arrays;
    struct matrix matrix = recurrent(call), kernel = input_kernel(call);
    int is_wide = a[X].sizes[2] >= WIDE, projects = !is_empty(&a[GIVEN]);
    const struct matrix *in_step = projects && is_wide ? &kernel : 0;
    if (projects && !is_wide)
        project(call, lo, hi);
    for (long leaf = 0; leaf < a[START].sizes[0]; leaf++)
        copy(place(&a[FINAL], leaf, lo), place(&a[START], leaf, lo), (hi - lo) * a[START].sizes[2]);
    for (long t = 0; t < a[X].sizes[1]; t++) {
        if (!is_empty(&a[RESET]))
            reset_rows(call, lo, hi, t);
        struct ahead ahead = ahead_forward(call, &matrix, in_step, lo, hi, t);
        multiply(call, &matrix, in_step, lo, hi, t, &ahead);
        for (long row = lo; row < hi; row++)
            step_forward(call, row, t);
    }
}

/* Write the gradients of a masked step, which are zeros. KEPT_BACK of an LSTM stays, because the next step reads c from it. */
static void masked_back(const struct call *call, long row, long t)
{
    const struct array *a = call->arrays;
    add(place(&a[D_START], 0, row), place(&a[D_OUTPUTS], row, t), a[START].sizes[2]);
    fill(place(&a[X], row, t), a[X].sizes[2]);
    fill(place(&a[SPARE], row, 0), a[SPARE].sizes[2]);
    if (call->cell == GRU)
        fill(place(&a[KEPT_BACK], row, t), a[KEPT_BACK].sizes[2]);
}

static void step_back(const struct call *call, long row, long t)
{
    const struct array *a = call->arrays, *states = &a[call->cell == LSTM ? KEPT_BACK : OUTPUTS_BEFORE];
    long units = a[START].sizes[2], last = a[START].sizes[0] - 1;
    float *x = place(&a[X], row, t), *kept = place(&a[KEPT_BACK], row, t), *d_p = place(&a[SPARE], row, 0);
    float *d_h = place(&a[D_START], 0, row);
    const float *before = t ? place(states, row, t - 1) : place(&a[START], last, row);
    const float *d_output = place(&a[D_OUTPUTS], row, t);
    if (flag(&a[RESET], row, t, 0))
        before = place(&a[INITIAL], last, row);
    if (!flag(&a[MASK], row, t, 1))
        masked_back(call, row, t);
    else if (call->cell == LSTM)
        EACH_PART(lstm_back, d_h, place(&a[D_START], last, row), d_output, before, kept, x, d_p);
    else if (call->cell == GRU)
        EACH_PART(gru_back, d_h, d_output, before, x, kept, d_p);
    else
        EACH_PART(rnn_back, d_h, d_output, place(&a[OUTPUTS_BEFORE], row, t), x, d_p);
}

/* Ask for the arrays of a row that a step back is the first to read. */
INLINE void fetch_back(const struct call *call, long row, long t)
{
    const struct array *a = call->arrays;
    long units = a[START].sizes[2], of_before = t ? t - 1 : 0;
    fetch(place(&a[X], row, t), a[X].sizes[2]);
    fetch(place(&a[D_OUTPUTS], row, t), units);
    fetch(place(&a[call->cell == LSTM ? KEPT_BACK : OUTPUTS_BEFORE], row, of_before), units);
    if (call->cell == GRU)
        fetch(place(&a[KEPT_BACK], row, t), units);
}

/* Move the gradient of each row that was reset to the gradient of its initial leaves. */
static void collect(const struct call *call, long lo, long hi, long t)
{
    const struct array *a = call->arrays;
    long units = a[START].sizes[2];
    for (long row = lo; row < hi; row++)
        for (long leaf = 0; flag(&a[RESET], row, t, 0) && leaf < a[START].sizes[0]; leaf++) {
            add(place(&a[D_INITIAL], leaf, row), place(&a[D_START], leaf, row), units);
            fill(place(&a[D_START], leaf, row), units);
        }
}

static void rows_back(const struct call *call, long lo, long hi)
{
    const struct array *a = call->arrays;
    struct matrix matrix = recurrent(call);
    long units = a[START].sizes[2], is_wide = a[X].sizes[2] >= WIDE;
    struct ahead nothing = {0};
    for (long leaf = 0; leaf < a[START].sizes[0]; leaf++) {
        copy(place(&a[D_START], leaf, lo), place(&a[D_FINAL], leaf, lo), (hi - lo) * units);
        fill(place(&a[D_INITIAL], leaf, lo), (hi - lo) * units);
    }
    struct rows d_h = leaf_at(&a[D_START], 0, lo);
    for (long t = a[X].sizes[1] - 1; t >= 0; t--) {
        for (long row = lo; row < hi; row++) {
            if (is_wide && row + 1 < hi)
                fetch_back(call, row + 1, t);
            step_back(call, row, t);
        }
        add_product(hi - lo, d_h, d_h, rows_at(&a[SPARE], lo, 0), &matrix, &nothing);
        if (!is_empty(&a[RESET]))
            collect(call, lo, hi, t);
    }
}
