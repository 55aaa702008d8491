/* LSTM: a = x + h; c = f c + i g; h = o tanh(N(c)); gates i, f, g, o. */
#pragma once

#include "step.h"

/* The gates before their nonlinearities at units u .. u + m of a row, and the normalised terms. */
typedef struct {
    vec x[4], h[4], a[4];
} LstmTerms;

INLINE LstmTerms lstm_terms(const Call *c, const real *x, const real *product, const Spread *sx,
                            const Spread *sh, int64_t u, int64_t m) {
    LstmTerms q;
    for (int g = 0; g < 4; g++) {
        int64_t j = g * c->a->H + u;
        q.h[g] = standard(product, sh, g, j, m);
        q.a[g] = q.h[g] * load(c->gain_h + j, m) + load(c->bias_h + j, m);
        if (!c->a->sum) {
            q.x[g] = standard(x, sx, g, j, m);
            q.a[g] += q.x[g] * load(c->gain_x + j, m);
        }
    }
    return q;
}

static void lstm_cell(Share *s, int64_t r) {
    Call *c = s->call;
    const Arguments *a = c->a;
    int64_t H = a->H, row = s->base + r, kept = c->training ? row : r;
    real stats[8];
    merge_product(s, r, stats);
    Spread sx = spread(a, a->norm_x, c->stats + row * c->S), sh = spread(a, a->norm_h, stats);
    real *cell = c->raw_c + kept * H, *open = c->slots + r * CHANNELS * H;
    CHUNKS(u, m, s->u0, s->u1) {
        LstmTerms q = lstm_terms(c, x_of(s, r), product_of(s, r), &sx, &sh, u, m);
        vec i = v_sigmoid(q.a[0]), f = v_sigmoid(q.a[1]), g = v_tanh(q.a[2]);
        store(cell + u, f * load(c->c_n + r * H + u, m) + i * g, m);
        store(open + u, v_sigmoid(q.a[3]), m);
    }
    if (a->norm_c) moments(cell, H, 0, 1, s->u0, s->u1, a->norm_c, parts(s, 1, s->peer, r));
}

static void lstm_output(Share *s, int64_t r) {
    Call *c = s->call;
    const Arguments *a = c->a;
    int64_t H = a->H, row = s->base + r, kept = c->training ? row : r;
    real stats[2] = {0, 1};
    if (a->norm_c) {
        merge(s, 1, r, 0, 1, a->norm_c, (real)a->eps_c, stats);
        if (s->peer == 0) memcpy(c->stats + row * c->S + 4 * a->sets, stats, sizeof stats);
    }
    const real *cell = c->raw_c + kept * H, *open = c->slots + r * CHANNELS * H;
    CHUNKS(u, m, s->u0, s->u1) {
        vec raw = load(cell + u, m);
        vec y = (raw - stats[0]) * stats[1] * load(c->gain_c + u, m) + load(c->bias_c + u, m);
        vec h = load(open + u, m) * v_tanh(y);
        store(c->output + row * H + u, h, m);
        store(c->h_n + r * H + u, h, m);
        store(c->c_n + r * H + u, a->swapped ? y : raw, m);
    }
}

/* m normalised values of c at a packed row. */
INLINE vec lstm_standard(const Call *c, int64_t row, int64_t u, int64_t m) {
    vec raw = load(c->raw_c + row * c->a->H + u, m);
    if (!c->a->norm_c) return raw;
    const real *stats = c->stats + row * c->S + 4 * c->a->sets;
    return (raw - stats[0]) * stats[1];
}

/* c that the step before carried on, at units u .. u + m. */
INLINE vec lstm_before(const Share *s, int64_t r, int64_t u, int64_t m) {
    const Call *c = s->call;
    if (s->t == 0) return load(c->c_0 + r * c->a->H + u, m);
    int64_t row = s->before + r;
    if (!c->a->swapped) return load(c->raw_c + row * c->a->H + u, m);
    return lstm_standard(c, row, u, m) * load(c->gain_c + u, m) + load(c->bias_c + u, m);
}

