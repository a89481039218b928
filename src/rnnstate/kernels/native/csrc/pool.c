/* A pool of threads. They start with the first call that repays them, and sleep while there is no work.
 *
 *     calling threads  --->  tasks[first], tasks[first + 1], ...  --->  threads of the pool
 *
 * A process that was forked has none of the threads of its parent, and the lock may be taken for ever. There every call runs
 * in the calling thread, and touches neither.
 */
#include <unistd.h>

#include "blocks.h"
#include "library.h"
#include "pool.h"

struct task {
    void (*run)(void *);
    void *data;
};

/* The tasks that no thread has taken yet are `count` places from `first` on, around the end. */
enum { PLACES = 64 };
static struct task tasks[PLACES];
static int first, count;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t work_came = PTHREAD_COND_INITIALIZER;

/* How many threads may compute, with the calling one; how many threads of the pool run; and in which process. */
static int64_t most, running;
static pid_t process;
static struct thread_functions functions;

OFFERED void rnnstate_use_threads(const struct thread_functions *given, int64_t threads)
{
    functions = *given, most = threads;
}

static void *serve(void *unused)
{
    for (;;) {
        pthread_mutex_lock(&lock);
        while (!count)
            pthread_cond_wait(&work_came, &lock);
        struct task task = tasks[first];
        first = (first + 1) % PLACES, count--;
        pthread_mutex_unlock(&lock);
        task.run(task.data);
    }
    return unused;
}

/* Start the threads that are missing. They leave all signals to the other threads of the process. */
static void start_threads(void)
{
    pthread_t thread;
    sigset_t everything, before;
    sigfillset(&everything);
    functions.mask(SIG_SETMASK, &everything, &before);
    while (running < most - 1 && !functions.create(&thread, 0, serve, 0))
        running++;
    functions.mask(SIG_SETMASK, &before, 0);
}

static int schedule(const void *unused, void (*run)(void *), void *data)
{
    (void)unused;
    pthread_mutex_lock(&lock);
    if (running < most - 1)
        start_threads();
    int accepted = running && count < PLACES;
    if (accepted) {
        tasks[(first + count++) % PLACES] = (struct task){run, data};
        pthread_cond_signal(&work_came);
    }
    pthread_mutex_unlock(&lock);
    return accepted;
}

/* Return whether this process may use the pool: it has started the pool, or nobody has. */
static int has_pool(void)
{
    if (!process)
        process = getpid();
    return process == getpid();
}

void run_on_pool(const struct call *call)
{
    int64_t threads = threads_for(call);
    threads = threads < most ? threads : most;
    run_in_blocks(call, threads > 1 && has_pool() ? threads : 1, schedule, 0);
}

OFFERED void rnnstate_run_pool(const struct call *call) { run_on_pool(call); }
