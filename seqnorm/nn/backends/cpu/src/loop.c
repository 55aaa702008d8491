/* The time loop over packed rows, forward and backward, once for all cells. Compiled for every
 * instruction set and both precisions, with SUFFIX in the names of its entry points. */
#include "gru.h"
#include "lstm.h"
#include "slstm.h"

#define PASTE_(a, b) a##b
#define PASTE(a, b) PASTE_(a, b)
#define NAME(name) PASTE(name, SUFFIX)

static const Steps *const steps_of[] = {
    [LSTM] = &lstm_steps, [GRU] = &gru_steps, [LIGRU] = &ligru_steps,
    [RNN] = &rnn_steps,   [INDRNN] = &rnn_steps, [SLSTM] = &slstm_steps,
};

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
    int64_t GH = a->G * a->H, threads = a->threads, rows = a->B > threads ? a->B : threads;
    int64_t P = head_width(a), of_gates = a->G * gate_panels(a) * NR, vector = a->cell == INDRNN;
    /* Every gate has its own panels, so that threads can share each gate's units. */
    call->packed = next;
    if (backward) next += vector ? 0 : panels(P) * NR * GH;
    else if (!call->unpacked) next += vector ? 0 : of_gates * P;
    call->packed_ih = next;
    if (a->weight_ih && backward) next += panels(a->I) * NR * GH;
    else if (a->weight_ih && !call->unpacked) next += of_gates * a->I;
    call->parts = next, next += PHASES * threads * a->B * PARTS;
    call->slots = next, next += rows * CHANNELS * a->H;
    call->ones = next, next += GH;
    call->zeros = next, next += GH;
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

static Call call_of(const Arguments *a) {
    int64_t N = count_rows(a);
    return (Call){.a = a,
                  .N = N,
                  .unpacked = N <= UNPACKED,
                  .training = a->keep != 0,
                  .batch = a->norm_x == BATCH || a->norm_h == BATCH || a->norm_c == BATCH,
                  .own = a->own_x || a->own_h || a->own_c,
                  .zones_h = a->stay_h || a->zoneout_h != 0,
                  .zones_c = a->stay_c || a->zoneout_c != 0,
                  .GH = a->G * a->H,
                  .S = 4 * a->sets + 2};
}

/* Return the bytes of scratch and of kept values. */
void NAME(seqnorm_sizes_)(const Arguments *a, int64_t backward, int64_t *sizes) {
    Call call = call_of(a);
    sizes[0] = place_scratch(&call, a, (int)backward) * (int64_t)sizeof(real);
    sizes[1] = place_kept(&call, a) * (int64_t)sizeof(real);
}

static void open_call(Call *c, const Arguments *a, int backward) {
    *c = call_of(a);
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
}

/* Run the phases of one step. After each phase, peers can read one another's sums. */
static void run_phases(Share *s, const Phase *phases, void (*batch)(Share *)) {
    if (s->call->batch) {
        batch(s);
        if (s->peers > 1 && s->call->a->cell != INDRNN) meet(s); /* else units stay alone */
        return;
    }
    if (s->peers == 1) {
        for (int64_t r = s->r0; r < s->r1; r++)
            for (int p = 0; p < PHASES && phases[p]; p++) phases[p](s, r);
        return;
    }
    for (int p = 0; p < PHASES && phases[p]; p++) {
        for (int64_t r = s->r0; r < s->r1; r++) phases[p](s, r);
        meet(s);
    }
}

#define BLOCK 48 /* rows projected together */

/* Units u0 .. u1 of every gate of c = a (n, lda) times W (G * H, K) or its packed panels, or added.
 * Each head reads K values of a row, `step` after those of the head before. */
static void multiply_gates(const Call *c, const real *a, int64_t lda, int64_t step, int64_t n,
                           const real *w, const real *packed, int64_t K, int64_t u0, int64_t u1,
                           real *to, int add) {
    int64_t P = head_width(c->a), heads = c->a->heads, wide = panels(P) * NR;
    for (int64_t k = 0; k < c->a->G * heads; k++) {
        int64_t first = k % heads * P, start = u0 > first ? u0 - first : 0;
        int64_t end = u1 - first < P ? u1 - first : P;
        if (start >= end) continue;
        const real *from = a + k % heads * step;
        real *at = to + k * P + start;
        if (c->unpacked)
            multiply_rows(from, lda, n, w + (k * P + start) * K, K, end - start, at, c->GH, add);
        else
            multiply(from, lda, n, packed + (k * wide + start) * K, K, end - start, at, c->GH, add);
    }
}

