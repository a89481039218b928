/* XLA's call frame and thread pool, as far as the native loops use them. See docs/native-loops.md for a diagram.
 *
 * XLA passes the address of a frame to a function that it calls. These structs are declared here, and not included from JAX,
 * so that the library is built without JAX. Python compares each field below with the header that JAX installs, before XLA
 * calls the first function.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>

/* XLA_FFI_Buffer: an array. */
struct buffer {
    size_t struct_size;
    void *extension_start;
    int32_t dtype;
    void *data;
    int64_t rank;
    int64_t *dims;
};

/* XLA_FFI_Args and XLA_FFI_Rets: the arrays that XLA passes in, and those that it wants filled. */
struct buffers {
    size_t struct_size;
    void *extension_start;
    int64_t size;
    void *types;
    struct buffer **list;
};

/* XLA_FFI_Metadata: the answer to the question for which version a function was written. */
struct metadata {
    size_t struct_size;
    struct {
        size_t struct_size;
        void *extension_start;
        int32_t major_version, minor_version;
    } api_version;
    uint32_t traits;
};

/* XLA_FFI_Metadata_Extension: the question, if the type is METADATA. */
struct extension {
    struct {
        size_t struct_size;
        int32_t type;
        void *next;
    } extension_base;
    struct metadata *metadata;
};

enum { METADATA = 1 };

/* XLA_FFI_CallFrame. `api` is a table of functions, and `ctx` goes back to XLA in each call of one. */
struct frame {
    size_t struct_size;
    struct extension *extension_start;
    const char *api;
    void *ctx;
    int32_t stage;
    struct buffers args, rets;
};

/* XLA_FFI_ThreadPool_NumThreads_Args. */
struct count_call {
    size_t struct_size;
    void *extension_start, *ctx;
    int64_t *num_threads;
};

/* XLA_FFI_ThreadPool_Schedule_Args. */
struct schedule_call {
    size_t struct_size;
    void *extension_start, *ctx;
    void (*task)(void *);
    void *data;
};

/* Run all parts of a call, in blocks on the threads of XLA if the work repays them. */
struct call;
void run_on_xla(const struct frame *frame, const struct call *call);
