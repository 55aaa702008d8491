"""Steps of an RNN and of a LiGRU on tiles (R, U) of rows and units, in Triton. See ``lstm``.

Both only add the terms of x and h. The gate of an RNN is h, those of a LiGRU are a, z.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .norms import gradient_of_gates, norm_of_gates
from .tiles import (
    held,
    held_gradient,
    load_gates,
    place,
    product,
    products_of_h,
    relu,
    sigmoid,
    store_gates,
    store_h,
    tanh,
    vector,
)


@triton.jit
def additive_values(
    x, at, p0, p1, mask, count, units, known, H, gain, bias, before, columns, var, t,
    EPS: tl.constexpr, KIND: tl.constexpr, ENDS: tl.constexpr, AXIS: tl.constexpr,
    SUM: tl.constexpr, RELU: tl.constexpr, G: tl.constexpr,
    GAIN: tl.constexpr, BIAS: tl.constexpr, BEFORE: tl.constexpr,
):  # fmt: skip
    """Return the values of a step: first f(a), and the gate z, which an RNN does not use."""
    x0, x1, _, _ = load_gates(x, at, H, mask, G)
    p0, p1 = p0.to(x0.dtype), p1.to(x0.dtype)
    if BEFORE:
        p0 = tl.where(mask, p0 + vector(before, 0, units, known, H), 0.0)
        p1 = tl.where(mask, p1 + vector(before, G - 1, units, known, H), 0.0)
    if SUM:
        p0, p1 = p0 + x0, p1 + x1
    a0, a1, _, _, y0, y1, _, _, s0, s1, _, _ = norm_of_gates(
        p0, p1, p1, p1, mask, count, units, known, H, gain, bias, columns, var, t,
        EPS, KIND, ENDS, AXIS, G, GAIN, BIAS,
    )  # fmt: skip
    if not SUM:
        a0, a1 = a0 + x0, a1 + x1
    return relu(a0) if RELU else tanh(a0), sigmoid(a1), y0, y1, s0, s1


@triton.jit(do_not_specialize=["first", "last"])
def additive_forward(
    x, p, weight, operand, h, c, output, kept_c, starts, sizes, lengths,
    gain, bias, before, columns, var, gain_c, bias_c, columns_c, var_c, stay_h, stay_c,
    first, last, H,
    EPS: tl.constexpr, EPS_C: tl.constexpr, KIND: tl.constexpr, KIND_C: tl.constexpr,
    STD: tl.constexpr, ENDS: tl.constexpr, AXIS: tl.constexpr, SUM: tl.constexpr,
    SWAP: tl.constexpr, RELU: tl.constexpr, G: tl.constexpr,
    GAIN: tl.constexpr, BIAS: tl.constexpr, BEFORE: tl.constexpr,
    GAIN_C: tl.constexpr, BIAS_C: tl.constexpr, P_H: tl.constexpr, P_C: tl.constexpr,
    HELD_H: tl.constexpr, HELD_C: tl.constexpr, KEEP: tl.constexpr, HALF: tl.constexpr,
    DOT: tl.constexpr, R: tl.constexpr, U: tl.constexpr, K: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Compute steps of an RNN (G = 1) or of a LiGRU (G = 2); arguments of c are not used."""
    rows, units, known, own, at = place(H, G, AXIS, R, U)
    if DOT:
        last = tl.minimum(last, tl.load(lengths + tl.program_id(0) * R))
    for t in range(first, last):
        start, n = tl.load(starts + t), tl.load(sizes + t)
        alive = rows < n
        mask = alive[:, None] & known[None, :]
        row, gates = start * H, start * (G * H)
        kept = p + gates if KEEP else p
        h_old = tl.load(h + own, mask=mask, other=0.0)
        p0, p1, p2, p3 = products_of_h(
            h, operand, weight, kept, rows, units, at, alive, known, mask, H,
            h_old.dtype, KEEP, HALF, DOT, R, U, K, PRECISION, G,
        )  # fmt: skip
        count = H if AXIS == 1 else n
        h_new, z, y0, y1, s0, s1 = additive_values(
            x + gates, at, p0, p1, mask, count, units, known, H,
            gain, bias, before, columns, var, t,
            EPS, KIND, ENDS, AXIS, SUM, RELU, G, GAIN, BIAS, BEFORE,
        )  # fmt: skip
        if G == 2:
            h_new = z * h_old + (1.0 - z) * h_new
        h_new = held(h_new, h_old, stay_h, row + own, mask, P_H, HELD_H)
        store_h(h, operand, output, row, own, mask, h_new, HALF, DOT)


