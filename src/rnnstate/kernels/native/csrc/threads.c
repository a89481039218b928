/* The threads of XLA, which take blocks of a call.
 *
 * The threads of XLA look for work again and again while they wait. Additional threads would have to share the cores with
 * them, so the loops use the threads of XLA.
 */
#include "blocks.h"
#include "library.h"
#include "xla.h"

/* The places of two functions in XLA's table of functions, in bytes. Python reads them in the header of JAX. */
static int64_t schedule_place, count_place;

OFFERED void rnnstate_use_pool(int64_t schedule_at, int64_t count_at)
{
    schedule_place = schedule_at, count_place = count_at;
}

/* Call a function of the table. It returns an error, or null. */
static void *call_xla(const struct frame *frame, int64_t place, void *given)
{
    void *(*const *function)(void *) = (void *(*const *)(void *))(frame->api + place);
    return (*function)(given);
}

/* Return how many threads XLA has, or 1 if it does not say. */
static int64_t count_threads(const struct frame *frame)
{
    int64_t count = 1;
    struct count_call given = {sizeof given, 0, frame->ctx, &count};
    return call_xla(frame, count_place, &given) || count < 1 ? 1 : count;
}

static int schedule(const void *frame, void (*task)(void *), void *data)
{
    struct schedule_call given = {sizeof given, 0, ((const struct frame *)frame)->ctx, task, data};
    return !call_xla(frame, schedule_place, &given);
}

void run_on_xla(const struct frame *frame, const struct call *call)
{
    int64_t worth = threads_for(call), threads = worth > 1 ? count_threads(frame) : 1;
    run_in_blocks(call, worth < threads ? worth : threads, schedule, frame);
}
