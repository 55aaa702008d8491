"""The block that is drawn for a set S, and the words beside it.

Axes as in ``description``. The block shows the set's own ``mask``, so picture and numbers agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import gcd, lcm
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .drawing import Panel

if TYPE_CHECKING:
    from .description import StatisticsSet

LENGTHS = (5, 3, 2)
EXAMPLES, SIDE, CHANNELS, UNITS_OF_GATE = 3, 3, 4, 2
# More channels of images, channels of sequences, and units of gates are drawn only on request.
MOST_PLANES, MOST_ROWS, MOST_UNITS = 6, 8, 16


def panel(
    of: StatisticsSet,
    lengths: Sequence[int] | None = None,
    examples: int | None = None,
    channels: int | None = None,
    positions: int | None = None,
) -> Panel:
    """Return the content of a picture; arguments and errors are those of ``StatisticsSet.svg``."""
    timed = "T" in of.axes
    _check(of, {"examples": examples, "channels": channels, "positions": positions}, lengths)
    drawn, channels, note = _few_channels(of, channels)
    lengths = LENGTHS if lengths is None else tuple(lengths)
    side = positions or SIDE
    # The element whose set is shown: the first one at the second step, inside the plane. Before a
    # window there is a step outside of it.
    step = min(of.window, max(lengths) - 1)
    size = {"T": max(lengths), "L": side + 2, "D": 2, "H": side, "W": side}
    at = {"T": step, "L": 1, "D": 0, "H": side // 2, "W": side // 2}
    if positions is not None:
        size |= {"L": side, "D": side}
        at["L"] = min(1, side - 1)
    elif "D" in of.axes:
        size["H"], at["H"] = 2, 0
    # The first channel is in every part.
    size[of.channel_axis] = channels
    at[of.channel_axis] = 0 if of.part is not None else min(1, channels - 1)
    size[of.batch_axis], at[of.batch_axis] = examples or EXAMPLES, 0
    if timed:
        size[of.batch_axis] = len(lengths)
        at[of.batch_axis] = next(n for n, length in enumerate(lengths) if length > step)
    shape = [size[axis] for axis in of.axes]
    element = [at[axis] for axis in of.axes]
    known = lengths if timed else None
    one = torch.zeros(shape, dtype=torch.bool)
    one[tuple(element)] = True
    return Panel(
        same=_turn(of, drawn.mask(shape, element, known)),
        valid=_turn(of, drawn.valid(shape, known)),
        element=_turn(of, one),
        words=of.words,
        consequence=of.consequence,
        shared=_shared(of),
        note=" ".join(filter(None, (note, of.beyond, of.remark))),
        whole=not of.empty and of.part is None and of.window == 1,
        gives=of.window > 1,
        **_edges(of, drawn.gates, size[of.batch_axis], known),
    )


def _shared(of: StatisticsSet) -> str:
    if of.empty:
        return ""
    return "mean and variance" if of.centred else "mean square"


def _check(of: StatisticsSet, sizes: dict[str, int | None], lengths: Sequence[int] | None) -> None:
    axes = f"{of.name} has the axes ({', '.join(of.axes)})"
    given = {name: size for name, size in sizes.items() if size is not None}
    if "T" in of.axes:
        if unfit := [name for name in given if name != "channels"]:
            raise ValueError(f"{axes}: leave {unfit[0]} out, and write lengths=(5, 3, 2), say")
    elif lengths is not None:
        raise ValueError(f"{axes}: leave lengths out, and write examples=3, positions=4, say")
    for name, size in given.items():
        if size < 1:
            raise ValueError(f"{name} must be at least 1, got {size}")
    if lengths is not None and (len(lengths) == 0 or max(lengths) < 1):
        raise ValueError(f"lengths must hold a sequence with a step, got {tuple(lengths)}")


def _few_channels(of: StatisticsSet, channels: int | None) -> tuple[StatisticsSet, int, str]:
    """Return the set that is drawn, its channels, and a note if its groups are others."""
    drawn = of
    if channels is None:
        least = sum(of.groups) // gcd(*of.groups) if of.groups else 1
        step = lcm(least, len(of.gates)) if of.gates else least
        # Several to a gate and to a group, for a group of one would not look like a group.
        wanted = UNITS_OF_GATE * max(len(of.gates), len(of.groups))
        channels = step * -(-max(CHANNELS, wanted) // step)
        most = MOST_UNITS if of.gates else MOST_PLANES if "H" in of.axes else MOST_ROWS
        if channels > most:
            channels = CHANNELS
            drawn = replace(of, groups=(1, 1), gates="")
    elif of.gates and channels % len(of.gates):
        has = f"{of.name} has {len(of.gates)} gates"
        raise ValueError(f"channels={channels}: {has}, so give a multiple")
    if not of.groups or of.gates_of_groups or channels == sum(of.groups):
        return drawn, channels, ""
    groups = f"{len(drawn.groups)} groups, not {sum(of.groups)} in {len(of.groups)}"
    return drawn, channels, f"Drawn: {channels} {of.unit}s in {groups}."


def _turn(of: StatisticsSet, mask: Tensor) -> Tensor:
    """Permute a mask to (stacks, planes, rows, columns).

    They are examples, channels, H, W for images, with the first row in front. Otherwise there is
    one stack of examples, each channels by steps.
    """
    rest = [axis for axis in of.axes if axis not in (of.batch_axis, of.channel_axis)]
    order = [of.batch_axis, of.channel_axis, *rest]
    turned = mask.permute([of.axes.index(axis) for axis in order])
    return turned.flatten(2, -2).flip(2) if "H" in of.axes else turned.unsqueeze(0)


def _edges(
    of: StatisticsSet, gates: str, examples: int, lengths: Sequence[int] | None
) -> dict[str, Any]:
    """Return the words along the edges of a panel."""
    named = tuple(f"{of.example} {n + 1}" for n in range(examples))
    if "H" in of.axes:
        back = "D x H" if "D" in of.axes else "H"
        return {"back": back, "along": "W", "up": f"{of.unit}s", "stacks": named}
    return {
        "back": f"{of.unit}s",
        "along": "time steps" if "T" in of.axes else "positions",
        "planes": named,
        "details": tuple(f"{n} step" if n == 1 else f"{n} steps" for n in lengths or ()),
        "gates": gates,
    }
