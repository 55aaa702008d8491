/* Cells whose terms are only added, a = x + h. RNN and IndRNN: h = f(a); LiGRU, gates a, z:
 * h = sigmoid(z) h + (1 - sigmoid(z)) f(a). f is tanh or ReLU.
 *
 * G is the number of gates, a constant. */
#pragma once

#include "columns.h"

/* The gates before their nonlinearities at units u .. u + m of a row, and the normalised terms. */
typedef struct {
    vec x[4], h[4], a[4];
} Terms;

INLINE Terms terms_of(const Call *c, const real *x, const real *product, const Spread *sx,
                      const Spread *sh, int64_t u, int64_t m, int batch, int G) {
    Terms q;
    for (int g = 0; g < G; g++) {
        int64_t j = g * c->a->H + u;
        q.h[g] = standard(product, sh, g, j, m, batch);
        q.a[g] = q.h[g] * load(c->gain_h + j, m) + load(c->bias_h + j, m);
        q.x[g] = (vec){0};
        if (!c->a->sum) {
            q.x[g] = standard(x, sx, g, j, m, batch);
            q.a[g] += q.x[g] * load(c->gain_x + j, m);
        }
    }
    return q;
}

/* f, in which NaN stays NaN, and the gradient of its argument from its value. */
INLINE vec activate(const Arguments *a, vec x) {
    return a->relu ? select_(x <= 0, (vec){0}, x) : v_tanh(x);
}

INLINE vec through_f(const Arguments *a, vec d, vec f) {
    return a->relu ? select_(f <= 0, (vec){0}, d) : d * (1 - f * f);
}

INLINE void additive_output(Share *s, int64_t r, int batch, int G) {
    Call *c = s->call;
    const Arguments *a = c->a;
    int64_t H = a->H, row = s->base + r;
    Spread sx, sh;
    forward_spreads(s, r, batch, &sx, &sh);
    CHUNKS(u, m, s->u0, s->u1) {
        Terms q = terms_of(c, x_of(s, r), product_of(s, r), &sx, &sh, u, m, batch, G);
        vec h = activate(a, q.a[0]), old = load(h_before(s, r) + u, m);
        if (G == 2) {
            vec z = v_sigmoid(q.a[1]);
            h = z * old + (1 - z) * h;
        }
        if (c->zones_h) h = stay(c->stay_h, (real)a->zoneout_h, old, h, row * H + u, m);
        store(c->output + row * H + u, h, m);
        store(c->h_n + r * H + u, h, m);
    }
}

INLINE void additive_back_output(Share *s, int64_t r, int batch, int G) {
    Call *c = s->call;
    const Arguments *a = c->a;
    Kept kept = kept_of(s, r, batch);
    int64_t H = a->H, row = kept.row;
    real *slot = slot_of(s, r);
    vec sums[2][4] = {{{0}}}; /* of x and x y, of h and h y, for each gate */
    CHUNKS(u, m, s->u0, s->u1) {
        Terms q = terms_of(c, kept.x, kept.product, &kept.sx, &kept.sh, u, m, batch, G);
        vec dh = load(c->grad_output + row * H + u, m) + load(c->grad_h + r * H + u, m);
        vec back = {0}, da[2];
        if (c->zones_h) {
            real p = (real)a->zoneout_h;
            back = through_stay(c->stay_h, p, dh, 1, row * H + u, m);
            dh = through_stay(c->stay_h, p, dh, 0, row * H + u, m);
        }
        /* Without zoneout the output of an RNN is f(a) itself. */
        int there = G == 1 && !c->zones_h;
        vec f = there ? load(c->output + row * H + u, m) : activate(a, q.a[0]);
        if (G == 2) {
            vec z = v_sigmoid(q.a[1]), old = load(h_before(s, r) + u, m);
            da[1] = dh * (old - f) * z * (1 - z);
            back += dh * z;
            dh *= 1 - z;
        }
        da[0] = through_f(a, dh, f);
        store(c->grad_h + r * H + u, back, m);
        for (int k = 0; k < G; k++) {
            int64_t j = k * H + u;
            store(slot + j, da[k], m);
            gather(sum_of(s, BIAS_H) + j, da[k], m);
            if (a->norm_x) learn(s, GAIN_X, c->gain_x, da[k], q.x[k], j, m, sums[k], batch);
            if (a->norm_h) learn(s, GAIN_H, c->gain_h, da[k], q.h[k], j, m, sums[k] + 2, batch);
        }
    }
    if (!batch && (c->norm_x || a->norm_h)) add_sets(a, &sums[0][0], parts(s, 0, s->peer, r));
}

static void additive_back_terms_phase(Share *s, int64_t r) {
    back_terms(s, r, 0, slot_of(s, r), slot_of(s, r));
}

#define ADDITIVE(name, G)                                                                          \
    static void name##_output_phase(Share *s, int64_t r) {                                         \
        additive_output(s, r, 0, G);                                                               \
    }                                                                                              \
    static void name##_back_output_phase(Share *s, int64_t r) {                                    \
        additive_back_output(s, r, 0, G);                                                          \
    }                                                                                              \
    static void name##_forward_batch(Share *s) {                                                   \
        measure_terms(s);                                                                          \
        for (int64_t r = s->r0; r < s->r1; r++) additive_output(s, r, 1, G);                       \
    }                                                                                              \
    static void name##_backward_batch(Share *s) {                                                  \
        for (int64_t r = s->r0; r < s->r1; r++) additive_back_output(s, r, 1, G);                  \
        for (int64_t r = s->r0; r < s->r1; r++)                                                    \
            back_terms_batch(s, r, slot_of(s, r), slot_of(s, r), BIAS_H);                          \
    }                                                                                              \
    static const Steps name##_steps = {                                                            \
        .forward = {measure, name##_output_phase},                                                 \
        .backward = {name##_back_output_phase, additive_back_terms_phase},                         \
        .forward_batch = name##_forward_batch,                                                     \
        .backward_batch = name##_backward_batch,                                                   \
        .carries = G == 2,                                                                         \
    };

ADDITIVE(rnn, 1)
ADDITIVE(ligru, 2)

/* IndRNN: the product u h of a step, unit by unit. */
static void multiply_units(Share *s) {
    const Arguments *a = s->call->a;
    const real *weight = a->weight_hh;
    for (int64_t r = s->r0; r < s->r1; r++) {
        const real *h = h_before(s, r);
        real *to = product_of(s, r);
        CHUNKS(u, m, s->u0, s->u1) {
            vec product = load(weight + u, m) * load(h + u, m);
            store(to + u, a->sum ? load(to + u, m) + product : product, m);
        }
    }
}

/* From the gradient of u h at a step to those of u and of h_(t-1), which may be added. */
static void back_units(Share *s, int add) {
    const Arguments *a = s->call->a;
    const real *weight = a->weight_hh;
    for (int64_t r = s->r0; r < s->r1; r++) {
        const real *h = h_before(s, r), *product = product_of(s, r);
        real *grad_h = s->call->grad_h + r * a->H;
        CHUNKS(u, m, s->u0, s->u1) {
            vec d = load(product + u, m), back = d * load(weight + u, m);
            gather(sum_of(s, WEIGHT) + u, d * load(h + u, m), m);
            store(grad_h + u, add ? load(grad_h + u, m) + back : back, m);
        }
    }
}
