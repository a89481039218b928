/* Large pages for large arrays.
 *
 * XLA takes the memory of a training step from the system, and gives it back after the step. The system then fills in each
 * page of 4 KB at its first use, which takes a sixth of a step at 256 units. On Linux, a page of 2 MB takes as long as a few
 * small ones. The advice concerns all large pages in which an array lies, also those that it shares with other arrays:
 *
 *     small arrays     |    large array                                |  small arrays
 *     ----------+------+--------+-----------------+-----------------+--+---------------+
 *               | first page    |                 |                 | last page        |   areas of 2 MB
 *     ----------+---------------+-----------------+-----------------+------------------+
 *
 * A small array that was filled before has given small pages to its area. So the forward loop has the first and the last
 * page of a larger array put together, which Linux can do from version 6.1 on.
 *
 * Advice changes no contents. A system that does not know an advice refuses it, and small pages serve as well.
 */
#include "library.h"

#ifdef __linux__
#include <sys/mman.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

/* The size of a large page, and the least sizes of an array that repay the advice and the work of putting pages together,
 * in bytes. */
static const uintptr_t PAGE = 1 << 21, LARGE = 1 << 19, LARGER = 1 << 22;

static void advise(const struct array *array, int is_new)
{
    uintptr_t size = array->sizes[0] * array->sizes[1] * array->sizes[2] * sizeof(float), data = (uintptr_t)array->data;
    uintptr_t first = data / PAGE * PAGE, end = (data + size + PAGE - 1) / PAGE * PAGE;
    if (size >= LARGE)
        madvise((void *)first, end - first, MADV_HUGEPAGE);
    if (size >= LARGER && is_new) {
        madvise((void *)first, PAGE, MADV_COLLAPSE);
        madvise((void *)(end - PAGE), PAGE, MADV_COLLAPSE);
    }
}
#else
static void advise(const struct array *array, int is_new) { (void)array, (void)is_new; }
#endif

void use_large_pages(const struct call *call)
{
    for (int number = X; number < ARRAYS; number++)
        advise(&call->arrays[number], call->work == FORWARD);
}
