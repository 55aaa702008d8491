/* A norm of x pooled over time: all rows of all steps share the mean and the variance of each unit.
 *
 * The loop finds y = (x - mean) / deviation in the place of x, so that for the steps of the cells
 * there is no norm of x, and those of h and c may be of a row. The statistics must be known before
 * the first step. The gradient of x needs the sums over all rows, so it is computed after the loop
 * from the gradients of gain * y, which stand apart from y. */
#pragma once

#include "columns.h"

/* Return whether the gradients of gain * y and of the product differ. */
INLINE int pooled_apart(const Arguments *a) {
    return a->norm_x == POOLED && (a->cell == GRU || a->norm_h);
}

/* Join the mean and the centred square sum of `count` rows of x, which are in the cache, to those
 * of the `before` rows before them (Chan et al. 1979, eq. 2.1). */
static void measure_pooled(const Call *c, const real *x, int64_t count, int64_t before, real *mean,
                           real *square) {
    real n = (real)count, share = n / (real)(before + count);
    CHUNKS(u, m, 0, c->GH) {
        vec centre = add_rows(x + u, c->GH, count, (vec){0}, 0, m) / n;
        vec own = add_rows(x + u, c->GH, count, centre, 1, m);
        if (before) {
            vec old = load(mean + u, m), delta = centre - old;
            own += load(square + u, m) + delta * delta * ((real)before * share);
            centre = old + delta * share;
        }
        store(mean + u, centre, m);
        store(square + u, own, m);
    }
}

/* From the moments that each thread has of its rows: mean, 1 / deviation and variance of this
 * thread's share of the units. Called by all threads, which meet before and after it. */
static void merge_pooled(const Share *s) {
    const Call *c = s->call;
    const Arguments *a = c->a;
    int64_t GH = c->GH, N = c->N, size = s->size;
    real *means = c->columns_x, *scales = means + GH, *vars = a->var_x;
    for (int64_t j = s->number * GH / size; j < (s->number + 1) * GH / size; j++) {
        real mean = 0, square = 0, count = 0;
        for (int64_t k = 0; k < size; k++) {
            const real *part = c->pooled_parts + 2 * k * GH + j;
            real n = (real)((k + 1) * N / size - k * N / size);
            if (n == 0) continue;
            real delta = part[0] - mean;
            square += part[GH] + delta * delta * (count * n / (count + n));
            mean += delta * (n / (count + n));
            count += n;
        }
        means[j] = mean;
        vars[j] = square / count;
        scales[j] = 1 / ROOT(vars[j] + (real)a->eps_x);
    }
}

/* Replace x by y at units u0 .. u1 of every gate of some rows. */
static void standardise(const Call *c, real *x, int64_t count, int64_t u0, int64_t u1) {
    const real *means = c->columns_x, *scales = means + c->GH;
    int64_t H = c->a->H;
    for (int64_t r = 0; r < count; r++, x += c->GH)
        for (int64_t g = 0; g < c->a->G; g++)
            CHUNKS(u, m, g * H + u0, g * H + u1)
                store(x + u, (load(x + u, m) - load(means + u, m)) * load(scales + u, m), m);
}

/* Replace y by the gradient of x in some rows, from that of gain * y and its sums over all rows.
 * Constants of a table have no gradient. */
static void back_pooled(const Call *c, int64_t row, int64_t count) {
    const Arguments *a = c->a;
    int64_t GH = c->GH;
    const real *scales = c->columns_x + GH, *d = c->grad_x + row * GH;
    const real *gains = c->grad_sums + GAIN_X * GH;
    const real *biases = c->grad_sums + (a->cell == GRU ? BIAS_X : BIAS_H) * GH;
    real *y = c->x + row * GH, part = 1 / (real)c->N;
    for (int64_t r = 0; r < count; r++, y += GH, d += GH)
        CHUNKS(u, m, 0, GH) {
            vec found = load(d + u, m);
            if (a->own_x)
                found -= (load(biases + u, m) + load(y + u, m) * load(gains + u, m)) * part;
            store(y + u, found * (load(scales + u, m) * load(c->gain_x + u, m)), m);
        }
}
