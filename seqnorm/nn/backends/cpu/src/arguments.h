/* The arguments from Python (library.py has the same fields in the same order).
 *
 * Axes: T steps, B sequences, N packed rows, I inputs, H units, P = size of h (H without a
 * projection), G gates. Reals are float or double, as the entry point says. */
#pragma once

#include <stdint.h>

#include "team.h"

enum { LSTM, GRU, LIGRU, RNN, INDRNN, SLSTM };
enum { NONE, LAYER, RMS, BATCH, POOLED };
/* The operands of products with a matrix: as they are, or rounded to bfloat16 in the places of reals,
 * or multiplied in pairs where this library can. */
enum { REALS, ROUNDED, PAIRS };

/* Whether the compiler knows the products of pairs of bfloat16. */
#if defined(__x86_64__) && (defined(__clang__) || __GNUC__ >= 10)
#define KNOWS_PAIRS
#endif

#define TOGETHER 2 /* calls that run at the same time */

typedef struct {
    int64_t cell, T, B, I, H, P, G;
    int64_t threads;                /* at most */
    int64_t sets;                   /* sets of the norms of x and h, each over whole gates */
    int64_t set_end[4];             /* gate after the last of each */
    /* NONE, LAYER, RMS; or each of them NONE or BATCH. Beside norms of a row, norm_x may be POOLED:
     * its statistics are of all rows of all steps. In a GRU with norm_c, norm_h is of the sums of r
     * and z, and norm_c is of the candidate. The sets are then of r and z alone. */
    int64_t norm_x, norm_h, norm_c;
    int64_t own_x, own_h, own_c; /* whether BATCH or POOLED takes statistics of this call's rows */
    int64_t sum; /* the product is added to x, and norm_h is of the sum */
    int64_t swapped; /* LSTM: the normalised c is carried on; GRU: z takes the candidate */
    int64_t relu;    /* LiGRU, RNN, IndRNN: f is ReLU, not tanh */
    int64_t half;    /* REALS, ROUNDED or PAIRS */
    int64_t heads;   /* sLSTM: parts of h, each read by the same units of every gate; else 1 */
    int64_t std_c;   /* LSTM: eps_c is added to the deviation of c, not to its variance */
    double eps_x, eps_h, eps_c;
    double zoneout_h, zoneout_c; /* in inference */
    const int64_t *rows;  /* (T) sequences alive at each step; NULL if all B always are */
    const void *input;     /* (N, I) */
    const void *weight_ih; /* (G * H, I), or NULL: the input is x itself */
    const void *weight_hh; /* (G * H, P / heads); of an IndRNN (H) */
    const void *weight_hr; /* (P, H) of an LSTM with a projection, or NULL */
    /* The scale of each row of a matrix, which is then of int8; or NULL. Forward only. */
    const void *scale_ih, *scale_hh, *scale_hr;
    const void *bias_in;   /* (G * H), added to x before its norm */
    /* (B, P) and (B, H). Of an sLSTM c_0, c_n and grad_c hold c, n and m, (B, 3 * H). */
    const void *h_0, *c_0;
    /* (G * H). In a GRU with norm_c, gain_h and bias_x (2 * H) are those of norm_h. */
    const void *gain_x, *gain_h, *bias_x, *bias_h;
    const void *gain_c, *bias_c;                   /* (H) */
    /* BATCH: mean and 1 / deviation of every step, (T, 2, G * H) and (T, 2, H), which are written
     * where they are its own, and then the variances (T, G * H) and (T, H). POOLED: the same for
     * one step. */
    void *columns_x, *columns_h, *columns_c, *var_x, *var_h, *var_c;
    /* BATCH of its own with Batch Renormalization: (T, 4, .) running mean and 1 / deviation, and the
     * limits of r and d. The columns of a step are then what the corrected value subtracts and
     * multiplies by, d, and r. Else NULL. */
    const void *before_x, *before_h, *before_c;
    /* (N, P) and (N, H) zoneout in training: not 0 where a unit stays. */
    const void *stay_h, *stay_c;
    void *output;    /* (N, P) */
    void *h_n, *c_n; /* (B, P), (B, H) */
    /* True if `kept` is for a backward pass, which leaves the gradient of x at its start. */
    int64_t keep;
    void *kept;
    /* Backward only. */
    const void *grad_output; /* (N, P) */
    void *grad_h, *grad_c; /* (B, P), (B, H) of the final states; of the initial ones afterwards */
    void *grad_x;            /* (N, G * H), where the input is x itself and stands in its place */
    void *grad_input, *grad_weight_ih, *grad_weight_hh; /* or NULL where they are not needed */
    void *grad_weight_hr;                               /* the same */
    void *grad_sums; /* gain_x, gain_h, bias_x, bias_h (G * H), gain_c, bias_c (H), end to end */
    void *scratch;
} Arguments;

/* A layer in one direction whose tensors stay where they are between calls. */
typedef struct {
    Arguments fixed; /* what does not depend on the input of a call */
    const void *biases[4]; /* bias_ih, bias_hh, those of the norms of x and h; or NULL */
    int64_t places[4];     /* where each is added: bits IN_X, OF_X and OF_H */
    /* Running tables (steps, .) of the norms of x, h and c, where these are BATCH or POOLED. */
    const void *means[3], *variances[3];
    const int64_t *counts[3];
    int64_t steps[3];
} Layer;

/* Stacked layers over T steps of B sequences, in the order that Python packs it. */
typedef struct {
    int64_t variant, wide;
    const Layer *layers;
    int64_t count, T, B;
    int64_t first;         /* the number of the first step */
    int64_t threads;       /* at most */
    const void *input;     /* (T, B, I) */
    /* (count, B, P) and (count, B, H), of an sLSTM (count, B, 3 * H); or NULL for zeros */
    const void *h_0, *c_0;
    void *output;          /* (T, B, P) */
    void *h_n, *c_n;       /* as h_0; with one step of one layer, h_n may be the output */
    int64_t half;          /* as in Arguments */
} Prepared;

enum { IN_X = 1, OF_X = 2, OF_H = 4 }; /* before the norm of x, after it, to the term of h */
