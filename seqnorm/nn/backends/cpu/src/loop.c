/* The time loop over packed rows, forward and backward, once for all cells. Compiled for every
 * instruction set and both precisions, with SUFFIX in the names of its entry points. */
#include "candidate.h"
#include "lstm.h"
#include "matrices.h"
#include "pooled.h"
#include "projection.h"
#include "slstm.h"

#define PASTE_(a, b) a##b
#define PASTE(a, b) PASTE_(a, b)
#define NAME(name) PASTE(name, SUFFIX)

static const Steps *const steps_of[] = {
    [LSTM] = &lstm_steps, [GRU] = &gru_steps, [LIGRU] = &ligru_steps,
    [RNN] = &rnn_steps,   [INDRNN] = &rnn_steps, [SLSTM] = &slstm_steps,
};

/* Return whether the candidate of a GRU has a norm of its own. */
INLINE int has_candidate(const Arguments *a) {
    return a->cell == GRU && a->norm_c;
}

INLINE const Steps *steps_for(const Arguments *a) {
    return has_candidate(a) ? &candidate_steps : steps_of[a->cell];
}

/* Rows whose gradients are in the cache when their products are computed. The tests with sanitizers
 * set a smaller number. */
#ifndef ROWS_TOGETHER
#define ROWS_TOGETHER DEEP
#endif
#define FLUSH 64 /* rows whose gradients are summed before they join the sum of all before */

static int64_t sums_size(const Arguments *a) {
    return 4 * a->G * a->H + 2 * a->H;
}

/* Return whether x has its own place, as it is computed or changed and is not the input. */
INLINE int has_x(const Arguments *a) {
    return a->weight_ih || a->sum;
}

/* Place the values that the backward pass needs, and return their number of reals. The backward
 * pass overwrites x and the product by their gradients. */
static int64_t place_kept(Call *call, const Arguments *a) {
    real *next = a->kept;
    int64_t N = call->N, GH = a->G * a->H;
    /* Without a backward pass, a step that computes x does not keep it. */
    int whole = a->keep || !a->weight_ih || a->T == 0 || rows_at(a, a->T - 1) < FRESH * a->threads;
    whole = whole || (call->pooled && a->own_x);
    call->x = has_x(a) ? next : (real *)a->input;
    if (has_x(a)) next += (whole ? N : a->B) * GH;
    call->stats = next; /* mean and 1 / deviation of each set: x's, h's, c's */
    if (!call->batch) next += N * call->S;
    call->product = next; /* W_hh h; with `sum` x holds both */
    if (!a->sum) next += (a->keep ? N : a->B) * GH;
    call->raw_c = next; /* c before its norm; of an sLSTM c, n and m */
    if (a->cell == LSTM) next += (a->keep ? N : a->B) * a->H;
    if (a->cell == SLSTM && a->keep) next += N * carried_width(a);
    call->carried = next;
    if (call->zones_c && a->keep) next += N * a->H;
    return next - (real *)a->kept;
}

/* Place the scratch memory of either pass, and return its number of reals. */
static int64_t place_scratch(Call *call, const Arguments *a, int backward) {
    real *start = a->scratch, *next = start;
    int64_t GH = a->G * a->H, threads = a->threads, most = ABREAST * threads;
    int64_t rows = a->B > most ? a->B : most;
    int64_t P = head_width(a), of_gates = a->G * gate_panels(a) * NR, vector = a->cell == INDRNN;
    /* Every gate has its own panels, so that threads can share each gate's units. */
    call->packed = call->unpacked ? 0 : next;
    if (!call->unpacked && !vector) next += backward ? panels(P) * NR * GH : of_gates * P;
    call->packed_ih = call->unpacked ? 0 : next;
    if (a->weight_ih && !call->unpacked)
        next += backward ? panels(a->I) * NR * GH : of_gates * a->I;
    if (a->weight_hr) {
        int64_t wider = a->H > a->P ? a->H : a->P;
        call->packed_hr = next;
        if (backward) next += panels(a->H) * NR * a->P;
        else if (!call->unpacked) next += panels(a->P) * NR * a->H;
        call->raw_h = next, next += (backward ? call->N : a->B) * a->H;
        call->step_h = next, next += a->B * wider;
        call->grad_projected = next, next += backward ? call->N * a->P : 0;
    }
    call->parts = next, next += PHASES * threads * a->B * PARTS;
    call->slots = next, next += rows * CHANNELS * a->H;
    call->ones = next, next += GH;
    call->zeros = next, next += GH;
    call->pooled_parts = next;
    if (call->pooled && !backward) next += 2 * threads * GH;
    call->pooled_grad = next;
    if (pooled_apart(a) && backward) next += call->N * GH;
    call->halves = next;
    if ((a->half || has_ints(a)) && !backward) next += threads * halves_size(a);
    call->sums = next;
    if (backward) {
        next += threads * 2 * sums_size(a);
        call->outer = next, next += threads * OUTER_SCRATCH;
        next += (next - start) % 2; /* an int64 may stand there */
        call->before = (int64_t *)next, next += call->N * (int64_t)(sizeof(int64_t) / sizeof(real));
    }
    return next - start;
}

