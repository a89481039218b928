/* Threads that help with a call, and wait in seats for the next one.
 *
 *     calling thread     take a block, run it, take the next one, ...   then wait until all blocks are done
 *     helping threads         take a block, run it, ...                 then take a seat for a while
 *
 * A sleeping thread wakes up in 50 to 200 us, which is as long as some calls. So a thread that has helped takes a seat, and
 * looks for the next call for a while. The calling thread first gives its work to threads in their seats, and then schedules
 * others. If they come late or never, it runs all blocks itself. The last thread to leave a call frees the memory.
 */
#include <sched.h>
#include <stdlib.h>
#include <time.h>

#include "blocks.h"

/* How long a thread keeps its seat, in nanoseconds: somewhat longer than the operations between two loops take. */
static const int64_t SEATED = 300000;

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

/* Wait in a seat for work. Return it, or null after some time. Another process may take the core meanwhile. */
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

static void run_alone(const struct call *call)
{
    struct blocks blocks;
    cut(&blocks, call, 1);
    take_blocks(&blocks);
}

void run_in_blocks(const struct call *call, int64_t threads, schedule_task *schedule, const void *pool)
{
    struct shared *shared = threads > 1 ? malloc(sizeof *shared) : 0;
    if (!shared) {
        run_alone(call);
        return;
    }
    cut(&shared->blocks, call, threads);
    atomic_init(&shared->users, threads);
    for (int64_t other = 1; other < threads; other++)
        if (!give(shared) && !schedule(pool, help, shared))
            leave(shared);
    take_blocks(&shared->blocks);
    while (atomic_load(&shared->blocks.done) < shared->blocks.count)
        sched_yield();
    leave(shared);
}
