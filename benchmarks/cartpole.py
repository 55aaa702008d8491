"""CartPole without velocities, learned by recurrent policies with LayerNorm and without a norm.

``OMP_NUM_THREADS=1 nice -n 15 python benchmarks/cartpole.py --library sb3 --seeds 1 2 3 4 5`` makes
the runs that are missing in ``results/cartpole.csv`` and draws ``results/cartpole_sb3.png``. It can
be interrupted and resumed; a run is written when it has ended. ``--table`` prints the table of
``docs/reinforcement_learning.md`` instead. ``pip install 'seqnorm[rl]' matplotlib`` installs the
packages.

A policy sees the position of the cart and the angle of the pole, but not how fast they change. So
it has to remember earlier steps. The return is the number of steps for which the pole stands, at
most 500. Returns are those of the episodes of training, whose actions are drawn.

The options of "sb3" are those that RL Baselines3 Zoo found for this task and an LSTM without a
norm. Those of "torchrl" are similar, with a GRU. They are the same for every network. An encoder is
a linear layer and tanh between the observation and the recurrent layer. In "hidden", LayerNorm
leaves the product of W_ih and its input as it is.

Axes: B environments, T steps.
"""

from __future__ import annotations

import argparse
import csv
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from cartpole_runs import RUNS, Episodes

RESULTS = Path("results/cartpole.csv")
# The norm of each network, and whether a layer stands before the recurrent one.
NETWORKS: dict[str, tuple[str | None, bool]] = {
    "none": (None, False),
    "layer": ("layer", False),
    "hidden": ("hidden", False),
    "none, encoder": (None, True),
    "layer, encoder": ("layer", True),
}
STEPS = 100_000
POINT = 5_000  # steps of the environments for each point of a curve
COLUMNS = ("library", "network", "seed", "steps", "mean_return", "episodes", "seconds", "versions")
# Okabe and Ito's colours for colour-blind readers, and dashes for print.
STYLES = {
    "none": ("#000000", "-", "without a norm"),
    "layer": ("#0072B2", "-", "LayerNorm"),
    "hidden": ("#D55E00", "--", "LayerNorm, but not of the input"),
}
PANELS = {"": "the observation itself", ", encoder": "behind an encoder"}
# The 97.5 % quantiles of Student's t distribution, by the number of seeds.
QUANTILES = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365}

Key = tuple[str, str, str]
Curves = Mapping[Key, Sequence[tuple[int, float]]]


def points(episodes: Episodes, steps: int) -> list[tuple[int, float, int]]:
    """Return the steps, the mean return and the number of episodes of each point of a curve.

    A point without episodes has the return of the point before.
    """
    found: list[tuple[int, float, int]] = []
    for end in range(POINT, steps + 1, POINT):
        returns = [value for step, value in episodes if end - POINT < step <= end]
        before = found[-1][1] if found else math.nan
        found.append((end, mean(returns) if returns else before, len(returns)))
    return found


def read(path: Path) -> dict[Key, list[tuple[int, float]]]:
    """Return the curve of each run, by library, network and seed."""
    curves: dict[Key, list[tuple[int, float]]] = defaultdict(list)
    if path.exists():
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                key = row["library"], row["network"], row["seed"]
                curves[key].append((int(row["steps"]), float(row["mean_return"])))
    return dict(curves)


