"""Checks of numbers that were read as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from ..documents import DatasetError

if TYPE_CHECKING:
    from torch import Tensor

_HOW = "fill in the gap, or leave out the step or the series"


def check_finite(
    where: str,
    values: Any,
    offsets: Any,
    ids: Sequence[str],
    features: Sequence[str],
    times: Any = None,
) -> None:
    """Refuse numbers (S, F) of N series if one is missing or infinite.

    Args:
        where: The file, for the error.
        values: The steps of all series, one after the other.
        offsets: The place (N + 1,) of the first step of each series, and S.
        ids: The ids of the series.
        features: The names of the F features.
        times: The times (S,) of the steps, or None without times.

    Raises:
        DatasetError: A value is NaN or infinite; the error names series, step and feature.
    """
    import numpy as np

    wrong = ~np.isfinite(values)
    if not wrong.any():
        return
    place, feature = (int(number) for number in np.argwhere(wrong)[0])
    series = int(np.searchsorted(offsets, place, side="right")) - 1
    at = "" if times is None else f" (time {times[place]})"
    found = values[place, feature]
    kind = "missing (NaN)" if np.isnan(found) else "infinite"
    more = f"; {int(wrong.sum()):,} values in all" if wrong.sum() > 1 else ""
    raise DatasetError(
        f"{where}: series {ids[series]!r}, step {place - int(offsets[series])}{at}: the feature "
        f"{features[feature]!r} is {kind}{more}; {_HOW}"
    )


def check_targets(where: str, targets: Any, ids: Sequence[str], names: Sequence[str]) -> None:
    """Refuse targets (N, K) of series if one is missing or infinite.

    Raises:
        DatasetError: A target is NaN or infinite; the error names it and its series.
    """
    import numpy as np

    wrong = ~np.isfinite(targets)
    if wrong.any():
        series, target = (int(number) for number in np.argwhere(wrong)[0])
        kind = "missing (NaN)" if np.isnan(targets[series, target]) else "infinite"
        raise DatasetError(
            f"{where}: series {ids[series]!r}: the target {names[target]!r} is {kind}; add it, or "
            "leave the series out"
        )


def pieces(values: Any, offsets: Any) -> tuple[Tensor, ...]:
    """Return the numbers (T, F) of each series as tensors that own their memory."""
    whole = torch.tensor(values, dtype=torch.float64, device="cpu")
    ends = [int(end) for end in offsets]
    return tuple(whole[start:end].clone() for start, end in zip(ends, ends[1:]))
