/* A matrix product in tiles that stay in vector registers.
 *
 * The result is cut into strips of WIDTH columns, and a strip into tiles of at most ROWS rows:
 *
 *                          strip (inner, WIDTH)
 *                          +------+
 *                        k |######| loaded once for all rows of the tile
 *                          +------+
 *              k           +------+
 *         row +#--------+  | tile | a row holds VECTORS registers of LANES floats
 *         row |#  a     |  |      | sums of all steps k stay in registers
 *             +---------+  +------+
 *
 * Each step k of the inner product loads one line of the strip, and multiplies it by one number of each row. The processor
 * thus multiplies more often than it loads.
 *
 * Reference: Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication", 2008.
 */
#pragma once
#include "simd.h"

/* The sum of a longer inner product is made in parts of this length, because rounding grows with the length of a sum. */
enum { SUMMED = 128 };

/* Rows in memory: the first one, and the step from row to row, in floats. */
struct rows {
    float *at;
    long step;
};

INLINE struct rows moved(struct rows rows, long row, long column)
{
    return (struct rows){rows.at + row * rows.step + column, rows.step};
}

/* Write one tile: z = from + a @ strip, `rows` by `width`, or z = from + a.T @ strip if `turned`. With constants for `rows`,
 * `vectors` and `turned`, the compiler keeps the sums in registers. */
INLINE void add_tile(const int rows, const int vectors, const int turned, long inner, long width, struct rows z,
                     struct rows from, struct rows a, const float *strip)
{
    vec sums[ROWS][VECTORS] = {{{0}}};
#pragma GCC unroll 8
    for (int row = 0; row < rows; row++)
        __builtin_prefetch(from.at + row * from.step);
    for (long k = 0; k < inner; k++) {
        vec line[VECTORS];
#pragma GCC unroll 2
        for (int part = 0; part < vectors; part++)
            line[part] = load(strip + k * WIDTH + part * LANES, LANES);
#pragma GCC unroll 8
        for (int row = 0; row < rows; row++) {
            vec factor = all(turned ? a.at[k * a.step + row] : a.at[row * a.step + k]);
#pragma GCC unroll 2
            for (int part = 0; part < vectors; part++)
                sums[row][part] += factor * line[part];
        }
    }
#pragma GCC unroll 8
    for (int row = 0; row < rows; row++)
#pragma GCC unroll 2
        for (int part = 0; part < vectors; part++) {
            long column = part * LANES;
            vec before = load(from.at + row * from.step + column, width - column);
            store(z.at + row * z.step + column, before + sums[row][part], width - column);
        }
}

/* Write a tile of any number of rows up to ROWS. */
INLINE void add_tile_of(int rows, const int vectors, const int turned, long inner, long width, struct rows z,
                        struct rows from, struct rows a, const float *strip)
{
#define TILE(count)                                                                                                    \
    case count:                                                                                                        \
        add_tile(count, vectors, turned, inner, width, z, from, a, strip);                                             \
        break
    switch (rows) {
        TILE(1);
        TILE(2);
        TILE(3);
        TILE(4);
#if !defined(__SSE2__) || defined(__AVX2__)
        TILE(5);
        TILE(6);
#endif
#if !defined(__SSE2__) || defined(__AVX512F__)
        TILE(7);
        TILE(8);
#endif
    }
#undef TILE
}

/* Write one strip of a product, z = from + a @ strip, in tiles of nearly equal height: a tile of few rows is slow, because
 * each of its sums waits for the sum of the step before. A part of the strip stays in the nearest cache for all tiles.
 * `width` is at most WIDTH. */
INLINE void add_strip(const int turned, long rows, long inner, long width, struct rows z, struct rows from,
                      struct rows a, const float *strip)
{
    long tiles = (rows + ROWS - 1) / ROWS;
    for (long k = 0; k < inner; k += SUMMED, from = z)
        for (long tile = 0; tile < tiles; tile++) {
            long lo = tile * rows / tiles, hi = (tile + 1) * rows / tiles, part = inner - k < SUMMED ? inner - k : SUMMED;
            struct rows z_at = moved(z, lo, 0), from_at = moved(from, lo, 0), a_at = turned ? moved(a, k, lo) : moved(a, lo, k);
            if (width > LANES)
                add_tile_of(hi - lo, VECTORS, turned, part, width, z_at, from_at, a_at, strip + k * WIDTH);
            else
                add_tile_of(hi - lo, 1, turned, part, width, z_at, from_at, a_at, strip + k * WIDTH);
        }
}

/* Write one strip of a product, z = from + a @ strip. */
static void add_rows_of(long rows, long inner, long width, struct rows z, struct rows from, struct rows a,
                        const float *strip)
{
    add_strip(0, rows, inner, width, z, from, a, strip);
}

/* Write one strip of a product with a transposed factor, z = from + a.T @ strip. */
static void add_columns(long rows, long inner, long width, struct rows z, struct rows from, struct rows a,
                        const float *strip)
{
    add_strip(1, rows, inner, width, z, from, a, strip);
}
