"""Pictures of results/cpu_speed.csv: ratios over H, for each T and B.

``python benchmarks/pictures.py results/cpu_speed.csv`` draws them again.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from table import read

# Okabe and Ito's colours for colour-blind readers, and a marker for each for print.
STYLES = {
    "none": ("#000000", "o"),
    "layer": ("#0072B2", "s"),
    "rms": ("#009E73", "^"),
    "batch": ("#D55E00", "D"),
    "batch_pooled": ("#CC79A7", "v"),
}
TITLES = {"train": "Training step (forward and backward)", "infer": "Inference (forward)"}
TICKS = (0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2.5)
TOP = 2.8  # a larger ratio is a number at the upper edge, so that the others stay distinct
Row = Mapping[str, object]


def draw(rows: Sequence[Row], path: Path, mode: str) -> bool:
    """Draw one picture of one mode, a column of panels for each cell and B, a row for each T.

    Returns:
        True if there was anything to draw.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    wanted = {"shape": "grid", "mode": mode, "baseline": "torch"}
    rows = [row for row in rows if all(row[name] == value for name, value in wanted.items())]
    if not rows:
        return False
    steps, batches, sizes = (sorted({int(str(row[axis])) for row in rows}) for axis in "TBH")
    cells = list(dict.fromkeys(str(row["cell"]) for row in rows))
    columns = [(cell, batch) for cell in cells for batch in batches]
    figure = Figure((1.5 + 2.2 * len(columns), 1.4 + 2.4 * len(steps)), layout="constrained")
    grid = figure.subplots(len(steps), len(columns), sharex=True, sharey=True, squeeze=False)
    handles: dict[str, Any] = {}
    for panels, T in zip(grid, steps):
        for axes, (cell, B) in zip(panels, columns):
            members = [
                row
                for row in rows
                if row["cell"] == cell and (str(row["T"]), str(row["B"])) == (str(T), str(B))
            ]
            handles |= draw_panel(axes, members, sizes)
        panels[0].set_ylabel(f"T = {T}\nratio")
    for axes, (cell, B) in zip(grid[0], columns):
        axes.set_title(f"{cell.upper()}, B = {B}", fontsize=10)
    for axes in grid[-1]:
        axes.set_xlabel("H")

    axes = grid[0][0]  # the other panels share it
    lowest = min(float(str(row["ratio"])) for row in rows)
    axes.set_yscale("log")
    axes.set_ylim(min(0.6, lowest / 1.1), TOP * 1.05)
    axes.yaxis.set_major_locator(FixedLocator(TICKS))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlim(-0.35, len(sizes) - 0.65)
    axes.set_xticks(range(len(sizes)), [str(size) for size in sizes])
    figure.suptitle(
        f"{TITLES[mode]}: time of seqnorm / time of torch.nn without norm\n"
        "below the line at 1 seqnorm is the faster; an arrow: beyond the axis "
        f"({rows[0]['machine']}, threads: {rows[0]['threads']}, torch {rows[0]['torch']})",
        fontsize=11,
    )
    order = [norm for norm in STYLES if norm in handles]
    names = [f"norm={norm!r}" if norm != "none" else "norm=None" for norm in order]
    lines = [handles[norm] for norm in order]
    figure.legend(lines, names, loc="outside lower center", ncols=len(order), frameon=False)
    figure.savefig(path, dpi=130)
    return True


def draw_panel(axes: Any, rows: Sequence[Row], sizes: Sequence[int]) -> dict[str, Any]:
    """Draw a line for each norm over the places of the sizes H, and return the lines by norm."""
    lines: dict[str, Any] = {}
    axes.axhline(1, color="#666666", linewidth=1.5, zorder=1)
    axes.grid(alpha=0.3)
    written = [0] * len(sizes)  # numbers at the upper edge, below each other
    for norm, (colour, marker) in STYLES.items():
        ratios = {
            sizes.index(int(str(row["H"]))): float(str(row["ratio"]))
            for row in rows
            if row["norm"] == norm
        }
        if not ratios:
            continue
        places = sorted(ratios)
        shown = [ratios[at] if ratios[at] <= TOP else float("nan") for at in places]
        style = {"color": colour, "marker": marker, "markersize": 4.5, "linewidth": 1.5}
        (lines[norm],) = axes.plot(places, shown, **style)
        for at in (place for place in places if ratios[place] > TOP):
            place = {"xy": (at, TOP), "xytext": (0, -10 * written[at]), "va": "top", "ha": "center"}
            label = f"{ratios[at]:.1f}↑"
            axes.annotate(label, textcoords="offset points", color=colour, fontsize=8, **place)
            written[at] += 1
    return lines


def draw_all(rows: Sequence[Row], csv_path: Path) -> list[Path]:
    """Draw the pictures beside a table: training under its name, inference with ``_infer``."""
    paths = {
        "train": csv_path.with_suffix(".png"),
        "infer": csv_path.with_name(f"{csv_path.stem}_infer.png"),
    }
    return [path for mode, path in paths.items() if draw(rows, path, mode)]


if __name__ == "__main__":
    print(*draw_all(read(Path(sys.argv[1])), Path(sys.argv[1])), sep="\n")
