"""Figures of the study: pictures, their losses, and the inputs that a picture depends on."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from statistics import mean
from typing import TYPE_CHECKING, Any

from seqnorm.studies.evidence import Seeds, mean_of
from seqnorm.studies.figures import NAMES, STYLES, draw_line, figure, log_ticks, panels, with_legend
from seqnorm.studies.table import Table

from .data import CONTRASTS, SHOWN
from .verdict import ALL, NORMS, OF_ALL, OF_ONE, by_seed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from .study import ImageGeneration

# Between norms at one place of an axis.
APART = 0.14
SHORT = NAMES | {"conditional": "Conditional IN"}
# AdaIN's yellow is faint on paper.
EDGE: dict[str, dict[str, Any]] = {"adaptive": {"markeredgecolor": "black", "markeredgewidth": 0.6}}


def figures(study: ImageGeneration, table: Table) -> dict[str, Figure]:
    """Draw all figures of the reported runs."""
    runs, styles = table.where(stage="run"), study.styles
    drawings = (_losses, _dependence, _training)
    return {
        "pictures": _gallery(runs, styles, study.size, faded=False),
        "contrast": _gallery(runs, styles, study.size, faded=True),
        **{draw.__name__[1:]: draw(runs, styles) for draw in drawings},
    }


def _gallery(runs: Table, styles: Sequence[str], size: int, *, faded: bool) -> Figure:
    """Show test contents, or one that fades, as the networks of seed 0 redrew them."""
    from matplotlib.image import imread

    count = len(CONTRASTS) if faded else SHOWN
    start = SHOWN if faded else 0
    rows = ["style", "content", *NORMS]
    drawn = figure(0.9 + len(styles) * count * 0.66, 0.72 * len(rows))
    grid = drawn.subplots(len(rows), len(styles), squeeze=False)
    for (row, norm), (column, style) in product(enumerate(rows), enumerate(styles)):
        axes = grid[row, column]
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        name = {"style": f"style_{style}", "content": "contents"}.get(norm, f"{norm}_{style}")
        path = None if runs.files is None else runs.files / f"{name}.png"
        if path is not None and path.exists():
            strip: Any = imread(path)
            if norm != "style":
                strip = strip[:, start * size : (start + count) * size]
            axes.imshow(strip, interpolation="nearest")
        if column == 0:
            axes.set_ylabel(SHORT.get(norm, norm), rotation=0, ha="right", va="center", fontsize=8)
        if row == 0:
            axes.set_title(style, fontsize=9)
        if faded and norm == "content" and axes.images:
            places = [(i + 0.5) * size for i in range(count)]
            axes.set_xticks(places, [f"{c:g}" for c in CONTRASTS], fontsize=7)
            axes.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False, length=0)
    return drawn


def _marks(axes: Axes, runs: Table, places: Sequence[tuple[Sequence[str], str]]) -> None:
    """Draw marks of all norms side by side, at the places of (styles, measure)."""
    for norm in NORMS:
        values = {
            x + (NORMS.index(norm) - 2) * APART: by_seed(runs, norm, group, measure)
            for x, (group, measure) in enumerate(places)
            if norm in OF_ONE or group is places[-1][0]  # all styles
        }
        draw_line(axes, values, norm, SHORT[norm], linestyle="none", **EDGE.get(norm, {}))


def _losses(runs: Table, styles: Sequence[str]) -> Figure:
    """Draw style and content loss of test contents by norm, and by the source of statistics."""
    drawn, grid = panels(["", "", ""], 3.6, 3, 9.0, width_ratios=[4, 4, 3])
    groups = [*([style] for style in styles), styles]
    for axes, kind in zip(grid, ("style", "content")):
        _marks(axes, runs, [(group, f"test_{kind}") for group in groups])
        axes.set_xticks(range(len(groups)), [*styles, "all styles"])
        axes.set_ylabel(f"{kind} loss of test contents")
    whose = {"running": "test_style", "batch": "batch_style", "its own": "alone_style"}
    values = {x: by_seed(runs, "batch", styles, m) for x, m in enumerate(whose.values())}
    draw_line(grid[2], values, "batch")
    own = by_seed(runs, "instance", styles, "test_style")
    draw_line(grid[2], {len(whose): own}, "instance")
    grid[2].set_xticks(range(len(whose) + 1), [*whose, "IN"])
    grid[2].set(xlabel="BatchNorm with statistics", ylabel="style loss of test contents")
    for axes in grid:
        _from_zero(axes)
    return with_legend(drawn, grid[:1], len(NORMS))


def _from_zero(axes: Axes) -> None:
    """Set the axis from 0 to above the highest mark, which a margin of equal values would cut."""
    axes.set_ylim(0, 1.06 * axes.get_ylim()[1])


def _dependence(runs: Table, styles: Sequence[str]) -> Figure:
    """Draw style loss by contrast, and the change of a picture when something else changes."""
    drawn, (axes_contrast, axes_moves) = panels(["", ""], 3.6, 2, 9.0)
    for norm in NORMS:
        wanted = styles if norm in OF_ONE else [ALL]
        curves = [runs.curve_by_seed("contrast", norm=norm, style=style) for style in wanted]
        values = {x: mean_of(curve.get(x, Seeds()) for curve in curves) for x in CONTRASTS}
        draw_line(axes_contrast, values, norm, SHORT[norm], **EDGE.get(norm, {}))
    axes_contrast.set_xscale("log", base=2)
    axes_contrast.set_xticks(CONTRASTS, [f"{c:g}" for c in CONTRASTS])
    axes_contrast.set(xlabel="contrast of the content", ylabel="style loss of test contents")
    _from_zero(axes_contrast)
    moves = {
        "other\nbatch-mates,\ntraining": "mates",
        "other\nbatch-mates,\ninference": "mates_inference",
        "half the\ncontrast": "contrast",
        "another\ncontent": "between",
    }
    _marks(axes_moves, runs, [(styles, measure) for measure in moves.values()])
    axes_moves.set_xticks(range(len(moves)), list(moves), fontsize=8)
    axes_moves.set_ylabel("mean change of a pixel (0 to 1)")
    return with_legend(drawn, [axes_contrast], len(NORMS))


def _training(runs: Table, styles: Sequence[str]) -> Figure:
    """Draw losses in training as lines, and losses on test contents in inference as marks."""
    columns = len(styles) + 1
    titles = [*styles, "all styles", *[""] * columns]
    drawn, grid = panels(titles, 2.4, columns, 9.0, fontsize=9, sharey="row")
    above, below = grid[:columns], grid[columns:]
    for part, row in (("style", above), ("content", below)):
        for axes, style in zip(row, [*styles, ALL]):
            for norm in OF_ALL if style == ALL else OF_ONE:
                _draw_curves(axes, runs.where(norm=norm, style=style), part, norm)
        row[0].set_ylabel(f"{part} loss")
    for axes in below:
        axes.set_xlabel("step")
    if any(axes.lines for axes in above):
        above[0].set_yscale("log")
        log_ticks(above[0].yaxis)
    # At the end, because it fixes the top too, and the axes of a row share theirs.
    below[0].set_ylim(bottom=0)
    return with_legend(drawn, [above[0], above[-1]], len(NORMS))


def _draw_curves(axes: Axes, runs: Table, part: str, norm: str) -> None:
    look = {name: STYLES[norm][name] for name in ("color", "linestyle", "marker")}
    marks = {"linestyle": "none", "label": SHORT[norm], "markersize": 5, **EDGE.get(norm, {})}
    for kind, change in (("train", {"marker": ""}), ("test", marks)):
        if curve := runs.curve_by_seed(f"{kind}_{part}"):
            means = [mean(curve[x].values()) for x in sorted(curve)]
            axes.plot(sorted(curve), means, **(look | change))
