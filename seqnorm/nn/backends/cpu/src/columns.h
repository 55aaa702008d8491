/* Norms of the batch: the rows of a step share the mean and the variance of every unit.
 *
 * Each thread has all rows of its units, so it needs no other thread for their statistics. */
#pragma once

#include "step.h"

/* Sum of m reals of `count` rows, or of the squares of their distance from `mean`, four rows at a
 * time. */
INLINE vec add_rows(const real *rows, int64_t width, int64_t count, vec mean, int squared,
                    int64_t m) {
    vec sums[4] = {{0}};
    for (int64_t r = 0; r < count; r += 4)
        for (int k = 0; k < 4 && r + k < count; k++) {
            vec d = load(rows + (r + k) * width, m) - mean;
            sums[k] += squared ? d * d : d;
        }
    return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

/* Batch Renormalization of m units whose mean and 1 / deviation stand at `columns`: replace them by
 * those of the corrected value, and write d and r. `before` is the same step of `before_x`. */
INLINE void correct(real *columns, const real *before, int64_t width, int64_t m) {
    vec mean = load(columns, m), scale = load(columns + width, m);
    vec known = load(before + width, m);
    vec most_r = load(before + 2 * width, m), most_d = load(before + 3 * width, m);
    vec r = known / scale, d = (mean - load(before, m)) * known;
    r = select_(r > most_r, most_r, select_(r < 1 / most_r, 1 / most_r, r));
    d = select_(d > most_d, most_d, select_(d < -most_d, -most_d, d));
    scale *= r; /* (x - mean) scale r + d = (x - (mean - d / (scale r))) scale r */
    store(columns, mean - d / scale, m);
    store(columns + width, scale, m);
    store(columns + 2 * width, d, m);
    store(columns + 3 * width, r, m);
}

/* Mean, 1 / deviation and variance of this thread's units over the rows of a step: `rows` is the
 * first of them, of `gates` * H reals each. */
static void measure_columns(const Share *s, const real *rows, int64_t gates, real *columns,
                            const real *before, real *var, double eps) {
    const Arguments *a = s->call->a;
    int64_t width = gates * a->H, n = s->r1 - s->r0;
    real *mean = columns + (before ? 4 : 2) * s->t * width, *scale = mean + width;
    if (before) before += 4 * s->t * width;
    var += s->t * width;
    for (int64_t g = 0; g < gates; g++)
        CHUNKS(u, m, g * a->H + s->u0, g * a->H + s->u1) {
            vec centre = add_rows(rows + u, width, n, (vec){0}, 0, m) / (real)n;
            vec square = add_rows(rows + u, width, n, centre, 1, m) / (real)n, root;
            for (int j = 0; j < VL; j++) root[j] = ROOT(square[j] + (real)eps);
            store(mean + u, centre, m);
            store(var + u, square, m);
            store(scale + u, 1 / root, m);
            if (before) correct(mean + u, before + u, width, m);
        }
}

/* Statistics of x and of the product (or of their sum), computed from the rows of this step. */
static void measure_terms(const Share *s) {
    const Call *c = s->call;
    const Arguments *a = c->a;
    if (a->own_x)
        measure_columns(s, x_of(s, 0), a->G, c->columns_x, a->before_x, a->var_x, a->eps_x);
    if (a->own_h)
        measure_columns(s, product_of(s, 0), a->G, c->columns_h, a->before_h, a->var_h, a->eps_h);
}

/* Gradient through a norm of the batch at columns j .. j + m: d is the gradient of gain * y times
 * gain; the sums of this step over its rows stand at `which` and `bias`. Constants of a table have
 * no gradient. With `width`, that of a row, the value is corrected: y = r z + d', and the mean of z
 * and not of y is 0. */
INLINE vec through_batch(const Share *s, int which, int bias, const real *scale, int64_t width,
                         int64_t own, vec d, vec gain, vec y, int64_t j, int64_t m) {
    if (own) {
        real n = (real)(s->r1 - s->r0);
        vec sum = load(sum_of(s, bias) + j, m), sum_y = load(sum_of(s, which) + j, m);
        if (width) {
            vec shift = load(scale + width + j, m), r = load(scale + 2 * width + j, m);
            y = (y - shift) / (r * r), sum_y -= shift * sum;
        }
        d -= gain * (sum + y * sum_y) / n;
    }
    return load(scale + j, m) * d;
}

/* As back_terms: `bias` is where the gradients of x are summed. */
INLINE void back_terms_batch(Share *s, int64_t r, const real *of_h, const real *of_x, int bias) {
    Call *c = s->call;
    const Arguments *a = c->a;
    Kept kept = kept_of(s, r, 1);
    real *grad_x = c->grad_x + kept.row * c->GH;
    int64_t of_x_width = a->before_x ? c->GH : 0, of_h_width = a->before_h ? c->GH : 0;
    for (int64_t k = 0; k < a->G; k++) {
        const real *from = k == a->G - 1 ? of_x : of_h;
        CHUNKS(u, m, s->u0, s->u1) {
            int64_t j = k * a->H + u;
            vec dx = load(from + j, m), dh = load(of_h + j, m);
            if (!a->sum) {
                if (a->norm_x) {
                    vec gain = load(c->gain_x + j, m);
                    dx = through_batch(s, GAIN_X, bias, kept.sx.scales, of_x_width, a->own_x,
                                       dx * gain, gain, standard(kept.x, &kept.sx, k, j, m, 1), j,
                                       m);
                }
                store(grad_x + j, dx, m);
            }
            if (a->norm_h) {
                vec gain = load(c->gain_h + j, m);
                dh = through_batch(s, GAIN_H, BIAS_H, kept.sh.scales, of_h_width, a->own_h,
                                   dh * gain, gain, standard(kept.product, &kept.sh, k, j, m, 1),
                                   j, m);
            }
            store(kept.product + j, dh, m);
        }
    }
}
