/* sLSTM, gates i, f, z, o before their nonlinearities, a = x + h:
 *
 *     l = log sigmoid(f) + m; m = max(i, l), or i where n = 0; write = exp(i - m);
 *     keep = exp(min(l - m, 0)); c = keep c + write tanh(z); n = keep n + write;
 *     h = sigmoid(o) c / n.
 *
 * c, n and m stand side by side, 3 * H reals in a row. */
#pragma once

#include "additive.h"

/* exp(x) of x <= 0, which becomes 0 in the end. */
INLINE vec exp_down(vec x) {
#ifdef SEQNORM_DOUBLE
    return v_exp(x);
#else
    return select_(x < -87, (vec){0}, v_exp(x)); /* which ends at -87 */
#endif
}

/* log(1 + x) for 0 <= x <= 1: 2 artanh(x / (2 + x)), whose argument is at most 1/3. */
INLINE vec log_of_more(vec x) {
#ifdef SEQNORM_DOUBLE
    for (int j = 0; j < VL; j++) x[j] = log1p(x[j]);
    return x;
#else
    vec s = x / (2 + x), y = s * s, p = splat(1.0f / 17);
    const real terms[] = {1.0f / 15, 1.0f / 13, 1.0f / 11, 1.0f / 9, 1.0f / 7, 1.0f / 5, 1.0f / 3};
    for (int k = 0; k < 7; k++) p = p * y + terms[k];
    return 2 * (s + s * y * p);
#endif
}

/* log(sigmoid(x)), in which NaN stays NaN. */
INLINE vec log_sigmoid(vec x) {
    const mask sign = (mask)splat((real)-0.0);
    return select_(x < 0, x, (vec){0}) - log_of_more(exp_down((vec)((mask)x | sign)));
}

/* A step of units u .. u + m of a row from its gates and from c, n and m before it. */
typedef struct {
    vec i, open, z, decay; /* decay: sigmoid(-f), the derivative of log sigmoid(f) */
    vec c_0, n_0, m_0, kept, most, write, keep, c, n;
} Cell;

INLINE Cell slstm_step(const Terms *q, const real *before, int64_t H, int64_t u, int64_t m) {
    Cell s = {.i = q->a[0], .open = v_sigmoid(q->a[3]), .z = v_tanh(q->a[2])};
    s.decay = v_sigmoid(-q->a[1]);
    s.c_0 = load(before + u, m), s.n_0 = load(before + H + u, m);
    s.m_0 = load(before + 2 * H + u, m);
    s.kept = log_sigmoid(q->a[1]) + s.m_0;
    s.most = select_(s.i >= s.kept, s.i, s.kept);
    /* NaN of either is the largest; where n is 0, m has no meaning. */
    s.most = select_((s.i != s.i) | (s.n_0 == 0), s.i, s.most);
    vec left = s.kept - s.most;
    s.write = exp_down(s.i - s.most);
    s.keep = exp_down(select_(left > 0, (vec){0}, left));
    s.c = s.keep * s.c_0 + s.write * s.z;
    s.n = s.keep * s.n_0 + s.write;
    return s;
}

INLINE void slstm_output(Share *s, int64_t r, int batch) {
    Call *c = s->call;
    const Arguments *a = c->a;
    int64_t H = a->H, row = s->base + r;
    Spread sx, sh;
    forward_spreads(s, r, batch, &sx, &sh);
    real *state = c->c_n + r * 3 * H, *kept = c->training ? c->raw_c + row * 3 * H : state;
    CHUNKS(u, m, s->u0, s->u1) {
        Terms q = terms_of(c, x_of(s, r), product_of(s, r), &sx, &sh, u, m, batch, 4);
        Cell k = slstm_step(&q, state, H, u, m);
        vec h = k.open * (k.c / k.n);
        vec now[3] = {k.c, k.n, k.most};
        for (int j = 0; j < 3; j++) {
            store(state + j * H + u, now[j], m);
            store(kept + j * H + u, now[j], m);
        }
        if (c->zones_h)
            h = stay(c->stay_h, (real)a->zoneout_h, load(h_before(s, r) + u, m), h, row * H + u, m);
        store(c->output + row * H + u, h, m);
        store(c->h_n + r * H + u, h, m);
    }
}

