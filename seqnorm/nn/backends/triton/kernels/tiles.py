"""Loads, stores, products and zoneout of tiles (R, U), as functions of Triton.

Axes: R rows and U units of a tile, H units of a gate, K columns of a block of a matrix.
"""

from __future__ import annotations

import triton
import triton.language as tl

# Zoneout: none, an expectation, or drawn units.
KEPT_NONE, KEPT_PART, KEPT_DRAWN = (tl.constexpr(mode) for mode in range(3))


@triton.jit
def tanh(x):
    """Compute tanh without the library of the device, which the interpreter lacks."""
    e = tl.exp(-2.0 * tl.abs(x))
    y = (1.0 - e) / (1.0 + e)
    return tl.where(x < 0.0, -y, y)


@triton.jit
def relu(x):
    """Compute max(x, 0), and NaN of NaN."""
    return tl.where(x <= 0.0, 0.0, x)


@triton.jit
def sigmoid(x):
    """Compute 1 / (1 + exp(-x)), in float64 too."""
    return 1.0 / (1.0 + tl.exp(-x))


@triton.jit
def place(H, G: tl.constexpr, AXIS: tl.constexpr, R: tl.constexpr, U: tl.constexpr):
    """Return where the tile of a program is.

    Returns:
        The numbers of its rows (R,) and units (U,), whether the units exist, and the offsets (R, U)
        of its first gate in rows (., H) and (., G * H).
    """
    block = tl.program_id(0)
    rows, units = tl.arange(0, R), tl.arange(0, U)
    if AXIS == 1:
        rows += block * R
    else:
        units += block * U
    own = rows[:, None] * H + units[None, :]
    at = rows[:, None] * (G * H) + units[None, :]
    return rows, units, units < H, own, at


@triton.jit
def vector(base, gate: tl.constexpr, units, known, H):
    """Load the values (1, U) of a gate from a vector of all gates."""
    return tl.load(base + gate * H + units, mask=known, other=0.0)[None, :]


@triton.jit
def put(base, gate: tl.constexpr, units, known, H, values):
    """Store the values (1, U) of a gate in a vector of all gates."""
    tl.store((base + gate * H + units)[None, :], values, mask=known[None, :])


@triton.jit
def add_rows(base, gate: tl.constexpr, units, known, H, tile):
    """Add the rows of a tile to the sums of a gate, to which no other program adds."""
    place = (base + gate * H + units)[None, :]
    before = tl.load(place, mask=known[None, :], other=0.0)
    tl.store(place, before + tl.sum(tile, 0, keep_dims=True), mask=known[None, :])


@triton.jit
def load_gates(base, at, H, mask, G: tl.constexpr):
    """Load four tiles of rows (., G * H), whose first gate is at the offsets ``at``."""
    return (
        tl.load(base + at, mask=mask, other=0.0),
        tl.load(base + at + min(1, G - 1) * H, mask=mask, other=0.0),
        tl.load(base + at + min(2, G - 1) * H, mask=mask, other=0.0),
        tl.load(base + at + (G - 1) * H, mask=mask, other=0.0),
    )


@triton.jit
def store_gates(base, at, H, mask, x0, x1, x2, x3, G: tl.constexpr):
    """Store the tiles of G gates, see ``load_gates``."""
    tl.store(base + at, x0, mask=mask)
    if G > 1:
        tl.store(base + at + H, x1, mask=mask)
    if G > 2:
        tl.store(base + at + 2 * H, x2, mask=mask)
    if G > 3:
        tl.store(base + at + 3 * H, x3, mask=mask)


@triton.jit
def product(
    left, rows, right, first, units, alive, known, width, wide,
    R: tl.constexpr, U: tl.constexpr, K: tl.constexpr, PRECISION: tl.constexpr, DTYPE: tl.constexpr,
):  # fmt: skip
    """Return the product (R, U) of rows of one matrix with columns of another.

    Args:
        left, rows: (., width) and the numbers (R,) of its rows.
        right, first: (width, wide), and the column of unit 0.
    """
    found = tl.zeros((R, U), DTYPE)
    for start in range(0, width, K):
        inner = start + tl.arange(0, K)
        there = inner < width
        a = tl.load(
            left + rows[:, None] * width + inner[None, :],
            mask=alive[:, None] & there[None, :],
            other=0.0,
        )
        b = tl.load(
            right + inner[:, None] * wide + (first + units)[None, :],
            mask=there[:, None] & known[None, :],
            other=0.0,
        )
        found = tl.dot(a, b, found, input_precision=PRECISION, out_dtype=DTYPE)
    return found


