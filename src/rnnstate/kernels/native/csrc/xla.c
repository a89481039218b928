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

static struct array as_array(const struct buffer *buffer)
{
    struct array array = {buffer->data, {1, 1, 1}};
    for (int64_t axis = 0; axis < 3 && axis < buffer->rank; axis++)
        array.sizes[2 - axis] = buffer->dims[buffer->rank - 1 - axis];
    return array;
}

static void run_loop(const struct frame *frame, struct call *call)
{
    struct array *a = call->arrays;
    const int64_t rows = a[X].sizes[0], time = a[X].sizes[1], *recurrent = a[RECURRENT].sizes, *kernel = a[KERNEL].sizes;
    const int64_t numbers = recurrent[1] * recurrent[2] + (call->work == BACK ? 0 : kernel[1] * kernel[2]);
    use_large_pages(call);
    run_in_blocks(frame, call, rows, (double)time * rows * numbers);
}

static void run_sums(const struct frame *frame, const struct call *call)
{
    const struct array *a = call->arrays, *d_x = &a[D_X];
    const int64_t inner = a[SUMS_H].sizes[1] + a[SUMS_X].sizes[1];
    run_in_blocks(frame, call, a[STRIPS].sizes[0], (double)d_x->sizes[0] * d_x->sizes[1] * d_x->sizes[2] * inner);
}

/* A frame of another form is left alone: the check at load then fails. */
OFFERED void *rnnstate_xla(const struct frame *frame)
{
    if (answer_version(frame) || !has_buffers(frame, ARGUMENTS, RESULTS))
        return 0;
    const int32_t *settings = frame->args.list[0]->data;
    struct call call = {settings[0], settings[1], {{0}}};
    for (int number = 0; number < ARRAYS; number++)
        call.arrays[number] = as_array(number < READ ? frame->args.list[1 + number] : frame->rets.list[number - READ]);
    if (call.work == SUMS)
        run_sums(frame, &call);
    else
        run_loop(frame, &call);
    return 0;
}
