/* Products of rows with a matrix of int8, each row of which has a scale.
 *
 * The rows are rounded to whole numbers, too, with as many bits, at most 16, as let 32 bits hold every
 * sum. The matrix is read as it is: with one row, most of the time is that of reading the matrix. */
#pragma once

#include "arguments.h"
#include "product.h"

typedef int32_t ints __attribute__((vector_size(VECTOR_BYTES)));
#define INTS (VECTOR_BYTES / 4)
#define DEEP_INTS (2 * INTS) /* numbers that are multiplied together */

/* Sums of DEEP_INTS products, of two each. */
INLINE ints products(const int16_t *a, const int8_t *w) {
#if defined(__AVX512BW__) && VECTOR_BYTES == 64
    __m512i right = _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)w));
    return (ints)_mm512_madd_epi16(_mm512_loadu_si512(a), right);
#elif defined(__AVX2__) && VECTOR_BYTES == 32
    __m256i right = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)w));
    return (ints)_mm256_madd_epi16(_mm256_loadu_si256((const __m256i *)a), right);
#elif defined(__SSE2__) && VECTOR_BYTES == 16
    __m128i bytes = _mm_loadl_epi64((const __m128i *)w);
    __m128i right = _mm_srai_epi16(_mm_unpacklo_epi8(bytes, bytes), 8);
    return (ints)_mm_madd_epi16(_mm_loadu_si128((const __m128i *)a), right);
#else
    ints sums;
    for (int j = 0; j < INTS; j++) sums[j] = a[j] * w[j] + a[j + INTS] * w[j + INTS];
    return sums;
#endif
}

/* Sums in VL places; their total is the same. */
INLINE vec reals_of(ints x) {
#ifdef SEQNORM_DOUBLE
    vec found;
    for (int j = 0; j < VL; j++) found[j] = (real)(x[j] + x[j + VL]);
    return found;
#else
    return __builtin_convertvector(x, vec);
#endif
}

/* n rows of K numbers, which are the values times the step of their row. The numbers of a row that do
 * not fill a vector stand at the end of a whole one, so that the last DEEP_INTS weights of a row are
 * multiplied by zeros where they have been multiplied before. */
typedef struct {
    int64_t n, K, width; /* width: from a row to the next */
    real *steps;
    int16_t *values;
} Rounded;

INLINE int64_t rounded_width(int64_t K) {
    return (K + DEEP_INTS - 1) / DEEP_INTS * DEEP_INTS;
}

/* Reals of memory that n rows take. */
INLINE int64_t rounded_size(int64_t n, int64_t K) {
    return n * (1 + rounded_width(K) * (int64_t)sizeof(int16_t) / (int64_t)sizeof(real));
}

/* Round rows of K reals. A row with NaN or an infinity has the step NaN. */
static Rounded round_rows(const real *a, int64_t lda, int64_t n, int64_t K, real *memory) {
    typedef int16_t narrow __attribute__((vector_size(2 * VL)));
    Rounded found = {n, K, rounded_width(K), memory, (int16_t *)(memory + n)};
    const real tiny = 1e-37f, magic = sizeof(real) == 4 ? 12582912.0f : (real)6755399441055744.0;
    int64_t most = INT32_MAX / (127 * (K ? K : 1)), left = K % DEEP_INTS;
    real limit = (real)(most < INT16_MAX ? most : INT16_MAX);
    int16_t *to = found.values;
    for (int64_t r = 0; r < n; r++, a += lda, to += found.width) {
        vec sizes = {0}, nothing = {0};
        CHUNKS(k, m, 0, K) {
            vec x = load(a + k, m), size = select_(x < 0, -x, x);
            sizes = select_(size > sizes, size, sizes);
            nothing += x * 0; /* NaN for what is no number */
        }
        real largest = 0;
        for (int j = 0; j < VL; j++) largest = sizes[j] > largest ? sizes[j] : largest;
        real step = found.steps[r] = largest / limit + total(nothing);
        memset(to, 0, (size_t)found.width * sizeof *to);
        if (!(step > tiny)) continue;
        real inverse = 1 / step;
        CHUNKS(k, m, 0, K) { /* adding `magic` rounds to a whole number, ties to even */
            vec x = load(a + k, m) * inverse + magic - magic;
            narrow values = __builtin_convertvector(x, narrow);
            memcpy(to + k, &values, (size_t)m * sizeof *to);
        }
        if (!left || K < DEEP_INTS) continue;
        memmove(to + found.width - left, to + K - left, (size_t)left * sizeof *to);
        memset(to + K - left, 0, (size_t)(DEEP_INTS - left) * sizeof *to);
    }
    return found;
}