static void lstm_back_output(Share *s, int64_t r) {
    Call *c = s->call;
    const Arguments *a = c->a;
    Kept kept = kept_of(s, r);
    int64_t H = a->H, row = kept.row;
    real *slot = slot_of(s, r);
    vec sums[2] = {{0}};
    CHUNKS(u, m, s->u0, s->u1) {
        LstmTerms q = lstm_terms(c, kept.x, kept.product, &kept.sx, &kept.sh, u, m);
        vec o = v_sigmoid(q.a[3]);
        vec y = lstm_standard(c, row, u, m), gain = load(c->gain_c + u, m);
        vec th = v_tanh(y * gain + load(c->bias_c + u, m));
        vec dh = load(c->grad_output + row * H + u, m) + load(c->grad_h + r * H + u, m);
        vec dy = dh * o * (1 - th * th);
        if (a->swapped) dy += load(c->grad_c + r * H + u, m);
        store(slot + u, v_sigmoid(q.a[0]), m);
        store(slot + H + u, v_sigmoid(q.a[1]), m);
        store(slot + 2 * H + u, v_tanh(q.a[2]), m);
        store(slot + 3 * H + u, dh * th * o * (1 - o), m);
        store(slot + 4 * H + u, dy * gain, m);
        if (a->norm_c) {
            gather(sum_of(s, BIAS_C) + u, dy, m);
            learn(s, GAIN_C, c->gain_c, dy, y, u, m, sums);
        }
    }
    real *part = parts(s, 0, s->peer, r);
    part[0] = total(sums[0]), part[1] = total(sums[1]);
}

static void lstm_back_cell(Share *s, int64_t r) {
    Call *c = s->call;
    const Arguments *a = c->a;
    Kept kept = kept_of(s, r);
    int64_t H = a->H, row = kept.row;
    real of_c[2];
    add_parts(s, 0, r, 2, of_c);
    real *slot = slot_of(s, r);
    vec sums[4][4] = {{{0}}}; /* of x and x y, of h and h y, for each gate */
    CHUNKS(u, m, s->u0, s->u1) {
        vec i = load(slot + u, m), f = load(slot + H + u, m), g = load(slot + 2 * H + u, m);
        vec dc = through(load(slot + 4 * H + u, m), lstm_standard(c, row, u, m),
                         c->stats[row * c->S + 4 * a->sets + 1], a->norm_c, of_c[0] / H, of_c[1] / H);
        if (!a->swapped) dc += load(c->grad_c + r * H + u, m);
        vec da[4] = {dc * g * i * (1 - i), dc * lstm_before(s, r, u, m) * f * (1 - f),
                     dc * i * (1 - g * g), load(slot + 3 * H + u, m)};
        store(c->grad_c + r * H + u, dc * f, m);
        for (int k = 0; k < 4; k++) {
            int64_t j = k * H + u;
            store(slot + j, da[k], m);
            gather(sum_of(s, BIAS_H) + j, da[k], m);
            if (a->norm_x)
                learn(s, GAIN_X, c->gain_x, da[k], standard(kept.x, &kept.sx, k, j, m), j, m, sums[k]);
            if (a->norm_h)
                learn(s, GAIN_H, c->gain_h, da[k], standard(kept.product, &kept.sh, k, j, m), j, m,
                      sums[k] + 2);
        }
    }
    if (a->norm_x || a->norm_h) add_sets(a, &sums[0][0], parts(s, 1, s->peer, r));
}

static void lstm_back_terms(Share *s, int64_t r) {
    back_terms(s, r, 1, slot_of(s, r), slot_of(s, r));
}

static const Phase lstm_forward[PHASES] = {measure, lstm_cell, lstm_output};
static const Phase lstm_backward[PHASES] = {lstm_back_output, lstm_back_cell, lstm_back_terms};
