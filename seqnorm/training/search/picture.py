"""The picture of a sweep: the value of each trial, and of each value of the important options."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
from optuna.distributions import CategoricalDistribution
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial

from ..results.pictures import new_figure, save_figure
from .outputs import in_words, score_of, state_of
from .space import Space
from .study import SweepStudy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# The most options that are shown.
MOST = 6
COLUMNS = 3
# The marker and the colour of each state.
MARKS = {"complete": ("o", "tab:blue"), "pruned": ("x", "tab:gray")}


def importances(study: SweepStudy) -> dict[str, float]:
    """Return the importance of each option that varies, the most important first.

    The importances sum to 1. Fewer than six complete trials have none.
    """
    complete = [trial for trial in study.trials if state_of(trial) == "complete"]
    names = [
        name
        for name in study.distributions
        if len({repr(trial.params.get(name)) for trial in complete}) > 1
    ]
    if len(complete) < 6 or not names:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna calls the evaluator experimental in some versions
        found = get_param_importances(
            study.study, evaluator=PedAnovaImportanceEvaluator(), params=names
        )
    total = sum(found.values())
    if not np.isfinite(total) or total <= 0:
        return {}
    return {name: value / total for name, value in found.items()}


def draw(study: SweepStudy, space: Space, monitor: str, title: str, path: Path) -> None:
    """Draw the values of the trials, and of the options that matter most.

    Args:
        study: The study of the sweep.
        space: The search space.
        monitor: The quantity that the trials are compared by.
        title: The title.
        path: The file.
    """
    found = [(trial, score_of(trial, study.higher)) for trial in study.trials]
    limits = _limits(
        [score for t, score in found if score is not None and state_of(t) == "complete"],
        study.higher,
    )
    # A trial that was pruned, or is far worse than most, is drawn at the edge.
    shown = [(t, None if score is None else float(np.clip(score, *limits))) for t, score in found]
    scored = [(trial, score) for trial, score in shown if score is not None]
    weights = importances(study)
    names = [*weights, *(name for name in study.distributions if name not in weights)][:MOST]
    rows = -(-len(names) // COLUMNS)
    figure = new_figure(11, 3.6 + 3.0 * rows)
    figure.suptitle(title, parse_math=False)
    grid = figure.add_gridspec(1 + rows, COLUMNS)
    axes = figure.add_subplot(grid[0, :])
    _by_trial(axes, shown, study)
    panels = [axes]
    for place, name in enumerate(names):
        panel = figure.add_subplot(grid[1 + place // COLUMNS, place % COLUMNS])
        _by_value(panel, scored, study, space, name)
        weight = f"importance {weights[name]:.2f}" if name in weights else "one value"
        panel.set_title(f"{name} ({weight})" if weights else name, fontsize=10)
        panels.append(panel)
    for number, panel in enumerate(panels):
        edge = 0.05 * (limits[1] - limits[0])  # whole markers there
        panel.set_ylim(limits[0] - edge, limits[1] + edge)
        panel.grid(alpha=0.3)
        panel.set_ylabel(monitor if number == 0 or number % COLUMNS == 1 else "")
    save_figure(figure, path)


def _by_trial(
    axes: Axes, shown: Sequence[tuple[FrozenTrial, float | None]], study: SweepStudy
) -> None:
    """Draw the value of each trial, and the best one so far."""
    points = [(trial.number, score, state_of(trial)) for trial, score in shown]
    for state, (marker, colour) in MARKS.items():
        there = [(number, score) for number, score, word in points if word == state]
        if there := [(number, score) for number, score in there if score is not None]:
            axes.scatter(*zip(*there), marker=marker, color=colour, label=state, zorder=3)
    failed = [number for number, _, word in points if word in ("failed", "interrupted")]
    for number in failed:
        label = "failed or interrupted" if number == failed[0] else None
        axes.axvline(number, color="tab:red", alpha=0.5, linestyle=":", label=label)
    complete = [(n, score) for n, score, word in points if score is not None and word == "complete"]
    if complete:
        numbers, values = zip(*complete)
        so_far = (np.maximum if study.higher else np.minimum).accumulate(values)
        ends = [*numbers, max(number for number, _, _ in points)]
        axes.step(ends, [*so_far, so_far[-1]], where="post", color="tab:orange", label="the best")
    axes.set_xlabel("trial")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=9)


def _by_value(
    axes: Axes,
    scored: Sequence[tuple[FrozenTrial, float]],
    study: SweepStudy,
    space: Space,
    name: str,
) -> None:
    """Draw the value of each trial against the value of an option, with a ring for the best."""
    distribution: Any = space.distributions[name]
    if isinstance(distribution, CategoricalDistribution):
        places = {choice: number for number, choice in enumerate(distribution.choices)}
        found = [space.values({name: choice})[name] for choice in places]
        labels = [in_words({"": value}).strip() for value in found]
        upright = 90 if max(map(len, labels)) * len(labels) > 40 else 0
        axes.set_xticks(range(len(labels)), labels, rotation=upright, parse_math=False)
        axes.set_xlim(-0.5, len(labels) - 0.5)
    else:
        places = {}
        low, high = distribution.low, distribution.high
        if distribution.log:
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.xaxis.set_major_formatter("{x:g}")
            axes.set_xlim(low / (high / low) ** 0.05, high * (high / low) ** 0.05)
        else:
            axes.set_xlim(low - 0.05 * (high - low), high + 0.05 * (high - low))
    points = [
        (places.get(trial.params[name], trial.params[name]), score, trial)
        for trial, score in scored
        if name in trial.params
    ]
    for state, (marker, colour) in MARKS.items():
        there = [(x, score) for x, score, trial in points if state_of(trial) == state]
        if there:
            axes.scatter(*zip(*there), marker=marker, color=colour, alpha=0.8, zorder=3)
    best = study.best
    for x, score, trial in points:
        if best is not None and trial.number == best.number:
            ring: dict[str, Any] = {"facecolors": "none", "edgecolors": "tab:orange"}
            axes.scatter([x], [score], s=140, linewidths=2.0, zorder=4, **ring)


def _limits(values: Sequence[float], higher: bool) -> tuple[float, float]:
    """Return limits of the axis that leave out values far worse than most."""
    if not values:
        return 0.0, 1.0
    ordered = sorted(values, reverse=higher)
    best, middle = ordered[0], ordered[len(ordered) // 2]
    reach = 6 * abs(middle - best) or abs(ordered[-1] - best) or 1.0
    far = [value for value in ordered if abs(value - best) <= reach]
    low, high = min(far), max(far)
    margin = 0.1 * (high - low) or 0.05
    return low - margin, high + margin