INLINE void slstm_back_output(Share *s, int64_t r, int batch) {
    Call *c = s->call;
    const Arguments *a = c->a;
    Kept kept = kept_of(s, r, batch);
    int64_t H = a->H, row = kept.row;
    const real *before = s->t ? c->raw_c + (s->before + r) * 3 * H : c->c_0 + r * 3 * H;
    real *slot = slot_of(s, r), *grad = c->grad_c + r * 3 * H;
    vec sums[4][4] = {{{0}}}; /* of x and x y, of h and h y, for each gate */
    CHUNKS(u, m, s->u0, s->u1) {
        Terms q = terms_of(c, kept.x, kept.product, &kept.sx, &kept.sh, u, m, batch, 4);
        Cell k = slstm_step(&q, before, H, u, m);
        vec none = {0}, dh = load(c->grad_output + row * H + u, m) + load(c->grad_h + r * H + u, m);
        if (c->zones_h) {
            real p = (real)a->zoneout_h;
            store(c->grad_h + r * H + u, through_stay(c->stay_h, p, dh, 1, row * H + u, m), m);
            dh = through_stay(c->stay_h, p, dh, 0, row * H + u, m);
        }
        vec ratio = k.c / k.n, of_ratio = dh * k.open;
        vec dc = load(grad + u, m) + of_ratio / k.n;
        vec dn = load(grad + H + u, m) - of_ratio * (ratio / k.n);
        vec of_write = (dc * k.z + dn) * k.write;
        vec of_keep = (dc * k.c_0 + dn * k.n_0) * k.keep;
        of_keep = select_(k.kept - k.most <= 0, of_keep, none);
        vec dm = load(grad + 2 * H + u, m) - of_write - of_keep;
        /* The larger one has the gradient of a maximum; equal ones have half of it each. */
        vec half = select_(k.i == k.kept, dm / 2, dm);
        mask fresh = k.n_0 == 0;
        vec of_i = select_(fresh, dm, select_(k.i < k.kept, none, half));
        vec of_kept = of_keep + select_(fresh | (k.i > k.kept), none, half);
        vec da[4] = {of_write + of_i, of_kept * k.decay, dc * k.write * (1 - k.z * k.z),
                     dh * ratio * k.open * (1 - k.open)};
        store(grad + u, dc * k.keep, m);
        store(grad + H + u, dn * k.keep, m);
        store(grad + 2 * H + u, of_kept, m);
        for (int g = 0; g < 4; g++) {
            int64_t j = g * H + u;
            store(slot + j, da[g], m);
            gather(sum_of(s, BIAS_H) + j, da[g], m);
            if (a->norm_x) learn(s, GAIN_X, c->gain_x, da[g], q.x[g], j, m, sums[g], batch);
            if (a->norm_h) learn(s, GAIN_H, c->gain_h, da[g], q.h[g], j, m, sums[g] + 2, batch);
        }
    }
    if (!batch && (c->norm_x || a->norm_h)) add_sets(a, &sums[0][0], parts(s, 0, s->peer, r));
}

PHASE(slstm_output)
PHASE(slstm_back_output)

static void slstm_forward_batch(Share *s) {
    measure_terms(s);
    for (int64_t r = s->r0; r < s->r1; r++) slstm_output(s, r, 1);
}

static void slstm_backward_batch(Share *s) {
    for (int64_t r = s->r0; r < s->r1; r++) slstm_back_output(s, r, 1);
    for (int64_t r = s->r0; r < s->r1; r++)
        back_terms_batch(s, r, slot_of(s, r), slot_of(s, r), BIAS_H);
}

static const Steps slstm_steps = {
    .forward = {measure, slstm_output_phase},
    .backward = {slstm_back_output_phase, additive_back_terms_phase},
    .forward_batch = slstm_forward_batch,
    .backward_batch = slstm_backward_batch,
};
