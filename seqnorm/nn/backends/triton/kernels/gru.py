"""Steps of a GRU on tiles (R, U) of rows and units, in Triton. See ``lstm``.

The gates are r, z, n. FORM tells where the norms stand: at W_hh h (or nowhere), at the sum of all
three gates, or at the sum of r and z and at the candidate.
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

GATES = 3
HIDDEN, SUM, CANDIDATE = (tl.constexpr(form) for form in range(3))


@triton.jit
def gru_values(
    x, at, p0, p1, p2, mask, count, units, known, H,
    gain, bias, before, columns, var, gain_c, bias_c, columns_c, var_c, t,
    EPS: tl.constexpr, EPS_C: tl.constexpr, KIND: tl.constexpr, KIND_C: tl.constexpr,
    STD: tl.constexpr, ENDS: tl.constexpr, AXIS: tl.constexpr, FORM: tl.constexpr,
    GAIN: tl.constexpr, BIAS: tl.constexpr, BEFORE: tl.constexpr,
    GAIN_C: tl.constexpr, BIAS_C: tl.constexpr,
):  # fmt: skip
    """Return the values of a step, among them ``inner``, which r multiplies."""
    x0, x1, x2, _ = load_gates(x, at, H, mask, 3)
    p0, p1, p2 = p0.to(x0.dtype), p1.to(x0.dtype), p2.to(x0.dtype)
    if BEFORE:
        p0 = tl.where(mask, p0 + vector(before, 0, units, known, H), 0.0)
        p1 = tl.where(mask, p1 + vector(before, 1, units, known, H), 0.0)
        p2 = tl.where(mask, p2 + vector(before, 2, units, known, H), 0.0)
    inner = p2
    if FORM != HIDDEN:
        p0, p1 = p0 + x0, p1 + x1
    if FORM == SUM:
        p2 += x2
    if FORM == CANDIDATE:
        a0, a1, a2, a3, y0, y1, y2, y3, s0, s1, s2, s3 = norm_of_gates(
            p0, p1, p1, p1, mask, count, units, known, H, gain, bias, columns, var, t,
            EPS, KIND, ENDS, AXIS, 2, GAIN, BIAS,
        )  # fmt: skip
    else:
        a0, a1, a2, a3, y0, y1, y2, y3, s0, s1, s2, s3 = norm_of_gates(
            p0, p1, p2, p2, mask, count, units, known, H, gain, bias, columns, var, t,
            EPS, KIND, ENDS, AXIS, 3, GAIN, BIAS,
        )  # fmt: skip
        inner = a2
    if FORM == HIDDEN:
        a0, a1 = a0 + x0, a1 + x1
    r, z = sigmoid(a0), sigmoid(a1)
    whole = r * inner
    if FORM != SUM:
        whole += x2
    whole = tl.where(mask, whole, 0.0)
    y_c, s_c, factor = whole, 1.0, 1.0
    if FORM == CANDIDATE:
        whole, y_c, s_c, factor = norm_of_units(
            whole, mask, count, units, known, H, gain_c, bias_c, columns_c, var_c, t,
            EPS_C, KIND_C, STD, AXIS, GAIN_C, BIAS_C,
        )  # fmt: skip
    return r, z, tanh(whole), inner, y0, y1, y2, s0, s1, s2, y_c, s_c, factor


@triton.jit(do_not_specialize=["first", "last"])
def gru_forward(
    x, p, weight, operand, h, c, output, kept_c, starts, sizes, lengths,
    gain, bias, before, columns, var, gain_c, bias_c, columns_c, var_c, stay_h, stay_c,
    first, last, H,
    EPS: tl.constexpr, EPS_C: tl.constexpr, KIND: tl.constexpr, KIND_C: tl.constexpr,
    STD: tl.constexpr, ENDS: tl.constexpr, AXIS: tl.constexpr, FORM: tl.constexpr,
    SWAP: tl.constexpr, GAIN: tl.constexpr, BIAS: tl.constexpr, BEFORE: tl.constexpr,
    GAIN_C: tl.constexpr, BIAS_C: tl.constexpr, P_H: tl.constexpr, P_C: tl.constexpr,
    HELD_H: tl.constexpr, HELD_C: tl.constexpr, KEEP: tl.constexpr, HALF: tl.constexpr,
    DOT: tl.constexpr, R: tl.constexpr, U: tl.constexpr, K: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Compute steps of a GRU; c, kept_c and stay_c are not used, and SWAP is true for "write"."""
    rows, units, known, own, at = place(H, 3, AXIS, R, U)
    if DOT:
        last = tl.minimum(last, tl.load(lengths + tl.program_id(0) * R))
    for t in range(first, last):
        start, n = tl.load(starts + t), tl.load(sizes + t)
        alive = rows < n
        mask = alive[:, None] & known[None, :]
        row, gates = start * H, start * (3 * H)
        kept = p + gates if KEEP else p
        h_old = tl.load(h + own, mask=mask, other=0.0)
        p0, p1, p2, p3 = products_of_h(
            h, operand, weight, kept, rows, units, at, alive, known, mask, H,
            h_old.dtype, KEEP, HALF, DOT, R, U, K, PRECISION, 3,
        )  # fmt: skip
        count = H if AXIS == 1 else n
        r, z, new, inner, y0, y1, y2, s0, s1, s2, y_c, s_c, factor = gru_values(
            x + gates, at, p0, p1, p2, mask, count, units, known, H,
            gain, bias, before, columns, var, gain_c, bias_c, columns_c, var_c, t,
            EPS, EPS_C, KIND, KIND_C, STD, ENDS, AXIS, FORM, GAIN, BIAS, BEFORE, GAIN_C, BIAS_C,
        )  # fmt: skip
        h_new = z * new + (1.0 - z) * h_old if SWAP else z * h_old + (1.0 - z) * new
        h_new = held(h_new, h_old, stay_h, row + own, mask, P_H, HELD_H)
        store_h(h, operand, output, row, own, mask, h_new, HALF, DOT)


