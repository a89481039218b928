/* Large pages for large arrays.
 *
 * XLA takes the memory of a training step from the system, and gives it back after the step. The system then fills in each
 * page of 4 KB at its first use, which takes a sixth of a step at 256 units. On Linux, a page of 2 MB takes as long as a few
 * small ones. The advice concerns pages that lie in the array as a whole. It changes no contents, and a system without large
 * pages ignores it.
 */
#include "library.h"

#ifdef __linux__
#include <sys/mman.h>

/* The size of a large page, and the least size of an array that repays the call, in bytes. */
static const uintptr_t PAGE = 1 << 21, LARGE = 1 << 19;

static void advise(const struct array *array)
{
    uintptr_t size = array->sizes[0] * array->sizes[1] * array->sizes[2] * sizeof(float);
    uintptr_t first = (uintptr_t)array->data / PAGE * PAGE, end = ((uintptr_t)array->data + size + PAGE - 1) / PAGE * PAGE;
    if (size >= LARGE)
        madvise((void *)first, end - first, MADV_HUGEPAGE);
}
#else
static void advise(const struct array *array) { (void)array; }
#endif

void use_large_pages(const struct call *call)
{
    for (int number = X; number < ARRAYS; number++)
        advise(&call->arrays[number]);
}
