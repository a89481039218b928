/* The outputs at masked steps: they repeat the last valid step, and are zero before the first one.
 *
 *     mask         0    1    1    0    0    1
 *     h            h0   h1   h2   h3   h4   h5       a reset at a masked step changes h, and no output
 *     outputs      0    h1   h2   h2   h2   h5
 *
 * So the gradient of an output belongs to h at the last valid step.
 */
#pragma once
#include <string.h>

#include "call.h"

/* Write the outputs, (batch, time, units), from h. */
static void hold(const struct array *outputs, const struct array *h, const struct array *mask)
{
    const size_t size = h->sizes[2] * sizeof(float);
    for (long row = 0; row < h->sizes[0]; row++) {
        const float *last = 0;
        for (long t = 0; t < h->sizes[1]; t++) {
            last = flag(mask, row, t, 1) ? place(h, row, t) : last;
            if (last)
                memcpy(place(outputs, row, t), last, size);
            else
                memset(place(outputs, row, t), 0, size);
        }
    }
}

/* Write the gradient of h from the gradient of the outputs. */
static void hold_back(const struct array *d_h, const struct array *d_outputs, const struct array *mask)
{
    const long units = d_h->sizes[2];
    for (long row = 0; row < d_h->sizes[0]; row++) {
        float *last = 0;
        for (long t = 0; t < d_h->sizes[1]; t++) {
            const float *from = place(d_outputs, row, t);
            float *to = place(d_h, row, t);
            memset(to, 0, units * sizeof(float));
            last = flag(mask, row, t, 1) ? to : last;
            for (long u = 0; last && u < units; u++)
                last[u] += from[u];
        }
    }
}
