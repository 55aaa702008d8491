/* GRU with norms of sums: r, z = sigmoid(N(x + h)); n = tanh(N(x + r h)); the rest as in `gru.h`.
 *
 * The sets of the first norm are of r and z. Its bias stands in the place of bias_x, while bias_h
 * belongs to h. The second norm, of the candidate, has the place of an LSTM's norm of c. */
#pragma once

#include "gru.h"

INLINE vec term_of_h(const Call *c, const real *product, int64_t j, int64_t m) {
    return load(product + j, m) + load(c->bias_h + j, m);
}

/* m units of a gate from column j on, of normalised sums y. */
INLINE vec candidate_gate(const Call *c, vec y, int64_t j, int64_t m) {
    return v_sigmoid(y * load(c->gain_h + j, m) + load(c->bias_x + j, m));
}

static void candidate_sums(Share *s, int64_t r) {
    const Call *c = s->call;
    const Arguments *a = c->a;
    const real *x = x_of(s, r), *product = product_of(s, r);
    real *slot = slot_of(s, r), *part = parts(s, 0, s->peer, r);
    for (int64_t g = 0; g < 2; g++)
        CHUNKS(u, m, s->u0, s->u1) {
            int64_t j = g * a->H + u;
            store(slot + j, load(x + j, m) + term_of_h(c, product, j, m), m);
        }
    for (int64_t set = 0, g = 0; set < a->sets; g = a->set_end[set], set++)
        moments(slot, a->H, g, a->set_end[set], s->u0, s->u1, a->norm_h, part + 2 * set);
}

static void candidate_gates(Share *s, int64_t r) {
    const Call *c = s->call;
    const Arguments *a = c->a;
    int64_t H = a->H;
    const real *x = x_of(s, r), *product = product_of(s, r);
    real stats[8], *slot = slot_of(s, r);
    merge_product(s, r, stats);
    Spread sh = spread(a, a->norm_h, stats);
    CHUNKS(u, m, s->u0, s->u1) {
        vec gates[2];
        for (int g = 0; g < 2; g++) {
            int64_t j = g * H + u;
            gates[g] = candidate_gate(c, standard(slot, &sh, g, j, m, 0), j, m);
        }
        int64_t n = 2 * H + u;
        store(slot + H + u, gates[1], m);
        store(slot + n, load(x + n, m) + gates[0] * term_of_h(c, product, n, m), m);
    }
    moments(slot + 2 * H, H, 0, 1, s->u0, s->u1, a->norm_c, parts(s, 1, s->peer, r));
}

static void candidate_output(Share *s, int64_t r) {
    const Call *c = s->call;
    const Arguments *a = c->a;
    int64_t H = a->H, row = s->base + r;
    const real *slot = slot_of(s, r);
    real stats[2];
    merge(s, 1, r, 0, 1, a->norm_c, (real)a->eps_c, stats);
    if (s->peer == 0) memcpy(c->stats + row * c->S + 4 * a->sets, stats, sizeof stats);
    CHUNKS(u, m, s->u0, s->u1) {
        vec y = (load(slot + 2 * H + u, m) - stats[0]) * stats[1];
        vec n = v_tanh(y * load(c->gain_c + u, m) + load(c->bias_c + u, m));
        gru_write(s, r, load(slot + H + u, m), n, u, m);
    }
}

/* m normalised sums of gate g, of a row that the forward pass has left. */
INLINE vec candidate_standard(const Call *c, const Kept *kept, int64_t g, int64_t j, int64_t m) {
    vec sum = load(kept->x + j, m) + term_of_h(c, kept->product, j, m);
    return (sum - kept->sh.mean[g]) * kept->sh.scale[g];
}

