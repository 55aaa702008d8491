"""How studies draw: one colour, marker and line for each norm, for print and colour-blind readers.

Colours are those of Okabe & Ito (2008), which differ in lightness too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .evidence import interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STYLES: dict[str, dict[str, Any]] = {
    "batch": {"color": "#D55E00", "marker": "o", "linestyle": "-"},
    "batch_pooled": {"color": "#E69F00", "marker": "s", "linestyle": "--"},
    "layer": {"color": "#0072B2", "marker": "^", "linestyle": "-"},
    "rms": {"color": "#56B4E9", "marker": "v", "linestyle": "--"},
    "group": {"color": "#009E73", "marker": "D", "linestyle": "-"},
    "instance": {"color": "#CC79A7", "marker": "P", "linestyle": "-."},
    "conditional": {"color": "#CC79A7", "marker": "X", "linestyle": ":"},
    "adaptive": {"color": "#F0E442", "marker": "*", "linestyle": "-."},
    "none": {"color": "#000000", "marker": "x", "linestyle": ":"},
}
NAMES = {
    "batch": "BatchNorm",
    "batch_pooled": "BatchNorm, pooled over time",
    "layer": "LayerNorm",
    "rms": "RMSNorm",
    "group": "GroupNorm",
    "instance": "InstanceNorm",
    "conditional": "Conditional InstanceNorm",
    "adaptive": "AdaIN",
    "none": "no norm",
}


def figure(width: float = 7.0, height: float = 3.6) -> Figure:
    """An empty figure, in inches.

    Raises:
        ModuleNotFoundError: matplotlib is missing; the message says how to install it.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "figures need matplotlib: pip install 'seqnorm[train]'"
        ) from error
    # A figure made without pyplot draws into files only and leaves no global state behind.
    return Figure((width, height), layout="constrained")


def draw_line(
    axes: Axes,
    values: Mapping[float, Mapping[int, float]],
    norm: str,
    label: str | None = None,
    **style: Any,
) -> None:
    """A norm's mean over seeds at every x, with its 95 % interval as a bar.

    Args:
        values: by x, the measure by seed.
        norm: a key of ``STYLES``.
        label: in the legend; the norm's name if None.
        style: in the place of the norm's own.
    """
    xs = [x for x in sorted(values) if values[x]]
    found = [interval(values[x].values()) for x in xs]
    halves = [i.high - i.mean if math.isfinite(i.high) else 0.0 for i in found]
    axes.errorbar(
        xs,
        [i.mean for i in found],
        yerr=halves,
        capsize=2.5,
        markersize=5,
        linewidth=1.4,
        label=NAMES[norm] if label is None else label,
        **(STYLES[norm] | style),
    )


def tidy(axes: Axes) -> None:
    """A light grid and no frame at the top and the right."""
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
