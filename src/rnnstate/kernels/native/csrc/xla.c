/* The function that XLA calls. It makes a `struct call` from the buffers of the frame, in this order:
 *
 *     argument  forward    back            result  forward         back
 *     0         settings   settings        0       gates (was 10)  d_x (was 10)
 *     1 to 9    arrays 0 to 8              1       outputs         d_kept (was 11)
 *     10        projected  gates           2       kept            d_start
 *     11        -          kept            3       final           d_initial
 *                                          4       spare           spare
 *                                          5       strips          strips
 *
 * A result that "was 10" overwrites argument 10 in place. Argument 10 is missing if the loop projects the input, and for
 * sums. The arguments 1 to 9 and the results 0 to 5 are the arrays of the call. `settings` holds two int32: which cell, and
 * what to do.
 */
#include "xla.h"
#include "library.h"

/* The fewest arguments and results for the order above, and the arguments that are arrays and only read. */
enum { ARGUMENTS = 10, RESULTS = 6, READ = 9 };

/* Answer the question that XLA asks when a function is registered. Return whether this call was the question. */
static int answer_version(const struct frame *frame)
{
    struct extension *asked = frame->extension_start;
    if (!asked || asked->extension_base.type != METADATA)
        return 0;
    asked->metadata->api_version.major_version = 0;
    asked->metadata->api_version.minor_version = 1;
    asked->metadata->traits = 0;
    return 1;
}

static int has_buffers(const struct frame *frame)
{
    return frame->args.struct_size == sizeof(struct buffers) && frame->rets.struct_size == sizeof(struct buffers) &&
           frame->args.size >= ARGUMENTS && frame->rets.size >= RESULTS;
}

static struct array as_array(const struct buffer *buffer)
{
    struct array array = {buffer->data, {1, 1, 1}};
    for (int64_t axis = 0; axis < 3 && axis < buffer->rank; axis++)
        array.sizes[2 - axis] = buffer->dims[buffer->rank - 1 - axis];
    return array;
}

/* A frame of another form is left alone: the check at load then fails. */
OFFERED void *rnnstate_xla(const struct frame *frame)
{
    if (answer_version(frame) || !has_buffers(frame))
        return 0;
    const int32_t *settings = frame->args.list[0]->data;
    struct call call = {settings[0], settings[1], {{0}}};
    for (int number = 0; number < ARRAYS; number++)
        call.arrays[number] = as_array(number < READ ? frame->args.list[1 + number] : frame->rets.list[number - READ]);
    if (call.work != SUMS) {
        use_large_pages(&call);
        rnnstate_pack(&call);
    }
    run_on_xla(frame, &call);
    return 0;
}
