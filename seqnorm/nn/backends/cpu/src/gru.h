/* GRU: r, z = sigmoid(x + h); n = tanh(x + r h); h = z h + (1 - z) n; gates r, z, n. */
#pragma once

#include "columns.h"

typedef struct {
    vec x[3], h[3];       /* normalised */
    vec r, z, n, h_n;     /* gates, and the h term of the candidate */
} GruTerms;

INLINE GruTerms gru_terms(const Call *c, const real *x, const real *product, const Spread *sx,
                          const Spread *sh, int64_t u, int64_t m, int batch) {
    GruTerms q;
    vec of_x[3], of_h[3];
    for (int g = 0; g < 3; g++) {
        int64_t j = g * c->a->H + u;
        q.h[g] = standard(product, sh, g, j, m, batch);
        of_h[g] = q.h[g] * load(c->gain_h + j, m) + load(c->bias_h + j, m);
        of_x[g] = q.x[g] = (vec){0};
        if (!c->a->sum) {
            q.x[g] = standard(x, sx, g, j, m, batch);
            of_x[g] = q.x[g] * load(c->gain_x + j, m) + load(c->bias_x + j, m);
        }
    }
    q.r = v_sigmoid(of_x[0] + of_h[0]);
    q.z = v_sigmoid(of_x[1] + of_h[1]);
    q.h_n = of_h[2];
    q.n = v_tanh(of_x[2] + q.r * of_h[2]);
    return q;
}

/* m units of the new h, from z and the candidate. */
INLINE void gru_write(Share *s, int64_t r, vec z, vec n, int64_t u, int64_t m) {
    const Call *c = s->call;
    const Arguments *a = c->a;
    int64_t at = (s->base + r) * a->H + u;
    vec old = load(h_before(s, r) + u, m);
    vec h = a->swapped ? n * z + (1 - z) * old : z * old + (1 - z) * n;
    if (c->zones_h) h = stay(c->stay_h, (real)a->zoneout_h, old, h, at, m);
    store(c->output + at, h, m);
    store(c->h_n + r * a->H + u, h, m);
}

/* From the gradient of m units of h to those of z and of the candidate before their nonlinearities,
 * and of the old h. */
INLINE void gru_back_h(const Share *s, int64_t r, vec z, vec n, int64_t u, int64_t m, vec *dz,
                       vec *dn) {
    const Call *c = s->call;
    const Arguments *a = c->a;
    int64_t at = (s->base + r) * a->H + u;
    vec old = load(h_before(s, r) + u, m);
    vec dh = load(c->grad_output + at, m) + load(c->grad_h + r * a->H + u, m);
    vec keep = z, stayed = {0};
    if (c->zones_h) {
        real p = (real)a->zoneout_h;
        stayed = through_stay(c->stay_h, p, dh, 1, at, m);
        dh = through_stay(c->stay_h, p, dh, 0, at, m);
    }
    if (a->swapped) keep = 1 - z;
    *dz = dh * (old - n) * z * (1 - z), *dn = dh * (1 - keep) * (1 - n * n);
    if (a->swapped) *dz = -*dz;
    store(c->grad_h + r * a->H + u, dh * keep + stayed, m);
}

INLINE void gru_output(Share *s, int64_t r, int batch) {
    Spread sx, sh;
    forward_spreads(s, r, batch, &sx, &sh);
    CHUNKS(u, m, s->u0, s->u1) {
        GruTerms q = gru_terms(s->call, x_of(s, r), product_of(s, r), &sx, &sh, u, m, batch);
        gru_write(s, r, q.z, q.n, u, m);
    }
}

INLINE void gru_back_output(Share *s, int64_t r, int batch) {
    Call *c = s->call;
    const Arguments *a = c->a;
    Kept kept = kept_of(s, r, batch);
    int64_t H = a->H;
    real *slot = slot_of(s, r);
    vec sums[4][4] = {{{0}}};
    CHUNKS(u, m, s->u0, s->u1) {
        GruTerms q = gru_terms(c, kept.x, kept.product, &kept.sx, &kept.sh, u, m, batch);
        vec dz, dn;
        gru_back_h(s, r, q.z, q.n, u, m, &dz, &dn);
        vec dr = dn * q.h_n * q.r * (1 - q.r);
        vec of_x[3] = {dr, dz, dn}, of_h[3] = {dr, dz, dn * q.r};
        store(slot + 3 * H + u, dn, m);
        for (int k = 0; k < 3; k++) {
            int64_t j = k * H + u;
            store(slot + j, of_h[k], m);
            gather(sum_of(s, BIAS_H) + j, of_h[k], m);
            if (!a->sum) gather(sum_of(s, BIAS_X) + j, of_x[k], m);
            if (a->norm_x) learn(s, GAIN_X, c->gain_x, of_x[k], q.x[k], j, m, sums[k], batch);
            if (a->norm_h) learn(s, GAIN_H, c->gain_h, of_h[k], q.h[k], j, m, sums[k] + 2, batch);
        }
    }
    if (!batch && (c->norm_x || a->norm_h)) add_sets(a, &sums[0][0], parts(s, 0, s->peer, r));
}

/* Of the candidate the gradients of x and h differ: those of h stand at gate 2, of x at 3. */
INLINE const real *gru_of_x(const Share *s, int64_t r) {
    return slot_of(s, r) + s->call->a->H;
}

PHASE(gru_output)
PHASE(gru_back_output)
static void gru_back_terms_phase(Share *s, int64_t r) {
    back_terms(s, r, 0, slot_of(s, r), gru_of_x(s, r));
}

static void gru_forward_batch(Share *s) {
    measure_terms(s);
    for (int64_t r = s->r0; r < s->r1; r++) gru_output(s, r, 1);
}

static void gru_backward_batch(Share *s) {
    for (int64_t r = s->r0; r < s->r1; r++) gru_back_output(s, r, 1);
    for (int64_t r = s->r0; r < s->r1; r++)
        back_terms_batch(s, r, slot_of(s, r), gru_of_x(s, r), BIAS_X);
}

static const Steps gru_steps = {
    .forward = {measure, gru_output_phase},
    .backward = {gru_back_output_phase, gru_back_terms_phase},
    .forward_batch = gru_forward_batch,
    .backward_batch = gru_backward_batch,
    .carries = 1,
};