@triton.jit(do_not_specialize=["first", "last"])
def additive_backward(
    x, p, weight, h_before, kept_c, grad_output, grad_h, grad_c, back, grad_x, grad_p, sums,
    starts, sizes, lengths,
    gain, bias, before, columns, var, gain_c, bias_c, columns_c, var_c, stay_h, stay_c,
    first, last, H,
    EPS: tl.constexpr, EPS_C: tl.constexpr, KIND: tl.constexpr, KIND_C: tl.constexpr,
    READ: tl.constexpr, READ_C: tl.constexpr,
    STD: tl.constexpr, ENDS: tl.constexpr, AXIS: tl.constexpr, SUM: tl.constexpr,
    SWAP: tl.constexpr, RELU: tl.constexpr, G: tl.constexpr,
    GAIN: tl.constexpr, BIAS: tl.constexpr, BEFORE: tl.constexpr,
    GAIN_C: tl.constexpr, BIAS_C: tl.constexpr, P_H: tl.constexpr, P_C: tl.constexpr,
    HELD_H: tl.constexpr, HELD_C: tl.constexpr, APART: tl.constexpr,
    DOT: tl.constexpr, R: tl.constexpr, U: tl.constexpr, K: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Compute gradients of steps of an RNN or of a LiGRU, the last step first.

    The sums are (S, (2 * G + 2) * H), and h_before is (N, H), h before each step.
    """
    rows, units, known, own, at = place(H, G, AXIS, R, U)
    if AXIS == 1:
        sums += tl.program_id(0).to(tl.int64) * ((2 * G + 2) * H)
    if DOT:
        last = tl.minimum(last, tl.load(lengths + tl.program_id(0) * R))
    for step in range(first, last):
        t = last - 1 - (step - first)
        start, n = tl.load(starts + t), tl.load(sizes + t)
        alive = rows < n
        mask = alive[:, None] & known[None, :]
        row, gates = start * H, start * (G * H)
        p0, p1, _, _ = load_gates(p + gates, at, H, mask, G)
        count = H if AXIS == 1 else n
        new, z, y0, y1, s0, s1 = additive_values(
            x + gates, at, p0, p1, mask, count, units, known, H,
            gain, bias, before, columns, var, t,
            EPS, READ, ENDS, AXIS, SUM, RELU, G, GAIN, BIAS, BEFORE,
        )  # fmt: skip
        g_h = tl.load(grad_h + own, mask=mask, other=0.0)
        g_h += tl.load(grad_output + row + own, mask=mask, other=0.0)
        if not DOT:
            g_h += tl.load(back + own, mask=mask, other=0.0).to(g_h.dtype)
        g_h, old_h = held_gradient(g_h, stay_h, row + own, mask, P_H, HELD_H)
        g1 = g_h
        if G == 2:
            h_old = tl.load(h_before + row + own, mask=mask, other=0.0)
            old_h += g_h * z
            g1 = tl.where(mask, g_h * (h_old - new) * z * (1.0 - z), 0.0)
            g_h *= 1.0 - z
        slope = tl.where(new <= 0.0, 0.0, 1.0) if RELU else 1.0 - new * new
        g0 = tl.where(mask, g_h * slope, 0.0)
        q0, q1, q2, q3 = gradient_of_gates(
            g0, g1, g1, g1, y0, y1, y1, y1, s0, s1, s1, s1, mask, count, units, known, H,
            gain, sums, sums + G * H, KIND, ENDS, AXIS, G, GAIN, BIAS,
        )  # fmt: skip
        if SUM:
            g0, g1 = q0, q1
        store_gates(grad_x + gates, at, H, mask, g0, g1, g1, g1, G)
        if APART:
            store_gates(grad_p + gates, at, H, mask, q0, q1, q2, q3, G)
        if DOT:
            tl.debug_barrier()  # every part of this step's gradients is written
            old_h += product(
                (grad_p if APART else grad_x) + gates, rows, weight, 0, units, alive, known,
                G * H, H, R, U, K, PRECISION, old_h.dtype,
            )  # fmt: skip
        tl.store(grad_h + own, old_h, mask=mask)
        if DOT:
            tl.debug_barrier()  # another thread may read what this one has written