INLINE int64_t count_rows(const Arguments *a) {
    int64_t N = 0;
    for (int64_t t = 0; t < a->T; t++) N += rows_at(a, t);
    return N;
}

#define UNPACKED 8 /* at most so many rows are multiplied by matrices that are not packed */
#ifndef CENTRED
#define CENTRED 64 /* from so many rows on, matrices are worth centring; tests set fewer */
#endif

/* Return the kind of a norm of a product with a packed matrix, which is centred for LAYER. */
INLINE int64_t kind_of_product(int64_t kind, int64_t rows) {
    return kind == LAYER && rows >= CENTRED ? RMS : kind;
}

static Call call_of(const Arguments *a, int backward) {
    int64_t N = count_rows(a);
    int64_t products = a->half || has_ints(a) ? 0 : N; /* only matrices of reals are centred */
    int rounded = a->half && backward;  /* there only packed matrices are rounded */
    int added = a->bias_in || !a->weight_ih || a->sum;
    int of_sum = a->sum || has_candidate(a);
    return (Call){.a = a,
                  .N = N,
                  .unpacked = has_ints(a) || (N <= UNPACKED && !rounded),
                  .kind_x = added ? a->norm_x : kind_of_product(a->norm_x, products),
                  .kind_h = of_sum || a->cell == INDRNN || a->heads > 1
                                ? a->norm_h
                                : kind_of_product(a->norm_h, products),
                  .training = a->keep != 0,
                  .batch = a->norm_x == BATCH || a->norm_h == BATCH || a->norm_c == BATCH,
                  .pooled = a->norm_x == POOLED,
                  .norm_x = a->norm_x == POOLED ? NONE : a->norm_x,
                  .own = (a->own_x && a->norm_x == BATCH) || a->own_h || a->own_c,
                  .rows_x = a->before_x ? 4 : 2,
                  .rows_h = a->before_h ? 4 : 2,
                  .rows_c = a->before_c ? 4 : 2,
                  .zones_h = a->stay_h || a->zoneout_h != 0,
                  .zones_c = a->stay_c || a->zoneout_c != 0,
                  .GH = a->G * a->H,
                  .S = 4 * a->sets + 2};
}

/* Return the bytes of scratch and of kept values. */
void NAME(seqnorm_sizes_)(const Arguments *a, int64_t backward, int64_t *sizes) {
    Call call = call_of(a, (int)backward);
    sizes[0] = place_scratch(&call, a, (int)backward) * (int64_t)sizeof(real);
    sizes[1] = place_kept(&call, a) * (int64_t)sizeof(real);
}

static void open_call(Call *c, const Arguments *a, int backward) {
    *c = call_of(a, backward);
    place_scratch(c, a, backward);
    place_kept(c, a);
    c->columns_x = a->columns_x, c->columns_h = a->columns_h, c->columns_c = a->columns_c;
    for (int64_t j = 0; j < c->GH; j++) c->ones[j] = 1, c->zeros[j] = 0;
    c->h_0 = a->h_0, c->c_0 = a->c_0, c->stay_h = a->stay_h, c->stay_c = a->stay_c;
    c->gain_x = a->gain_x ? a->gain_x : c->ones, c->gain_h = a->gain_h ? a->gain_h : c->ones;
    c->gain_c = a->gain_c ? a->gain_c : c->ones, c->bias_c = a->bias_c ? a->bias_c : c->zeros;
    c->bias_x = a->bias_x ? a->bias_x : c->zeros, c->bias_h = a->bias_h ? a->bias_h : c->zeros;
    c->output = a->output, c->h_n = a->h_n, c->c_n = a->c_n;
    c->grad_output = a->grad_output, c->grad_h = a->grad_h, c->grad_c = a->grad_c;
    c->grad_x = a->grad_x ? a->grad_x : c->x, c->grad_sums = a->grad_sums;
    if (c->pooled) c->grad_x = pooled_apart(a) ? c->pooled_grad : c->product;
}

