/* Products of few rows with a large matrix that is packed once a call.
 *
 * A panel holds NR columns, K deep, contiguous; a kernel keeps MR x NR sums in registers. Larger
 * libraries lay the matrix out anew at every product, which takes most of their time at this size.
 */
#pragma once

#include "half.h"

#define NV 2
#define NR (NV * VL)

INLINE int64_t panels(int64_t columns) {
    return (columns + NR - 1) / NR;
}

/* One panel of W^T: columns j are rows first + j of W (rows, K); beyond `valid` columns zero. */
static void pack_rows(const real *w, int64_t K, int64_t valid, real *panel) {
    CHUNKS(k, m, 0, K)
        for (int v = 0; v < NV; v++) {
            vec square[VL];
            EACH(j, VL) {
                int64_t row = v * VL + j;
                square[j] = row < valid ? load(w + row * K + k, m) : (vec){0};
            }
            transpose(square);
            for (int64_t i = 0; i < m; i++) store(panel + (k + i) * NR + v * VL, square[i], VL);
        }
}

/* One panel of W: columns first .. of every row k of W (K, width). */
static void pack_columns(const real *w, int64_t K, int64_t width, int64_t valid, real *panel) {
    for (int64_t k = 0; k < K; k++)
        for (int64_t j = 0; j < NR; j++) panel[k * NR + j] = j < valid ? w[k * width + j] : 0;
}

/* c (MR, NP * NR) = a (MR, K) times NP panels, or added to it; element r, k of a is at r * lda +
 * k * step. */
#define KERNEL(MR, NP)                                                                             \
    static void kernel_##MR##x##NP(const real *a, int64_t lda, int64_t step, const real *panel,    \
                                   int64_t K, real *c, int64_t ldc, int add) {                     \
        vec sums[MR][NP][NV];                                                                      \
        EACH(r, MR) EACH(p, NP) EACH(v, NV) sums[r][p][v] = (vec){0};                              \
        for (int64_t k = 0; k < K; k++, a += step) {                                               \
            vec b[NP][NV];                                                                         \
            EACH(p, NP) EACH(v, NV) b[p][v] = load(panel + (p * K + k) * NR + v * VL, VL);         \
            EACH(r, MR) {                                                                          \
                real left = a[r * lda];                                                            \
                EACH(p, NP) EACH(v, NV) sums[r][p][v] += left * b[p][v];                           \
            }                                                                                      \
        }                                                                                          \
        EACH(r, MR) EACH(p, NP) EACH(v, NV) {                                                      \
            real *at = c + r * ldc + p * NR + v * VL;                                              \
            store(at, add ? load(at, VL) + sums[r][p][v] : sums[r][p][v], VL);                     \
        }                                                                                          \
    }

#if VECTOR_BYTES == 64
#define MOST 8 /* of 32 registers: 16 sums, 2 columns, 1 row */
#else
#define MOST 6 /* of 16 registers: 12 sums, 2 columns, 1 row */
#endif
#define MANY_(MR) kernel_##MR##x1
#define MANY(MR) MANY_(MR)
#define DEFINE_(MR) KERNEL(MR, 1)
#define DEFINE(MR) DEFINE_(MR)

DEFINE(MOST)
KERNEL(4, 1)
KERNEL(2, 1)
KERNEL(1, 1)
KERNEL(2, 2)
KERNEL(1, 4)

typedef void (*Kernel)(const real *, int64_t, int64_t, const real *, int64_t, real *, int64_t, int);

/* One panel, of which only `columns` may be wanted, times MR rows. */
INLINE void strip(Kernel kernel, int64_t MR, const real *a, int64_t lda, int64_t step,
                  const real *panel, int64_t K, int64_t columns, real *c, int64_t ldc, int add) {
    if (columns >= NR) {
        kernel(a, lda, step, panel, K, c, ldc, add);
        return;
    }
    real tile[MOST * NR];
    kernel(a, lda, step, panel, K, tile, NR, 0);
    for (int64_t r = 0; r < MR; r++)
        for (int64_t j = 0; j < columns; j++)
            c[r * ldc + j] = tile[r * NR + j] + (add ? c[r * ldc + j] : 0);
}

