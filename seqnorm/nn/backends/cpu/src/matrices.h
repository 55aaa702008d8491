/* The matrices of a layer, packed and multiplied gate by gate, and head by head. */
#pragma once

#include "share.h"

#define BLOCK 48 /* rows projected together */

/* Reals of a thread's rounded rows, and of a tile of a matrix of reals. */
INLINE int64_t halves_size(const Arguments *a) {
    int64_t rows = a->B > BLOCK ? a->B : BLOCK, K = a->weight_ih && a->I > a->H ? a->I : a->H;
    return has_ints(a) ? rounded_size(rows, K) : (rows + VL) * K;
}

/* Compute units u0 .. u1 of every gate of c = a (n, lda) times W (G * H, K) of int8, as
 * `multiply_gates` does. */
static void multiply_int_gates(const Call *c, int64_t number, const real *a, int64_t lda,
                               int64_t step, int64_t n, const int8_t *w, const real *scale,
                               int64_t K, int64_t u0, int64_t u1, real *to, int add) {
    int64_t U = head_units(c->a);
    for (int64_t head = 0; head < c->a->heads; head++) {
        int64_t first = head * U, start = u0 > first ? u0 : first;
        int64_t end = u1 < first + U ? u1 : first + U;
        if (start >= end) continue;
        real *memory = c->halves + number * halves_size(c->a);
        Rounded rows = round_rows(a + head * step, lda, n, K, memory);
        for (int64_t j = start; j < c->GH; j += c->a->H)
            multiply_ints(&rows, w + j * K, scale + j, end - start, to + j, c->GH, add);
    }
}

/* Compute units u0 .. u1 of every gate of c = a (n, lda) times W (G * H, K), or add them to c. The
 * product reads the packed panels of W, or W itself where `packed` is NULL. `number` is that of
 * this thread. Each head reads K values of a row, `step` after those of the head before. W has a
 * scale of each row where it is of int8. */
static void multiply_gates(const Call *c, int64_t number, const real *a, int64_t lda, int64_t step,
                           int64_t n, const void *weight, const void *scale, const real *packed,
                           int64_t K, int64_t u0, int64_t u1, real *to, int add) {
    const real *w = weight;
    if (scale) {
        multiply_int_gates(c, number, a, lda, step, n, weight, scale, K, u0, u1, to, add);
        return;
    }
    int64_t U = head_units(c->a), heads = c->a->heads, wide = panels(U) * NR;
#if HAS_PAIRS
    if (c->a->half == PAIRS && packed) {
        pair *pairs = (pair *)(c->halves + number * halves_size(c->a));
        pair_rows(a, n, K, pairs);
        for (int64_t g = 0; g < c->a->G && u1 > u0; g++)
            multiply_pairs(pairs, n, packed + (g * wide + u0) * K, K, u1 - u0, to + g * U + u0,
                           c->GH, add);
        return;
    }
#endif
    if (c->a->half != REALS) { /* one head, whose rows follow one another: half.py refuses others */
        real *halves = c->halves + number * halves_size(c->a), *tile = halves + n * K;
        round_all(a, n * K, halves);
        a = halves;
        for (int64_t g = 0; !packed && g < c->a->G; g++)
            for (int64_t u = u0; u < u1; u += VL) {
                int64_t some = u1 - u < VL ? u1 - u : VL;
                round_all(w + (g * U + u) * K, some * K, tile);
                multiply_rows(a, K, n, tile, K, some, to + g * U + u, c->GH, add);
            }
        if (!packed) return;
    }
    for (int64_t k = 0; k < c->a->G * heads; k++) {
        int64_t first = k % heads * U, start = u0 > first ? u0 - first : 0;
        int64_t end = u1 - first < U ? u1 - first : U;
        if (start >= end) continue;
        const real *from = a + k % heads * step;
        real *at = to + k * U + start;
        if (!packed)
            multiply_rows(from, lda, n, w + (k * U + start) * K, K, end - start, at, c->GH, add);
        else
            multiply(from, lda, n, packed + (k * wide + start) * K, K, end - start, at, c->GH, add);
    }
}