/* This thread's panels of a matrix (G * H, K). */
static void pack_gates(const Share *s, const real *w, int64_t K, real *packed) {
    int64_t P = head_width(s->call->a), blocks = panels(P);
    for (int64_t p = s->number; p < s->call->a->G * gate_panels(s->call->a); p += s->size) {
        int64_t start = p % blocks * NR;
        pack_rows(w + (p / blocks * P + start) * K, K, P - start, packed + p * NR * K);
    }
}

/* This thread's panels of W_hh (G * H, P) for products with its transpose, each block apart. */
static void pack_heads(const Share *s, real *packed) {
    const Arguments *a = s->call->a;
    int64_t P = head_width(a), blocks = panels(P);
    const real *w = a->weight_hh;
    /* With one head, the gates follow one another in one deep block. */
    int64_t deep = a->heads == 1 ? s->call->GH : P;
    for (int64_t p = s->number; p < s->call->GH / deep * blocks; p += s->size) {
        int64_t start = p % blocks * NR;
        pack_columns(w + p / blocks * deep * P + start, deep, P, P - start, packed + p * NR * deep);
    }
}

/* The gradient of h_(t-1) from that of the product, at this thread's rows and units. */
static void multiply_back(const Share *s, int add) {
    const Call *c = s->call;
    const Arguments *a = c->a;
    int64_t H = a->H, P = head_width(a), deep = a->heads == 1 ? c->GH : P, wide = panels(P) * NR;
    for (int64_t k = 0; k < c->GH / deep; k++) {
        int64_t first = k % a->heads * P, start = s->u0 > first ? s->u0 - first : 0;
        int64_t end = s->u1 - first < P ? s->u1 - first : P;
        if (start >= end) continue;
        multiply(product_of(s, s->r0) + k * deep, c->GH, s->r1 - s->r0,
                 c->packed + (k * wide + start) * deep, deep, end - start,
                 c->grad_h + s->r0 * H + first + start, H, add || k >= a->heads);
    }
}

/* Units u0 .. u1 of x = W_ih input + b for `count` packed rows. For norms of a row, which have all
 * units, also the mean and 1 / deviation of its sets. */
static void project(const Call *c, int64_t row, int64_t count, int64_t u0, int64_t u1, real *x) {
    const Arguments *a = c->a;
    int64_t GH = c->GH;
    const real *input = (const real *)a->input + row * a->I, *bias = a->bias_in;
    if (a->weight_ih)
        multiply_gates(c, input, a->I, 0, count, a->weight_ih, c->packed_ih, a->I, u0, u1, x, 0);
    else if (has_x(a)) /* the product is added to x, which is not ours */
        memcpy(x, input, (size_t)(count * GH) * sizeof(real));
    int of_row = a->norm_x && !c->batch;
    for (int64_t r = 0; r < count && (of_row || bias); r++, x += GH) {
        for (int64_t g = 0; bias && g < a->G; g++)
            for (int64_t j = g * a->H + u0; j < g * a->H + u1; j++) x[j] += bias[j];
        for (int64_t set = 0, g = 0; of_row && set < a->sets; g = a->set_end[set], set++) {
            real *out = c->stats + (row + r) * c->S + 2 * set;
            moments(x, a->H, g, a->set_end[set], 0, a->H, a->norm_x, out);
            real size = (real)((a->set_end[set] - g) * a->H);
            out[1] = 1 / ROOT(out[1] / size + (real)a->eps_x);
        }
    }
}

static void forward_work(void *data, int64_t number, int64_t size) {
    Call *c = data;
    const Arguments *a = c->a;
    Share share = {.call = c, .number = number, .size = size, .alive = -1}, *s = &share;
    int64_t H = a->H;
    if (!c->unpacked) {
        if (a->cell != INDRNN) pack_gates(s, a->weight_hh, head_width(a), c->packed);
        if (a->weight_ih) pack_gates(s, a->weight_ih, a->I, c->packed_ih);
        meet(s);
    }
    /* The loop itself projects steps with enough rows, while x is in the cache. */
    int64_t row = 0, t = 0;
    for (; t < a->T && at_its_step(c, rows_at(a, t), size); t++) row += rows_at(a, t);
    int64_t end = row + (number + 1) * (c->N - row) / size;
    for (row += number * (c->N - row) / size; row < end; row += BLOCK)
        project(c, row, end - row < BLOCK ? end - row : BLOCK, 0, H, c->x + row * c->GH);
    meet(s);
    for (s->t = 0; s->t < a->T; s->t++) {
        divide(s, rows_at(a, s->t));
        s->fresh = at_its_step(c, s->alive, size);
        if (s->fresh)
            project(c, s->base + s->r0, s->r1 - s->r0, s->u0, s->u1, x_of(s, s->r0));
        if (a->cell == INDRNN)
            multiply_units(s);
        else
            multiply_gates(c, h_before(s, s->r0), H, head_width(a), s->r1 - s->r0, a->weight_hh,
                           c->packed, head_width(a), s->u0, s->u1, product_of(s, s->r0),
                           (int)a->sum);
        run_phases(s, steps_of[a->cell]->forward, steps_of[a->cell]->forward_batch);
        s->before = s->base, s->base += s->alive;
    }
}

