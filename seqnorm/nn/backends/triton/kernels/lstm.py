"""Steps of an LSTM on tiles (R, U) of rows and units, in Triton.

A kernel computes the steps ``first`` to ``last`` - 1. With DOT a program takes a block of rows
through all of them and multiplies by W_hh itself. Without, the product is given, for one step.

Axes: T steps, B sequences, N packed rows, H units, S blocks of rows. The gates are i, f, g, o. See
``norms`` for tiles.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .norms import (
    gradient_of_gates,
    gradient_of_units,
    norm_of_gates,
    norm_of_units,
)
from .tiles import (
    held,
    held_gradient,
    load_gates,
    place,
    product,
    products_of_h,
    sigmoid,
    store_gates,
    store_h,
    tanh,
    vector,
)

GATES = 4


@triton.jit
def lstm_values(
    x, at, p0, p1, p2, p3, c, mask, count, units, known, H,
    gain, bias, before, columns, var, gain_c, bias_c, columns_c, var_c, t,
    EPS: tl.constexpr, EPS_C: tl.constexpr, KIND: tl.constexpr, KIND_C: tl.constexpr,
    STD: tl.constexpr, ENDS: tl.constexpr, AXIS: tl.constexpr, SUM: tl.constexpr,
    GAIN: tl.constexpr, BIAS: tl.constexpr, BEFORE: tl.constexpr,
    GAIN_C: tl.constexpr, BIAS_C: tl.constexpr,
):  # fmt: skip
    """Return the values of a step from the product p = W_hh h and the old c.

    Args:
        x, at: the finished input term, and the places (R, U) of its first gate.
        gain, bias: of the norm of p, or of that of x + p if SUM.
        before: (4 * H,) added to p before its norm.
    """
    x0, x1, x2, x3 = load_gates(x, at, H, mask, 4)
    p0, p1, p2, p3 = p0.to(x0.dtype), p1.to(x0.dtype), p2.to(x0.dtype), p3.to(x0.dtype)
    if BEFORE:
        p0 = tl.where(mask, p0 + vector(before, 0, units, known, H), 0.0)
        p1 = tl.where(mask, p1 + vector(before, 1, units, known, H), 0.0)
        p2 = tl.where(mask, p2 + vector(before, 2, units, known, H), 0.0)
        p3 = tl.where(mask, p3 + vector(before, 3, units, known, H), 0.0)
    if SUM:
        p0, p1, p2, p3 = p0 + x0, p1 + x1, p2 + x2, p3 + x3
    a0, a1, a2, a3, y0, y1, y2, y3, s0, s1, s2, s3 = norm_of_gates(
        p0, p1, p2, p3, mask, count, units, known, H, gain, bias, columns, var, t,
        EPS, KIND, ENDS, AXIS, 4, GAIN, BIAS,
    )  # fmt: skip
    if not SUM:
        a0, a1, a2, a3 = a0 + x0, a1 + x1, a2 + x2, a3 + x3
    i, f, g, o = sigmoid(a0), sigmoid(a1), tanh(a2), sigmoid(a3)
    new = tl.where(mask, f * c + i * g, 0.0)
    z, y_c, s_c, factor = norm_of_units(
        new, mask, count, units, known, H, gain_c, bias_c, columns_c, var_c, t,
        EPS_C, KIND_C, STD, AXIS, GAIN_C, BIAS_C,
    )  # fmt: skip
    return i, f, g, o, new, z, y0, y1, y2, y3, s0, s1, s2, s3, y_c, s_c, factor


@triton.jit(do_not_specialize=["first", "last"])
def lstm_forward(
    x, p, weight, operand, h, c, output, kept_c, starts, sizes, lengths,
    gain, bias, before, columns, var, gain_c, bias_c, columns_c, var_c, stay_h, stay_c,
    first, last, H,
    EPS: tl.constexpr, EPS_C: tl.constexpr, KIND: tl.constexpr, KIND_C: tl.constexpr,
    STD: tl.constexpr, ENDS: tl.constexpr, AXIS: tl.constexpr, SUM: tl.constexpr,
    SWAP: tl.constexpr, GAIN: tl.constexpr, BIAS: tl.constexpr, BEFORE: tl.constexpr,
    GAIN_C: tl.constexpr, BIAS_C: tl.constexpr, P_H: tl.constexpr, P_C: tl.constexpr,
    HELD_H: tl.constexpr, HELD_C: tl.constexpr, KEEP: tl.constexpr, HALF: tl.constexpr,
    DOT: tl.constexpr, R: tl.constexpr, U: tl.constexpr, K: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Compute steps of an LSTM.

    Args:
        x: (N, 4 * H) the finished input term.
        p: (N, 4 * H) the product, kept for a backward pass; without KEEP, (B, 4 * H) of one step.
        weight: (H, 4 * H) W_hh transposed, for DOT.
        operand: (B, H) h in the dtype of the product, if HALF.
        h, c: (B, H) the states, which are replaced.
        output: (N, H).
        kept_c: (N, H) c before each step, if KEEP.
        starts, sizes: (T,) the first row of each step, and its number of rows.
        lengths: (B,) the number of steps of each row.
        columns, var, columns_c, var_c: (T, 2, F) and (T, F), see ``norms``.
        SWAP: true if the normalised c is carried on.
    """
    rows, units, known, own, at = place(H, 4, AXIS, R, U)
    if DOT:
        last = tl.minimum(last, tl.load(lengths + tl.program_id(0) * R))
    for t in range(first, last):
        start, n = tl.load(starts + t), tl.load(sizes + t)
        alive = rows < n
        mask = alive[:, None] & known[None, :]
        row, gates = start * H, start * (4 * H)
        kept = p + gates if KEEP else p
        h_old = tl.load(h + own, mask=mask, other=0.0)
        p0, p1, p2, p3 = products_of_h(
            h, operand, weight, kept, rows, units, at, alive, known, mask, H,
            h_old.dtype, KEEP, HALF, DOT, R, U, K, PRECISION, 4,
        )  # fmt: skip
        c_old = tl.load(c + own, mask=mask, other=0.0)
        count = H if AXIS == 1 else n
        i, f, g, o, new, z, y0, y1, y2, y3, s0, s1, s2, s3, y_c, s_c, factor = lstm_values(
            x + gates, at, p0, p1, p2, p3, c_old, mask, count, units, known, H,
            gain, bias, before, columns, var, gain_c, bias_c, columns_c, var_c, t,
            EPS, EPS_C, KIND, KIND_C, STD, ENDS, AXIS, SUM, GAIN, BIAS, BEFORE, GAIN_C, BIAS_C,
        )  # fmt: skip
        h_new = held(o * tanh(z), h_old, stay_h, row + own, mask, P_H, HELD_H)
        c_new = held(z if SWAP else new, c_old, stay_c, row + own, mask, P_C, HELD_C)
        if KEEP:
            tl.store(kept_c + row + own, c_old, mask=mask)
        tl.store(c + own, c_new, mask=mask)
        store_h(h, operand, output, row, own, mask, h_new, HALF, DOT)


