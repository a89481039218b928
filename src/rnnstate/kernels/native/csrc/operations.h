/* Small operations on arrays, one after another: the list between the loops of a training step on PyTorch.
 *
 * An operator of PyTorch takes some microseconds to start. A list in one call starts each operation within nanoseconds.
 *
 *     operation   kind   sizes (3)   to   of 0   of 1   of 2
 *                                    an operand: its address, and the distance of its elements along each of the three axes
 *
 * Each operation computes what the operator of PyTorch computes, bit for bit. It reads from memory and writes to memory, so
 * the compiler can join no product of one operation with a sum of another one. Square roots are left to PyTorch: those of
 * the library MKL, which it uses, are not always rounded to the nearest number.
 *
 * PyTorch writes this struct from Python as words of eight bytes, so every field has eight bytes.
 */
#pragma once
#include "simd.h"

enum operation_kind {
    /* Numbers: to = of 0 + of 1 and so on. ADD_SCALED: to = of 0 + of 2 * of 1, rounded once if the level can do that. */
    ADD, SUBTRACT, MULTIPLY, DIVIDE, ADD_SCALED, NEGATE,
    /* Comparisons of numbers, and of flags. They give flags. */
    LESS, LESS_OR_EQUAL, EQUAL, BOTH, EITHER, NEITHER,
    /* to = of 0 ? of 1 : of 2 */
    CHOOSE,
    /* Copies of elements of 1, 4 or 8 bytes, and of one type to another. */
    COPY_1, COPY_4, COPY_8, INT_TO_LONG, INT_TO_FLOAT, LONG_TO_FLOAT,
    ADD_INTS, ADD_LONGS,
    /* Rows of an array at indices, which are longs. Sizes: rows of the array, number of indices, bytes of a row.
     * TAKE: to[k] = of 0[of 1[k]].  PUT: to[of 1[k]] = of 0[k]. */
    TAKE, PUT,
};

/* Four bytes of any type. */
typedef int32_t __attribute__((may_alias)) four_bytes;

struct operand {
    char *data;
    int64_t steps[3];
};

struct operation {
    int64_t kind, sizes[3];
    struct operand to, of[3];
};

/* The operands of a line, which lies along the last axis. */
struct line {
    char *to, *of[3];
    long n, to_step, steps[3];
};

/* Return the vector at a place of a line of floats. A step of 0 repeats one number. */
INLINE vec line_part(const struct line *line, const int number, long u)
{
    const float *at = (const float *)line->of[number];
    return line->steps[number] ? load(at + u, line->n - u) : all(*at);
}

INLINE vec computed(const int kind, const struct line *line, long u)
{
    vec a = line_part(line, 0, u);
    if (kind == NEGATE)
        return -a;
    vec b = line_part(line, 1, u);
    if (kind == ADD_SCALED)
        return a + line_part(line, 2, u) * b;
    return kind == ADD ? a + b : kind == SUBTRACT ? a - b : kind == MULTIPLY ? a * b : a / b;
}

/* The elements of a line of floats lie next to each other, or an operand is one number. */
INLINE void compute_line(const int kind, const struct line *line)
{
    for (long u = 0; u < line->n; u += LANES)
        store((float *)line->to + u, computed(kind, line, u), line->n - u);
}

static void copy_line(const struct line *line, const long bytes)
{
    if (line->to_step == 1 && line->steps[0] == 1) {
        memmove(line->to, line->of[0], line->n * bytes);
        return;
    }
    for (long u = 0; u < line->n; u++)
        memcpy(line->to + u * line->to_step * bytes, line->of[0] + u * line->steps[0] * bytes, bytes);
}

/* Copy four bytes of each element of one of two lines. */
static void choose_line(const struct line *line)
{
    if (!line->steps[0]) { /* one flag for the whole line */
        const int number = *(const uint8_t *)line->of[0] ? 1 : 2;
        copy_line(&(struct line){.to = line->to, .of = {line->of[number]}, .n = line->n, .to_step = line->to_step,
                                 .steps = {line->steps[number]}}, 4);
        return;
    }
    const uint8_t *flags = (const uint8_t *)line->of[0];
    const four_bytes *ones = (const four_bytes *)line->of[1], *others = (const four_bytes *)line->of[2];
    for (long u = 0; u < line->n; u++)
        ((four_bytes *)line->to)[u * line->to_step] =
            flags[u * line->steps[0]] ? ones[u * line->steps[1]] : others[u * line->steps[2]];
}

