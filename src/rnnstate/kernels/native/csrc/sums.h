/* The gradients of the kernels and of the biases: sums over all steps of all rows.
 *
 *     sums_h = [h before the step, 1].T @ gradient of the recurrent product      (units + 1, gates * units)
 *     sums_x = [x, 1].T @ gradient of the projected input                        (features + 1, gates * units)
 *
 * The last row is the gradient of a bias. If a result has no such row, its left factor has no ones.
 *
 * The steps are taken in blocks. A block of both left factors is copied side by side, with the ones. Both products have the
 * same right factor, except for the last third of a GRU. So each strip of a block of the right factor is copied once, as in
 * `products.h`, and is the factor of both. The copies stay in the caches:
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
 *     SPARE       scratch for blocks of both left factors, (strips, SUMMED, units + features + 2 or more)
 *     STRIPS      scratch for blocks of the right factor and for both results,
 *                 (strips, SUMMED + units + features + 2, WIDTH)
 */
#pragma once
#include "rows.h"

/* The rows of both results: those of sums_h come first. */
struct sums {
    const struct call *call;
    long of_h, of_x;
};

static struct sums sums_of(const struct call *call)
{
    const struct array *a = call->arrays;
    return (struct sums){call, a[SUMS_H].sizes[1], is_empty(&a[SUMS_X]) ? 0 : a[SUMS_X].sizes[1]};
}

/* Return h before a step of a row. */
static const float *before(const struct array *a, long row, long t)
{
    if (flag(&a[RESET], row, t, 0))
        return place(&a[INITIAL], 0, row);
    return t ? place(&a[BEFORE], row, t - 1) : place(&a[START], 0, row);
}

/* Copy a row of a left factor, and a one where the result has a row for a bias. */
static void copy_row(float *to, const float *from, long count, long rows)
{
    copy(to, from, count);
    if (rows > count)
        to[count] = 1.0f;
}

/* Copy a block of both left factors side by side, from a step on. Steps are counted over all rows. */
static void copy_left(const struct sums *sums, struct rows left, long first, long count)
{
    const struct array *a = sums->call->arrays;
    long time = a[D_X].sizes[1], row = first / time, t = first % time;
    for (long k = 0; k < count; k++) {
        copy_row(moved(left, k, 0).at, before(a, row, t), a[BEFORE].sizes[2], sums->of_h);
        if (sums->of_x)
            copy_row(moved(left, k, sums->of_h).at, place(&a[GIVEN], row, t), a[GIVEN].sizes[2], sums->of_x);
        if (++t == time)
            t = 0, row++;
    }
}

/* Copy `width` columns of a block of an array (batch, time, columns) into a strip. */
static void copy_columns(float *strip, const struct array *array, long column, long width, long first, long count)
{
    long columns = array->sizes[2];
    const float *from = (const float *)array->data + first * columns + column;
    for (long k = 0; k < count; k++, strip += WIDTH, from += columns)
        copy(strip, from, width);
}

/* Return the first column at which the right factor of sums_h is D_KEPT. */
static long edge_of(const struct array *a)
{
    return a[D_X].sizes[2] - (is_empty(&a[D_KEPT]) ? 0 : a[D_KEPT].sizes[2]);
}

/* Copy a strip of the right factor of sums_h, which may come from two arrays. */
static void copy_right(const struct array *a, float *strip, long column, long width, long first, long count)
{
    long edge = edge_of(a), from_x = column >= edge ? 0 : column + width <= edge ? width : edge - column;
    if (from_x)
        copy_columns(strip, &a[D_X], column, from_x, first, count);
    if (from_x < width)
        copy_columns(strip + from_x, &a[D_KEPT], column + from_x - edge, width - from_x, first, count);
}

/* Return the strip of the results, which follows that of the right factor: rows next to each other stay in the caches. */
static struct rows result_strip(const struct call *call, long strip)
{
    return (struct rows){place(&call->arrays[STRIPS], strip, SUMMED), WIDTH};
}

/* Return how many columns a strip has. */
static long width_of(const struct call *call, long strip)
{
    long left = call->arrays[D_X].sizes[2] - strip * WIDTH;
    return left < WIDTH ? left : WIDTH;
}

