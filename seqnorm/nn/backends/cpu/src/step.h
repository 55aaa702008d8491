/* Common parts of the steps of all cells: moments, normalised terms, zoneout, gradients of norms.
 *
 * Functions that differ between norms of a row and of the batch take the constant `batch`. */
#pragma once

#include "share.h"

/* Sum of n reals, and of the squares of their distance from `mean`; four sums at once, for an
 * addition waits four cycles for the one before. */
INLINE vec run_sum(const real *p, int64_t n) {
    vec sums[4] = {{0}};
    for (; n >= 4 * VL; p += 4 * VL, n -= 4 * VL)
        for (int k = 0; k < 4; k++) sums[k] += load(p + k * VL, VL);
    CHUNKS(u, m, 0, n) sums[0] += load(p + u, m);
    return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

INLINE vec run_square(const real *p, int64_t n, real mean) {
    vec sums[4] = {{0}};
    for (; n >= 4 * VL; p += 4 * VL, n -= 4 * VL)
        for (int k = 0; k < 4; k++) {
            vec d = load(p + k * VL, VL) - mean;
            sums[k] += d * d;
        }
    CHUNKS(u, m, 0, n) {
        vec d = first(load(p + u, m) - mean, m);
        sums[0] += d * d;
    }
    return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

/* Mean and centred square sum of units u0 .. u1 of gates g0 .. g1; the plain square sum for RMS. */
static void moments(const real *row, int64_t H, int64_t g0, int64_t g1, int64_t u0, int64_t u1,
                    int64_t kind, real *out) {
    int64_t runs = g1 - g0, length = u1 - u0;
    const real *start = row + g0 * H + u0;
    if (length == H) length *= runs, runs = 1; /* gates follow one another */
    real mean = 0;
    if (kind == LAYER) {
        vec sum = {0};
        for (int64_t k = 0; k < runs; k++) sum += run_sum(start + k * H, length);
        mean = total(sum) / (real)(runs * length);
    }
    vec square = {0};
    for (int64_t k = 0; k < runs; k++) square += run_square(start + k * H, length, mean);
    out[0] = mean, out[1] = total(square);
}

INLINE int64_t units_of(const Share *s, int64_t peer) {
    const Arguments *a = s->call->a;
    return share_of_units(a, peer + 1, s->size) - share_of_units(a, peer, s->size);
}

/* Mean and 1 / deviation of a set from the moments of all peers (Chan et al. 1979, eq. 2.1). */
INLINE void merge(const Share *s, int64_t phase, int64_t r, int64_t at, int64_t gates, int64_t kind,
                  real eps, real *out) {
    if (s->peers == 1) {
        const real *part = parts(s, phase, 0, r) + at;
        out[0] = part[0];
        out[1] = 1 / ROOT(part[1] / (real)(gates * s->call->a->H) + eps);
        return;
    }
    real count = 0, mean = 0, square = 0;
    for (int64_t peer = 0; peer < s->peers; peer++) {
        const real *part = parts(s, phase, peer, r) + at;
        real n = (real)(gates * units_of(s, peer));
        if (n == 0) continue;
        real delta = part[0] - mean, all = count + n;
        square += part[1] + (kind == LAYER ? delta * delta * (count * n / all) : 0);
        mean += kind == LAYER ? delta * (n / all) : 0;
        count = all;
    }
    out[0] = mean;
    out[1] = 1 / ROOT(square / count + eps);
}

/* Mean and 1 / deviation of the terms of a row: of every gate; of the batch, of every unit. */
typedef struct {
    real mean[4], scale[4];
    const real *means, *scales;
} Spread;

INLINE Spread spread(const Arguments *a, int64_t kind, const real *stats) {
    Spread found;
    int64_t set = 0;
    for (int64_t g = 0; g < 4; g++) {
        if (set < a->sets - 1 && g >= a->set_end[set]) set++;
        found.mean[g] = kind ? stats[2 * set] : 0;
        found.scale[g] = kind ? stats[2 * set + 1] : 1;
    }
    return found;
}

/* The same at step t of a norm of the batch, or of none. */
INLINE Spread spread_of_batch(const Call *c, const real *columns, int64_t rows, int64_t t) {
    const real *at = columns + rows * t * c->GH;
    return (Spread){.means = columns ? at : c->zeros, .scales = columns ? at + c->GH : c->ones};
}

/* m normalised values of gate g, of a row of all gates. */
INLINE vec standard(const real *row, const Spread *of, int64_t g, int64_t j, int64_t m, int batch) {
    if (batch) return (load(row + j, m) - load(of->means + j, m)) * load(of->scales + j, m);
    return (load(row + j, m) - of->mean[g]) * of->scale[g];
}

/* Return whether a step of this many rows computes its own x. Smaller steps are joined. */
#define FRESH 8
INLINE int at_its_step(const Call *c, int64_t alive, int64_t size) {
    return c->a->weight_ih && alive >= FRESH * size && !(c->pooled && c->a->own_x);
}

/* Return the place of x of a row at this step. */
INLINE real *x_of(const Share *s, int64_t r) {
    const Call *c = s->call;
    return c->x + (s->fresh && !c->training ? r : s->base + r) * c->GH;
}

/* Return the place of the product of a row at this step. */
INLINE real *product_of(const Share *s, int64_t r) {
    const Call *c = s->call;
    if (c->a->sum) return x_of(s, r);
    return c->product + ((c->training ? s->base : 0) + r) * c->GH;
}

/* h of the step before, of a row. */
INLINE const real *h_before(const Share *s, int64_t r) {
    const Call *c = s->call;
    return s->t == 0 ? c->h_0 + r * c->a->P : c->output + (s->before + r) * c->a->P;
}

/* Rows whose phases a thread computes in turn, so that one need not wait for the sums of the other
 * ones. */
#define ABREAST 3

/* Values on their way between the phases of a row: CHANNELS * H reals. Where a thread ends some
 * rows before it begins the next, they stay in the cache. */
#define CHANNELS 5
INLINE real *slot_of(const Share *s, int64_t r) {
    int whole = s->peers == 1 && !s->call->batch;
    int64_t number = whole ? s->number * ABREAST + r % ABREAST : r;
    return s->call->slots + number * CHANNELS * s->call->a->H;
}

/* Zoneout: m units after a step, from their values before it and new ones; `at` is where they
 * stand. */
INLINE vec stay(const real *stays, real p, vec before, vec after, int64_t at, int64_t m) {
    if (stays) return select_(load(stays + at, m) != 0, before, after);
    return p * before + (1 - p) * after;
}

/* Gradient of the new values (or, `back`, of those before) from that of what they became. */
INLINE vec through_stay(const real *stays, real p, vec d, int back, int64_t at, int64_t m) {
    vec none = {0};
    if (stays) return select_(load(stays + at, m) != 0, back ? d : none, back ? none : d);
    return d * (back ? p : 1 - p);
}

/* First phase of every cell: the moments of the product. */
static void measure(Share *s, int64_t r) {
    const Arguments *a = s->call->a;
    if (!a->norm_h) return;
    for (int64_t set = 0, g = 0; set < a->sets; g = a->set_end[set], set++)
        moments(product_of(s, r), a->H, g, a->set_end[set], s->u0, s->u1, s->call->kind_h,
                parts(s, 0, s->peer, r) + 2 * set);
}

/* The moments of the product at a row, merged and kept. */
INLINE void merge_product(Share *s, int64_t r, real *stats) {
    const Arguments *a = s->call->a;
    real *kept = s->call->stats + (s->base + r) * s->call->S + 2 * a->sets;
    if (!a->norm_h) return;
    for (int64_t set = 0, g = 0; set < a->sets; g = a->set_end[set], set++) {
        merge(s, 0, r, 2 * set, a->set_end[set] - g, s->call->kind_h, (real)a->eps_h,
              stats + 2 * set);
        if (s->peer == 0) kept[2 * set] = stats[2 * set], kept[2 * set + 1] = stats[2 * set + 1];
    }
}

/* Spreads of x and of the product at a row of the forward pass, the moments measured before. */
INLINE void forward_spreads(Share *s, int64_t r, int batch, Spread *sx, Spread *sh) {
    const Call *c = s->call;
    if (batch) {
        *sx = spread_of_batch(c, c->columns_x, c->rows_x, s->t);
        *sh = spread_of_batch(c, c->columns_h, c->rows_h, s->t);
        return;
    }
    real stats[8];
    merge_product(s, r, stats);
    *sx = spread(c->a, c->norm_x, c->stats + (s->base + r) * c->S);
    *sh = spread(c->a, c->a->norm_h, stats);
}

/* Gradient through a norm: scale * (d - mean(d) - y mean(d y)), d that of the normalised y. */
INLINE vec through(vec d, vec y, real scale, int64_t kind, real mean_d, real mean_dy) {
    if (kind == NONE) return d;
    return scale * (d - (kind == LAYER ? mean_d : 0) - y * mean_dy);
}

/* Add to the running sum of a parameter's gradient. */
INLINE void gather(real *sum, vec x, int64_t m) {
    store(sum, load(sum, m) + x, m);
}

/* The values of a row at this step that the backward pass reads. */
typedef struct {
    int64_t row;
    const real *x;
    real *product;
    Spread sx, sh;
} Kept;

INLINE Kept kept_of(const Share *s, int64_t r, int batch) {
    const Call *c = s->call;
    const Arguments *a = c->a;
    int64_t row = s->base + r;
    if (batch)
        return (Kept){row, x_of(s, r), product_of(s, r),
                      spread_of_batch(c, c->columns_x, c->rows_x, s->t),
                      spread_of_batch(c, c->columns_h, c->rows_h, s->t)};
    const real *stats = c->stats + row * c->S;
    return (Kept){row, x_of(s, r), product_of(s, r), spread(a, c->norm_x, stats),
                  spread(a, a->norm_h, stats + 2 * a->sets)};
}

/* Sums of each set from those of each gate: of x and x y, of h and h y. */
INLINE void add_sets(const Arguments *a, const vec *of_gates, real *part) {
    for (int64_t set = 0, k = 0; set < a->sets; set++) {
        vec all[4] = {{0}};
        for (; k < a->set_end[set]; k++)
            for (int j = 0; j < 4; j++) all[j] += of_gates[4 * k + j];
        for (int j = 0; j < 4; j++) part[4 * set + j] = total(all[j]);
    }
}

/* Last phase of every cell: from the gradients of the normalised terms, in `of_h` and (at its last
 * gate) `of_x`, to those of x and of the product, which take their place. */
INLINE void back_terms(Share *s, int64_t r, int64_t phase, const real *of_h, const real *of_x) {
    Call *c = s->call;
    const Arguments *a = c->a;
    Kept kept = kept_of(s, r, 0);
    real *grad_x = c->grad_x + kept.row * c->GH;
    real sums[PARTS] = {0};
    if (c->norm_x || a->norm_h) add_parts(s, phase, r, 4 * a->sets, sums);
    for (int64_t set = 0, k = 0; set < a->sets; set++) {
        real count = (real)((a->set_end[set] - k) * a->H);
        real mean[4];
        for (int j = 0; j < 4; j++) mean[j] = sums[4 * set + j] / count;
        for (; k < a->set_end[set]; k++) {
            const real *from = k == a->G - 1 ? of_x : of_h;
            CHUNKS(u, m, s->u0, s->u1) {
                int64_t j = k * a->H + u;
                vec dx = load(from + j, m), dh = load(of_h + j, m);
                if (!a->sum) {
                    if (c->norm_x) {
                        vec y = standard(kept.x, &kept.sx, k, j, m, 0);
                        dx = through(dx * load(c->gain_x + j, m), y, kept.sx.scale[k], c->norm_x,
                                     mean[0], mean[1]);
                    }
                    store(grad_x + j, dx, m);
                }
                if (a->norm_h) {
                    vec y = standard(kept.product, &kept.sh, k, j, m, 0);
                    dh = through(dh * load(c->gain_h + j, m), y, kept.sh.scale[k], a->norm_h,
                                 mean[2], mean[3]);
                }
                store(kept.product + j, dh, m);
            }
        }
    }
}

/* The sums of each parameter's gradient. An IndRNN has no norm of c, but a vector as its W_hh. */
enum { GAIN_X, GAIN_H, BIAS_X, BIAS_H, GAIN_C, BIAS_C, WEIGHT = GAIN_C };
INLINE real *sum_of(const Share *s, int which) {
    int64_t GH = s->call->GH;
    return s->sums + (which < GAIN_C ? which * GH : 4 * GH + (which - GAIN_C) * s->call->a->H);
}

/* The share of m values in the gradient of a gain and in the sums of its norm: d is the gradient of
 * gain * y, and sums are those of d * gain and of it times y. */
INLINE void learn(const Share *s, int which, const real *gain, vec d, vec y, int64_t j, int64_t m,
                  vec *sums, int batch) {
    gather(sum_of(s, which) + j, d * y, m);
    if (batch) return; /* that sum, over the rows of the step, is what its norm needs */
    if (which == GAIN_X && s->call->pooled) return; /* and here over the rows of all steps */
    vec scaled = first(d * load(gain + j, m), m);
    sums[0] += scaled, sums[1] += scaled * y;
}
