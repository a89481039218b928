/* The operator that TensorFlow calls: its registration, its inputs and its results.
 *
 *     RnnstateLoop(numbers, masks, resets; cell, work, biases, holds) -> results
 *
 * `numbers` and `results` are lists of float32, and `masks` and `resets` are lists of no or one array of flags.
 * `tensorflow_runs.c` gives their order.
 */
#include "tensorflow.h"

#include <stdlib.h>
#include <string.h>

#include "library.h"

static const char NAME[] = "RnnstateLoop";
struct tensorflow tf;

void fail(struct run *run, const char *message)
{
    if (!run->failed)
        tf.TF_SetStatus(run->status, TF_INVALID_ARGUMENT, message);
    run->failed = 1;
}

/* Return whether the last call of TensorFlow has succeeded. */
static int succeeded(struct run *run)
{
    run->failed = run->failed || tf.TF_GetCode(run->status) != TF_OK;
    return !run->failed;
}

static int64_t bytes_of(const struct array *array)
{
    return array->sizes[0] * array->sizes[1] * array->sizes[2] * (int64_t)sizeof(float);
}

/* Return an array of TensorFlow. Its memory lives as long as the operator runs. */
static struct array as_array(TF_Tensor *tensor)
{
    struct array array = {tf.TF_TensorData(tensor), {1, 1, 1}};
    for (int axes = tf.TF_NumDims(tensor), axis = 0; axis < axes && axis < 3; axis++)
        array.sizes[2 - axis] = tf.TF_Dim(tensor, axes - 1 - axis);
    return array;
}

struct array take(struct run *run, int axes, int64_t first, int64_t second, int64_t third)
{
    const int64_t sizes[3] = {first, second, third};
    struct array array = {0};
    TF_Tensor *tensor = 0;
    if (run->failed)
        return array;
    tf.TF_GetInput(run->context, run->taken++, &tensor, run->status);
    if (!succeeded(run))
        return array;
    array = as_array(tensor);
    int fits = tf.TF_NumDims(tensor) == axes;
    for (int axis = 0; axis < 3; axis++)
        fits = fits && (axis < 3 - axes || sizes[axis] == ANY || sizes[axis] == array.sizes[axis]);
    if (!fits)
        fail(run, "The arrays of a native loop must have shapes that fit together. Received: others.");
    tf.TF_DeleteTensor(tensor);
    return array;
}

/* Return the memory of a result that TensorFlow has made. */
static struct array made(struct run *run, TF_Tensor *tensor)
{
    struct array array = {0};
    if (succeeded(run))
        array = as_array(tensor);
    if (tensor)
        tf.TF_DeleteTensor(tensor);
    return array;
}

struct array give(struct run *run, int axes, int64_t first, int64_t second, int64_t third)
{
    const struct array wanted = {0, {axes > 2 ? first : 1, axes > 1 ? second : 1, third}};
    if (run->failed)
        return (struct array){0};
    return made(run, tf.TF_AllocateOutput(run->context, run->given++, TF_FLOAT, wanted.sizes + 3 - axes, axes,
                                          bytes_of(&wanted), run->status));
}

struct array take_over(struct run *run, int64_t first, int64_t second, int64_t third)
{
    const int64_t sizes[3] = {first, second, third};
    int input = run->taken, forwarded = -1;
    if (run->failed)
        return (struct array){0};
    struct array array = made(run, tf.TF_ForwardInputOrAllocateOutput(run->context, &input, 1, run->given++, sizes, 3,
                                                                      &forwarded, run->status));
    if (forwarded == input) {
        run->taken++;
        return array;
    }
    struct array from = take(run, 3, first, second, third);
    if (!run->failed && !is_empty(&from))
        memcpy(array.data, from.data, bytes_of(&from));
    return array;
}

struct array scratch(struct run *run, int64_t first, int64_t second, int64_t third)
{
    struct array array = {0, {first, second, third}};
    if (!run->failed && posix_memalign(&array.data, 64, bytes_of(&array) + 64))
        fail(run, "A native loop found no memory.");
    if (!run->failed)
        run->scratch[run->kept++] = array.data;
    return array;
}

static void *make(TF_Context *context)
{
    struct run *settings = calloc(1, sizeof *settings);
    TF_Status *status = tf.TF_NewStatus();
    const struct { const char *name; int32_t *value; } all[] = {
        {"cell", &settings->cell}, {"work", &settings->work}, {"mask_count", &settings->masks},
        {"reset_count", &settings->resets}, {"biases", &settings->biases}, {"holds", &settings->holds}};
    for (size_t i = 0; i < sizeof all / sizeof *all && tf.TF_GetCode(status) == TF_OK; i++)
        tf.TF_OpKernelConstruction_GetAttrInt32(context, all[i].name, all[i].value, status);
    if (tf.TF_GetCode(status) != TF_OK)
        tf.TF_OpKernelConstruction_Failure(context, status);
    tf.TF_DeleteStatus(status);
    return settings;
}

static void run(void *settings, TF_Context *context)
{
    struct run run = *(const struct run *)settings;
    run.context = context, run.status = tf.TF_NewStatus();
    run_operator(&run);
    if (run.failed)
        tf.TF_OpKernelContext_Failure(context, run.status);
    for (int number = 0; number < run.kept; number++)
        free(run.scratch[number]);
    tf.TF_DeleteStatus(run.status);
}

/* Python gives the results their shapes. */
static void leave_shapes(TF_Context *context, TF_Status *status)
{
    tf.TF_ShapeInferenceContextSetUnknownShape(context, status);
}

static void define(TF_Status *status)
{
    static const char *const attributes[] = {
        "number_count: int >= 1", "mask_count: int >= 0", "reset_count: int >= 0", "result_count: int >= 1",
        "cell: int", "work: int", "biases: int", "holds: int"};
    TF_Builder *builder = tf.TF_NewOpDefinitionBuilder(NAME);
    for (size_t i = 0; i < sizeof attributes / sizeof *attributes; i++)
        tf.TF_OpDefinitionBuilderAddAttr(builder, attributes[i]);
    tf.TF_OpDefinitionBuilderAddInput(builder, "numbers: number_count * float");
    tf.TF_OpDefinitionBuilderAddInput(builder, "masks: mask_count * bool");
    tf.TF_OpDefinitionBuilderAddInput(builder, "resets: reset_count * bool");
    tf.TF_OpDefinitionBuilderAddOutput(builder, "results: result_count * float");
    tf.TF_OpDefinitionBuilderSetShapeInferenceFunction(builder, leave_shapes);
    tf.TF_RegisterOpDefinition(builder, status);
}

/* Return the name of a function of TensorFlow, or null after the last one. */
OFFERED const char *rnnstate_tensorflow_function(int64_t number)
{
#define NAME_OF(result, name, arguments) #name,
    static const char *const names[] = {TENSORFLOW(NAME_OF)};
#undef NAME_OF
    return number < (int64_t)(sizeof names / sizeof *names) ? names[number] : 0;
}

/* Register the operator. Return whether TensorFlow has accepted it. */
OFFERED int64_t rnnstate_use_tensorflow(const struct tensorflow *functions)
{
    tf = *functions;
    TF_Status *status = tf.TF_NewStatus();
    define(status);
    if (tf.TF_GetCode(status) == TF_OK)
        tf.TF_RegisterKernelBuilder(NAME, tf.TF_NewKernelBuilder(NAME, "CPU", make, run, free), status);
    int64_t accepted = tf.TF_GetCode(status) == TF_OK;
    tf.TF_DeleteStatus(status);
    return accepted;
}