static void candidate_back_output(Share *s, int64_t r) {
    const Call *c = s->call;
    const Arguments *a = c->a;
    Kept kept = kept_of(s, r, 0);
    int64_t H = a->H;
    const real *stats = c->stats + kept.row * c->S + 4 * a->sets;
    real *slot = slot_of(s, r), *part = parts(s, 0, s->peer, r);
    vec sums[2] = {{0}};
    CHUNKS(u, m, s->u0, s->u1) {
        vec gates[2], gain = load(c->gain_c + u, m);
        for (int g = 0; g < 2; g++) {
            int64_t j = g * H + u;
            gates[g] = candidate_gate(c, candidate_standard(c, &kept, g, j, m), j, m);
        }
        vec sum = load(kept.x + 2 * H + u, m) + gates[0] * term_of_h(c, kept.product, 2 * H + u, m);
        vec y = (sum - stats[0]) * stats[1], dz, dn;
        gru_back_h(s, r, gates[1], v_tanh(y * gain + load(c->bias_c + u, m)), u, m, &dz, &dn);
        store(slot + u, gates[0], m);
        store(slot + H + u, dz, m);
        store(slot + 2 * H + u, dn * gain, m);
        store(slot + 3 * H + u, y, m);
        gather(sum_of(s, BIAS_C) + u, dn, m);
        learn(s, GAIN_C, c->gain_c, dn, y, u, m, sums, 0);
    }
    part[0] = total(sums[0]), part[1] = total(sums[1]);
}

static void candidate_back_gates(Share *s, int64_t r) {
    const Call *c = s->call;
    const Arguments *a = c->a;
    Kept kept = kept_of(s, r, 0);
    int64_t H = a->H;
    real scale = c->stats[kept.row * c->S + 4 * a->sets + 1], of_n[2], *slot = slot_of(s, r);
    add_parts(s, 0, r, 2, of_n);
    vec sums[2][4] = {{{0}}}; /* of each gate, at 2 and 3: sums of d and of d y */
    CHUNKS(u, m, s->u0, s->u1) {
        int64_t n = 2 * H + u;
        vec reset = load(slot + u, m), y = load(slot + 3 * H + u, m);
        vec dx = through(load(slot + n, m), y, scale, a->norm_c, of_n[0] / H, of_n[1] / H);
        vec dr = dx * term_of_h(c, kept.product, n, m) * reset * (1 - reset), dh = dx * reset;
        vec of_gates[2] = {dr, load(slot + H + u, m)};
        store(slot + u, dr, m);
        store(slot + n, dx, m);
        store(slot + 3 * H + u, dh, m);
        gather(sum_of(s, BIAS_H) + n, dh, m);
        for (int g = 0; g < 2; g++) {
            int64_t j = g * H + u;
            gather(sum_of(s, BIAS_X) + j, of_gates[g], m);
            vec y_gate = candidate_standard(c, &kept, g, j, m);
            learn(s, GAIN_H, c->gain_h, of_gates[g], y_gate, j, m, sums[g] + 2, 0);
        }
    }
    add_sets(a, &sums[0][0], parts(s, 1, s->peer, r));
}

static void candidate_back_sums(Share *s, int64_t r) {
    const Call *c = s->call;
    const Arguments *a = c->a;
    Kept kept = kept_of(s, r, 0);
    int64_t H = a->H;
    const real *slot = slot_of(s, r);
    real *grad_x = c->grad_x + kept.row * c->GH, sums[PARTS];
    add_parts(s, 1, r, 4 * a->sets, sums);
    for (int64_t set = 0, g = 0; set < a->sets; set++) {
        real count = (real)((a->set_end[set] - g) * H);
        real mean_d = sums[4 * set + 2] / count, mean_dy = sums[4 * set + 3] / count;
        for (; g < a->set_end[set]; g++)
            CHUNKS(u, m, s->u0, s->u1) {
                int64_t j = g * H + u;
                vec d = load(slot + j, m) * load(c->gain_h + j, m);
                d = through(d, candidate_standard(c, &kept, g, j, m), kept.sh.scale[g], a->norm_h,
                            mean_d, mean_dy);
                gather(sum_of(s, BIAS_H) + j, d, m);
                store(grad_x + j, d, m);
                store(kept.product + j, d, m);
            }
    }
    CHUNKS(u, m, s->u0, s->u1) {
        store(grad_x + 2 * H + u, load(slot + 2 * H + u, m), m);
        store(kept.product + 2 * H + u, load(slot + 3 * H + u, m), m);
    }
}

static const Steps candidate_steps = {
    .forward = {candidate_sums, candidate_gates, candidate_output},
    .backward = {candidate_back_output, candidate_back_gates, candidate_back_sums},
    .carries = 1,
};
