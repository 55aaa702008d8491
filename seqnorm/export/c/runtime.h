/* The parts of which every model is made. Two models in one source file share them. */
#ifndef SEQNORM_C_PARTS
#define SEQNORM_C_PARTS 1

#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__GNUC__)
#define SEQNORM_PART static __attribute__((unused, noinline)) /* one copy for all calls */
#define SEQNORM_RESTRICT __restrict
#define SEQNORM_UNROLL _Pragma("GCC unroll 8") /* of itself, -O2 does not */
#else
#define SEQNORM_PART static
#define SEQNORM_RESTRICT
#define SEQNORM_UNROLL
#endif

/* A vector of floats, and the same in memory, where any float stands. */
#if defined(__GNUC__) && !defined(SEQNORM_PLAIN)
#ifdef __AVX__
#define SEQNORM_BYTES 32
#else
#define SEQNORM_BYTES 16 /* of a vector register, or several smaller ones */
#endif
typedef float seqnorm_lanes __attribute__((vector_size(SEQNORM_BYTES)));
typedef float seqnorm_stored
    __attribute__((vector_size(SEQNORM_BYTES), aligned(sizeof(float)), may_alias));
#else
typedef float seqnorm_lanes;
typedef float seqnorm_stored;
#endif

static inline uint32_t seqnorm_bits(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline float seqnorm_float(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* exp(x) = 2^n exp(r) with r in [-ln 2 / 2, ln 2 / 2]; there 1 + r + r^2 P(r), P fitted at
 * Chebyshev's points, relative error 1e-8. Beyond +-87 it stays at the value there. NaN gives NaN.
 * Neither a call nor a branch keeps a compiler from computing several of these at once. */
static inline float seqnorm_exp(float x) {
    const int32_t most = 0x42AE0000, infinity = 0x7F800000; /* 87.0f and infinity */
    int32_t size = (int32_t)(seqnorm_bits(x) & 0x7FFFFFFFu);
    size = size > most && size <= infinity ? most : size;
    float held = seqnorm_float((seqnorm_bits(x) & 0x80000000u) | (uint32_t)size);
    float shifted = held * 1.44269504f + 12582912.0f; /* 1.5 * 2^23: its last bits are n */
    uint32_t n = seqnorm_bits(shifted) - 0x4B400000u;
    float whole = (float)(int32_t)n;
    float r = held - whole * 0.693145752f; /* ln 2 in two parts, the first exact in few bits */
    r = r - whole * 1.42860677e-6f;
    float p = 1.393368836e-03f;
    p = p * r + 8.363205468e-03f;
    p = p * r + 4.166646457e-02f;
    p = p * r + 1.666657682e-01f;
    p = p * r + 5.000000014e-01f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    return p * seqnorm_float((n + 127u) << 23);
}

/* |x| < 0.625: x + x^3 P(x^2), relative error 6e-10; beyond: 1 - 2 / (exp(2 |x|) + 1). */
static inline float seqnorm_tanh(float x) {
    float size = fabsf(x);
    float beyond = copysignf(1.0f - 2.0f / (seqnorm_exp(size + size) + 1.0f), x);
    float y = x * x;
    float p = 2.295841266e-03f;
    p = p * y - 8.346980498e-03f;
    p = p * y + 2.176996092e-02f;
    p = p * y - 5.395940591e-02f;
    p = p * y + 1.333330428e-01f;
    p = p * y - 3.333333318e-01f;
    uint32_t near_zero = 0u - (uint32_t)(size < 0.625f);
    uint32_t found = seqnorm_bits(x + x * y * p) & near_zero;
    return seqnorm_float(found | (seqnorm_bits(beyond) & ~near_zero));
}

static inline float seqnorm_sigmoid(float x) {
    return 1.0f / (1.0f + seqnorm_exp(-x));
}

/* y (rows) = W x (columns). W lies in panels: the first 32 rows column by column, the next 32, and
 * so on, the last rows in panels of 8, filled up with zeros. So neighbouring numbers belong to
 * different sums, and no sum waits for the one before. A panel has 32 sums at once, DEEP columns of
 * WIDTH rows. (The sums are vectors by type: gcc 12 finds them in loops of 32 floats, but not of
 * 16.) */
#define SEQNORM_PANEL(WIDTH, DEEP)                                                                 \
    enum { lanes = sizeof(seqnorm_lanes) / sizeof(float), N = WIDTH / lanes };                     \
    seqnorm_lanes sum[N * DEEP] = {0};                                                             \
    int k = 0;                                                                                     \
    for (; k + DEEP <= columns; k += DEEP, w += WIDTH * DEEP) {                                    \
        const seqnorm_stored *part = (const seqnorm_stored *)w;                                    \
        SEQNORM_UNROLL for (int d = 0; d < DEEP; d++)                                              \
            SEQNORM_UNROLL for (int i = 0; i < N; i++)                                             \
                sum[d * N + i] += part[d * N + i] * x[k + d];                                      \
    }                                                                                              \
    for (; k < columns; k++, w += WIDTH) {                                                         \
        const seqnorm_stored *part = (const seqnorm_stored *)w;                                    \
        SEQNORM_UNROLL for (int i = 0; i < N; i++) sum[i] += part[i] * x[k];                       \
    }                                                                                              \
    for (int i = N; i < N * DEEP; i++) sum[i % N] += sum[i];
SEQNORM_PART void seqnorm_product(const float *SEQNORM_RESTRICT w, const float *SEQNORM_RESTRICT x,
                                  float *SEQNORM_RESTRICT y, int rows, int columns) {
    for (; rows >= 32; rows -= 32, y += 32) {
        SEQNORM_PANEL(32, 1)
        memcpy(y, sum, 32 * sizeof(float));
    }
    for (; rows > 0; rows -= 8, y += 8) {
        SEQNORM_PANEL(8, 4)
        memcpy(y, sum, (rows < 8 ? (size_t)rows : 8) * sizeof(float));
    }
}

/* The same with W block-diagonal: for each gate and each head a square of `size` rows. */
SEQNORM_PART void seqnorm_heads(const float *w, const float *x, float *y, int gates, int heads,
                                int size) {
    for (int g = 0; g < gates; g++)
        for (int e = 0; e < heads; e++, y += size, w += (size + 7) / 8 * 8 * size)
            seqnorm_product(w, x + e * size, y, size, size);
}

SEQNORM_PART void seqnorm_add(float *SEQNORM_RESTRICT y, const float *SEQNORM_RESTRICT x, int n) {
    for (int j = 0; j < n; j++) y[j] += x[j];
}

SEQNORM_PART void seqnorm_times(float *SEQNORM_RESTRICT y, const float *SEQNORM_RESTRICT x, int n) {
    for (int j = 0; j < n; j++) y[j] *= x[j];
}

SEQNORM_PART void seqnorm_affine(float *SEQNORM_RESTRICT y, const float *SEQNORM_RESTRICT gain,
                                 const float *SEQNORM_RESTRICT bias, int n) {
    for (int j = 0; j < n; j++) y[j] = y[j] * gain[j] + bias[j];
}

/* The row of a table with statistics of `rows` steps: later steps have those of the last. */
static inline size_t seqnorm_row(long step, long rows) {
    return (size_t)(step < rows ? step : rows - 1);
}

/* Sum of (x - mean)^power over n numbers, power 1 or 2, sixteen sums at once. */
SEQNORM_PART float seqnorm_sum(const float *x, int n, float mean, int power) {
    enum { N = 16 * sizeof(float) / sizeof(seqnorm_lanes) };
    seqnorm_lanes sum[N] = {0};
    float total[16], rest = 0.0f;
    for (; n >= 16; n -= 16, x += 16) {
        const seqnorm_stored *part = (const seqnorm_stored *)x;
        SEQNORM_UNROLL for (int i = 0; i < N; i++) {
            seqnorm_lanes d = part[i] - mean;
            sum[i] += power == 2 ? d * d : d;
        }
    }
    for (; n > 0; n--, x++) rest += power == 2 ? (*x - mean) * (*x - mean) : *x - mean;
    memcpy(total, sum, sizeof total);
    for (int half = 8; half > 0; half /= 2)
        for (int i = 0; i < half; i++) total[i] += total[i + half];
    return total[0] + rest;
}

/* Sets of neighbouring numbers, each divided by its root mean square, which the first `seen` of a
 * set give; `centred`: minus the mean before. eps stands beside the variance, or the deviation. */
SEQNORM_PART void seqnorm_normalise(float *x, int sets, int size, int seen, int centred, float eps,
                                    int on_std) {
    for (; sets > 0; sets--, x += size) {
        float mean = centred ? seqnorm_sum(x, seen, 0.0f, 1) / (float)seen : 0.0f;
        float var = seqnorm_sum(x, seen, mean, 2) / (float)seen;
        float scale = 1.0f / (on_std ? sqrtf(var) + eps : sqrtf(var + eps));
        for (int j = 0; j < size; j++) x[j] = (x[j] - mean) * scale;
    }
}

SEQNORM_PART void seqnorm_dynamic_tanh(float *x, float alpha, int n) {
    for (int j = 0; j < n; j++) x[j] = seqnorm_tanh(alpha * x[j]);
}

SEQNORM_PART void seqnorm_dynamic_erf(float *x, float alpha, float shift, int n) {
    for (int j = 0; j < n; j++) x[j] = erff(alpha * x[j] + shift);
}

/* Zoneout in inference: the expectation. */
SEQNORM_PART void seqnorm_keep(float *SEQNORM_RESTRICT now, const float *SEQNORM_RESTRICT before,
                               float p, int n) {
    for (int j = 0; j < n; j++) now[j] = p * before[j] + (1.0f - p) * now[j];
}

SEQNORM_PART void seqnorm_sigmoids(float *a, int n) {
    for (int j = 0; j < n; j++) a[j] = seqnorm_sigmoid(a[j]);
}

SEQNORM_PART void seqnorm_tanhs(float *a, int n) {
    for (int j = 0; j < n; j++) a[j] = seqnorm_tanh(a[j]);
}

SEQNORM_PART void seqnorm_relus(float *a, int n) {
    for (int j = 0; j < n; j++) a[j] = a[j] < 0.0f ? 0.0f : a[j]; /* NaN stays */
}

/* LSTM: c = f c + i g. */
SEQNORM_PART void seqnorm_lstm(const float *SEQNORM_RESTRICT i, const float *SEQNORM_RESTRICT f,
                               const float *SEQNORM_RESTRICT g, float *SEQNORM_RESTRICT c, int n) {
    for (int j = 0; j < n; j++) c[j] = f[j] * c[j] + i[j] * g[j];
}

/* GRU and LiGRU: h = z h + (1 - z) a, or with `write` h and a exchanged. */
SEQNORM_PART void seqnorm_mix(const float *SEQNORM_RESTRICT z, const float *SEQNORM_RESTRICT a,
                              float *SEQNORM_RESTRICT h, int write, int n) {
    if (write)
        for (int j = 0; j < n; j++) h[j] = z[j] * a[j] + (1.0f - z[j]) * h[j];
    else
        for (int j = 0; j < n; j++) h[j] = z[j] * h[j] + (1.0f - z[j]) * a[j];
}

/* GRU: the sum of the candidate, x + r h. */
SEQNORM_PART void seqnorm_reset(float *SEQNORM_RESTRICT x, const float *SEQNORM_RESTRICT r,
                                const float *SEQNORM_RESTRICT h, int n) {
    for (int j = 0; j < n; j++) x[j] += r[j] * h[j];
}

/* sLSTM: c and n decay by sigmoid(f) and add exp(i), scaled by exp(-m); h = sigmoid(o) c / n. */
SEQNORM_PART void seqnorm_slstm(const float *a, float *h, float *c, float *n, float *m, int size) {
    const float *f = a + size, *z = f + size, *o = z + size;
    for (int j = 0; j < size; j++) {
        float kept = (f[j] < 0.0f ? f[j] : 0.0f) - log1pf(seqnorm_exp(-fabsf(f[j]))) + m[j];
        float most = n[j] == 0.0f || a[j] > kept ? a[j] : kept;
        float write = seqnorm_exp(a[j] - most);
        float keep = seqnorm_exp(kept < most ? kept - most : 0.0f);
        c[j] = keep * c[j] + write * seqnorm_tanh(z[j]);
        n[j] = keep * n[j] + write;
        h[j] = seqnorm_sigmoid(o[j]) * (c[j] / n[j]);
        m[j] = most;
    }
}

#elif SEQNORM_C_PARTS != 1
#error "These models were written by different versions of seqnorm. Write both by one version."
#endif