@triton.jit
def products(
    left, rows, right, units, alive, known, H,
    R: tl.constexpr, U: tl.constexpr, K: tl.constexpr, PRECISION: tl.constexpr, DTYPE: tl.constexpr,
    G: tl.constexpr,
):  # fmt: skip
    """Return the product of h (., H) with ``right`` (H, G * H) in four tiles."""
    p0 = product(left, rows, right, 0, units, alive, known, H, G * H, R, U, K, PRECISION, DTYPE)
    p1 = p0
    if G > 1:
        p1 = product(left, rows, right, H, units, alive, known, H, G * H, R, U, K, PRECISION, DTYPE)
    p2 = p1
    if G > 2:
        p2 = product(
            left, rows, right, 2 * H, units, alive, known, H, G * H, R, U, K, PRECISION, DTYPE
        )
    p3 = p2
    if G > 3:
        p3 = product(
            left, rows, right, 3 * H, units, alive, known, H, G * H, R, U, K, PRECISION, DTYPE
        )
    return p0, p1, p2, p3


@triton.jit
def products_of_h(
    h, operand, weight, kept, rows, units, at, alive, known, mask, H,
    DTYPE: tl.constexpr, KEEP: tl.constexpr, HALF: tl.constexpr, DOT: tl.constexpr,
    R: tl.constexpr, U: tl.constexpr, K: tl.constexpr, PRECISION: tl.constexpr, G: tl.constexpr,
):  # fmt: skip
    """Return the product of h with W_hh in four tiles: computed with DOT, and loaded without.

    Args:
        operand: h in the dtype of the product, which is read with HALF.
        kept: where a computed product is stored with KEEP, or where it is loaded from.
    """
    if DOT:
        p0, p1, p2, p3 = products(
            operand if HALF else h, rows, weight, units, alive, known, H, R, U, K, PRECISION,
            DTYPE, G,
        )  # fmt: skip
        if KEEP:
            store_gates(kept, at, H, mask, p0, p1, p2, p3, G)
    else:
        p0, p1, p2, p3 = load_gates(kept, at, H, mask, G)
    return p0, p1, p2, p3


@triton.jit
def store_h(
    h, operand, output, row, own, mask, h_new, HALF: tl.constexpr, DOT: tl.constexpr
):  # fmt: skip
    """Store the h of a step as state, as operand of the next product, and as output."""
    if DOT:
        tl.debug_barrier()  # every part of the old h has been read
    tl.store(h + own, h_new, mask=mask)
    if HALF:
        tl.store(operand + own, h_new, mask=mask)
    tl.store(output + row + own, h_new, mask=mask)
    if DOT:
        tl.debug_barrier()  # and every part of the new one is written


@triton.jit
def held(new, old, stay, place, mask, P: tl.constexpr, MODE: tl.constexpr):
    """Return a new value, or the old one of units that zoneout holds back."""
    if MODE == KEPT_PART:
        new = P * old + (1.0 - P) * new
    elif MODE == KEPT_DRAWN:
        new = tl.where(tl.load(stay + place, mask=mask, other=0.0) != 0.0, old, new)
    return new


@triton.jit
def held_gradient(g, stay, place, mask, P: tl.constexpr, MODE: tl.constexpr):
    """Return the gradients of the new and of the old value of ``held``."""
    of_old = 0.0 * g
    if MODE == KEPT_PART:
        of_old = P * g
    elif MODE == KEPT_DRAWN:
        of_old = tl.where(tl.load(stay + place, mask=mask, other=0.0) != 0.0, g, 0.0)
    return g - of_old, of_old
