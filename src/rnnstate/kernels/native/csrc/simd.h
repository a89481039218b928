/* Vectors of floats, as wide as the registers of the level that this file is compiled for.
 *
 *     level      LANES   registers   a tile: ROWS x VECTORS sums
 *     baseline   4       16          4 x 2     x86-64 with SSE2
 *     avx2       8       16          6 x 2     x86-64 with AVX2 and FMA
 *     avx512     16      32          8 x 2     x86-64 with AVX-512
 *     neon       4       32          8 x 2     arm64
 *
 * GCC and Clang give these types the operators of C. The functions below are what the operators lack.
 */
#pragma once
#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

#if defined(__AVX512F__)
#include <immintrin.h>
enum { LANES = 16, ROWS = 8 };
#elif defined(__AVX2__)
#include <immintrin.h>
enum { LANES = 8, ROWS = 6 };
#elif defined(__SSE2__)
#include <emmintrin.h>
enum { LANES = 4, ROWS = 4 };
#elif defined(__aarch64__)
#include <arm_neon.h>
enum { LANES = 4, ROWS = 8 };
#else
#error "The native loops are written for x86-64 and arm64."
#endif
enum { VECTORS = 2, WIDTH = VECTORS * LANES };

typedef float vec __attribute__((vector_size(4 * LANES)));
typedef int32_t ints __attribute__((vector_size(4 * LANES)));

/* Return copies of a number, the smaller numbers of two vectors, and the greater ones. NaN in `x` stays NaN. */
#if defined(__AVX512F__)
INLINE vec all(float number) { return _mm512_set1_ps(number); }
INLINE vec at_most(vec x, float limit) { return _mm512_min_ps(all(limit), x); }
INLINE vec at_least(vec x, float limit) { return _mm512_max_ps(all(limit), x); }
#elif defined(__AVX2__)
INLINE vec all(float number) { return _mm256_set1_ps(number); }
INLINE vec at_most(vec x, float limit) { return _mm256_min_ps(all(limit), x); }
INLINE vec at_least(vec x, float limit) { return _mm256_max_ps(all(limit), x); }
#elif defined(__SSE2__)
INLINE vec all(float number) { return _mm_set1_ps(number); }
INLINE vec at_most(vec x, float limit) { return _mm_min_ps(all(limit), x); }
INLINE vec at_least(vec x, float limit) { return _mm_max_ps(all(limit), x); }
#else
INLINE vec all(float number) { return (vec)vdupq_n_f32(number); }
INLINE vec at_most(vec x, float limit) { return (vec)vminq_f32((float32x4_t)x, vdupq_n_f32(limit)); }
INLINE vec at_least(vec x, float limit) { return (vec)vmaxq_f32((float32x4_t)x, vdupq_n_f32(limit)); }
#endif

/* Copy `count` floats, fewer than LANES, in pieces of constant sizes. */
static __attribute__((noinline, unused)) void copy_few(float *to, const float *from, long count)
{
#pragma GCC unroll 4
    for (long piece = LANES / 2; piece; piece /= 2)
        if (count & piece) {
            memcpy(to, from, piece * sizeof(float));
            to += piece, from += piece;
        }
}

/* Return the first `count` floats at an address. The other lanes are zeros, and their memory is not touched. */
INLINE vec load(const float *at, long count)
{
    vec x = {0};
    if (count >= LANES) {
        memcpy(&x, at, sizeof x);
        return x;
    }
#if defined(__AVX512F__)
    return _mm512_maskz_loadu_ps((__mmask16)((1u << count) - 1), at);
#elif defined(__AVX2__)
    const ints lane = {0, 1, 2, 3, 4, 5, 6, 7};
    return _mm256_maskload_ps(at, (__m256i)(lane < (int32_t)count));
#else
    float some[LANES] = {0};
    copy_few(some, at, count);
    memcpy(&x, some, sizeof x);
    return x;
#endif
}

/* Write the first `count` lanes. */
INLINE void store(float *at, vec x, long count)
{
    if (count >= LANES) {
        memcpy(at, &x, sizeof x);
        return;
    }
#if defined(__AVX512F__)
    _mm512_mask_storeu_ps(at, (__mmask16)((1u << count) - 1), x);
#else
    float some[LANES];
    memcpy(some, &x, sizeof x);
    copy_few(at, some, count);
#endif
}

INLINE void copy(float *to, const float *from, long count)
{
    long j = 0;
    for (; j + LANES <= count; j += LANES)
        store(to + j, load(from + j, LANES), LANES);
    if (j < count)
        store(to + j, load(from + j, count - j), count - j);
}
