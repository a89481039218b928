/* One call of the native loops: which cell, what to do, and where the arrays lie. Each backend fills one.
 *
 *     array   forward       back          sums
 *     0       start         start         start
 *     1       initial       initial       initial
 *     2       mask          mask          -
 *     3       reset         reset         reset
 *     4       recurrent     transposed    -
 *     5       bias          d_outputs     d_x
 *     6       given         d_final       given
 *     7       kernel        outputs       outputs
 *     8       input_bias    -             d_kept
 *     9       x             x             sums_x
 *     10      outputs       kept          sums_h
 *     11      kept          d_start       -
 *     12      final         d_initial     -
 *     13      spare         spare         spare
 *     14      strips        strips        strips
 *
 * All numbers are float32, and flags are bytes. `rows.h` and `sums.h` describe the arrays. PyTorch writes this struct from
 * Python as words of eight bytes, so every field has eight bytes.
 */
#pragma once
#include <stdint.h>

enum cell { LSTM, GRU, RNN };
/* Run a loop forward, run it back, sum the gradients of the kernels after the way back, or compute the gradient of
 * x: the product of rows and a transposed kernel. */
enum work { FORWARD, BACK, SUMS, GRADIENT_OF_X };

enum {
    START, INITIAL, MASK, RESET, RECURRENT, BIAS, GIVEN, KERNEL, INPUT_BIAS, X, OUTPUTS, KEPT, FINAL, SPARE, STRIPS, ARRAYS,
    TRANSPOSED = RECURRENT, D_OUTPUTS = BIAS, D_FINAL = GIVEN, OUTPUTS_BEFORE = KERNEL, KEPT_BACK = OUTPUTS,
    D_START = KEPT, D_INITIAL = FINAL, D_X = BIAS, BEFORE = KERNEL, D_KEPT = INPUT_BIAS, SUMS_X = X, SUMS_H = OUTPUTS,
};

/* An array, with its last three sizes. An array with fewer axes has sizes of one in front. An empty array has a size of 0. */
struct array {
    void *data;
    int64_t sizes[3];
};

struct call {
    int64_t cell, work;
    struct array arrays[ARRAYS];
};

/* The most rows that go through the window together. The rows of a step, and their scratch, then stay in the caches next to
 * the core. Fewer rows would read the strips too often. */
enum { GROUP = 24 };

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

struct operation;

/* What a level offers: its name, the width of its strips, the copy of kernels into the strips lo to hi, a block of the work
 * (rows of a loop, or strips of sums), and the operations of `operations.h`. */
struct level {
    const char *name;
    int64_t width;
    void (*pack)(const struct call *call, long lo, long hi);
    void (*run)(const struct call *call, long lo, long hi);
    long (*run_operations)(const struct operation *operations, long count);
};
