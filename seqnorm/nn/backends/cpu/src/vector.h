/* Vectors of VL reals by the compiler's vector types: one source for every instruction set.
 *
 * No finite-math shortcut anywhere: NaN in gives NaN out. */
#pragma once

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "symbols.h"

#ifdef __x86_64__
#include <immintrin.h>
#endif

#ifdef SEQNORM_DOUBLE
typedef double real;
typedef int64_t whole;
#define ROOT sqrt
#define VL (VECTOR_BYTES / 8)
#else
typedef float real;
typedef int32_t whole;
#define ROOT sqrtf
#define VL (VECTOR_BYTES / 4)
#endif
#define EACH(i, n) _Pragma("GCC unroll 16") for (int i = 0; i < n; i++)

#define INLINE static inline __attribute__((always_inline))

typedef real vec __attribute__((vector_size(VECTOR_BYTES)));
typedef whole mask __attribute__((vector_size(VECTOR_BYTES)));
/* A vector in memory, at any address. */
typedef real stored __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(real))));

/* Walk over u0 .. u1 by vectors, m reals at a time. The loop is unrolled, so that m is known to be
 * VL except at the end, and whole vectors are loaded without a test. */
#define CHUNKS(u, m, u0, u1)                                                                       \
    _Pragma("GCC unroll 2") for (int end_ = 0; end_ < 2; end_++)                                   \
        for (int64_t whole_ = (u1) - ((u1) - (u0)) % VL, u = end_ ? whole_ : (u0),                 \
                     m = end_ ? (u1)-whole_ : VL;                                                  \
             u < (end_ ? (u1) : whole_); u += VL)

/* m < VL reals from or to memory; the memory behind them is not touched. Sanitizers do not see
 * accesses by a mask. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define MASKS 0
#else
#define MASKS VECTOR_BYTES
#endif
#if MASKS == 64 && defined(SEQNORM_DOUBLE)
#define LOAD_SOME(p, m) (vec) _mm512_maskz_loadu_pd((__mmask8)((1u << (m)) - 1), p)
#define STORE_SOME(p, x, m) _mm512_mask_storeu_pd(p, (__mmask8)((1u << (m)) - 1), (__m512d)(x))
#elif MASKS == 64
#define LOAD_SOME(p, m) (vec) _mm512_maskz_loadu_ps((__mmask16)((1u << (m)) - 1), p)
#define STORE_SOME(p, x, m) _mm512_mask_storeu_ps(p, (__mmask16)((1u << (m)) - 1), (__m512)(x))
#elif MASKS == 32
INLINE __m256i lanes(int64_t m) {
    mask numbers;
    for (int j = 0; j < VL; j++) numbers[j] = j;
    return (__m256i)(numbers < (whole)m);
}
#ifdef SEQNORM_DOUBLE
#define LOAD_SOME(p, m) (vec) _mm256_maskload_pd(p, lanes(m))
#define STORE_SOME(p, x, m) _mm256_maskstore_pd(p, lanes(m), (__m256d)(x))
#else
#define LOAD_SOME(p, m) (vec) _mm256_maskload_ps(p, lanes(m))
#define STORE_SOME(p, x, m) _mm256_maskstore_ps(p, lanes(m), (__m256)(x))
#endif
#else
INLINE vec load_some(const real *p, int64_t m) {
    vec x = {0};
    memcpy(&x, p, (size_t)m * sizeof(real));
    return x;
}
#define LOAD_SOME load_some
#define STORE_SOME(p, x, m) memcpy(p, &x, (size_t)m * sizeof(real))
#endif

/* m reals from p, the rest zero; m is VL except at the end of a row. */
INLINE vec load(const real *p, int64_t m) {
    return m == VL ? *(const stored *)p : LOAD_SOME(p, m);
}

INLINE void store(real *p, vec x, int64_t m) {
    if (m == VL)
        *(stored *)p = x;
    else
        STORE_SOME(p, x, m);
}

INLINE vec splat(real x) {
    return x - (vec){0};
}

INLINE vec select_(mask condition, vec yes, vec no) {
    return (vec)((condition & (mask)yes) | (~condition & (mask)no));
}

/* The lower and the upper halves of two vectors, lane by lane in turn. */
#if VL == 2
#define LOWER 0, 2
#define UPPER 1, 3
#elif VL == 4
#define LOWER 0, 4, 1, 5
#define UPPER 2, 6, 3, 7
#elif VL == 8
#define LOWER 0, 8, 1, 9, 2, 10, 3, 11
#define UPPER 4, 12, 5, 13, 6, 14, 7, 15
#elif VL == 16
#define LOWER 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define UPPER 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#endif
#ifdef __clang__
#define ZIP_(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define ZIP_(a, b, ...) __builtin_shuffle(a, b, (mask){__VA_ARGS__})
#endif
#define ZIP(a, b, half) ZIP_(a, b, half)