/* c (n, columns) = a (n, K) times packed panels, or added to it. */
static void multiply(const real *a, int64_t lda, int64_t n, const real *packed, int64_t K,
                     int64_t columns, real *c, int64_t ldc, int add) {
    int64_t j = 0;
    /* Few rows leave registers for several panels at once. */
    if (n == 1)
        for (; columns - j >= 4 * NR; j += 4 * NR)
            kernel_1x4(a, lda, 1, packed + j * K, K, c + j, ldc, add);
    if (n == 2)
        for (; columns - j >= 2 * NR; j += 2 * NR)
            kernel_2x2(a, lda, 1, packed + j * K, K, c + j, ldc, add);
    for (; j < columns; j += NR) {
        const real *panel = packed + j * K;
        int64_t left = columns - j, r = 0;
        for (; n - r >= MOST; r += MOST)
            strip(MANY(MOST), MOST, a + r * lda, lda, 1, panel, K, left, c + r * ldc + j, ldc, add);
        for (; n - r >= 4; r += 4)
            strip(kernel_4x1, 4, a + r * lda, lda, 1, panel, K, left, c + r * ldc + j, ldc, add);
        for (; n - r >= 2; r += 2)
            strip(kernel_2x1, 2, a + r * lda, lda, 1, panel, K, left, c + r * ldc + j, ldc, add);
        for (; n - r >= 1; r += 1)
            strip(kernel_1x1, 1, a + r * lda, lda, 1, panel, K, left, c + r * ldc + j, ldc, add);
    }
}

/* MR rows of c, at `wide` of its columns: rows of a (MR, K) times rows of W, VL sums at once. A few
 * rows of W are read together, so that an addition need not wait for the one before. Memory
 * delivers few rows at once faster than many. */
#define DOTS(MR, MOST_ROWS)                                                                        \
    static void dots_##MR(const real *a, int64_t lda, const real *w, int64_t K, int64_t wide,      \
                          real *c, int64_t ldc, int add) {                                         \
        enum { NC = VL / MR, NW = NC < MOST_ROWS ? NC : MOST_ROWS, NS = 2 /* added below */ };     \
        vec sums[VL];                                                                              \
        for (int j = 0; j < NC; j += NW) {                                                         \
            const real *rows[NW];                                                                  \
            vec parts[MR][NW][NS];                                                                 \
            int64_t k = 0;                                                                         \
            EACH(q, NW) rows[q] = w + (j + q < wide ? j + q : 0) * K;                              \
            EACH(r, MR) EACH(q, NW) EACH(p, NS) parts[r][q][p] = (vec){0};                         \
            for (; K - k >= NS * VL; k += NS * VL)                                                 \
                EACH(p, NS) EACH(q, NW) {                                                          \
                    vec right = load(rows[q] + k + p * VL, VL);                                    \
                    EACH(r, MR) parts[r][q][p] += load(a + r * lda + k + p * VL, VL) * right;      \
                }                                                                                  \
            CHUNKS(u, m, k, K)                                                                     \
                EACH(q, NW) EACH(r, MR)                                                            \
                    parts[r][q][0] += load(a + r * lda + u, m) * load(rows[q] + u, m);             \
            EACH(r, MR) EACH(q, NW) sums[r * NC + j + q] = parts[r][q][0] + parts[r][q][1];        \
        }                                                                                          \
        real found[VL];                                                                            \
        store(found, totals(sums), VL);                                                            \
        for (int r = 0; r < MR; r++)                                                               \
            for (int64_t j = 0; j < wide; j++)                                                     \
                c[r * ldc + j] = found[r * NC + j] + (add ? c[r * ldc + j] : 0);                   \
    }
DOTS(1, 4)
DOTS(2, 2)

/* The same product as `multiply` with W (columns, K) as it is. For few rows, packing W would take
 * longer than the product. */
static void multiply_rows(const real *a, int64_t lda, int64_t n, const real *w, int64_t K,
                          int64_t columns, real *c, int64_t ldc, int add) {
    int64_t r = 0, left;
    for (; n - r >= 2; r += 2)
        for (int64_t j = 0; (left = columns - j) > 0; j += VL / 2)
            dots_2(a + r * lda, lda, w + j * K, K, left < VL / 2 ? left : VL / 2, c + r * ldc + j,
                   ldc, add);
    for (; r < n; r++)
        for (int64_t j = 0; (left = columns - j) > 0; j += VL)
            dots_1(a + r * lda, lda, w + j * K, K, left < VL ? left : VL, c + r * ldc + j, ldc,
                   add);
}

/* c (n, columns) = a (n, K) times the first columns of W (K, width) as it is, or added to it. Some
 * rows of W at a time are read from memory once for all rows of a. */
