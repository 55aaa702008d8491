/* Products of rows with matrices of int8 whose rows have a scale each.
 *
 * The rows that are multiplied are rounded too, to whole numbers of as many bits, at most 16, as let
 * 32 bits hold every sum. So all sums are exact. Matrices are read as they are: at one row, most of
 * the time is that of reading them. */
#pragma once

#include "arguments.h"
#include "product.h"

typedef int32_t ints __attribute__((vector_size(VECTOR_BYTES)));
#define INTS (VECTOR_BYTES / 4)
#define DEEP_INTS (2 * INTS) /* products in a vector, each number the sum of two */
#define ABREAST_INTS 4       /* rows of a matrix that are read together */

/* DEEP_INTS products. */
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

/* MR rows of c, at `wide` of its columns: rounded rows times rows of W, or added to it. */
#define INT_DOTS(MR)                                                                               \
    static void int_dots_##MR(const Rounded *a, int64_t r0, const int8_t *w, const real *scale,    \
                              int64_t wide, real *c, int64_t ldc, int add) {                       \
        const int16_t *left = a->values + r0 * a->width;                                           \
        int64_t K = a->K, last = a->width - DEEP_INTS;                                             \
        const int8_t *rows[ABREAST_INTS], *ends[ABREAST_INTS];                                     \
        int8_t short_rows[ABREAST_INTS][DEEP_INTS] = {{0}};                                        \
        ints sums[MR][ABREAST_INTS];                                                               \
        EACH(q, ABREAST_INTS) {                                                                    \
            rows[q] = w + (q < wide ? q : 0) * K;                                                  \
            ends[q] = rows[q] + K - DEEP_INTS;                                                     \
            if (K >= DEEP_INTS) continue;                                                          \
            memcpy(short_rows[q], rows[q], (size_t)K);                                             \
            ends[q] = short_rows[q];                                                               \
        }                                                                                          \
        EACH(r, MR) EACH(q, ABREAST_INTS) sums[r][q] = products(left + r * a->width + last, ends[q]); \
        for (int64_t k = 0; k < last; k += DEEP_INTS)                                              \
            EACH(q, ABREAST_INTS) EACH(r, MR)                                                      \
                sums[r][q] += products(left + r * a->width + k, rows[q] + k);                      \
        for (int64_t r = 0; r < MR; r++)                                                           \
            for (int64_t q = 0; q < wide; q++) {                                                   \
                int32_t sum = 0;                                                                   \
                for (int j = 0; j < INTS; j++) sum += sums[r][q][j];                               \
                real found = (real)sum * (a->steps[r0 + r] * scale[q]);                            \
                c[r * ldc + q] = add ? c[r * ldc + q] + found : found;                             \
            }                                                                                      \
    }
INT_DOTS(1)
INT_DOTS(4)

/* c (n, columns) = rounded rows times W (columns, K), or added to it. Some rows of W at a time are read
 * from memory once for all rows. */
static void multiply_ints(const Rounded *a, const int8_t *w, const real *scale, int64_t columns,
                          real *c, int64_t ldc, int add) {
    if (a->K == 0) {
        for (int64_t r = 0; r < a->n && !add; r++) memset(c + r * ldc, 0, (size_t)columns * sizeof *c);
        return;
    }
    for (int64_t j = 0; j < columns; j += ABREAST_INTS) {
        int64_t wide = columns - j < ABREAST_INTS ? columns - j : ABREAST_INTS, r = 0;
        for (; a->n - r >= 4; r += 4)
            int_dots_4(a, r, w + j * a->K, scale + j, wide, c + r * ldc + j, ldc, add);
        for (; r < a->n; r++)
            int_dots_1(a, r, w + j * a->K, scale + j, wide, c + r * ldc + j, ldc, add);
    }
}
