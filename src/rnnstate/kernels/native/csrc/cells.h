/* The cells: some units of one row, one step forward, and one step back from the activated gates.
 *
 * The formulas are those of kernels/loops/cells.py. Each function reads a vector of each array, computes, and writes. The
 * speed of memory limits these loops, so the gates overwrite the projected input, and the gradient of the projected input
 * overwrites the gates.
 *
 * `u` is the first unit, and `n` the number of units: LANES, or fewer at the end of a row.
 */
#pragma once
#include "activations.h"

/* Run a part function over all units of a row. */
#define EACH_PART(part, ...)                                                                                           \
    do {                                                                                                               \
        long u = 0;                                                                                                    \
        for (; u + LANES <= units; u += LANES)                                                                         \
            part(units, u, LANES, __VA_ARGS__);                                                                        \
        if (u < units)                                                                                                 \
            part(units, u, units - u, __VA_ARGS__);                                                                    \
    } while (0)

/* p: projected input plus the recurrent product. x: receives the gates i, f, g, o. h: receives h after the step. c: c before
 * the step, which c after it overwrites. output, kept: receive h and c. */
INLINE void lstm_forward(long units, long u, long n, const float *p, float *x, float *h, float *c, float *output,
                         float *kept)
{
    vec i = sigmoid(load(p + u, n)), f = sigmoid(load(p + units + u, n));
    vec g = tanh_of(load(p + 2 * units + u, n)), o = sigmoid(load(p + 3 * units + u, n));
    vec c_after = f * load(c + u, n) + i * g;
    vec h_after = o * tanh_of(c_after);
    store(x + u, i, n), store(x + units + u, f, n), store(x + 2 * units + u, g, n), store(x + 3 * units + u, o, n);
    store(c + u, c_after, n), store(kept + u, c_after, n);
    store(h + u, h_after, n), store(output + u, h_after, n);
}

/* d_h: gradient of h after the step, which zeros overwrite. d_c: gradient of c after the step, which that of c before it
 * overwrites. d_output: gradient of the output. before, after: c. x: the gates, which the gradient of the projected input
 * overwrites. d_p: receives the same gradient. */
INLINE void lstm_back(long units, long u, long n, float *d_h, float *d_c, const float *d_output, const float *before,
                      const float *after, float *x, float *d_p)
{
    vec i = load(x + u, n), f = load(x + units + u, n), g = load(x + 2 * units + u, n), o = load(x + 3 * units + u, n);
    vec d = load(d_h + u, n) + load(d_output + u, n), s = tanh_of(load(after + u, n));
    vec e = load(d_c + u, n) + d * o * (1.0f - s * s);
    vec d_i = e * g * i * (1.0f - i), d_f = e * load(before + u, n) * f * (1.0f - f);
    vec d_g = e * i * (1.0f - g * g), d_o = d * s * o * (1.0f - o);
    store(x + u, d_i, n), store(x + units + u, d_f, n), store(x + 2 * units + u, d_g, n), store(x + 3 * units + u, d_o, n);
    store(d_p + u, d_i, n), store(d_p + units + u, d_f, n);
    store(d_p + 2 * units + u, d_g, n), store(d_p + 3 * units + u, d_o, n);
    store(d_c + u, e * f, n);
    store(d_h + u, all(0.0f), n);
}

/* The reset gate acts after the recurrent product. x: projected input, which the gates z and r and the candidate for h
 * overwrite. p: the recurrent product. h: h before the step, which h after it overwrites. kept: receives the last third
 * of p. output: receives h. */
INLINE void gru_forward(long units, long u, long n, float *x, const float *p, float *h, float *output, float *kept)
{
    vec h_h = load(p + 2 * units + u, n);
    vec z = sigmoid(load(x + u, n) + load(p + u, n)), r = sigmoid(load(x + units + u, n) + load(p + units + u, n));
    vec new = tanh_of(load(x + 2 * units + u, n) + r * h_h);
    vec h_after = z * load(h + u, n) + (1.0f - z) * new;
    store(x + u, z, n), store(x + units + u, r, n), store(x + 2 * units + u, new, n), store(kept + u, h_h, n);
    store(h + u, h_after, n), store(output + u, h_after, n);
}

/* d_h: gradient of h after the step, which that of h before it overwrites, without the part that flows through the
 * recurrent kernel. before: h before the step. x: the gates, which the gradient of the projected input overwrites.
 * h_h: what `gru_forward` kept, which the gradient of the same product overwrites. d_p: receives the gradient of the
 * recurrent product. */
INLINE void gru_back(long units, long u, long n, float *d_h, const float *d_output, const float *before, float *x,
                     float *h_h, float *d_p)
{
    vec z = load(x + u, n), r = load(x + units + u, n), new = load(x + 2 * units + u, n);
    vec d = load(d_h + u, n) + load(d_output + u, n);
    vec d_new = d * (1.0f - z) * (1.0f - new * new);
    vec d_z = d * (load(before + u, n) - new) * z * (1.0f - z);
    vec d_r = d_new * load(h_h + u, n) * r * (1.0f - r), d_h_h = d_new * r;
    store(x + u, d_z, n), store(x + units + u, d_r, n), store(x + 2 * units + u, d_new, n);
    store(d_p + u, d_z, n), store(d_p + units + u, d_r, n), store(d_p + 2 * units + u, d_h_h, n);
    store(h_h + u, d_h_h, n), store(d_h + u, d * z, n);
}

/* p: projected input plus the recurrent product. h, output: receive h after the step. */
INLINE void rnn_forward(long units, long u, long n, const float *p, float *h, float *output)
{
    (void)units;
    vec after = tanh_of(load(p + u, n));
    store(h + u, after, n), store(output + u, after, n);
}

/* d_h: gradient of h after the step, which zeros overwrite. after: h after the step. x, d_p: receive the gradient of the
 * projected input. */
INLINE void rnn_back(long units, long u, long n, float *d_h, const float *d_output, const float *after, float *x,
                     float *d_p)
{
    (void)units;
    vec h = load(after + u, n), d = (load(d_h + u, n) + load(d_output + u, n)) * (1.0f - h * h);
    store(x + u, d, n), store(d_p + u, d, n), store(d_h + u, all(0.0f), n);
}
