/* Rows of a bank: a call takes, or puts, the rows of all leaves of a batch.
 *
 * XLA's own scatter goes to several threads if the bank is large, however few rows it writes. To wake a thread takes longer
 * than to copy the rows of a batch. Arguments and results:
 *
 *                 take                            put
 *     argument 0  task                            task, int32: 0 or 1, then the bytes of a row of each leaf
 *     argument 1  slots                           slots, int32 (batch)
 *     then        bank of each leaf               rows of each leaf, then the bank of each leaf
 *     results     rows of each leaf               bank of each leaf, in place
 *
 *     bank   (capacity, *shape)        rows   (batch, *shape)       rows[i] is bank[slots[i]]
 */
#include <string.h>

#include "library.h"
#include "xla.h"

enum { TASK, SLOTS, FIRST };
enum { TAKE, PUT };

/* Copy rows to a bank, or from it. A slot outside the bank stands for its spare row 0. */
static void copy_rows(int puts, const struct buffer *bank, const struct buffer *rows, const struct buffer *slots, int64_t size)
{
    for (int64_t row = 0; row < slots->dims[0]; row++) {
        int64_t slot = ((const int32_t *)slots->data)[row];
        char *there = (char *)bank->data + (slot >= 0 && slot < bank->dims[0] ? slot : 0) * size;
        char *here = (char *)rows->data + row * size;
        memcpy(puts ? there : here, puts ? here : there, size);
    }
}

OFFERED void *rnnstate_xla_bank(const struct frame *frame)
{
    if (answer_version(frame) || !has_buffers(frame, FIRST, 1))
        return 0;
    struct buffer **given = frame->args.list, **results = frame->rets.list;
    const int32_t *task = given[TASK]->data;
    int puts = task[0] == PUT;
    if (frame->args.size != FIRST + (1 + puts) * frame->rets.size)
        return 0;
    for (int64_t leaf = 0; leaf < frame->rets.size; leaf++) {
        struct buffer *argument = given[FIRST + leaf], *result = results[leaf];
        copy_rows(puts, puts ? result : argument, puts ? argument : result, given[SLOTS], task[1 + leaf]);
    }
    return 0;
}