/* Transpose a square of VL vectors. */
INLINE void transpose(vec *x) {
    for (int round = 1; round < VL; round *= 2) {
        vec y[VL];
        EACH(k, VL / 2) {
            y[2 * k] = ZIP(x[k], x[k + VL / 2], LOWER);
            y[2 * k + 1] = ZIP(x[k], x[k + VL / 2], UPPER);
        }
        EACH(k, VL) x[k] = y[k];
    }
}

/* The total of each of VL vectors, which are overwritten. */
INLINE vec totals(vec *x) {
    for (int half = VL / 2; half; half /= 2)
        for (int k = 0; k < half; k++)
            x[k] = ZIP(x[k], x[k + half], LOWER) + ZIP(x[k], x[k + half], UPPER);
    return x[0];
}

INLINE real total(vec x) {
    for (int round = 1; round < VL; round *= 2) x = ZIP(x, x, LOWER) + ZIP(x, x, UPPER);
    return x[0];
}

/* The first m lanes of x, the rest zero. */
INLINE vec first(vec x, int64_t m) {
    if (m < VL)
        for (int64_t j = m; j < VL; j++) x[j] = 0;
    return x;
}

#ifdef SEQNORM_DOUBLE

INLINE vec v_exp(vec x) {
    for (int j = 0; j < VL; j++) x[j] = exp(x[j]);
    return x;
}

INLINE vec v_tanh(vec x) {
    for (int j = 0; j < VL; j++) x[j] = tanh(x[j]);
    return x;
}

#else

/* x held between low and high; NaN stays NaN, for these instructions give their second operand. */
INLINE vec clamp(vec x, real low, real high) {
#if defined(__AVX512F__) && VECTOR_BYTES == 64
    return (vec)_mm512_max_ps((__m512)splat(low), _mm512_min_ps((__m512)splat(high), (__m512)x));
#elif defined(__AVX__) && VECTOR_BYTES == 32
    return (vec)_mm256_max_ps((__m256)splat(low), _mm256_min_ps((__m256)splat(high), (__m256)x));
#elif defined(__SSE__)
    return (vec)_mm_max_ps((__m128)splat(low), _mm_min_ps((__m128)splat(high), (__m128)x));
#else
    x = select_(x > high, splat(high), x);
    return select_(x < low, splat(low), x);
#endif
}

/* exp(x) = 2^n exp(r), r = x - n ln 2 in [-ln 2 / 2, ln 2 / 2]; there 1 + r + r^2 P(r), P fitted at
 * Chebyshev's points, relative error 1e-8. Beyond +-87 it stays at the value there. */
INLINE vec v_exp(vec x) {
    x = clamp(x, -87.0f, 87.0f);
    const vec magic = splat(12582912.0f); /* 1.5 * 2^23: adding it rounds to a whole number */
    vec shifted = x * 1.44269504f + magic;
    vec n = shifted - magic;
    vec r = x - n * 0.693145752f; /* ln 2 in two parts, the first exact in few bits */
    r = r - n * 1.42860677e-6f;
    vec p = splat(1.393368836e-03f);
    p = p * r + 8.363205468e-03f;
    p = p * r + 4.166646457e-02f;
    p = p * r + 1.666657682e-01f;
    p = p * r + 5.000000014e-01f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    mask exponent = ((mask)shifted + (127 - 0x4B400000)) << 23;
    return p * (vec)exponent;
}

/* |x| < 0.625: x + x^3 P(x^2), P fitted to (tanh(x) / x - 1) / x^2 at Chebyshev's points, relative
 * error 6e-10; beyond: 1 - 2 / (exp(2 |x|) + 1). */
INLINE vec v_tanh(vec x) {
    const mask sign = (mask)splat(-0.0f);
    vec size = (vec)((mask)x & ~sign);
    vec far = 1.0f - 2.0f / (v_exp(size + size) + 1.0f);
    far = (vec)((mask)far | ((mask)x & sign));
    vec y = x * x;
    vec p = splat(2.295841266e-03f);
    p = p * y - 8.346980498e-03f;
    p = p * y + 2.176996092e-02f;
    p = p * y - 5.395940591e-02f;
    p = p * y + 1.333330428e-01f;
    p = p * y - 3.333333318e-01f;
    vec near = x + x * y * p;
    return select_(size < 0.625f, near, far);
}

#endif

INLINE vec v_sigmoid(vec x) {
    return 1 / (1 + v_exp(-x));
}
