/* LSTM: a = x + h; c = f c + i g; h = o tanh(N(c)), which a projection multiplies by W_hr; gates i,
 * f, g, o. */
#pragma once

#include "additive.h"

INLINE void lstm_cell(Share *s, int64_t r, int batch) {
    Call *c = s->call;
    const Arguments *a = c->a;
    int64_t H = a->H, row = s->base + r, kept = c->training ? row : r;
    Spread sx, sh;
    forward_spreads(s, r, batch, &sx, &sh);
    real *cell = c->raw_c + kept * H, *open = slot_of(s, r);
    CHUNKS(u, m, s->u0, s->u1) {
        Terms q = terms_of(c, x_of(s, r), product_of(s, r), &sx, &sh, u, m, batch, 4);
        vec i = v_sigmoid(q.a[0]), f = v_sigmoid(q.a[1]), g = v_tanh(q.a[2]);
        store(cell + u, f * load(c->c_n + r * H + u, m) + i * g, m);
        store(open + u, v_sigmoid(q.a[3]), m);
    }
    if (a->norm_c && !batch)
        moments(cell, H, 0, 1, s->u0, s->u1, a->norm_c, parts(s, 1, s->peer, r));
}

/* m normalised values of c at a packed row of step t. */
INLINE vec lstm_standard(const Call *c, int64_t row, int64_t t, int64_t u, int64_t m, int batch) {
    vec raw = load(c->raw_c + row * c->a->H + u, m);
    if (!c->a->norm_c) return raw;
    if (batch) {
        const real *columns = c->columns_c + c->rows_c * t * c->a->H + u;
        return (raw - load(columns, m)) * load(columns + c->a->H, m);
    }
    const real *stats = c->stats + row * c->S + 4 * c->a->sets;
    return (raw - stats[0]) * stats[1];
}

INLINE void lstm_output(Share *s, int64_t r, int batch) {
    Call *c = s->call;
    const Arguments *a = c->a;
    int64_t H = a->H, row = s->base + r, kept = c->training ? row : r;
    real stats[2] = {0, 1};
    if (a->norm_c && !batch) {
        merge(s, 1, r, 0, 1, a->norm_c, a->std_c ? 0 : (real)a->eps_c, stats);
        if (a->std_c) stats[1] = 1 / (1 / stats[1] + (real)a->eps_c);
        if (s->peer == 0) memcpy(c->stats + row * c->S + 4 * a->sets, stats, sizeof stats);
    }
    const real *cell = c->raw_c + kept * H, *open = slot_of(s, r);
    CHUNKS(u, m, s->u0, s->u1) {
        vec raw = load(cell + u, m);
        vec y = batch ? lstm_standard(c, kept, s->t, u, m, 1) : (raw - stats[0]) * stats[1];
        y = y * load(c->gain_c + u, m) + load(c->bias_c + u, m);
        vec h = load(open + u, m) * v_tanh(y), on = a->swapped ? y : raw;
        int64_t at = row * H + u;
        if (c->zones_h && !a->weight_hr)
            h = stay(c->stay_h, (real)a->zoneout_h, load(c->h_n + r * H + u, m), h, at, m);
        if (c->zones_c) {
            on = stay(c->stay_c, (real)a->zoneout_c, load(c->c_n + r * H + u, m), on, at, m);
            if (c->training) store(c->carried + at, on, m);
        }
        store(c->c_n + r * H + u, on, m);
        if (a->weight_hr) {
            store(c->raw_h + r * H + u, h, m);
            continue;
        }
        store(c->output + at, h, m);
        store(c->h_n + r * H + u, h, m);
    }
}

/* The c that the previous step carried on, at units u .. u + m. */
INLINE vec lstm_before(const Share *s, int64_t r, int64_t u, int64_t m, int batch) {
    const Call *c = s->call;
    if (s->t == 0) return load(c->c_0 + r * c->a->H + u, m);
    int64_t row = s->before + r;
    if (c->zones_c) return load(c->carried + row * c->a->H + u, m);
    if (!c->a->swapped) return load(c->raw_c + row * c->a->H + u, m);
    vec y = lstm_standard(c, row, s->t - 1, u, m, batch);
    return y * load(c->gain_c + u, m) + load(c->bias_c + u, m);
}

/* Gradient of the new c (or, with `back`, of the old c) from that of the c carried on. */
INLINE vec lstm_grad_carried(const Share *s, int64_t r, int64_t row, int back, int64_t u,
                             int64_t m) {
    const Call *c = s->call;
    vec d = load(c->grad_c + r * c->a->H + u, m);
    if (!c->zones_c) return d;
    return through_stay(c->stay_c, (real)c->a->zoneout_c, d, back, row * c->a->H + u, m);
}