@triton.jit(do_not_specialize=["first", "last"])
def lstm_backward(
    x, p, weight, h_before, kept_c, grad_output, grad_h, grad_c, back, grad_x, grad_p, sums,
    starts, sizes, lengths,
    gain, bias, before, columns, var, gain_c, bias_c, columns_c, var_c, stay_h, stay_c,
    first, last, H,
    EPS: tl.constexpr, EPS_C: tl.constexpr, KIND: tl.constexpr, KIND_C: tl.constexpr,
    READ: tl.constexpr, READ_C: tl.constexpr,
    STD: tl.constexpr, ENDS: tl.constexpr, AXIS: tl.constexpr, SUM: tl.constexpr,
    SWAP: tl.constexpr, GAIN: tl.constexpr, BIAS: tl.constexpr, BEFORE: tl.constexpr,
    GAIN_C: tl.constexpr, BIAS_C: tl.constexpr, P_H: tl.constexpr, P_C: tl.constexpr,
    HELD_H: tl.constexpr, HELD_C: tl.constexpr, APART: tl.constexpr,
    DOT: tl.constexpr, R: tl.constexpr, U: tl.constexpr, K: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Compute gradients of steps of an LSTM, the last step first.

    Args:
        weight: (4 * H, H) W_hh, for DOT.
        grad_output: (N, H).
        grad_h, grad_c: (B, H) of the states after the last of these steps, replaced by those of the
            states before them. To grad_h belongs ``back``.
        back: (B, H) the gradient of h through the product of the step after, without DOT.
        grad_x, grad_p: (N, 4 * H) of the terms; grad_p only if APART, that is if they differ.
        sums: (S, 10 * H) gradients of gain, bias, gain_c and bias_c, added for each block of rows.
        READ, READ_C: the kinds by which the norms are computed again.
    """
    rows, units, known, own, at = place(H, 4, AXIS, R, U)
    if AXIS == 1:
        sums += tl.program_id(0).to(tl.int64) * (10 * H)
    if DOT:
        last = tl.minimum(last, tl.load(lengths + tl.program_id(0) * R))
    for step in range(first, last):
        t = last - 1 - (step - first)
        start, n = tl.load(starts + t), tl.load(sizes + t)
        alive = rows < n
        mask = alive[:, None] & known[None, :]
        row, gates = start * H, start * (4 * H)
        c_old = tl.load(kept_c + row + own, mask=mask, other=0.0)
        p0, p1, p2, p3 = load_gates(p + gates, at, H, mask, 4)
        count = H if AXIS == 1 else n
        i, f, g, o, new, z, y0, y1, y2, y3, s0, s1, s2, s3, y_c, s_c, factor = lstm_values(
            x + gates, at, p0, p1, p2, p3, c_old, mask, count, units, known, H,
            gain, bias, before, columns, var, gain_c, bias_c, columns_c, var_c, t,
            EPS, EPS_C, READ, READ_C, STD, ENDS, AXIS, SUM, GAIN, BIAS, BEFORE, GAIN_C, BIAS_C,
        )  # fmt: skip
        g_h = tl.load(grad_h + own, mask=mask, other=0.0)
        g_h += tl.load(grad_output + row + own, mask=mask, other=0.0)
        if not DOT:
            g_h += tl.load(back + own, mask=mask, other=0.0).to(g_h.dtype)
        g_c = tl.load(grad_c + own, mask=mask, other=0.0)
        g_h, old_h = held_gradient(g_h, stay_h, row + own, mask, P_H, HELD_H)
        g_c, old_c = held_gradient(g_c, stay_c, row + own, mask, P_C, HELD_C)
        squashed = tanh(z)
        g_z = g_h * o * (1.0 - squashed * squashed)
        if SWAP:
            g_z += g_c
        g_new = gradient_of_units(
            g_z, y_c, s_c, factor, mask, count, units, known, H, gain_c,
            sums + 8 * H, sums + 9 * H, KIND_C, AXIS, GAIN_C, BIAS_C,
        )  # fmt: skip
        if not SWAP:
            g_new += g_c
        old_c += g_new * f
        g0 = tl.where(mask, g_new * g * i * (1.0 - i), 0.0)
        g1 = tl.where(mask, g_new * c_old * f * (1.0 - f), 0.0)
        g2 = tl.where(mask, g_new * i * (1.0 - g * g), 0.0)
        g3 = tl.where(mask, g_h * squashed * o * (1.0 - o), 0.0)
        q0, q1, q2, q3 = gradient_of_gates(
            g0, g1, g2, g3, y0, y1, y2, y3, s0, s1, s2, s3, mask, count, units, known, H,
            gain, sums, sums + 4 * H, KIND, ENDS, AXIS, 4, GAIN, BIAS,
        )  # fmt: skip
        if SUM:
            g0, g1, g2, g3 = q0, q1, q2, q3
        store_gates(grad_x + gates, at, H, mask, g0, g1, g2, g3, 4)
        if APART:
            store_gates(grad_p + gates, at, H, mask, q0, q1, q2, q3, 4)
        if DOT:
            tl.debug_barrier()  # every part of this step's gradients is written
            old_h += product(
                (grad_p if APART else grad_x) + gates, rows, weight, 0, units, alive, known,
                4 * H, H, R, U, K, PRECISION, old_h.dtype,
            )  # fmt: skip
        tl.store(grad_h + own, old_h, mask=mask)
        tl.store(grad_c + own, old_c, mask=mask)
        if DOT:
            tl.debug_barrier()  # another thread may read what this one has written
