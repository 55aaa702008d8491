/* The projection of an LSTM, h = W_hr r with r = o tanh(N(c)); W_hr is (P, H).
 *
 * Threads that share a row each compute their part of h from all of r, and backward their part of the
 * gradient of r from all of that of h. So they meet between the two. */
#pragma once

#include "matrices.h"
#include "step.h"

/* This thread's panels of W_hr for r, and, backward, for the gradient of h. */
static void pack_projection(const Share *s) {
    const Arguments *a = s->call->a;
    const real *weight = a->weight_hr;
    for (int64_t p = s->number; p < panels(a->P); p += s->size)
        pack_rows(weight + p * NR * a->H, a->H, a->P - p * NR,
                  s->call->packed_hr + p * NR * a->H);
}

static void pack_back_projection(const Share *s) {
    const Arguments *a = s->call->a;
    const real *weight = a->weight_hr;
    for (int64_t p = s->number; p < panels(a->H); p += s->size)
        pack_columns(weight + p * NR, a->P, a->H, a->H - p * NR,
                     s->call->packed_hr + p * NR * a->P);
}

/* Compute h of this step, with its zoneout. All of r is there already. */
static void project_h(Share *s) {
    Call *c = s->call;
    const Arguments *a = c->a;
    int64_t H = a->H, P = a->P, n = s->r1 - s->r0, units = s->p1 - s->p0;
    const real *raw = c->raw_h + s->r0 * H;
    real *to = c->step_h + s->r0 * P + s->p0;
    if (units > 0 && a->scale_hr) {
        Rounded rows = round_rows(raw, H, n, H, c->halves + s->number * halves_size(a));
        multiply_ints(&rows, (const int8_t *)a->weight_hr + s->p0 * H,
                      (const real *)a->scale_hr + s->p0, units, to, P, 0);
    } else if (units > 0 && c->unpacked)
        multiply_rows(raw, H, n, (const real *)a->weight_hr + s->p0 * H, H, units, to, P, 0);
    else if (units > 0)
        multiply(raw, H, n, c->packed_hr + s->p0 * H, H, units, to, P, 0);
    for (int64_t r = s->r0; r < s->r1; r++)
        CHUNKS(u, m, s->p0, s->p1) {
            int64_t at = (s->base + r) * P + u;
            vec h = load(c->step_h + r * P + u, m);
            if (c->zones_h)
                h = stay(c->stay_h, (real)a->zoneout_h, load(c->h_n + r * P + u, m), h, at, m);
            store(c->output + at, h, m);
            store(c->h_n + r * P + u, h, m);
        }
    if (s->peers > 1) meet(s); /* the next product reads all of h */
}

/* Compute the gradient of this thread's units of r from that of h. */
static void back_projection(Share *s) {
    Call *c = s->call;
    const Arguments *a = c->a;
    int64_t H = a->H, P = a->P;
    for (int64_t r = s->r0; r < s->r1; r++)
        CHUNKS(u, m, s->p0, s->p1) {
            int64_t at = (s->base + r) * P + u;
            vec dh = load(c->grad_output + at, m) + load(c->grad_h + r * P + u, m);
            if (c->zones_h) {
                real p = (real)a->zoneout_h;
                store(c->grad_h + r * P + u, through_stay(c->stay_h, p, dh, 1, at, m), m);
                dh = through_stay(c->stay_h, p, dh, 0, at, m);
            }
            store(c->grad_projected + at, dh, m);
        }
    if (s->peers > 1) meet(s);
    if (s->u1 > s->u0)
        multiply(c->grad_projected + (s->base + s->r0) * P, P, s->r1 - s->r0,
                 c->packed_hr + s->u0 * P, P, s->u1 - s->u0, c->step_h + s->r0 * H + s->u0, H, 0);
}
