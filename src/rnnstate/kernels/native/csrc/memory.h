/* Rows in memory, and requests for memory before it is needed, so that the memory answers while the processor computes.
 *
 * The arrays of a wide step lie in memory and not in the caches. A product computes for long and reads little. So it asks for
 * what comes next, some lines with each tile: a long burst of requests makes the processor wait for the first of them.
 *
 * A function that only asks must be INLINE: GCC leaves out calls of functions without results.
 */
#pragma once
#include "simd.h"

/* Rows: the first one, and the step from row to row, in floats. */
struct rows {
    float *at;
    long step;
};

INLINE struct rows moved(struct rows rows, long row, long column)
{
    return (struct rows){rows.at + row * rows.step + column, rows.step};
}

/* The floats of a line of a cache. */
enum { LINE = 16 };

/* Ask for floats that lie next to each other. */
INLINE void fetch(const float *at, long count)
{
    for (long j = 0; j < count; j += LINE)
        __builtin_prefetch(at + j);
}

/* What to ask for little by little: `count` rows of `columns` floats. */
struct area {
    struct rows rows;
    long count, columns;
};

/* The areas of a product, and how many lines it asks for with each tile. The next request is for the line at `column` of the
 * first row of the area `next`. Requests use up the areas. */
enum { AREAS = 4 };
struct ahead {
    struct area areas[AREAS];
    long next, column, lines;
};

/* Share the lines of all areas among the tiles of a product. */
static void share_lines(struct ahead *ahead, long tiles)
{
    long lines = 0;
    for (long area = 0; area < AREAS; area++)
        lines += ahead->areas[area].count * ((ahead->areas[area].columns + LINE - 1) / LINE);
    ahead->lines = (lines + tiles - 1) / tiles;
}

/* Ask for lines of a row. Return how many of `lines` are left. They go to the second cache: the first one is for the tiles. */
INLINE long fetch_lines(struct ahead *ahead, const struct area *area, long lines)
{
    for (; lines > 0 && ahead->column < area->columns; lines--, ahead->column += LINE)
        __builtin_prefetch(area->rows.at + ahead->column, 0, 2);
    return lines;
}

/* Ask for the lines of one tile. */
INLINE void fetch_some(struct ahead *ahead)
{
    for (long lines = ahead->lines; lines > 0 && ahead->next < AREAS;) {
        struct area *area = &ahead->areas[ahead->next];
        if (area->count > 0)
            lines = fetch_lines(ahead, area, lines);
        if (area->count > 0 && ahead->column < area->columns)
            return;
        ahead->column = 0, area->rows.at += area->rows.step;
        if (--area->count <= 0)
            ahead->next++;
    }
}