/* Run the phases of one step. After each phase, peers can read one another's sums. */
static void run_phases(Share *s, const Phase *phases, void (*batch)(Share *)) {
    if (s->call->batch) {
        batch(s);
        if (s->peers > 1 && s->call->a->cell != INDRNN) meet(s); /* else units stay alone */
        return;
    }
    if (s->peers == 1) {
        for (int64_t r = s->r0; r < s->r1; r += ABREAST)
            for (int p = 0; p < PHASES && phases[p]; p++)
                for (int64_t k = r; k < r + ABREAST && k < s->r1; k++) phases[p](s, k);
        return;
    }
    for (int p = 0; p < PHASES && phases[p]; p++) {
        for (int64_t r = s->r0; r < s->r1; r++) phases[p](s, r);
        meet(s);
    }
}

/* Units u0 .. u1 of x = W_ih input + b for `count` packed rows. For norms of a row, which have all
 * units, also the mean and 1 / deviation of its sets. */
static void project(const Call *c, int64_t number, int64_t row, int64_t count, int64_t u0,
                    int64_t u1, real *x) {
    const Arguments *a = c->a;
    int64_t GH = c->GH;
    const real *input = (const real *)a->input + row * a->I, *bias = a->bias_in;
    if (a->weight_ih)
        multiply_gates(c, number, input, a->I, 0, count, a->weight_ih, a->scale_ih, c->packed_ih,
                       a->I, u0, u1, x, 0);
    else if (has_x(a)) /* the product is added to x, which is not ours */
        memcpy(x, input, (size_t)(count * GH) * sizeof(real));
    int of_row = c->norm_x && !c->batch, constant = c->pooled && !a->own_x;
    real *start = x;
    for (int64_t r = 0; r < count && (of_row || bias); r++, x += GH) {
        for (int64_t g = 0; bias && g < a->G; g++)
            for (int64_t j = g * a->H + u0; j < g * a->H + u1; j++) x[j] += bias[j];
        for (int64_t set = 0, g = 0; of_row && set < a->sets; g = a->set_end[set], set++) {
            real *out = c->stats + (row + r) * c->S + 2 * set;
            moments(x, a->H, g, a->set_end[set], 0, a->H, c->kind_x, out);
            real size = (real)((a->set_end[set] - g) * a->H);
            out[1] = 1 / ROOT(out[1] / size + (real)a->eps_x);
        }
    }
    if (constant) standardise(c, start, count, u0, u1);
}

