/* One call of the native loops: which cell, in which direction, and where its arrays lie. Each backend fills one.
 *
 *     array   forward     back           array   forward       back
 *     0       start       start          8       input_bias    -
 *     1       initial     initial        9       x             x
 *     2       mask        mask           10      outputs       kept
 *     3       reset       reset          11      kept          d_start
 *     4       recurrent   transposed     12      final         d_initial
 *     5       bias        d_outputs      13      spare         spare
 *     6       given       d_final        14      strips        strips
 *     7       kernel      outputs
 *
 * All numbers are float32, and flags are bytes. `rows.h` describes the arrays. PyTorch writes this struct from Python as
 * words of eight bytes, so every field has eight bytes.
 */
#pragma once
#include <stdint.h>

enum cell { LSTM, GRU, RNN };

enum {
    START, INITIAL, MASK, RESET, RECURRENT, BIAS, GIVEN, KERNEL, INPUT_BIAS, X, OUTPUTS, KEPT, FINAL, SPARE, STRIPS, ARRAYS,
    TRANSPOSED = RECURRENT, D_OUTPUTS = BIAS, D_FINAL = GIVEN, OUTPUTS_BEFORE = KERNEL, KEPT_BACK = OUTPUTS,
    D_START = KEPT, D_INITIAL = FINAL,
};

/* An array, with its last three sizes. An array with fewer axes has sizes of one in front. An empty array has a size of 0. */
struct array {
    void *data;
    int64_t sizes[3];
};

struct call {
    int64_t cell, back;
    struct array arrays[ARRAYS];
};

static inline int is_empty(const struct array *array)
{
    return !array->sizes[0] || !array->sizes[1] || !array->sizes[2];
}

/* Return a row at a step of an array (batch, time, width), or a row of a leaf of an array (leaves, batch, width). */
static inline float *place(const struct array *array, long first, long second)
{
    return (float *)array->data + (first * array->sizes[1] + second) * array->sizes[2];
}

/* Return the flag of a row at a step, or `otherwise` if there are no flags. Flags are (1, batch, time). */
static inline int flag(const struct array *array, long row, long t, int otherwise)
{
    return is_empty(array) ? otherwise : ((const uint8_t *)array->data)[row * array->sizes[2] + t];
}

/* What a level offers: its name, the width of its strips, the copy of kernels into strips, and a block of rows. */
struct level {
    const char *name;
    int64_t width;
    void (*pack)(const struct call *call);
    void (*run)(const struct call *call, long lo, long hi);
};