#define ROWS_ABREAST 4
static void multiply_columns(const real *a, int64_t lda, int64_t n, const real *w, int64_t width,
                             int64_t K, int64_t columns, real *c, int64_t ldc, int add) {
    for (int64_t r = 0; r < n && !add; r++) memset(c + r * ldc, 0, (size_t)columns * sizeof(real));
    for (int64_t k = 0; k < K; k += ROWS_ABREAST, w += ROWS_ABREAST * width)
        for (int64_t r = 0; r < n; r++) {
            const real *left = a + r * lda + k;
            real *to = c + r * ldc;
            if (K - k >= ROWS_ABREAST) {
                CHUNKS(u, m, 0, columns) {
                    vec sum = load(to + u, m);
                    EACH(q, ROWS_ABREAST) sum += left[q] * load(w + q * width + u, m);
                    store(to + u, sum, m);
                }
                continue;
            }
            for (int64_t q = 0; q < K - k; q++)
                CHUNKS(u, m, 0, columns)
                    store(to + u, load(to + u, m) + left[q] * load(w + q * width + u, m), m);
        }
}

/* Blocks of `outer` that stay in a core's cache together. */
#define DEEP 256
#define TALL (30 * MOST)
#define WIDE 512
/* Strips and panels stand a line of the cache further apart than their size, a power of two, which
 * would put the rows of all of them into one set of the cache. */
#define APART (64 / (int64_t)sizeof(real))
#define OUTER_SCRATCH (DEEP * (TALL + WIDE) + (TALL / MOST + WIDE / NR) * APART)

/* Rows of b: those of `rows`, or where `index` is given, row index[k] of it, or -1 - index[k] of
 * `others`. */
typedef struct {
    const real *rows, *others;
    const int64_t *index;
    int64_t width, stride; /* reals of a row, and from one row to the next */
    int64_t half;          /* whether they are rounded to bfloat16 */
} Rows;

INLINE const real *row_of(const Rows *b, int64_t k) {
    if (!b->index) return b->rows + k * b->stride;
    int64_t at = b->index[k];
    return at >= 0 ? b->rows + at * b->stride : b->others + (-1 - at) * b->stride;
}

/* Rows m0 .. m1 of c (M, width) = a^T b, or added to it, a (K, M) and b (K, width): the sum of K
 * outer products. */
static void outer(const real *a, int64_t M, int64_t m0, int64_t m1, const Rows *b, int64_t K,
                  real *c, real *scratch, int add) {
    real *left = scratch, *right = scratch + DEEP * TALL + TALL / MOST * APART;
    int64_t width = b->width;
    if (K == 0 && !add) memset(c + m0 * width, 0, (size_t)((m1 - m0) * width) * sizeof(real));
    for (int64_t j0 = 0; j0 < width; j0 += WIDE)
        for (int64_t k0 = 0; k0 < K; k0 += DEEP) {
            int64_t columns = width - j0 < WIDE ? width - j0 : WIDE;
            int64_t deep = K - k0 < DEEP ? K - k0 : DEEP;
            int64_t tall_by = deep * MOST + APART, wide_by = deep * NR + APART;
            for (int64_t k = 0; k < deep; k++) {
                const real *row = row_of(b, k0 + k) + j0;
                for (int64_t j = 0; j < columns; j += NR) {
                    real *at = right + j / NR * wide_by + k * NR;
                    int64_t there = columns - j < NR ? columns - j : NR;
                    if (b->half)
                        round_all(row + j, there, at);
                    else
                        memcpy(at, row + j, (size_t)there * sizeof(real));
                    for (int64_t i = there; i < NR; i++) at[i] = 0;
                }
            }
            for (int64_t i0 = m0; i0 < m1; i0 += TALL) {
                int64_t tall = m1 - i0 < TALL ? m1 - i0 : TALL;
                for (int64_t k = 0; k < deep; k++)
                    for (int64_t i = 0; i < tall; i += MOST) {
                        const real *from = a + (k0 + k) * M + i0 + i;
                        real *at = left + i / MOST * tall_by + k * MOST;
                        if (tall - i >= MOST)
                            memcpy(at, from, MOST * sizeof(real));
                        else
                            for (int64_t r = 0; r < MOST; r++) at[r] = r < tall - i ? from[r] : 0;
                    }
                for (int64_t j = 0; j < columns; j += NR)
                    for (int64_t i = 0; i < tall; i += MOST) {
                        real *at = c + (i0 + i) * width + j0 + j;
                        const real *rows = left + i / MOST * tall_by;
                        const real *block = right + j / NR * wide_by;
                        if (tall - i >= MOST && columns - j >= NR) {
                            MANY(MOST)(rows, 1, MOST, block, deep, at, width, add || k0 > 0);
                            continue;
                        }
                        real tile[MOST * NR];
                        MANY(MOST)(rows, 1, MOST, block, deep, tile, NR, 0);
                        for (int64_t r = 0; r < MOST && r < tall - i; r++)
                            for (int64_t q = 0; q < NR && q < columns - j; q++)
                                at[r * width + q] =
                                    tile[r * NR + q] + (add || k0 > 0 ? at[r * width + q] : 0);
                    }
            }
        }
}