INLINE void lstm_back_output(Share *s, int64_t r, int batch) {
    Call *c = s->call;
    const Arguments *a = c->a;
    Kept kept = kept_of(s, r, batch);
    int64_t H = a->H, row = kept.row;
    real *slot = slot_of(s, r);
    vec sums[2] = {{0}};
    CHUNKS(u, m, s->u0, s->u1) {
        Terms q = terms_of(c, kept.x, kept.product, &kept.sx, &kept.sh, u, m, batch, 4);
        vec o = v_sigmoid(q.a[3]);
        vec y = lstm_standard(c, row, s->t, u, m, batch), gain = load(c->gain_c + u, m);
        vec th = v_tanh(y * gain + load(c->bias_c + u, m));
        vec dh;
        if (a->weight_hr) {
            store(c->raw_h + row * H + u, o * th, m);
            dh = load(c->step_h + r * H + u, m);
        } else {
            dh = load(c->grad_output + row * H + u, m) + load(c->grad_h + r * H + u, m);
        }
        if (c->zones_h && !a->weight_hr) {
            real p = (real)a->zoneout_h;
            store(c->grad_h + r * H + u, through_stay(c->stay_h, p, dh, 1, row * H + u, m), m);
            dh = through_stay(c->stay_h, p, dh, 0, row * H + u, m);
        }
        vec dy = dh * o * (1 - th * th);
        if (a->swapped) dy += lstm_grad_carried(s, r, row, 0, u, m);
        store(slot + u, v_sigmoid(q.a[0]), m);
        store(slot + H + u, v_sigmoid(q.a[1]), m);
        store(slot + 2 * H + u, v_tanh(q.a[2]), m);
        store(slot + 3 * H + u, dh * th * o * (1 - o), m);
        store(slot + 4 * H + u, dy * gain, m);
        if (a->norm_c) {
            gather(sum_of(s, BIAS_C) + u, dy, m);
            learn(s, GAIN_C, c->gain_c, dy, y, u, m, sums, batch);
        }
    }
    if (batch) return;
    real *part = parts(s, 0, s->peer, r);
    part[0] = total(sums[0]), part[1] = total(sums[1]);
}

INLINE void lstm_back_cell(Share *s, int64_t r, int batch) {
    Call *c = s->call;
    const Arguments *a = c->a;
    Kept kept = kept_of(s, r, batch);
    int64_t H = a->H, row = kept.row;
    real of_c[2], scale = 1;
    if (!batch) {
        add_parts(s, 0, r, 2, of_c);
        scale = c->stats[row * c->S + 4 * a->sets + 1];
        /* The gradient of the deviation s itself: scale = 1 / (s + eps). Where s is 0, so is y. */
        real share = 1 - scale * (real)a->eps_c;
        if (a->std_c) of_c[1] = share > 0 ? of_c[1] / share : 0;
    }
    real *slot = slot_of(s, r);
    vec sums[4][4] = {{{0}}}; /* of x and x y, of h and h y, for each gate */
    CHUNKS(u, m, s->u0, s->u1) {
        vec i = load(slot + u, m), f = load(slot + H + u, m), g = load(slot + 2 * H + u, m);
        vec dc = load(slot + 4 * H + u, m);
        if (a->norm_c) {
            vec y = lstm_standard(c, row, s->t, u, m, batch);
            dc = batch ? through_batch(s, GAIN_C, BIAS_C, c->columns_c + (c->rows_c * s->t + 1) * H,
                                       a->before_c ? H : 0, a->own_c, dc, load(c->gain_c + u, m), y,
                                       u, m)
                       : through(dc, y, scale, a->norm_c, of_c[0] / H, of_c[1] / H);
        }
        if (!a->swapped) dc += lstm_grad_carried(s, r, row, 0, u, m);
        vec da[4] = {dc * g * i * (1 - i), dc * lstm_before(s, r, u, m, batch) * f * (1 - f),
                     dc * i * (1 - g * g), load(slot + 3 * H + u, m)};
        vec back = dc * f;
        if (c->zones_c) back += lstm_grad_carried(s, r, row, 1, u, m);
        store(c->grad_c + r * H + u, back, m);
        for (int k = 0; k < 4; k++) {
            int64_t j = k * H + u;
            store(slot + j, da[k], m);
            gather(sum_of(s, BIAS_H) + j, da[k], m);
            if (a->norm_x)
                learn(s, GAIN_X, c->gain_x, da[k], standard(kept.x, &kept.sx, k, j, m, batch), j, m,
                      sums[k], batch);
            if (a->norm_h)
                learn(s, GAIN_H, c->gain_h, da[k], standard(kept.product, &kept.sh, k, j, m, batch),
                      j, m, sums[k] + 2, batch);
        }
    }
    if (!batch && (c->norm_x || a->norm_h)) add_sets(a, &sums[0][0], parts(s, 1, s->peer, r));
}

PHASE(lstm_cell)
PHASE(lstm_output)
PHASE(lstm_back_output)
PHASE(lstm_back_cell)
static void lstm_back_terms_phase(Share *s, int64_t r) {
    back_terms(s, r, 1, slot_of(s, r), slot_of(s, r));
}

static void lstm_forward_batch(Share *s) {
    const Call *c = s->call;
    measure_terms(s);
    for (int64_t r = s->r0; r < s->r1; r++) lstm_cell(s, r, 1);
    if (c->a->own_c)
        measure_columns(s, c->raw_c + (c->training ? s->base : 0) * c->a->H, 1, c->columns_c,
                        c->a->before_c, c->a->var_c, c->a->eps_c);
    for (int64_t r = s->r0; r < s->r1; r++) lstm_output(s, r, 1);
}

static void lstm_backward_batch(Share *s) {
    for (int64_t r = s->r0; r < s->r1; r++) lstm_back_output(s, r, 1);
    for (int64_t r = s->r0; r < s->r1; r++) lstm_back_cell(s, r, 1);
    for (int64_t r = s->r0; r < s->r1; r++)
        back_terms_batch(s, r, slot_of(s, r), slot_of(s, r), BIAS_H);
}

static const Steps lstm_steps = {
    .forward = {measure, lstm_cell_phase, lstm_output_phase},
    .backward = {lstm_back_output_phase, lstm_back_cell_phase, lstm_back_terms_phase},
    .forward_batch = lstm_forward_batch,
    .backward_batch = lstm_backward_batch,
};