/* MR rows of c, at `wide` of its columns: rounded rows times rows of W, or added to it, VL sums at once
 * as in `dots_` of `product.h`. */
#define INT_DOTS(MR)                                                                               \
    static void int_dots_##MR(const Rounded *a, int64_t r0, const int8_t *w, const real *scale,    \
                              int64_t wide, real *c, int64_t ldc, int add) {                       \
        enum { NC = VL / MR ? VL / MR : 1, NW = NC < 4 ? NC : 4 };                                 \
        const int16_t *left = a->values + r0 * a->width;                                           \
        int64_t K = a->K, last = a->width - DEEP_INTS;                                             \
        vec sums[VL];                                                                              \
        for (int j = 0; j < NC; j += NW) {                                                         \
            const int8_t *rows[NW], *ends[NW];                                                     \
            int8_t whole[NW][DEEP_INTS];                                                           \
            ints parts[MR][NW];                                                                    \
            EACH(q, NW) {                                                                          \
                rows[q] = w + (j + q < wide ? j + q : 0) * K;                                      \
                memset(whole[q], 0, DEEP_INTS);                                                    \
                ends[q] = K < DEEP_INTS ? memcpy(whole[q], rows[q], (size_t)K)                     \
                                        : rows[q] + K - DEEP_INTS;                                 \
            }                                                                                      \
            EACH(r, MR) EACH(q, NW) parts[r][q] = products(left + r * a->width + last, ends[q]);   \
            for (int64_t k = 0; k < last; k += DEEP_INTS)                                          \
                EACH(q, NW) EACH(r, MR)                                                            \
                    parts[r][q] += products(left + r * a->width + k, rows[q] + k);                 \
            EACH(r, MR) EACH(q, NW) sums[r * NC + j + q] = reals_of(parts[r][q]);                  \
        }                                                                                          \
        real found[VL];                                                                            \
        store(found, totals(sums), VL);                                                            \
        for (int r = 0; r < MR; r++)                                                               \
            for (int64_t j = 0; j < wide; j++) {                                                   \
                real product = found[r * NC + j] * (a->steps[r0 + r] * scale[j]);                  \
                c[r * ldc + j] = add ? c[r * ldc + j] + product : product;                         \
            }                                                                                      \
    }
#define MOST_INTS (VL < 4 ? 2 : 4)
INT_DOTS(1)
#if VL < 4
INT_DOTS(2)
#define MANY_INTS int_dots_2
#else
INT_DOTS(4)
#define MANY_INTS int_dots_4
#endif

/* c (n, columns) = rounded rows times W (columns, K), or added to it. Some rows of W at a time are read
 * from memory once for all rows. */
static void multiply_ints(const Rounded *a, const int8_t *w, const real *scale, int64_t columns,
                          real *c, int64_t ldc, int add) {
    int64_t r, left;
    for (int64_t j = 0; (left = columns - j) > 0; j += VL) {
        const int8_t *rows = w + j * a->K;
        for (r = 0; a->n - r >= MOST_INTS; r += MOST_INTS)
            for (int64_t i = 0; i < VL && i < left; i += VL / MOST_INTS) {
                int64_t wide = left - i < VL / MOST_INTS ? left - i : VL / MOST_INTS;
                MANY_INTS(a, r, rows + i * a->K, scale + j + i, wide, c + r * ldc + j + i, ldc, add);
            }
        for (; r < a->n; r++)
            int_dots_1(a, r, rows, scale + j, left < VL ? left : VL, c + r * ldc + j, ldc, add);
    }
}
