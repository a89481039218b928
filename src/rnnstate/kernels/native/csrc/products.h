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

/* Copy the columns of a matrix into strips. */
static void pack(float *strips, const float *matrix, long inner, long columns)
{
    for (long first = 0; first < columns; first += WIDTH)
        for (long k = 0; k < inner; k++, strips += WIDTH)
            for (long j = 0; j < WIDTH; j++)
                strips[j] = first + j < columns ? matrix[k * columns + first + j] : 0.0f;
}

/* Add up to eight products of a number of `a` and a row of the matrix to `rows` rows of z, from column j on. */
INLINE void add_lines(const int rows, const int lines, long n, float *z, long z_step, const float *a, long a_step,
                      const float *matrix, long columns)
{
    vec line[8];
#pragma GCC unroll 8
    for (int k = 0; k < lines; k++)
        line[k] = load(matrix + k * columns, n);
#pragma GCC unroll 2
    for (int row = 0; row < rows; row++) {
        vec sum = load(z + row * z_step, n);
#pragma GCC unroll 8
        for (int k = 0; k < lines; k++)
            sum += all(a[row * a_step + k]) * line[k];
        store(z + row * z_step, sum, n);
    }
}

/* Add the product for one or two rows. Each loaded line serves both rows, and z is loaded and stored once for eight lines. */
INLINE void add_rows(const int rows, float *z, long z_step, const float *a, long a_step, const struct matrix *matrix)
{
    long columns = matrix->columns, k = 0, j;
    for (; k + 8 <= matrix->inner; k += 8) {
        const float *lines = matrix->rows + k * columns;
        for (j = 0; j + LANES <= columns; j += LANES)
            add_lines(rows, 8, LANES, z + j, z_step, a + k, a_step, lines + j, columns);
        if (j < columns)
            add_lines(rows, 8, columns - j, z + j, z_step, a + k, a_step, lines + j, columns);
    }
    for (; k < matrix->inner; k++) {
        const float *line = matrix->rows + k * columns;
        for (j = 0; j + LANES <= columns; j += LANES)
            add_lines(rows, 1, LANES, z + j, z_step, a + k, a_step, line + j, columns);
        if (j < columns)
            add_lines(rows, 1, columns - j, z + j, z_step, a + k, a_step, line + j, columns);
    }
}

/* Add the product of `rows` rows at `a` and a matrix to the rows at `z`. Steps lead from row to row, in floats. */
static void add_product(long rows, float *z, long z_step, const float *a, long a_step, const struct matrix *matrix)
{
    long inner = matrix->inner, columns = matrix->columns;
    if (matrix->strips) {
        const float *strip = matrix->strips;
        for (long first = 0; first < columns; first += WIDTH, strip += inner * WIDTH) {
            long width = columns - first < WIDTH ? columns - first : WIDTH;
            add_strip(rows, inner, width, z + first, z_step, a, a_step, strip);
        }
        return;
    }
    long row = 0;
    for (; row + 2 <= rows; row += 2)
        add_rows(2, z + row * z_step, z_step, a + row * a_step, a_step, matrix);
    if (row < rows)
        add_rows(1, z + row * z_step, z_step, a + row * a_step, a_step, matrix);
}
