/* What every function that XLA calls does first: it answers XLA's question, and looks at the form of the frame. */
#include "xla.h"

int answer_version(const struct frame *frame)
{
    struct extension *asked = frame->extension_start;
    if (!asked || asked->extension_base.type != METADATA)
        return 0;
    asked->metadata->api_version.major_version = 0;
    asked->metadata->api_version.minor_version = 1;
    asked->metadata->traits = 0;
    return 1;
}

int has_buffers(const struct frame *frame, int64_t arguments, int64_t results)
{
    return frame->args.struct_size == sizeof(struct buffers) && frame->rets.struct_size == sizeof(struct buffers) &&
           frame->args.size >= arguments && frame->rets.size >= results;
}
