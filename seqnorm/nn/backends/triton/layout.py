"""How a call is given to the kernels: their options, tiles and vectors.

Axes: B sequences, H units, G gates, R rows and U units of a tile.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..cpu.call import BEFORE, BIASES, COLUMNS, Call, Inputs
from ..cpu.plan import Plan

# Numbers of the kinds of norms in ``norms``, and of the forms of a GRU in ``gru``.
KINDS = {None: 0, "layer": 1, "rms": 2, "batch": 3}
TABLE = 4
HIDDEN, SUM, CANDIDATE = range(3)
# A program of the loop over time holds all units of 16 rows, and multiplies by 16 columns at a
# time: the least that a product takes. With more units its numbers no longer fit into registers,
# and each step is a launch.
MOST_UNITS, ROWS, BLOCK = 128, 16, 16
# The numbers of a tile of one step.
TILE = 1024


def form_of(plan: Plan) -> int:
    """Return where the norms of a step stand."""
    if plan.sites[1] != "sum":
        return HIDDEN
    return CANDIDATE if plan.sites[2] == "candidate" else SUM


class Tiles(NamedTuple):
    """The division of a call into programs.

    Attributes:
        axis: the axis of a tile that S spans, see ``norms``.
        loop: true if a program computes all steps of its rows.
        rows, units: R and U.
        blocks: number of blocks of rows.
        columns: number of columns of a block of a matrix.
        warps: threads of a program / 32.
    """

    axis: int
    loop: bool
    rows: int
    units: int
    blocks: int
    columns: int
    warps: int

    def grid(self, alive: int, hidden: int) -> tuple[int]:
        """Return the number of programs for a step with ``alive`` rows."""
        return (-(-alive // self.rows) if self.axis else -(-hidden // self.units),)


def tiles_of(call: Call, inputs: Inputs) -> Tiles:
    """Choose the tiles of a call."""
    batch, hidden = inputs.h_0.shape
    if call.own(inputs):
        return of_batch(batch, hidden)
    if hidden <= MOST_UNITS and inputs.input.dtype != torch.float64:
        return of_loop(batch, hidden)
    return of_step(batch, hidden)


def of_loop(batch: int, hidden: int) -> Tiles:
    """Return the tiles of programs that compute all steps of some rows."""
    units = max(_power(hidden), BLOCK)
    return Tiles(1, True, ROWS, units, -(-batch // ROWS), BLOCK, _warps(ROWS * units))


def of_step(batch: int, hidden: int) -> Tiles:
    """Return the tiles of programs that compute one step of some rows."""
    units = _power(hidden)
    rows = max(1, min(_power(batch), TILE // units))
    return Tiles(1, False, rows, units, -(-batch // rows), 1, _warps(rows * units))


def of_batch(batch: int, hidden: int) -> Tiles:
    """Return the tiles of programs that compute one step of some units, with norms of the batch."""
    rows = _power(batch)
    # Neighbouring numbers are read together, as long as a thread has few of them.
    units = max(min(8, 2 * TILE // rows), min(_power(hidden), TILE // rows))
    return Tiles(0, False, rows, units, 1, 1, _warps(rows * units))


def _warps(numbers: int) -> int:
    """Return the threads of a program / 32, for a tile of so many numbers.

    A step keeps some 30 tiles, and a thread has 255 registers, with more than 8 such groups fewer.
    """
    return min(32, max(4, numbers // 128))


def allows_tf32() -> bool:
    """Return whether PyTorch lets products of float32 be computed in TF32."""
    of_products = torch.backends.cuda.matmul
    return getattr(of_products, "fp32_precision", "") == "tf32" or (
        not hasattr(of_products, "fp32_precision") and of_products.allow_tf32
    )


def _power(number: int) -> int:
    """Return the least power of two that is not smaller."""
    return 1 << (max(number, 1) - 1).bit_length()


def options_of(
    call: Call, inputs: Inputs, tiles: Tiles, biases: tuple[Tensor | None, Tensor | None]
) -> dict[str, Any]:
    """Return the options of a kernel that are fixed when it is compiled; see ``biases_of``."""
    plan = call.plan
    gates, form = len(plan.step.gates), form_of(plan)
    ends = sum(1 << (end - 1) for end in plan.sets) | (4 if gates == 3 else 0)
    if form == CANDIDATE:
        ends |= 2
    before, after = biases
    _, columns_h, columns_c = inputs[COLUMNS:BEFORE]
    drawn = (inputs.stay_h, inputs.stay_c)
    parts = (*call.zoneout, 0.0)[:2]
    modes = [2 if stay is not None else 1 if p else 0 for stay, p in zip(drawn, parts)]
    found = {
        "EPS": plan.eps[1],
        "EPS_C": plan.eps[2],
        "KIND": TABLE if columns_h is not None else KINDS[plan.kinds[1]],
        "KIND_C": TABLE if columns_c is not None else KINDS[plan.kinds[2]],
        "STD": plan.std_c,
        "ENDS": 15 if tiles.axis == 0 else ends,
        "AXIS": tiles.axis,
        "SWAP": plan.swapped,
        "GAIN": inputs.gain_h is not None,
        "BIAS": after is not None,
        "BEFORE": before is not None,
        "GAIN_C": inputs.gain_c is not None,
        "BIAS_C": inputs.bias_c is not None,
        "P_H": parts[0],
        "P_C": parts[1],
        "HELD_H": modes[0],
        "HELD_C": modes[1],
        "DOT": tiles.loop,
        "R": tiles.rows,
        "U": tiles.units,
        "K": tiles.columns,
        "PRECISION": "tf32" if allows_tf32() else "ieee",
    }
    found |= {"FORM": form} if gates == 3 else {"SUM": form == SUM}
    if gates < 3:
        found |= {"G": gates, "RELU": plan.relu}
    return found


def places_of(plan: Plan) -> dict[str, tuple[int, ...]]:
    """Return the numbers of the biases that are added before and after the norm of the gates."""
    if form_of(plan) == CANDIDATE:
        return {"before": plan.added["bias_h"], "after": plan.added["bias_x"]}
    return {"before": plan.added["bias_in"], "after": plan.added["bias_h"]}


def biases_of(call: Call, inputs: Inputs) -> tuple[Tensor | None, Tensor | None]:
    """Return the vectors that are added before and after the norm of the gates."""
    found: list[Tensor | None] = []
    for which in places_of(call.plan).values():
        total: Tensor | None = None
        for number in which:
            bias = inputs[BIASES + number]
            if bias is not None:
                total = bias if total is None else total + bias
        found.append(total)
    return found[0], found[1]
