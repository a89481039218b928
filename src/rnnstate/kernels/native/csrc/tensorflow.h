/* TensorFlow's C interface, as far as the native loops use it.
 *
 * The functions are declared here, and not included from TensorFlow, so that the library is built without TensorFlow. Python
 * finds their addresses by their names. The interface promises to stay the same for all versions 2 of TensorFlow.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>

/* The types of TensorFlow are opaque. */
typedef struct TF_Status TF_Status;
typedef struct TF_Tensor TF_Tensor;
typedef struct TF_Context TF_Context;
typedef struct TF_Builder TF_Builder;

/* Values of TF_Code and TF_DataType. */
enum { TF_OK = 0, TF_INVALID_ARGUMENT = 3, TF_FLOAT = 1 };

#define TENSORFLOW(function)                                                                                           \
    function(TF_Status *, TF_NewStatus, (void))                                                                        \
    function(void, TF_DeleteStatus, (TF_Status *))                                                                     \
    function(int, TF_GetCode, (const TF_Status *))                                                                     \
    function(void, TF_SetStatus, (TF_Status *, int code, const char *message))                                         \
    function(TF_Builder *, TF_NewOpDefinitionBuilder, (const char *name))                                              \
    function(void, TF_OpDefinitionBuilderAddAttr, (TF_Builder *, const char *))                                        \
    function(void, TF_OpDefinitionBuilderAddInput, (TF_Builder *, const char *))                                       \
    function(void, TF_OpDefinitionBuilderAddOutput, (TF_Builder *, const char *))                                      \
    function(void, TF_OpDefinitionBuilderSetShapeInferenceFunction, (TF_Builder *, void (*)(TF_Context *, TF_Status *))) \
    function(void, TF_ShapeInferenceContextSetUnknownShape, (TF_Context *, TF_Status *))                               \
    function(void, TF_RegisterOpDefinition, (TF_Builder *, TF_Status *))                                               \
    function(TF_Builder *, TF_NewKernelBuilder,                                                                        \
             (const char *name, const char *device, void *(*make)(TF_Context *), void (*run)(void *, TF_Context *),    \
              void (*drop)(void *)))                                                                                   \
    function(void, TF_RegisterKernelBuilder, (const char *name, TF_Builder *, TF_Status *))                            \
    function(void, TF_OpKernelConstruction_GetAttrInt32, (TF_Context *, const char *name, int32_t *, TF_Status *))     \
    function(void, TF_OpKernelConstruction_Failure, (TF_Context *, TF_Status *))                                       \
    function(void, TF_OpKernelContext_Failure, (TF_Context *, TF_Status *))                                            \
    function(void, TF_GetInput, (TF_Context *, int number, TF_Tensor **, TF_Status *))                                 \
    function(TF_Tensor *, TF_AllocateOutput,                                                                           \
             (TF_Context *, int number, int type, const int64_t *sizes, int axes, size_t bytes, TF_Status *))          \
    function(TF_Tensor *, TF_ForwardInputOrAllocateOutput,                                                             \
             (TF_Context *, const int *inputs, int count, int number, const int64_t *sizes, int axes, int *forwarded,  \
              TF_Status *))                                                                                            \
    function(void *, TF_TensorData, (const TF_Tensor *))                                                               \
    function(int, TF_NumDims, (const TF_Tensor *))                                                                     \
    function(int64_t, TF_Dim, (const TF_Tensor *, int axis))                                                           \
    function(void, TF_DeleteTensor, (TF_Tensor *))

/* The addresses of the functions, in this order. */
struct tensorflow {
#define FIELD(result, name, arguments) result(*name) arguments;
    TENSORFLOW(FIELD)
#undef FIELD
};
extern struct tensorflow tf;

/* A run of the operator: its settings, and the arrays of TensorFlow in their order. Once a run has failed, the functions
 * below return arrays without memory. */
enum { SCRATCH = 16 };
struct run {
    int32_t cell, work, masks, resets, biases, holds;
    TF_Context *context;
    TF_Status *status;
    int taken, given, kept, failed;
    void *scratch[SCRATCH];
};

/* In place of a size that an array may choose. */
enum { ANY = -1 };
/* Return the next input. It has so many axes, and the sizes of the last of the three. */
struct array take(struct run *run, int axes, int64_t first, int64_t second, int64_t third);
/* Return the next result, which has no values yet. */
struct array give(struct run *run, int axes, int64_t first, int64_t second, int64_t third);
/* Return the next result with the values of the next input: in its place if nobody else reads it, or else as a copy. */
struct array take_over(struct run *run, int64_t first, int64_t second, int64_t third);
/* Return memory until the end of the run. */
struct array scratch(struct run *run, int64_t first, int64_t second, int64_t third);
/* Let the operator fail. */
void fail(struct run *run, const char *message);
/* Run the operator: `tensorflow_runs.c`. */
void run_operator(struct run *run);
