/* Blocks on the threads of XLA.
 *
 * The threads of XLA look for work again and again while they wait. Additional threads would have to share the cores with
 * them, so the loops use the threads of XLA.
 *
 *     thread that XLA called     take a block, run it, take the next one, ...   then wait until all blocks are done
 *     other threads of XLA            take a block, run it, ...                 leave when no block is left
 *
 * If the other threads come late or never, the calling thread runs all blocks itself. The last thread to leave frees the
 * memory.
 *
 * A sleeping thread wakes up in 50 to 200 us, which is as long as some calls. So a thread that has helped takes a seat, and
 * looks for the next call for a while. The calling thread first gives its work to threads in their seats.
 */
#include <sched.h>
#include <stdlib.h>
#include <time.h>

#include "blocks.h"
#include "xla.h"

/* The least work of a block that repays a second thread, in multiplications with an addition. */
static const double WORTH_A_THREAD = 2e6;

/* How long a thread keeps its seat, in nanoseconds: somewhat longer than XLA's operations between two loops take. */
static const int64_t SEATED = 300000;

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

int64_t count_threads(const struct frame *frame)
{
    int64_t count = 1;
    struct count_call given = {sizeof given, 0, frame->ctx, &count};
    return call_xla(frame, count_place, &given) ? 1 : count;
}

int schedule(const struct frame *frame, void (*task)(void *), void *data)
{
    struct schedule_call given = {sizeof given, 0, frame->ctx, task, data};
    return !call_xla(frame, schedule_place, &given);
}

/* What the threads share. `users` counts the threads that still need this memory. */
struct shared {
    struct blocks blocks;
    atomic_int_fast64_t users;
};

static void leave(struct shared *shared)
{
    if (atomic_fetch_sub(&shared->users, 1) == 1)
        free(shared);
}

/* A seat is empty (null), holds a thread that waits (`waiting`), or the work that this thread was given. */
enum { SEATS = 64 };
static struct shared waiting;
static _Atomic(struct shared *) seats[SEATS];

static int swap(int seat, struct shared *from, struct shared *to)
{
    return atomic_compare_exchange_strong(&seats[seat], &from, to);
}

/* Give work to a thread in its seat. Return whether there was one. */
static int give(struct shared *shared)
{
    for (int seat = 0; seat < SEATS; seat++)
        if (atomic_load(&seats[seat]) == &waiting && swap(seat, &waiting, shared))
            return 1;
    return 0;
}

static int64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

/* Wait in a seat for work. Return it, or null after some time. */
static struct shared *take_seat(void)
{
    int seat = 0;
    while (seat < SEATS && !swap(seat, 0, &waiting))
        seat++;
    if (seat == SEATS)
        return 0;
    for (int64_t end = now() + SEATED; atomic_load(&seats[seat]) == &waiting && now() < end;)
        sched_yield();
    return swap(seat, &waiting, 0) ? 0 : atomic_exchange(&seats[seat], 0);
}

/* Help with a call, and then with the calls that follow soon. */
static void help(void *data)
{
    for (struct shared *shared = data; shared; shared = take_seat()) {
        take_blocks(&shared->blocks);
        leave(shared);
    }
}

/* Return in how many blocks to run: each thread gets one, if its work repays the thread. */
static int64_t blocks_of(const struct frame *frame, int64_t parts, double work)
{
    int64_t blocks = work / WORTH_A_THREAD, pairs = (parts + 1) / 2, threads;
    blocks = blocks < pairs ? blocks : pairs;
    if (blocks < 2)
        return 1;
    threads = count_threads(frame);
    return threads < 1 ? 1 : blocks < threads ? blocks : threads;
}

static void run_alone(const struct call *call, int64_t parts)
{
    struct blocks blocks;
    cut(&blocks, call, parts, 1);
    take_blocks(&blocks);
}

/* `work` counts the multiplications with an addition, over all parts. */
void run_in_blocks(const struct frame *frame, const struct call *call, int64_t parts, double work)
{
    int64_t count = blocks_of(frame, parts, work);
    struct shared *shared = count > 1 ? malloc(sizeof *shared) : 0;
    if (!shared) {
        run_alone(call, parts);
        return;
    }
    cut(&shared->blocks, call, parts, count);
    atomic_init(&shared->users, count);
    for (int64_t other = 1; other < count; other++)
        if (!give(shared) && !schedule(frame, help, shared))
            leave(shared);
    take_blocks(&shared->blocks);
    wait_for_blocks(&shared->blocks);
    leave(shared);
}