/* Write a value for each element of a line, from the elements `a` and `b` of its operands. */
#define EACH(type, from, value)                                                                                        \
    for (long u = 0; u < line->n; u++) {                                                                               \
        const from a = ((const from *)line->of[0])[u * line->steps[0]];                                               \
        const from b = line->of[1] ? ((const from *)line->of[1])[u * line->steps[1]] : a;                             \
        (void)b, ((type *)line->to)[u * line->to_step] = (value);                                                      \
    }                                                                                                                  \
    break

static void run_line(const int64_t kind, const struct line *line)
{
#define COMPUTE(kind)                                                                                                  \
    case kind:                                                                                                         \
        compute_line(kind, line);                                                                                      \
        break
    switch (kind) {
        COMPUTE(ADD);
        COMPUTE(SUBTRACT);
        COMPUTE(MULTIPLY);
        COMPUTE(DIVIDE);
        COMPUTE(ADD_SCALED);
        COMPUTE(NEGATE);
    case LESS: EACH(uint8_t, float, a < b);
    case LESS_OR_EQUAL: EACH(uint8_t, float, a <= b);
    case EQUAL: EACH(uint8_t, float, a == b);
    case BOTH: EACH(uint8_t, uint8_t, a && b);
    case EITHER: EACH(uint8_t, uint8_t, a || b);
    case NEITHER: EACH(uint8_t, uint8_t, !(a || b));
    case CHOOSE: choose_line(line); break;
    case COPY_1: copy_line(line, 1); break;
    case COPY_4: copy_line(line, 4); break;
    case COPY_8: copy_line(line, 8); break;
    case INT_TO_LONG: EACH(int64_t, int32_t, a);
    case INT_TO_FLOAT: EACH(float, int32_t, a);
    case LONG_TO_FLOAT: EACH(float, int64_t, a);
    case ADD_INTS: EACH(int32_t, uint32_t, a + b);
    case ADD_LONGS: EACH(int64_t, uint64_t, a + b);
    }
#undef COMPUTE
}

/* Return how many bytes an element of an operand has. `number` is that of an operand in `of`, or -1 for `to`. */
static long element(const int64_t kind, int number)
{
    if (kind == COPY_8 || kind == ADD_LONGS || (kind == INT_TO_LONG && number < 0) || (kind == LONG_TO_FLOAT && number >= 0))
        return 8;
    if (kind == COPY_1 || (kind >= BOTH && kind <= NEITHER) || (kind >= LESS && kind <= EQUAL && number < 0) ||
        (kind == CHOOSE && !number))
        return 1;
    return 4;
}

/* Return whether all indices are those of rows. */
static int copy_indexed(const struct operation *operation)
{
    const int64_t *indices = (const int64_t *)operation->of[1].data;
    const long rows = operation->sizes[0], count = operation->sizes[1], bytes = operation->sizes[2];
    for (long k = 0; k < count; k++)
        if (indices[k] < 0 || indices[k] >= rows)
            return 0;
    for (long k = 0; k < count; k++) {
        long at = operation->kind == TAKE ? k : indices[k], from = operation->kind == TAKE ? indices[k] : k;
        memcpy(operation->to.data + at * bytes, operation->of[0].data + from * bytes, bytes);
    }
    return 1;
}

static void run_lines(const struct operation *operation)
{
    const int64_t kind = operation->kind, *sizes = operation->sizes;
    for (long i = 0; i < sizes[0]; i++)
        for (long j = 0; j < sizes[1]; j++) {
            const struct operand *to = &operation->to;
            struct line line = {.to = to->data + (i * to->steps[0] + j * to->steps[1]) * element(kind, -1),
                                .n = sizes[2], .to_step = to->steps[2]};
            for (int number = 0; number < 3; number++) {
                const struct operand *of = &operation->of[number];
                line.of[number] =
                    of->data ? of->data + (i * of->steps[0] + j * of->steps[1]) * element(kind, number) : 0;
                line.steps[number] = of->steps[2];
            }
            run_line(kind, &line);
        }
}

/* Run operations. Return how many of them ran: all, or those before the first one whose indices are wrong. */
static long run_operations(const struct operation *operations, long count)
{
    for (long number = 0; number < count; number++) {
        const struct operation *one = &operations[number];
        if (one->kind == TAKE || one->kind == PUT) {
            if (!copy_indexed(one))
                return number;
        } else
            run_lines(one);
    }
    return count;
}
