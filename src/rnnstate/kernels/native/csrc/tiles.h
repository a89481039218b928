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
#include "memory.h"

/* The sum of a longer inner product is made in parts of this length, because rounding grows with the length of a sum. */
enum { SUMMED = 128 };

/* The addresses of a factor of each of eight rows: those of rows 0 and 4, and distances in bytes. A processor adds a distance,
 * or twice a distance, while it loads. So four registers serve eight rows. With eight addresses, GCC kept some in memory, and
 * each step k loaded them again. */
struct factors {
    const char *low, *high;
    long step, thrice;
};

INLINE struct factors factors_of(struct rows a)
{
    long step = a.step * sizeof(float);
    struct factors at = {(const char *)a.at, (const char *)moved(a, 4, 0).at, step, 3 * step};
    __asm__("" : "+r"(at.low), "+r"(at.high), "+r"(at.step), "+r"(at.thrice)); /* GCC forgets how they depend on each other */
    return at;
}

INLINE float factor_at(const struct factors *at, int row)
{
    const char *first = row < 4 ? at->low : at->high;
    return *(const float *)(row % 4 == 3 ? first + at->thrice : first + row % 4 * at->step);
}

/* Write one tile: z = from + a @ strip, `rows` by `width`, or z = from + a.T @ strip if `turned`. With constants for `rows`,
 * `vectors` and `turned`, the compiler keeps the sums in registers. Each step k asks for one row of `next`. */
INLINE void add_tile(const int rows, const int vectors, const int turned, long inner, long width, struct rows z,
                     struct rows from, struct rows a, const float *strip, struct rows next)
{
    vec sums[ROWS][VECTORS] = {{{0}}};
#pragma GCC unroll 8
    for (int row = 0; row < rows; row++)
        __builtin_prefetch(from.at + row * from.step);
    struct factors at = factors_of(a);
    const float *end = strip + inner * WIDTH, *ahead = next.at;
    for (; strip < end; strip += WIDTH, ahead += next.step) {
        vec line[VECTORS];
        __builtin_prefetch(ahead);
#pragma GCC unroll 2
        for (int part = 0; part < vectors; part++)
            line[part] = load(strip + part * LANES, LANES);
#pragma GCC unroll 8
        for (int row = 0; row < rows; row++) {
            vec factor = all(turned ? a.at[row] : factor_at(&at, row));
#pragma GCC unroll 2
            for (int part = 0; part < vectors; part++)
                sums[row][part] += factor * line[part];
        }
        if (turned)
            a.at += a.step;
        else
            at.low += sizeof(float), at.high += sizeof(float);
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
                        struct rows from, struct rows a, const float *strip, struct rows next)
{
#define TILE(count)                                                                                                    \
    case count:                                                                                                        \
        add_tile(count, vectors, turned, inner, width, z, from, a, strip, next);                                       \
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

/* Return the number of tiles of one strip of a product. */
static long tiles_of(long rows, long inner) { return (rows + ROWS - 1) / ROWS * ((inner + SUMMED - 1) / SUMMED); }

/* Return the lines of the next part of a strip that a tile asks for, one with each step k. The first tiles ask for a part each,
 * and further tiles again for the last part:
 *
 *     the next part     +----------+----------+
 *                       |  tile 0  |  tile 1  |
 *                       +----------+----------+
 */
static struct rows share_of_strip(const float *next, long tile, long steps)
{
    enum { LAST = (WIDTH + LINE - 1) / LINE - 1 };
    return (struct rows){(float *)next + (tile < LAST ? tile : LAST) * steps * LINE, LINE};
}

/* Write one strip of a product, z = from + a @ strip, in tiles of nearly equal height: a tile of few rows is slow, because
 * each of its sums waits for the sum of the step before. A part of the strip stays in the nearest cache for all tiles.
 * `width` is at most WIDTH. */
INLINE void add_strip(const int turned, long rows, long inner, long width, struct rows z, struct rows from,
                      struct rows a, const float *strip, struct ahead *ahead)
{
    long tiles = (rows + ROWS - 1) / ROWS;
    for (long k = 0; k < inner; k += SUMMED, from = z)
        for (long tile = 0; tile < tiles; tile++) {
            long lo = tile * rows / tiles, hi = (tile + 1) * rows / tiles, part = inner - k < SUMMED ? inner - k : SUMMED;
            struct rows z_at = moved(z, lo, 0), from_at = moved(from, lo, 0), a_at = turned ? moved(a, k, lo) : moved(a, lo, k);
            struct rows next = turned ? moved(a_at, 0, LINE) : share_of_strip(strip + (k + part) * WIDTH, tile, part);
            fetch_some(ahead);
            if (width > LANES)
                add_tile_of(hi - lo, VECTORS, turned, part, width, z_at, from_at, a_at, strip + k * WIDTH, next);
            else
                add_tile_of(hi - lo, 1, turned, part, width, z_at, from_at, a_at, strip + k * WIDTH, next);
        }
}

/* Write one strip of a product, z = from + a @ strip. */
static void add_rows_of(long rows, long inner, long width, struct rows z, struct rows from, struct rows a,
                        const float *strip, struct ahead *ahead)
{
    add_strip(0, rows, inner, width, z, from, a, strip, ahead);
}

/* Write one strip of a product with a transposed factor, z = from + a.T @ strip. */
static void add_columns(long rows, long inner, long width, struct rows z, struct rows from, struct rows a,
                        const float *strip, struct ahead *ahead)
{
    add_strip(1, rows, inner, width, z, from, a, strip, ahead);
}
