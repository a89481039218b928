/* Where the fields of the structs in `xla.h` lie, under their names in XLA's header. Python compares both. */
#include "library.h"
#include "xla.h"

struct field {
    const char *name;
    int64_t offset;
};

#define FIELD(theirs, ours, field) {theirs "." #field, offsetof(struct ours, field)}
#define LIST(part, theirs) {"XLA_FFI_CallFrame." theirs, offsetof(struct frame, part)}

static const struct field fields[] = {
    FIELD("XLA_FFI_CallFrame", frame, struct_size),
    FIELD("XLA_FFI_CallFrame", frame, extension_start),
    FIELD("XLA_FFI_CallFrame", frame, api),
    FIELD("XLA_FFI_CallFrame", frame, ctx),
    FIELD("XLA_FFI_CallFrame", frame, args.struct_size),
    FIELD("XLA_FFI_CallFrame", frame, args.size),
    LIST(args.list, "args.args"),
    FIELD("XLA_FFI_CallFrame", frame, rets.struct_size),
    FIELD("XLA_FFI_CallFrame", frame, rets.size),
    LIST(rets.list, "rets.rets"),
    FIELD("XLA_FFI_Buffer", buffer, data),
    FIELD("XLA_FFI_Buffer", buffer, rank),
    FIELD("XLA_FFI_Buffer", buffer, dims),
    FIELD("XLA_FFI_Metadata_Extension", extension, extension_base.type),
    FIELD("XLA_FFI_Metadata_Extension", extension, metadata),
    FIELD("XLA_FFI_Metadata", metadata, api_version.major_version),
    FIELD("XLA_FFI_Metadata", metadata, api_version.minor_version),
    FIELD("XLA_FFI_Metadata", metadata, traits),
    FIELD("XLA_FFI_ThreadPool_NumThreads_Args", count_call, struct_size),
    FIELD("XLA_FFI_ThreadPool_NumThreads_Args", count_call, ctx),
    FIELD("XLA_FFI_ThreadPool_NumThreads_Args", count_call, num_threads),
    FIELD("XLA_FFI_ThreadPool_Schedule_Args", schedule_call, struct_size),
    FIELD("XLA_FFI_ThreadPool_Schedule_Args", schedule_call, ctx),
    FIELD("XLA_FFI_ThreadPool_Schedule_Args", schedule_call, task),
    FIELD("XLA_FFI_ThreadPool_Schedule_Args", schedule_call, data),
};

/* Return the name of a field, or null after the last one, and write its offset in bytes. */
OFFERED const char *rnnstate_field(int64_t number, int64_t *offset)
{
    if (number >= (int64_t)(sizeof fields / sizeof *fields))
        return 0;
    *offset = fields[number].offset;
    return fields[number].name;
}
