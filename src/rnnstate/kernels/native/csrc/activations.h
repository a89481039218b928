/* Sigmoid and tanh of a vector. NaN stays NaN. */
#pragma once
#include "simd.h"

/* Return 1 / (1 + exp(-x)). The polynomial for exp is that of the Cephes library; the relative error is below 2e-7.
 *
 * exp(y) = 2^n * exp(r), where n is the whole number next to y / log(2). Adding 1.5 * 2^23 to a number rounds it to a whole
 * number, which then stands in the last bits. A shift moves these bits to the exponent.
 */
INLINE vec sigmoid(vec x)
{
    const float rounding = 12582912.0f;
    vec y = at_least(at_most(-x, 88.0f), -87.0f);
    vec rounded = y * 1.44269504088896341f + rounding;
    vec n = rounded - rounding;
    vec r = y - n * 0.693359375f + n * 2.12194440e-4f;
    vec p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    vec two_to_the_n = (vec)(((ints)rounded << 23) + (127 << 23));
    return 1.0f / (1.0f + (p * r * r + r + 1.0f) * two_to_the_n);
}

/* Return tanh by the rational approximation of the Eigen library. From 9.8 on it exceeds 1, which the last line cuts, so
 * that tanh is exactly 1 or -1 far out. */
INLINE vec tanh_of(vec x)
{
    vec y = at_least(at_most(x, 10.0f), -10.0f);
    vec s = y * y;
    vec p = s * -2.76076847742355e-16f + 2.00018790482477e-13f;
    p = p * s + -8.60467152213735e-11f;
    p = p * s + 5.12229709037114e-08f;
    p = p * s + 1.48572235717979e-05f;
    p = p * s + 6.37261928875436e-04f;
    p = p * s + 4.89352455891786e-03f;
    vec q = s * 1.19825839466702e-06f + 1.18534705686654e-04f;
    q = q * s + 2.26843463243900e-03f;
    q = q * s + 4.89352518554385e-03f;
    return at_least(at_most(y * p / q, 1.0f), -1.0f);
}