/* This thread's panels of a matrix (G * H, K). */
static void pack_gates(const Share *s, const real *w, int64_t K, real *packed) {
    int64_t U = head_units(s->call->a), blocks = panels(U);
    for (int64_t p = s->number; p < s->call->a->G * gate_panels(s->call->a); p += s->size) {
        int64_t start = p % blocks * NR;
        pack_rows(w + (p / blocks * U + start) * K, K, U - start, packed + p * NR * K);
#if HAS_PAIRS
        if (s->call->a->half == PAIRS) {
            pair_panel(packed + p * NR * K, K);
            continue;
        }
#endif
        if (s->call->a->half) round_all(packed + p * NR * K, NR * K, packed + p * NR * K);
    }
}

/* This thread's panels of W_hh (G * H, K) for products with its transpose, each block apart. */
static void pack_heads(const Share *s, real *packed) {
    const Arguments *a = s->call->a;
    int64_t K = head_width(a), blocks = panels(K);
    const real *w = a->weight_hh;
    /* With one head, the gates follow one another in one deep block. */
    int64_t deep = a->heads == 1 ? s->call->GH : head_units(a);
    for (int64_t p = s->number; p < s->call->GH / deep * blocks; p += s->size) {
        int64_t start = p % blocks * NR;
        real *panel = packed + p * NR * deep;
        pack_columns(w + p / blocks * deep * K + start, deep, K, K - start, panel);
        if (a->half) round_all(panel, NR * deep, panel);
    }
}

/* The gradient of h_(t-1) from that of the product, at this thread's rows and units of h. */
static void multiply_back(const Share *s, int add) {
    const Call *c = s->call;
    const Arguments *a = c->a;
    int64_t K = head_width(a), wide = panels(K) * NR;
    int64_t deep = a->heads == 1 ? c->GH : head_units(a);
    for (int64_t k = 0; k < c->GH / deep; k++) {
        int64_t first = k % a->heads * K, start = s->p0 > first ? s->p0 - first : 0;
        int64_t end = s->p1 - first < K ? s->p1 - first : K;
        if (start >= end) continue;
        const real *from = product_of(s, s->r0) + k * deep;
        real *to = c->grad_h + s->r0 * a->P + first + start;
        if (c->packed)
            multiply(from, c->GH, s->r1 - s->r0, c->packed + (k * wide + start) * deep, deep,
                     end - start, to, a->P, add || k >= a->heads);
        else
            multiply_columns(from, c->GH, s->r1 - s->r0,
                             (const real *)a->weight_hh + k * deep * K + start, K, deep,
                             end - start, to, a->P, add || k >= a->heads);
    }
}

/* Subtract from the rows of a packed matrix (G * H, K) the mean of each set. The set's mean of any
 * product with it is then 0, and its variance is the mean square. */
static void centre(const Share *s, int64_t K, real *packed) {
    const Arguments *a = s->call->a;
    int64_t blocks = gate_panels(a), end = (s->number + 1) * K / s->size;
    for (int64_t set = 0, g = 0; set < a->sets; g = a->set_end[set], set++)
        for (int64_t k = s->number * K / s->size; k < end; k++) {
            real *row = packed + (g * blocks * K + k) * NR;
            int64_t count = (a->set_end[set] - g) * blocks;
            vec sum = {0};
            for (int64_t p = 0; p < count; p++)
                for (int v = 0; v < NV; v++) sum += load(row + p * K * NR + v * VL, VL);
            real mean = total(sum) / (real)((a->set_end[set] - g) * a->H);
            for (int64_t p = 0; p < count; p++)
                for (int v = 0; v < NV; v++) {
                    real *at = row + p * K * NR + v * VL;
                    store(at, load(at, VL) - mean, VL);
                }
        }
}
