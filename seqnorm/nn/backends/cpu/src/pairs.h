/* Products of pairs of bfloat16 by AVX512-BF16, which has twice the numbers in a register.
 *
 * A panel holds NR columns of pairs (k, k + 1), in the place of a panel of `product.h`. The sums are
 * of reals. Only these functions use the instructions, which not every processor with AVX-512 has. */
#pragma once

#include "arguments.h"
#include "product.h"

#if defined(KNOWS_PAIRS) && defined(__AVX512F__) && VECTOR_BYTES == 64 && !defined(SEQNORM_DOUBLE)
#define HAS_PAIRS 1

typedef uint32_t pair;
#define HALF_TARGET __attribute__((target("avx512bf16")))

/* The pairs of two vectors, lane by lane. */
INLINE bits paired(vec even, vec odd) {
    return (bits)rounded(even) >> 16 | ((bits)rounded(odd) & 0xffff0000u);
}

/* Replace a panel of K rows of reals by pairs of its rows. */
static void pair_panel(real *panel, int64_t K) {
    for (int64_t k = 0; k < K; k += 2)
        for (int v = 0; v < NV; v++) {
            const real *at = panel + k * NR + v * VL;
            bits both = paired(load(at, VL), k + 1 < K ? load(at + NR, VL) : (vec){0});
            store(panel + k / 2 * NR + v * VL, (vec)both, VL);
        }
}

/* Pairs of neighbours in n rows of K reals; with an odd K, the last one's partner is 0. */
static void pair_rows(const real *a, int64_t n, int64_t K, pair *to) {
    typedef uint16_t narrow __attribute__((vector_size(2 * VL)));
    int64_t width = (K + 1) / 2;
    for (int64_t r = 0; r < n; r++, a += K, to += width) {
        to[width - 1] = 0;
        CHUNKS(k, m, 0, K) {
            narrow halves = __builtin_convertvector((bits)rounded(load(a + k, m)) >> 16, narrow);
            memcpy((uint16_t *)to + k, &halves, (size_t)m * sizeof(uint16_t));
        }
    }
}

/* As KERNEL of `product.h`, for K pairs; panels are `apart` reals apart. */
#define PAIR_KERNEL(MR, NP)                                                                        \
    HALF_TARGET static void pairs_##MR##x##NP(const pair *a, int64_t K, const real *panel,         \
                                              int64_t apart, real *c, int64_t ldc, int add) {      \
        __m512 sums[MR][NP][NV];                                                                   \
        EACH(r, MR) EACH(p, NP) EACH(v, NV) sums[r][p][v] = _mm512_setzero_ps();                   \
        for (int64_t k = 0; k < K; k++) {                                                          \
            __m512bh b[NP][NV];                                                                    \
            EACH(p, NP) EACH(v, NV)                                                                \
                b[p][v] = (__m512bh)load(panel + p * apart + k * NR + v * VL, VL);                 \
            EACH(r, MR) {                                                                          \
                __m512bh left = (__m512bh)_mm512_set1_epi32((int)a[r * K + k]);                    \
                EACH(p, NP) EACH(v, NV)                                                            \
                    sums[r][p][v] = _mm512_dpbf16_ps(sums[r][p][v], left, b[p][v]);                \
            }                                                                                      \
        }                                                                                          \
        EACH(r, MR) EACH(p, NP) EACH(v, NV) {                                                      \
            real *at = c + r * ldc + p * NR + v * VL;                                              \
            vec sum = (vec)sums[r][p][v];                                                          \
            store(at, add ? load(at, VL) + sum : sum, VL);                                         \
        }                                                                                          \
    }
PAIR_KERNEL(8, 1)
PAIR_KERNEL(4, 1)
PAIR_KERNEL(2, 2)
PAIR_KERNEL(1, 4)
PAIR_KERNEL(2, 1)
PAIR_KERNEL(1, 1)

typedef void (*PairKernel)(const pair *, int64_t, const real *, int64_t, real *, int64_t, int);

/* c (n, columns) = the pairs of a (n, K) times panels of pairs, or added to it. */
static void multiply_pairs(const pair *a, int64_t n, const real *packed, int64_t K, int64_t columns,
                           real *c, int64_t ldc, int add) {
    int64_t j = 0, apart = NR * K, width = (K + 1) / 2;
    if (n == 1)
        for (; columns - j >= 4 * NR; j += 4 * NR)
            pairs_1x4(a, width, packed + j * K, apart, c + j, ldc, add);
    if (n == 2)
        for (; columns - j >= 2 * NR; j += 2 * NR)
            pairs_2x2(a, width, packed + j * K, apart, c + j, ldc, add);
    for (; j < columns; j += NR) {
        int64_t left = columns - j < NR ? columns - j : NR, rows;
        for (int64_t r = 0; r < n; r += rows) {
            rows = n - r >= 8 ? 8 : n - r >= 4 ? 4 : n - r >= 2 ? 2 : 1;
            PairKernel kernel = rows == 8   ? pairs_8x1
                                : rows == 4 ? pairs_4x1
                                : rows == 2 ? pairs_2x1
                                            : pairs_1x1;
            real tile[8 * NR], *at = c + r * ldc + j;
            if (left == NR) {
                kernel(a + r * width, width, packed + j * K, apart, at, ldc, add);
                continue;
            }
            kernel(a + r * width, width, packed + j * K, apart, tile, NR, 0);
            for (int64_t i = 0; i < rows; i++)
                for (int64_t k = 0; k < left; k++)
                    at[i * ldc + k] = tile[i * NR + k] + (add ? at[i * ldc + k] : 0);
        }
    }
}

#else
#define HAS_PAIRS 0
#endif
