"""Norms of a tile of rows and units, as functions of Triton.

The set S of a norm of a row lies along the units, so that its tile has all units of some rows. The
set of a norm of the batch lies along the rows, so that its tile has all rows of some units. The
same functions serve both: ``AXIS`` is the axis of the tile that S spans, 1 or 0.

Axes: a tile is (R, U), R rows and U units, and there is one for each gate; G gates, H units of a
gate. Functions of four tiles serve steps with fewer gates, which repeat their last one.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .tiles import add_rows, put, vector

# Kinds of norms. BATCH takes mean and 1 / deviation from the rows, and TABLE is given them.
NONE, LAYER, RMS, BATCH, TABLE = (tl.constexpr(kind) for kind in range(5))


@triton.jit
def totals(s0, s1, s2, s3, ENDS: tl.constexpr):
    """Return for each gate the sum over its set. Bit k of ENDS is set if gate k ends a set."""
    a1 = s1 if ENDS & 1 else s0 + s1
    a2 = s2 if ENDS & 2 else a1 + s2
    t3 = s3 if ENDS & 4 else a2 + s3
    t2 = a2 if ENDS & 4 else t3
    t1 = a1 if ENDS & 2 else t2
    t0 = s0 if ENDS & 1 else t1
    return t0, t1, t2, t3


@triton.jit
def means(x0, x1, x2, x3, count, ENDS: tl.constexpr, AXIS: tl.constexpr):
    """Return the mean over the set of each gate; a gate alone has ``count`` elements."""
    t0, t1, t2, t3 = totals(
        tl.sum(x0, AXIS, keep_dims=True),
        tl.sum(x1, AXIS, keep_dims=True),
        tl.sum(x2, AXIS, keep_dims=True),
        tl.sum(x3, AXIS, keep_dims=True),
        ENDS,
    )
    n0, n1, n2, n3 = totals(count, count, count, count, ENDS)
    return t0 / n0, t1 / n1, t2 / n2, t3 / n3


@triton.jit
def norm_of_gates(
    x0, x1, x2, x3, mask, count, units, known, H, gain, bias, columns, var, t,
    eps: tl.constexpr, KIND: tl.constexpr, ENDS: tl.constexpr, AXIS: tl.constexpr,
    G: tl.constexpr, GAIN: tl.constexpr, BIAS: tl.constexpr,
):  # fmt: skip
    """Normalise the tiles of G gates.

    Args:
        mask: (R, U) where a row and a unit exist.
        count: elements of a set of one gate.
        units, known: (U,) the units of the tile, and whether they exist.
        columns, var, t: (T, 2, G * H) means and 1 / deviations, (T, G * H) variances, and the step
            in both; TABLE reads the columns, BATCH writes both.

    Returns:
        The results; before gain and bias y; and 1 / deviation, of four tiles each.
    """
    y0, y1, y2, y3 = x0, x1, x2, x3
    s0, s1, s2, s3 = 1.0, 1.0, 1.0, 1.0
    if KIND == TABLE or KIND == BATCH:
        columns += t * (2 * G * H)
        scales = columns + G * H
    if KIND == TABLE:
        s0, s1 = vector(scales, 0, units, known, H), vector(scales, min(1, G - 1), units, known, H)
        s2 = vector(scales, min(2, G - 1), units, known, H)
        s3 = vector(scales, G - 1, units, known, H)
        y0 = (x0 - vector(columns, 0, units, known, H)) * s0
        y1 = (x1 - vector(columns, min(1, G - 1), units, known, H)) * s1
        y2 = (x2 - vector(columns, min(2, G - 1), units, known, H)) * s2
        y3 = (x3 - vector(columns, G - 1, units, known, H)) * s3
    elif KIND != NONE:
        if KIND != RMS:
            m0, m1, m2, m3 = means(x0, x1, x2, x3, count, ENDS, AXIS)
            x0, x1 = tl.where(mask, x0 - m0, 0.0), tl.where(mask, x1 - m1, 0.0)
            x2, x3 = tl.where(mask, x2 - m2, 0.0), tl.where(mask, x3 - m3, 0.0)
        v0, v1, v2, v3 = means(x0 * x0, x1 * x1, x2 * x2, x3 * x3, count, ENDS, AXIS)
        s0, s1 = 1.0 / tl.sqrt(v0 + eps), 1.0 / tl.sqrt(v1 + eps)
        s2, s3 = 1.0 / tl.sqrt(v2 + eps), 1.0 / tl.sqrt(v3 + eps)
        y0, y1, y2, y3 = x0 * s0, x1 * s1, x2 * s2, x3 * s3
        if KIND == BATCH:
            var += t * (G * H)
            put(columns, 0, units, known, H, m0)
            put(scales, 0, units, known, H, s0)
            put(var, 0, units, known, H, v0)
            if G > 1:
                put(columns, 1, units, known, H, m1)
                put(scales, 1, units, known, H, s1)
                put(var, 1, units, known, H, v1)
            if G > 2:
                put(columns, 2, units, known, H, m2)
                put(scales, 2, units, known, H, s2)
                put(var, 2, units, known, H, v2)
            if G > 3:
                put(columns, 3, units, known, H, m3)
                put(scales, 3, units, known, H, s3)
                put(var, 3, units, known, H, v3)
    z0, z1, z2, z3 = y0, y1, y2, y3
    if GAIN:
        z0 *= vector(gain, 0, units, known, H)
        z1 *= vector(gain, min(1, G - 1), units, known, H)
        z2 *= vector(gain, min(2, G - 1), units, known, H)
        z3 *= vector(gain, G - 1, units, known, H)
    if BIAS:
        z0 += vector(bias, 0, units, known, H)
        z1 += vector(bias, min(1, G - 1), units, known, H)
        z2 += vector(bias, min(2, G - 1), units, known, H)
        z3 += vector(bias, G - 1, units, known, H)
    return z0, z1, z2, z3, y0, y1, y2, y3, s0, s1, s2, s3


@triton.jit
def gradient_of_gates(
    g0, g1, g2, g3, y0, y1, y2, y3, s0, s1, s2, s3, mask, count, units, known, H,
    gain, sums_gain, sums_bias, KIND: tl.constexpr, ENDS: tl.constexpr, AXIS: tl.constexpr,
    G: tl.constexpr, GAIN: tl.constexpr, BIAS: tl.constexpr,
):  # fmt: skip
    """Return the gradients of the arguments of ``norm_of_gates`` from those of its results.

    Args:
        sums_gain, sums_bias: (G * H,) the gradients of gain and bias are added here.
    """
    if BIAS:
        add_rows(sums_bias, 0, units, known, H, g0)
        if G > 1:
            add_rows(sums_bias, 1, units, known, H, g1)
        if G > 2:
            add_rows(sums_bias, 2, units, known, H, g2)
        if G > 3:
            add_rows(sums_bias, 3, units, known, H, g3)
    if GAIN:
        add_rows(sums_gain, 0, units, known, H, g0 * y0)
        g0 *= vector(gain, 0, units, known, H)
        if G > 1:
            add_rows(sums_gain, 1, units, known, H, g1 * y1)
            g1 *= vector(gain, 1, units, known, H)
        if G > 2:
            add_rows(sums_gain, 2, units, known, H, g2 * y2)
            g2 *= vector(gain, 2, units, known, H)
        if G > 3:
            add_rows(sums_gain, 3, units, known, H, g3 * y3)
            g3 *= vector(gain, 3, units, known, H)
    if KIND != NONE:
        if KIND != TABLE:
            b0, b1, b2, b3 = means(g0 * y0, g1 * y1, g2 * y2, g3 * y3, count, ENDS, AXIS)
            if KIND != RMS:
                a0, a1, a2, a3 = means(g0, g1, g2, g3, count, ENDS, AXIS)
                g0, g1, g2, g3 = g0 - a0, g1 - a1, g2 - a2, g3 - a3
            g0, g1, g2, g3 = g0 - y0 * b0, g1 - y1 * b1, g2 - y2 * b2, g3 - y3 * b3
        g0, g1 = tl.where(mask, g0 * s0, 0.0), tl.where(mask, g1 * s1, 0.0)
        g2, g3 = tl.where(mask, g2 * s2, 0.0), tl.where(mask, g3 * s3, 0.0)
    return g0, g1, g2, g3


@triton.jit
def norm_of_units(
    x, mask, count, units, known, H, gain, bias, columns, var, t,
    eps: tl.constexpr, KIND: tl.constexpr, STD: tl.constexpr, AXIS: tl.constexpr,
    GAIN: tl.constexpr, BIAS: tl.constexpr,
):  # fmt: skip
    """Normalise one tile, see ``norm_of_gates``.

    Args:
        STD: true if eps is added to the deviation and not to the variance.

    Returns:
        The result; y before gain and bias; 1 / deviation s; and the factor of the mean of g * y in
        the gradient, which is 1 unless STD.
    """
    y, s, factor = x, 1.0, 1.0
    if KIND == TABLE or KIND == BATCH:
        columns += t * (2 * H)
    if KIND == TABLE:
        s = vector(columns, 1, units, known, H)
        y = (x - vector(columns, 0, units, known, H)) * s
    elif KIND != NONE:
        if KIND != RMS:
            m = tl.sum(x, AXIS, keep_dims=True) / count
            x = tl.where(mask, x - m, 0.0)
        v = tl.sum(x * x, AXIS, keep_dims=True) / count
        if STD:
            deviation = tl.sqrt(v)
            s = 1.0 / (deviation + eps)
            factor = 1.0 / tl.where(v > 0.0, deviation * s, 1.0)
        else:
            s = 1.0 / tl.sqrt(v + eps)
        y = x * s
        if KIND == BATCH:
            put(columns, 0, units, known, H, m)
            put(columns, 1, units, known, H, s)
            put(var + t * H, 0, units, known, H, v)
    z = y
    if GAIN:
        z *= vector(gain, 0, units, known, H)
    if BIAS:
        z += vector(bias, 0, units, known, H)
    return z, y, s, factor


@triton.jit
def gradient_of_units(
    g, y, s, factor, mask, count, units, known, H, gain, sums_gain, sums_bias,
    KIND: tl.constexpr, AXIS: tl.constexpr, GAIN: tl.constexpr, BIAS: tl.constexpr,
):  # fmt: skip
    """Return the gradient of the argument of ``norm_of_units``, see ``gradient_of_gates``."""
    if BIAS:
        add_rows(sums_bias, 0, units, known, H, g)
    if GAIN:
        add_rows(sums_gain, 0, units, known, H, g * y)
        g *= vector(gain, 0, units, known, H)
    if KIND != NONE:
        if KIND != TABLE:
            b = tl.sum(g * y, AXIS, keep_dims=True) / count * factor
            if KIND != RMS:
                g -= tl.sum(g, AXIS, keep_dims=True) / count
            g -= y * b
        g = tl.where(mask, g * s, 0.0)
    return g
