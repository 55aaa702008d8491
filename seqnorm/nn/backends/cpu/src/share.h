/* A call, and a thread's share of a step.
 *
 * A step is divided among threads by rows, each with all units, and then they never meet; or, where
 * rows are few or statistics are of all rows, by units, each with all rows. Then the threads that
 * share a row are peers: each sums over its own units, and after a barrier all read one another's
 * sums, in the same order. (Statistics of rows need no sums of others: `columns.h`.) */
#pragma once

#include "arguments.h"
#include "int8.h"
#include "pairs.h"

#define PARTS 16  /* sums that a phase can exchange for a row: 2 of x and 2 of h for 4 sets */
#define PHASES 3

/* Sequences alive at a step. */
INLINE int64_t rows_at(const Arguments *a, int64_t t) {
    return a->rows ? a->rows[t] : a->B;
}

typedef struct {
    const Arguments *a;
    int training;
    int batch, own; /* whether norms are of the batch; whether any takes statistics of these rows */
    int unpacked;   /* whether products read the matrices as they are, as they do those of int8 */
    int64_t kind_x, kind_h; /* norm_x, norm_h; RMS for LAYER where the product has mean 0 */
    int64_t GH, S;  /* G * H; reals in a row of stats */
    real *x;
    const real *gain_x, *gain_h, *bias_x, *bias_h, *gain_c, *bias_c, *h_0, *c_0;
    const real *stay_h, *stay_c;
    int zones_h, zones_c; /* whether there is zoneout */
    real *carried;        /* (N, H) c as it is carried on, where that is not c or its norm */
    int64_t rows_x, rows_h, rows_c; /* rows of a step in columns_x, columns_h and columns_c */
    int64_t norm_x;       /* in the loop: NONE where that of the arguments is POOLED */
    int pooled;
    real *pooled_parts, *pooled_grad; /* moments of each thread's rows; gradients of gain * y */
    real *output, *h_n, *c_n, *stats, *product, *raw_c, *columns_x, *columns_h, *columns_c;
    const real *grad_output;
    real *grad_h, *grad_c, *grad_x, *grad_sums;
    real *packed, *packed_ih, *parts, *slots, *sums, *ones, *zeros, *outer;
    /* With a projection: packed W_hr; r = o tanh(N(c)), (B, H), backward (N, H); of a step (B, .) h
     * before zoneout, backward the gradient of r; the gradients of W_hr r (N, P). */
    real *packed_hr, *raw_h, *step_h, *grad_projected;
    real *halves; /* of each thread: rows rounded to bfloat16, and then a tile of a matrix; or rows
                   * rounded to whole numbers */
    int64_t N, *before; /* rows of all steps; of each, the row of its h_(t-1) */
    Barrier barrier;
} Call;

typedef struct {
    Call *call;
    int64_t number, size;   /* of this thread, of all */
    int64_t peers, peer;    /* threads that share a row, and which of them this is */
    int64_t r0, r1, u0, u1; /* rows and units of this thread at this step */
    int64_t p0, p1;         /* units of h, which are the same without a projection */
    int64_t t, base, before; /* the step, its first packed row, and that of the step before */
    int64_t alive;
    int fresh; /* whether x is computed at this step */
    real *sums, *kept_sums; /* gradients of gains and biases: of the last rows, of all before */
    int64_t pending;
} Share;

typedef void (*Phase)(Share *s, int64_t r);
#define PHASE(name)                                                                                \
    static void name##_phase(Share *s, int64_t r) {                                                \
        name(s, r, 0);                                                                             \
    }

/* The steps of a cell: phases of a row with norms of a row; all rows with norms of the batch. */
typedef struct {
    Phase forward[PHASES], backward[PHASES];
    void (*forward_batch)(Share *s), (*backward_batch)(Share *s);
    int carries; /* whether h reads h_(t-1) apart from the product, too */
} Steps;

/* Reals of the carried state beside h, in a row. */
INLINE int64_t carried_width(const Arguments *a) {
    return a->cell == LSTM ? a->H : a->cell == SLSTM ? 3 * a->H : 0;
}

/* Return whether matrices are of int8. */
INLINE int has_ints(const Arguments *a) {
    return a->scale_ih || a->scale_hh;
}

/* Units of a gate that belong to a head, and units of h that each of them reads. */
INLINE int64_t head_units(const Arguments *a) {
    return a->H / a->heads;
}

INLINE int64_t head_width(const Arguments *a) {
    return a->P / a->heads;
}

/* Panels of the columns of a gate; every head has its own. */
INLINE int64_t gate_panels(const Arguments *a) {
    return a->heads * panels(head_units(a));
}

/* The first unit of a panel; H after the last panel. */
INLINE int64_t first_unit(const Arguments *a, int64_t panel) {
    int64_t units = head_units(a), each = panels(units);
    return panel / each * units + panel % each * NR;
}

/* The first unit of a thread of `size`. */
INLINE int64_t share_of_units(const Arguments *a, int64_t number, int64_t size) {
    int64_t unit = first_unit(a, number * gate_panels(a) / size);
    return unit < a->H ? unit : a->H;
}

INLINE void meet(Share *s) {
    if (s->size > 1) seqnorm_wait(&s->call->barrier, s->size);
}

/* This thread's part of `units`, in whole panels. */
INLINE void share_panels(const Share *s, int64_t units, int64_t *start, int64_t *end) {
    int64_t blocks = panels(units);
    *start = s->number * blocks / s->size * NR;
    *end = (s->number + 1) * blocks / s->size * NR;
    if (*end > units) *end = units;
}

/* With fewer weights, the product of a row is faster alone than shared. Tests share all. */
#ifndef WORTH_SHARING
#define WORTH_SHARING (1 << 17)
#endif

/* Divide a step of `alive` rows. Rows change hands only where their number changes. */
static void divide(Share *s, int64_t alive) {
    const Arguments *a = s->call->a;
    if (alive == s->alive) return;
    if (s->alive >= 0) meet(s);
    s->alive = alive;
    int64_t weights = s->call->GH * head_width(a);
    int few = alive < 4 * s->size && weights >= WORTH_SHARING && a->H >= NR * s->size;
    few = few && a->cell != INDRNN; /* whose product is not a matrix's */
    int by_units = s->size > 1 && (few || s->call->own);
    s->peers = by_units ? s->size : 1;
    s->peer = by_units ? s->number : 0;
    if (by_units) {
        s->r0 = 0, s->r1 = alive;
        s->u0 = share_of_units(a, s->number, s->size);
        s->u1 = share_of_units(a, s->number + 1, s->size);
        s->p0 = s->u0, s->p1 = s->u1;
        if (a->weight_hr) share_panels(s, a->P, &s->p0, &s->p1);
    } else {
        s->r0 = s->number * alive / s->size, s->r1 = (s->number + 1) * alive / s->size;
        s->u0 = 0, s->u1 = a->H, s->p0 = 0, s->p1 = a->P;
    }
}

INLINE real *parts(const Share *s, int64_t phase, int64_t peer, int64_t r) {
    return s->call->parts + ((phase * s->size + peer) * s->call->a->B + r) * PARTS;
}

/* Sums of all peers at a row. */
INLINE void add_parts(const Share *s, int64_t phase, int64_t r, int64_t count, real *sums) {
    for (int64_t k = 0; k < count; k++) sums[k] = parts(s, phase, 0, r)[k];
    for (int64_t peer = 1; peer < s->peers; peer++)
        for (int64_t k = 0; k < count; k++) sums[k] += parts(s, phase, peer, r)[k];
}
