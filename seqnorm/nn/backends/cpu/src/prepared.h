/* A whole inference pass of stacked layers in one call, from addresses that stay between calls.
 *
 * Everything that Python prepares for the loop is made here, so that one step costs no more than
 * its arithmetic: sums of biases, states, statistics of the tables, outputs between layers. */
#pragma once

#include <stdlib.h>

/* Add a place of n reals to the scratch memory; `at` is NULL while its size is counted. */
INLINE real *place(char *at, int64_t *size, int64_t n) {
    real *found = at ? (real *)(at + *size) : 0;
    *size += (n * (int64_t)sizeof(real) + 63) / 64 * 64;
    return found;
}

/* The sum of the biases of one place, or NULL if there are none. */
static const void *sum_of_biases(const Layer *layer, int64_t where, int64_t GH, real *sum) {
    const real *found = 0;
    for (int k = 0; k < 4; k++) {
        const real *bias = layer->biases[k];
        if (!bias || !(layer->places[k] & where)) continue;
        /* A single bias may have fewer reals: that of a GRU's sum, see `candidate.h`. */
        for (int64_t j = 0; sum && found && j < GH; j++) sum[j] = found[j] + bias[j];
        found = found ? sum : bias;
    }
    return found;
}

/* Mean and 1 / deviation (T, 2, F) of steps first, first + 1, ... from a running table. */
static void read_table(const Layer *layer, int term, int64_t first, int64_t T, int64_t F,
                       double eps, real *columns) {
    const int64_t *count = layer->counts[term], last = layer->steps[term] - 1;
    int64_t trusted = 0, seen = -1;
    for (int64_t t = 0; t < T; t++, columns += 2 * F) {
        int64_t wanted = first + t < last ? first + t : last;
        while (seen < wanted)
            if (count[++seen] > 0) trusted = seen;
        const real *mean = (const real *)layer->means[term] + trusted * F;
        const real *var = (const real *)layer->variances[term] + trusted * F;
        memcpy(columns, mean, (size_t)F * sizeof(real));
        for (int64_t j = 0; j < F; j++) columns[F + j] = 1 / ROOT(var[j] + (real)eps);
    }
}

/* Run all layers, and return the bytes of scratch that it takes. With `scratch` NULL nothing is
 * computed. */
static int64_t run_prepared(const Prepared *p, char *scratch) {
    int64_t most = 0, shared = 0, T = p->T, H = p->layers->fixed.H, P = p->layers->fixed.P;
    int64_t of_h = p->B * P, of_c = p->B * carried_width(&p->layers->fixed);
    int64_t widest = of_c > of_h ? of_c : of_h;
    real *between[2], *zeros = place(scratch, &shared, p->h_0 ? 0 : widest);
    for (int i = 0; i < 2; i++)
        between[i] = place(scratch, &shared, p->count > i + 1 ? T * of_h : 0);
    if (scratch && !p->h_0) memset(zeros, 0, (size_t)widest * sizeof(real));
    for (int64_t k = 0; k < p->count; k++) {
        const Layer *layer = p->layers + k;
        Arguments a = layer->fixed;
        const Arguments *calls[] = {&a};
        int64_t size = shared, GH = a.G * H;
        a.T = T, a.B = p->B, a.threads = p->threads, a.half = p->half;
        real *sums[3];
        for (int i = 0; i < 3; i++) sums[i] = place(scratch, &size, GH);
        a.bias_in = sum_of_biases(layer, IN_X, GH, sums[0]);
        a.bias_x = sum_of_biases(layer, OF_X, GH, sums[1]);
        a.bias_h = sum_of_biases(layer, OF_H, GH, sums[2]);
        const int64_t kinds[3] = {a.norm_x, a.norm_h, a.norm_c};
        const double eps[3] = {a.eps_x, a.eps_h, a.eps_c};
        void **columns[3] = {&a.columns_x, &a.columns_h, &a.columns_c};
        for (int term = 0; term < 3; term++) {
            int64_t F = term == 2 ? H : GH;
            if (kinds[term] != BATCH && kinds[term] != POOLED) continue;
            int64_t steps = kinds[term] == POOLED ? 1 : T;
            *columns[term] = place(scratch, &size, 2 * steps * F);
            if (scratch) read_table(layer, term, p->first, steps, F, eps[term], *columns[term]);
        }
        Call call = call_of(&a, 0);
        a.kept = place(scratch, &size, place_kept(&call, &a));
        a.scratch = place(scratch, &size, place_scratch(&call, &a, 0));
        most = size > most ? size : most;
        if (!scratch) continue;
        a.h_0 = p->h_0 ? (const real *)p->h_0 + k * of_h : zeros;
        a.c_0 = p->c_0 ? (const real *)p->c_0 + k * of_c : zeros;
        a.h_n = memcpy((real *)p->h_n + k * of_h, a.h_0, (size_t)of_h * sizeof(real));
        if (p->c_n)
            a.c_n = memcpy((real *)p->c_n + k * of_c, a.c_0, (size_t)of_c * sizeof(real));
        a.input = k ? between[(k - 1) % 2] : p->input;
        a.output = k == p->count - 1 ? p->output : between[k % 2];
        run(calls, 1, p->threads, 0);
    }
    return most;
}

/* Run a prepared call. Return 0, or 1 if there is no memory. */
int64_t NAME(seqnorm_prepared_)(const Prepared *p) {
    char *memory = malloc((size_t)run_prepared(p, 0) + 64);
    if (!memory) return 1;
    run_prepared(p, memory + 64 - (uintptr_t)memory % 64); /* whole lines of the cache */
    free(memory);
    return 0;
}
