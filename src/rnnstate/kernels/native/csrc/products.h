/* The product of rows and a matrix, added to other rows. For many rows, the matrix lies in strips, in the order in which
 * tiles read it:
 *
 *     matrix (inner, columns)          strips (strips, inner, WIDTH)
 *     +--------+--------+----+         +--------+ +--------+ +----+---+
 *     |   0    |   1    | 2  |  --->   |   0    | |   1    | | 2  | 0 |   the last strip is filled with zeros
 *     +--------+--------+----+         +--------+ +--------+ +----+---+
 *
 * Few rows do not repay the copy, and read the matrix row by row.
 */
#pragma once
#include "tiles.h"

/* A matrix (inner, columns), as it is, and in strips unless `strips` is null. */
struct matrix {
    long inner, columns;
    const float *rows, *strips;
};

static long count_strips_of(long columns) { return (columns + WIDTH - 1) / WIDTH; }

/* Return how many floats the strips of a matrix have. */
static long strips_size(long inner, long columns) { return count_strips_of(columns) * inner * WIDTH; }

/* Write some columns of rows of a matrix as lines of a strip. All lines stay in the nearest cache. */
static void turn(float *strip, const float *row, long step, long rows, long columns)
{
    for (long j = 0; j < rows; j++, row += step)
        for (long k = 0; k < columns; k++)
            strip[k * WIDTH + j] = row[k];
}

/* Copy columns of a matrix into the strips lo to hi. */
static void pack(float *strips, const float *matrix, long inner, long columns, long lo, long hi)
{
    strips += lo * inner * WIDTH;
    for (long first = lo * WIDTH; first < hi * WIDTH; first += WIDTH)
        for (long k = 0; k < inner; k++, strips += WIDTH)
            for (long j = 0; j < WIDTH; j += LANES) {
                long left = columns - first - j;
                store(strips + j, left > 0 ? load(matrix + k * columns + first + j, left) : all(0.0f), LANES);
            }
}

/* Copy rows of a matrix, which are columns of the transposed one, into the strips lo to hi. */
static void pack_turned(float *strips, const float *matrix, long inner, long columns, long lo, long hi)
{
    strips += lo * inner * WIDTH;
    for (long first = lo * WIDTH; first < hi * WIDTH; first += WIDTH, strips += inner * WIDTH) {
        long width = columns - first < WIDTH ? columns - first : WIDTH;
        if (width < WIDTH)
            memset(strips, 0, inner * WIDTH * sizeof(float));
        for (long k = 0; k < inner; k += LANES)
            turn(strips + k * WIDTH, matrix + first * inner + k, inner, width, inner - k < LANES ? inner - k : LANES);
    }
}

/* Add up to eight products of a number of `a` and a row of the matrix to `rows` rows of z. */
INLINE void add_lines(const int rows, const int lines, long n, struct rows z, struct rows a, const float *matrix,
                      long columns)
{
    vec line[8];
#pragma GCC unroll 8
    for (int k = 0; k < lines; k++)
        line[k] = load(matrix + k * columns, n);
#pragma GCC unroll 2
    for (int row = 0; row < rows; row++) {
        vec sum = load(z.at + row * z.step, n);
#pragma GCC unroll 8
        for (int k = 0; k < lines; k++)
            sum += all(a.at[row * a.step + k]) * line[k];
        store(z.at + row * z.step, sum, n);
    }
}

/* Add the product for one or two rows. Each loaded line serves both rows, and z is loaded and stored once for eight lines. */
INLINE void add_rows(const int rows, struct rows z, struct rows a, const struct matrix *matrix)
{
    long columns = matrix->columns, k = 0, j;
    for (; k + 8 <= matrix->inner; k += 8) {
        const float *lines = matrix->rows + k * columns;
        for (j = 0; j + LANES <= columns; j += LANES)
            add_lines(rows, 8, LANES, moved(z, 0, j), moved(a, 0, k), lines + j, columns);
        if (j < columns)
            add_lines(rows, 8, columns - j, moved(z, 0, j), moved(a, 0, k), lines + j, columns);
    }
    for (; k < matrix->inner; k++) {
        const float *line = matrix->rows + k * columns;
        for (j = 0; j + LANES <= columns; j += LANES)
            add_lines(rows, 1, LANES, moved(z, 0, j), moved(a, 0, k), line + j, columns);
        if (j < columns)
            add_lines(rows, 1, columns - j, moved(z, 0, j), moved(a, 0, k), line + j, columns);
    }
}

/* Return the number of tiles of a product in strips. */
static long tiles_of_product(long rows, const struct matrix *matrix)
{
    return tiles_of(rows, matrix->inner) * count_strips_of(matrix->columns);
}

/* Write z = from + a @ matrix, and ask for memory meanwhile. */
static void add_product(long rows, struct rows z, struct rows from, struct rows a, const struct matrix *matrix,
                        struct ahead *ahead)
{
    long inner = matrix->inner, columns = matrix->columns, row = 0;
    if (matrix->strips) {
        const float *strip = matrix->strips;
        for (long first = 0; first < columns; first += WIDTH, strip += inner * WIDTH) {
            long width = columns - first < WIDTH ? columns - first : WIDTH;
            add_rows_of(rows, inner, width, moved(z, 0, first), moved(from, 0, first), a, strip, ahead);
        }
        return;
    }
    for (row = 0; z.at != from.at && row < rows; row++)
        memcpy(moved(z, row, 0).at, moved(from, row, 0).at, columns * sizeof(float));
    for (row = 0; row + 2 <= rows; row += 2)
        add_rows(2, moved(z, row, 0), moved(a, row, 0), matrix);
    if (row < rows)
        add_rows(1, moved(z, row, 0), moved(a, row, 0), matrix);
}
