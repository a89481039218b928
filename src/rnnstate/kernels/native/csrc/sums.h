/* The gradients of the kernels and of the biases: sums over all steps of all rows.
 *
 *     sums_h = [h before the step, 1].T @ gradient of the recurrent product      (units + 1, gates * units)
 *     sums_x = [x, 1].T @ gradient of the projected input                        (features + 1, gates * units)
 *
 * The last row is the gradient of a bias. A result of fewer rows has no such row, and its left factor no ones. The steps are taken in blocks. A block of the left factor is copied with
 * the ones, and each strip of the right factor is copied as in `products.h`. The copies stay in the caches:
 *
 *                         strip (SUMMED, WIDTH)
 *                         +------+
 *                  step k |######| loaded once for all rows of a tile
 *                         +------+
 *     left   step k                +------+
 *     +------+                     | tile | sums of all steps k stay in registers
 *     |  ##  | some columns        +------+
 *     +------+
 *
 * Each strip of the result is computed by one thread, so the number of threads does not change a bit.
 *
 * The arrays, by their names in `call.h`; START, INITIAL and RESET mean the same as in `rows.h`:
 *
 *     D_X         gradient of the projected input, (batch, time, gates * units)
 *     GIVEN       x, (batch, time, features), or empty
 *     BEFORE      h after each step, (batch, time, units)
 *     D_KEPT      for a GRU, the last third of the gradient of the recurrent product, (batch, time, units), or else empty
 *     SUMS_X      receives sums_x, or is empty
 *     SUMS_H      receives sums_h
 *     SPARE       scratch for blocks of the left factor, (strips, SUMMED, more than units and features)
 *     STRIPS      scratch for blocks of the right factor and for the result,
 *                 (strips, SUMMED + the greater one of units and features + 1, WIDTH)
 */
#pragma once
#include "rows.h"

/* One of the two products: `inner` is the number of columns of its left factor without ones. */
struct sums {
    const struct call *call;
    const struct array *result;
    long inner;
    int of_h;
};

/* Return a row of the left factor. */
static const float *left_row(const struct sums *sums, long row, long t)
{
    const struct array *a = sums->call->arrays;
    if (!sums->of_h)
        return place(&a[GIVEN], row, t);
    if (flag(&a[RESET], row, t, 0))
        return place(&a[INITIAL], 0, row);
    return t ? place(&a[BEFORE], row, t - 1) : place(&a[START], 0, row);
}

/* Copy a block of the left factor, from a step on. Steps are counted over all rows. */
static void copy_left(const struct sums *sums, struct rows left, long first, long count)
{
    long time = sums->call->arrays[D_X].sizes[1];
    for (long k = 0; k < count; k++) {
        float *to = moved(left, k, 0).at;
        copy(to, left_row(sums, (first + k) / time, (first + k) % time), sums->inner);
        if (sums->result->sizes[1] > sums->inner)
            to[sums->inner] = 1.0f;
    }
}

/* Copy `width` columns of a block of an array (batch, time, columns) into a strip. */
static void copy_columns(float *strip, const struct array *array, long column, long width, long first, long count)
{
    long columns = array->sizes[2];
    const float *from = (const float *)array->data + first * columns + column;
    for (long k = 0; k < count; k++, strip += WIDTH, from += columns)
        if (width == WIDTH)
            for (long j = 0; j < WIDTH; j += LANES)
                store(strip + j, load(from + j, LANES), LANES);
        else
            copy(strip, from, width);
}

/* Copy a strip of a block of the right factor, which may come from two arrays. */
static void copy_right(const struct sums *sums, float *strip, long column, long width, long first, long count)
{
    const struct array *a = sums->call->arrays;
    long edge = a[D_X].sizes[2] - (sums->of_h && !is_empty(&a[D_KEPT]) ? a[D_KEPT].sizes[2] : 0);
    long from_x = column >= edge ? 0 : column + width <= edge ? width : edge - column;
    if (from_x)
        copy_columns(strip, &a[D_X], column, from_x, first, count);
    if (from_x < width)
        copy_columns(strip + from_x, &a[D_KEPT], column + from_x - edge, width - from_x, first, count);
}

/* Return the strip of a result, which follows that of the right factor: rows next to each other stay in the caches. */
static struct rows result_strip(const struct call *call, long strip)
{
    return (struct rows){place(&call->arrays[STRIPS], strip, SUMMED), WIDTH};
}

/* Return how many columns a strip has. */
static long width_of(const struct sums *sums, long strip)
{
    long left = sums->result->sizes[2] - strip * WIDTH;
    return left < WIDTH ? left : WIDTH;
}

/* Add a block to the strips lo to hi of a result. */
static void add_block(const struct sums *sums, long lo, long hi, long first, long count)
{
    const struct array *a = sums->call->arrays;
    struct rows left = {place(&a[SPARE], lo, 0), a[SPARE].sizes[2]};
    copy_left(sums, left, first, count);
    for (long strip = lo; strip < hi; strip++) {
        long width = width_of(sums, strip);
        struct rows result = result_strip(sums->call, strip);
        float *right = place(&a[STRIPS], strip, 0);
        copy_right(sums, right, strip * WIDTH, width, first, count);
        add_columns(sums->result->sizes[1], count, width, result, result, left, right);
    }
}

/* Compute the strips lo to hi of a result. */
static void sum(const struct sums *sums, long lo, long hi)
{
    const struct array *d = &sums->call->arrays[D_X];
    long steps = d->sizes[0] * d->sizes[1];
    for (long strip = lo; strip < hi; strip++)
        fill(result_strip(sums->call, strip).at, sums->result->sizes[1] * WIDTH);
    for (long first = 0; first < steps; first += SUMMED)
        add_block(sums, lo, hi, first, steps - first < SUMMED ? steps - first : SUMMED);
    for (long strip = lo; strip < hi; strip++)
        for (long row = 0; row < sums->result->sizes[1]; row++)
            copy(place(sums->result, 0, row) + strip * WIDTH, moved(result_strip(sums->call, strip), row, 0).at,
                 width_of(sums, strip));
}

/* Compute the strips lo to hi of both results. */
static void sum_both(const struct call *call, long lo, long hi)
{
    const struct array *a = call->arrays;
    struct sums of_h = {call, &a[SUMS_H], a[BEFORE].sizes[2], 1}, of_x = {call, &a[SUMS_X], a[GIVEN].sizes[2], 0};
    sum(&of_h, lo, hi);
    if (!is_empty(&a[SUMS_X]))
        sum(&of_x, lo, hi);
}
