/* Operands of products in bfloat16: rounded, and still stored as reals. */
#pragma once

#include "vector.h"

#ifdef SEQNORM_DOUBLE

/* x rounded to float, and then to the nearest bfloat16, ties to even, as PyTorch does it. Only tests
 * round doubles. */
INLINE vec rounded(vec x) {
    for (int j = 0; j < VL; j++) {
        float value = (float)x[j];
        uint32_t bits;
        memcpy(&bits, &value, sizeof bits);
        bits = (bits + 0x7fffu + (bits >> 16 & 1u)) & 0xffff0000u;
        if (value == value) memcpy(&value, &bits, sizeof value);
        x[j] = value;
    }
    return x;
}

#else

typedef uint32_t bits __attribute__((vector_size(VECTOR_BYTES)));

/* x rounded to the nearest bfloat16, ties to even; NaN stays NaN. */
INLINE vec rounded(vec x) {
    bits b = (bits)x;
    b = (b + 0x7fffu + (b >> 16 & 1u)) & 0xffff0000u;
    return select_(x == x, (vec)b, x + x); /* whose upper half is NaN, too */
}

#endif

/* n reals, rounded; `to` may be where they stand. */
static void round_all(const real *from, int64_t n, real *to) {
    CHUNKS(u, m, 0, n) store(to + u, rounded(load(from + u, m)), m);
}