static void forward_work(void *data, int64_t number, int64_t size) {
    Call *c = data;
    const Arguments *a = c->a;
    Share share = {.call = c, .number = number, .size = size, .alive = -1}, *s = &share;
    if (!c->unpacked) {
        if (a->cell != INDRNN) pack_gates(s, a->weight_hh, head_width(a), c->packed);
        if (a->weight_hr) pack_projection(s);
        if (a->weight_ih) pack_gates(s, a->weight_ih, a->I, c->packed_ih);
        meet(s);
        if (c->kind_h != a->norm_h) centre(s, head_width(a), c->packed);
        if (c->kind_x != a->norm_x) centre(s, a->I, c->packed_ih);
        if (c->kind_h != a->norm_h || c->kind_x != a->norm_x) meet(s);
    }
    /* The loop itself projects steps with enough rows, while x is in the cache. */
    int64_t row = 0, t = 0;
    for (; t < a->T && at_its_step(c, rows_at(a, t), size); t++) row += rows_at(a, t);
    int64_t end = row + (number + 1) * (c->N - row) / size;
    int measured = c->pooled && a->own_x;
    int64_t begin = row + number * (c->N - row) / size;
    real *moments_x = c->pooled_parts + 2 * number * c->GH;
    for (row = begin; row < end; row += BLOCK) {
        int64_t count = end - row < BLOCK ? end - row : BLOCK;
        project(c, number, row, count, 0, a->H, c->x + row * c->GH);
        if (measured)
            measure_pooled(c, c->x + row * c->GH, count, row - begin, moments_x,
                           moments_x + c->GH);
    }
    meet(s);
    if (measured) {
        merge_pooled(s);
        meet(s);
    }
    for (s->t = 0; s->t < a->T; s->t++) {
        divide(s, rows_at(a, s->t));
        s->fresh = at_its_step(c, s->alive, size);
        if (s->fresh)
            project(c, number, s->base + s->r0, s->r1 - s->r0, s->u0, s->u1, x_of(s, s->r0));
        if (measured) standardise(c, x_of(s, s->r0), s->r1 - s->r0, s->u0, s->u1);
        if (a->cell == INDRNN)
            multiply_units(s);
        else
            multiply_gates(c, number, h_before(s, s->r0), a->P, head_width(a), s->r1 - s->r0,
                           a->weight_hh, a->scale_hh, c->packed, head_width(a), s->u0, s->u1,
                           product_of(s, s->r0), (int)a->sum);
        run_phases(s, steps_for(a)->forward, steps_for(a)->forward_batch);
        if (a->weight_hr) project_h(s);
        s->before = s->base, s->base += s->alive;
    }
}

/* This thread's rows of the gradient of a matrix with so many rows. */
INLINE void share_strips(const Share *s, int64_t rows, int64_t *start, int64_t *end) {
    int64_t strips = (rows + MOST - 1) / MOST;
    *start = s->number * strips / s->size * MOST;
    *end = (s->number + 1) * strips / s->size * MOST;
    if (*end > rows) *end = rows;
}

/* From the gradients of x, W_hh h and h at packed rows row .. end: those of the input, and the part of
 * these rows in those of the matrices. */
static void grad_products(Share *s, int64_t row, int64_t end) {
    Call *c = s->call;
    const Arguments *a = c->a;
    int64_t GH = c->GH, N = end - row, stop_at = row + (s->number + 1) * N / s->size;
    int add = end < c->N;
    const real *grad_product = a->sum ? c->x : c->product;
    const real *grad_x = a->sum ? grad_product : c->pooled ? c->x : c->grad_x;
    for (int64_t r = row + s->number * N / s->size; r < stop_at; r += BLOCK) {
        int64_t count = stop_at - r < BLOCK ? stop_at - r : BLOCK;
        if (c->pooled) back_pooled(c, r, count);
        if (!a->grad_input) continue;
        real *to = (real *)a->grad_input + r * a->I;
        if (c->packed_ih)
            multiply(grad_x + r * GH, GH, count, c->packed_ih, GH, a->I, to, a->I, 0);
        else
            multiply_columns(grad_x + r * GH, GH, count, a->weight_ih, a->I, GH, a->I, to, a->I,
                             0);
    }
    if (c->pooled) meet(s); /* the products below read the rows of all threads */
    int64_t m0, m1;
    share_strips(s, GH, &m0, &m1);
    real *scratch = c->outer + s->number * OUTER_SCRATCH;
    Rows input = {.rows = (const real *)a->input + row * a->I, .width = a->I, .stride = a->I,
                  .half = a->half};
    if (a->grad_weight_ih)
        outer(grad_x + row * GH, GH, m0, m1, &input, N, a->grad_weight_ih, scratch, add);
    int64_t K = head_width(a);
    int64_t deep = a->heads == 1 ? GH : head_units(a); /* rows that read the same */
    for (int64_t k = 0; a->grad_weight_hh && a->cell != INDRNN && k < GH / deep; k++) {
        int64_t start = m0 > k * deep ? m0 : k * deep, stop = (k + 1) * deep, at = k % a->heads * K;
        Rows before = {c->output + at, c->h_0 + at, c->before + row, K, a->P, a->half};
        if (stop > m1) stop = m1;
        if (start < stop)
            outer(grad_product + row * GH, GH, start, stop, &before, N, a->grad_weight_hh, scratch,
                  add);
    }
    if (!a->grad_weight_hr) return;
    Rows raw = {.rows = c->raw_h + row * a->H, .width = a->H, .stride = a->H};
    share_strips(s, a->P, &m0, &m1);
    outer(c->grad_projected + row * a->P, a->P, m0, m1, &raw, N, a->grad_weight_hr, scratch, add);
}