def make(
    path: Path,
    library: str,
    seeds: Iterable[int],
    run: Callable[[str | None, bool, int, int], Episodes],
    networks: Iterable[str] = tuple(NETWORKS),
    steps: int = STEPS,
) -> None:
    """Make the missing runs by calls of ``run``, seed by seed, and write their curves."""
    for seed in seeds:
        for network in networks:
            if (library, network, str(seed)) in read(path):
                continue
            begin = time.perf_counter()
            curve = points(run(*NETWORKS[network], seed, steps), steps)
            shared = {"library": library, "network": network, "seed": seed}
            shared["versions"] = versions(library)
            shared["seconds"] = round(time.perf_counter() - begin)
            new = not path.exists()
            with path.open("a", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
                if new:
                    writer.writeheader()
                for step, value, count in curve:
                    rows = {"steps": step, "mean_return": f"{value:.1f}", "episodes": count}
                    writer.writerow(shared | rows)
            print(library, network, seed, *(f"{value:.0f}" for _, value, _ in curve), flush=True)


def versions(library: str) -> str:
    """Return the versions of torch and of a library, if it is installed."""
    name = {"sb3": "sb3_contrib"}.get(library, library)
    try:
        return f"torch {torch.__version__}, {name} {import_module(name).__version__}"
    except ModuleNotFoundError:
        return f"torch {torch.__version__}"


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Return a mean and the half width of its 95 % interval by Student's t distribution."""
    if len(values) < 2:
        return values[0], math.nan
    return mean(values), QUANTILES[len(values)] * stdev(values) / math.sqrt(len(values))


def of_seeds(curves: Curves, library: str, network: str) -> dict[str, list[float]]:
    """Return the returns of a curve by seed."""
    names = [key for key in curves if key[:2] == (library, network)]
    return {key[2]: [value for _, value in curves[key]] for key in names}


LAYERS = {"sb3": "LSTM, sb3-contrib", "torchrl": "GRU, torchrl"}
# The measures of the table: the part of a curve over which returns are averaged.
MEASURES: dict[str, Callable[[list[float]], float]] = {
    "whole training": mean,
    "last fifth": lambda curve: mean(curve[-len(curve) // 5 :]),
}


def table(path: Path) -> str:
    """Return the table of mean returns, with 95 % intervals over the seeds, in Markdown."""
    curves = read(path)
    lines = ["| runs | seeds | mean return over the | without a norm | with it | difference |"]
    lines.append("|---|---|---|---|---|---|")
    for library in dict.fromkeys(key[0] for key in curves):
        for network in NETWORKS:
            norm, comma, end = network.partition(",")
            if norm == "none":
                continue
            none = of_seeds(curves, library, f"none{comma}{end}")
            normed = of_seeds(curves, library, network)
            seeds = [seed for seed in none if seed in normed]
            for name, measure in MEASURES.items() if seeds else ():
                pairs = [(measure(none[seed]), measure(normed[seed])) for seed in seeds]
                columns = [*zip(*pairs), [two - one for one, two in pairs]]
                cells = [told(*interval(column)) for column in columns]
                cells[-1] = cells[-1] if cells[-1].startswith("-") else f"+{cells[-1]}"
                runs = f"{LAYERS[library]}: {STYLES[norm][2]}{comma}{end}"
                lines.append(f"| {runs} | {len(seeds)} | {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def told(middle: float, width: float) -> str:
    """Return a mean and its interval in words; one seed has no interval."""
    return f"{middle:.0f}" if math.isnan(width) else f"{middle:.0f} ± {width:.0f}"


def draw(path: Path, library: str) -> Path:
    """Draw the curves of a library: means over the seeds, their 95 % intervals, and every seed."""
    from matplotlib.figure import Figure

    curves = read(path)
    ends = [end for end in PANELS if of_seeds(curves, library, f"none{end}")]
    figure = Figure((2.5 + 4.5 * len(ends), 4.5), layout="constrained")
    panels = figure.subplots(1, len(ends), sharey=True, squeeze=False)[0]
    for axes, end in zip(panels, ends):
        for norm in STYLES:
            draw_line(axes, curves, library, norm, end)
        axes.set_ylim(0, 510)
        axes.set_xlim(0, None)
        axes.grid(alpha=0.3)
        axes.set_xlabel("steps of the environments")
        counts = {len(of_seeds(curves, library, f"{norm}{end}")) for norm in STYLES} - {0}
        seeds = f"{min(counts)} to {max(counts)}" if len(counts) > 1 else f"{max(counts)}"
        plural = "" if counts == {1} else "s"
        axes.set_title(f"{PANELS[end]} ({seeds} seed{plural})", fontsize=10)
    panels[0].set_ylabel("mean return of training episodes")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    figure.suptitle(
        f"CartPole without velocities: {LAYERS[library]}\n"
        "seeds (thin), mean (thick) and its 95 % interval (shaded)",
        fontsize=10,
    )
    picture = path.with_name(f"{path.stem}_{library}.png")
    figure.savefig(picture, dpi=130)
    return picture


def draw_line(axes: Any, curves: Curves, library: str, norm: str, end: str) -> None:
    """Draw the curves of one network into a panel, if there are any."""
    colour, dash, label = STYLES[norm]
    seeds = of_seeds(curves, library, f"{norm}{end}")
    if not seeds:
        return
    steps = [step for step, _ in curves[library, f"{norm}{end}", next(iter(seeds))]]
    for values in seeds.values():
        axes.plot(steps, values, dash, color=colour, alpha=0.3, linewidth=0.8)
    middles, widths = zip(*map(interval, zip(*seeds.values())))
    axes.plot(steps, middles, dash, color=colour, linewidth=2, label=label)
    if len(seeds) > 2:  # the interval of two seeds would cover the panel
        bounds = [[m + sign * w for m, w in zip(middles, widths)] for sign in (-1, 1)]
        axes.fill_between(steps, *bounds, color=colour, alpha=0.12, linewidth=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--library", choices=RUNS, default="sb3")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--networks", choices=NETWORKS, nargs="+", default=list(NETWORKS))
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--table", action="store_true", help="print the table, and train nothing")
    given = parser.parse_args()
    if given.table:
        print(table(given.results))
        return
    make(given.results, given.library, given.seeds, RUNS[given.library], given.networks)
    print(draw(given.results, given.library))


if __name__ == "__main__":
    main()