/* After the loop: the gradients of the input and of both matrices, from those of x and W_hh h. */
static void grad_products(const Share *s) {
    Call *c = s->call;
    const Arguments *a = c->a;
    int64_t GH = c->GH, N = c->N, end = (s->number + 1) * N / s->size;
    const real *grad_product = a->sum ? c->x : c->product;
    const real *grad_x = a->sum ? grad_product : c->grad_x;
    if (a->grad_input)
        for (int64_t row = s->number * N / s->size; row < end; row += BLOCK)
            multiply(grad_x + row * GH, GH, end - row < BLOCK ? end - row : BLOCK, c->packed_ih, GH,
                     a->I, (real *)a->grad_input + row * a->I, a->I, 0);
    int64_t strips = (GH + MOST - 1) / MOST;
    int64_t m0 = s->number * strips / s->size * MOST;
    int64_t m1 = (s->number + 1) * strips / s->size * MOST;
    if (m1 > GH) m1 = GH;
    real *scratch = c->outer + s->number * OUTER_SCRATCH;
    Rows input = {.rows = a->input, .width = a->I, .stride = a->I};
    if (a->grad_weight_ih) outer(grad_x, GH, m0, m1, &input, N, a->grad_weight_ih, scratch);
    if (!a->grad_weight_hh || a->cell == INDRNN) return;
    int64_t P = head_width(a), deep = a->heads == 1 ? GH : P; /* rows that read the same units */
    for (int64_t k = 0; k < GH / deep; k++) {
        int64_t start = m0 > k * deep ? m0 : k * deep, end = (k + 1) * deep, at = k % a->heads * P;
        Rows before = {c->output + at, c->h_0 + at, c->before, P, a->H};
        if (end > m1) end = m1;
        if (start < end)
            outer(grad_product, GH, start, end, &before, N, a->grad_weight_hh, scratch);
    }
}

static void backward_work(void *data, int64_t number, int64_t size) {
    Call *c = data;
    const Arguments *a = c->a;
    Share share = {.call = c, .number = number, .size = size, .alive = -1}, *s = &share;
    int64_t H = a->H, GH = c->GH, each = sums_size(a);
    s->sums = c->sums + number * 2 * each, s->kept_sums = s->sums + each;
    memset(s->sums, 0, (size_t)(2 * each) * sizeof(real));
    int vector = a->cell == INDRNN, add = steps_of[a->cell]->carries || c->zones_h;
    if (!vector) pack_heads(s, c->packed);
    for (int64_t p = number; a->grad_input && p < panels(a->I); p += size)
        pack_columns((const real *)a->weight_ih + p * NR, GH, a->I, a->I - p * NR,
                     c->packed_ih + p * NR * GH);
    s->base = c->N;
    meet(s);
    for (s->t = a->T - 1; s->t >= 0; s->t--) {
        divide(s, rows_at(a, s->t));
        s->base -= s->alive;
        s->before = s->t ? s->base - rows_at(a, s->t - 1) : 0;
        if (number == 0)
            for (int64_t r = 0; r < s->alive; r++)
                c->before[s->base + r] = s->t ? s->before + r : -1 - r;
        run_phases(s, steps_of[a->cell]->backward, steps_of[a->cell]->backward_batch);
        if (vector)
            back_units(s, add);
        else
            multiply_back(s, add);
        s->pending += s->r1 - s->r0;
        if (s->pending >= FLUSH || s->t == 0 || c->own) {
            for (int64_t j = 0; j < each; j++) s->kept_sums[j] += s->sums[j], s->sums[j] = 0;
            s->pending = 0;
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
    grad_products(s);
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