@triton.jit(do_not_specialize=["first", "last"])
def gru_backward(
    x, p, weight, h_before, kept_c, grad_output, grad_h, grad_c, back, grad_x, grad_p, sums,
    starts, sizes, lengths,
    gain, bias, before, columns, var, gain_c, bias_c, columns_c, var_c, stay_h, stay_c,
    first, last, H,
    EPS: tl.constexpr, EPS_C: tl.constexpr, KIND: tl.constexpr, KIND_C: tl.constexpr,
    READ: tl.constexpr, READ_C: tl.constexpr,
    STD: tl.constexpr, ENDS: tl.constexpr, AXIS: tl.constexpr, FORM: tl.constexpr,
    SWAP: tl.constexpr, GAIN: tl.constexpr, BIAS: tl.constexpr, BEFORE: tl.constexpr,
    GAIN_C: tl.constexpr, BIAS_C: tl.constexpr, P_H: tl.constexpr, P_C: tl.constexpr,
    HELD_H: tl.constexpr, HELD_C: tl.constexpr, APART: tl.constexpr,
    DOT: tl.constexpr, R: tl.constexpr, U: tl.constexpr, K: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Compute gradients of steps of a GRU, the last step first; h_before (N, H) is h before each.

    The sums are (S, 8 * H).
    """
    rows, units, known, own, at = place(H, 3, AXIS, R, U)
    if AXIS == 1:
        sums += tl.program_id(0).to(tl.int64) * (8 * H)
    if DOT:
        last = tl.minimum(last, tl.load(lengths + tl.program_id(0) * R))
    for step in range(first, last):
        t = last - 1 - (step - first)
        start, n = tl.load(starts + t), tl.load(sizes + t)
        alive = rows < n
        mask = alive[:, None] & known[None, :]
        row, gates = start * H, start * (3 * H)
        h_old = tl.load(h_before + row + own, mask=mask, other=0.0)
        p0, p1, p2, p3 = load_gates(p + gates, at, H, mask, 3)
        count = H if AXIS == 1 else n
        r, z, new, inner, y0, y1, y2, s0, s1, s2, y_c, s_c, factor = gru_values(
            x + gates, at, p0, p1, p2, mask, count, units, known, H,
            gain, bias, before, columns, var, gain_c, bias_c, columns_c, var_c, t,
            EPS, EPS_C, READ, READ_C, STD, ENDS, AXIS, FORM, GAIN, BIAS, BEFORE, GAIN_C, BIAS_C,
        )  # fmt: skip
        g_h = tl.load(grad_h + own, mask=mask, other=0.0)
        g_h += tl.load(grad_output + row + own, mask=mask, other=0.0)
        if not DOT:
            g_h += tl.load(back + own, mask=mask, other=0.0).to(g_h.dtype)
        g_h, old_h = held_gradient(g_h, stay_h, row + own, mask, P_H, HELD_H)
        keep = 1.0 - z if SWAP else z
        old_h += g_h * keep
        g_z = g_h * (new - h_old if SWAP else h_old - new)
        whole = tl.where(mask, g_h * (1.0 - keep) * (1.0 - new * new), 0.0)
        if FORM == CANDIDATE:
            whole = gradient_of_units(
                whole, y_c, s_c, factor, mask, count, units, known, H, gain_c,
                sums + 6 * H, sums + 7 * H, KIND_C, AXIS, GAIN_C, BIAS_C,
            )  # fmt: skip
        g0 = tl.where(mask, whole * inner * r * (1.0 - r), 0.0)
        g1 = tl.where(mask, g_z * z * (1.0 - z), 0.0)
        g2 = whole * r
        if FORM == CANDIDATE:
            q0, q1, q2, q3 = gradient_of_gates(
                g0, g1, g1, g1, y0, y1, y1, y1, s0, s1, s1, s1, mask, count, units, known, H,
                gain, sums, sums + 3 * H, KIND, ENDS, AXIS, 2, GAIN, BIAS,
            )  # fmt: skip
            g0, g1, q2 = q0, q1, g2
        else:
            q0, q1, q2, q3 = gradient_of_gates(
                g0, g1, g2, g2, y0, y1, y2, y2, s0, s1, s2, s2, mask, count, units, known, H,
                gain, sums, sums + 3 * H, KIND, ENDS, AXIS, 3, GAIN, BIAS,
            )  # fmt: skip
        if FORM == SUM:
            g0, g1, whole = q0, q1, q2
        store_gates(grad_x + gates, at, H, mask, g0, g1, whole, whole, 3)
        if APART:
            store_gates(grad_p + gates, at, H, mask, q0, q1, q2, q2, 3)
        if DOT:
            tl.debug_barrier()  # every part of this step's gradients is written
            old_h += product(
                (grad_p if APART else grad_x) + gates, rows, weight, 0, units, alive, known,
                3 * H, H, R, U, K, PRECISION, old_h.dtype,
            )  # fmt: skip
        tl.store(grad_h + own, old_h, mask=mask)
        if DOT:
            tl.debug_barrier()  # another thread may read what this one has written
