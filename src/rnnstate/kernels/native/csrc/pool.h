/* A pool of threads, for a backend that lends none of its own. See pool.c. */
#pragma once
#include <pthread.h>
#include <signal.h>

#include "call.h"

/* The functions of the system that make a thread. Python finds them: with older systems they are in a library of threads,
 * which this library does not name, so that it runs with all of them. */
struct thread_functions {
    int (*create)(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *data);
    int (*mask)(int how, const sigset_t *set, sigset_t *old);
};

/* Run all parts of a call, in blocks on the threads of the pool if the work repays them. */
void run_on_pool(const struct call *call);