static void backward_work(void *data, int64_t number, int64_t size) {
    Call *c = data;
    const Arguments *a = c->a;
    Share share = {.call = c, .number = number, .size = size, .alive = -1}, *s = &share;
    int64_t H = a->H, GH = c->GH, each = sums_size(a);
    s->sums = c->sums + number * 2 * each, s->kept_sums = s->sums + each;
    memset(s->sums, 0, (size_t)(2 * each) * sizeof(real));
    int vector = a->cell == INDRNN, add = steps_for(a)->carries || c->zones_h;
    if (!vector && c->packed) pack_heads(s, c->packed);
    if (a->weight_hr) pack_back_projection(s);
    for (int64_t p = number; c->packed_ih && a->grad_input && p < panels(a->I); p += size) {
        real *panel = c->packed_ih + p * NR * GH;
        pack_columns((const real *)a->weight_ih + p * NR, GH, a->I, a->I - p * NR, panel);
        if (a->half) round_all(panel, NR * GH, panel);
    }
    s->base = c->N;
    int64_t together = c->pooled ? c->N + 1 : ROWS_TOGETHER, end = c->N;
    meet(s);
    for (s->t = a->T - 1; s->t >= 0; s->t--) {
        divide(s, rows_at(a, s->t));
        s->base -= s->alive;
        s->before = s->t ? s->base - rows_at(a, s->t - 1) : 0;
        if (number == 0)
            for (int64_t r = 0; r < s->alive; r++)
                c->before[s->base + r] = s->t ? s->before + r : -1 - r;
        if (a->weight_hr) back_projection(s);
        run_phases(s, steps_for(a)->backward, steps_for(a)->backward_batch);
        if (vector)
            back_units(s, add);
        else
            multiply_back(s, add);
        s->pending += s->r1 - s->r0;
        if (s->pending >= FLUSH || s->t == 0 || c->own) {
            for (int64_t j = 0; j < each; j++) s->kept_sums[j] += s->sums[j], s->sums[j] = 0;
            s->pending = 0;
        }
        if (s->t > 0 && end - s->base >= together) {
            meet(s); /* once, for later steps write only to rows before these */
            grad_products(s, s->base, end);
            end = s->base;
        }
    }
    meet(s);
    for (int64_t j = number * each / size; j < (number + 1) * each / size; j++) {
        real sum = 0;
        for (int64_t k = 0; k < size; k++) sum += c->sums[(2 * k + 1) * each + j];
        c->grad_sums[j] = sum;
        int64_t unit = j - (sum_of(s, WEIGHT) - s->sums);
        if (vector && a->grad_weight_hh && unit >= 0 && unit < H)
            ((real *)a->grad_weight_hh)[unit] = sum;
    }
    if (c->pooled) meet(s); /* the sums of all threads */
    grad_products(s, 0, end);
}

typedef struct {
    Call calls[TOGETHER];
    int64_t count;
    Work work;
} Calls;

/* Run each call by its own threads if there are enough, as calls never meet; else one after
 * another. */
static void share_out(void *data, int64_t number, int64_t size) {
    Calls *all = data;
    for (int64_t k = 0; k < all->count; k++) {
        int64_t first = k * size / all->count, end = (k + 1) * size / all->count;
        if (size < all->count)
            all->work(all->calls + k, number, size);
        else if (first <= number && number < end)
            all->work(all->calls + k, number - first, end - first);
    }
}

static void run(const Arguments *const *calls, int64_t count, int64_t threads, int backward) {
    Calls all = {.count = count, .work = backward ? backward_work : forward_work};
    for (int64_t k = 0; k < count; k++) open_call(all.calls + k, calls[k], backward);
    seqnorm_parallel(share_out, &all, threads);
}

void NAME(seqnorm_forward_)(const Arguments *const *calls, int64_t count, int64_t threads) {
    run(calls, count, threads, 0);
}

void NAME(seqnorm_backward_)(const Arguments *const *calls, int64_t count, int64_t threads) {
    run(calls, count, threads, 1);
}

#include "prepared.h"