/* The strips lo to hi of a thread, and a block of steps. */
struct block {
    long lo, hi, first, count;
};

/* Return rows of an array, counted over all steps, as an area to ask for. */
static struct area area_of(const struct array *array, long row, long column, long count, long columns)
{
    return (struct area){{(float *)array->data + row * array->sizes[2] + column, array->sizes[2]}, count, columns};
}

/* Return what the next strip reads of the right factor, and a share of what the next block reads of the left ones. */
static struct ahead ahead_of_sums(const struct sums *sums, const struct block *block, long strip)
{
    const struct array *a = sums->call->arrays;
    if (a[D_X].sizes[2] < WIDE)
        return (struct ahead){0};
    long steps = a[D_X].sizes[0] * a[D_X].sizes[1], end = block->first + block->count, left = steps - end;
    long next = left < SUMMED ? left : SUMMED, strips = block->hi - block->lo, is_last = strip + 1 == block->hi;
    long from = next * (strip - block->lo) / strips, some = next * (strip - block->lo + 1) / strips - from;
    long column = (is_last ? block->lo : strip + 1) * WIDTH;
    long row = is_last ? end : block->first, rows = is_last ? next : block->count;
    struct ahead ahead = {{area_of(&a[D_X], row, column, rows, WIDTH),
                           area_of(&a[BEFORE], end + from - 1, 0, some, a[BEFORE].sizes[2])}};
    if (sums->of_x)
        ahead.areas[2] = area_of(&a[GIVEN], end + from, 0, some, a[GIVEN].sizes[2]);
    if (column >= edge_of(a))
        ahead.areas[3] = area_of(&a[D_KEPT], row, column - edge_of(a), rows, WIDTH);
    share_lines(&ahead, tiles_of(sums->of_h + sums->of_x, block->count));
    return ahead;
}

/* Add a block to a strip of both results. Both have the same right factor, except for the last third of a GRU. */
static void add_to_strip(const struct sums *sums, const struct block *block, long strip, struct rows left)
{
    const struct array *a = sums->call->arrays;
    long first = block->first, count = block->count;
    long column = strip * WIDTH, width = width_of(sums->call, strip), both = column + width <= edge_of(a);
    struct rows result = result_strip(sums->call, strip), of_x = moved(result, sums->of_h, 0);
    float *right = place(&a[STRIPS], strip, 0);
    struct ahead ahead = ahead_of_sums(sums, block, strip);
    copy_right(a, right, column, width, first, count);
    add_columns(sums->of_h + both * sums->of_x, count, width, result, result, left, right, &ahead);
    if (both || !sums->of_x)
        return;
    copy_columns(right, &a[D_X], column, width, first, count);
    add_columns(sums->of_x, count, width, of_x, of_x, moved(left, 0, sums->of_h), right, &ahead);
}

/* Copy rows of a strip into the columns of a result. */
static void copy_result(const struct array *result, struct rows strip, long rows, long column, long width)
{
    for (long row = 0; row < rows; row++)
        copy(place(result, 0, row) + column, moved(strip, row, 0).at, width);
}

/* Compute the strips lo to hi of both results. */
static void sum_both(const struct call *call, long lo, long hi)
{
    const struct array *a = call->arrays;
    struct sums sums = sums_of(call);
    struct rows left = {place(&a[SPARE], lo, 0), a[SPARE].sizes[2]};
    long steps = a[D_X].sizes[0] * a[D_X].sizes[1];
    for (long strip = lo; strip < hi; strip++)
        fill(result_strip(call, strip).at, (sums.of_h + sums.of_x) * WIDTH);
    for (long first = 0; first < steps; first += SUMMED) {
        struct block block = {lo, hi, first, steps - first < SUMMED ? steps - first : SUMMED};
        copy_left(&sums, left, first, block.count);
        for (long strip = lo; strip < hi; strip++)
            add_to_strip(&sums, &block, strip, left);
    }
    for (long strip = lo; strip < hi; strip++) {
        struct rows result = result_strip(call, strip);
        copy_result(&a[SUMS_H], result, sums.of_h, strip * WIDTH, width_of(call, strip));
        copy_result(&a[SUMS_X], moved(result, sums.of_h, 0), sums.of_x, strip * WIDTH, width_of(call, strip));
    }
}
