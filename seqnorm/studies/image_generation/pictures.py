"""The figures of the study: what the networks drew, their losses, and what a picture depends on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

from seqnorm.studies.figures import NAMES, STYLES, draw_line, figure, tidy
from seqnorm.studies.study import Picture
from seqnorm.studies.table import Table, Value

from .reading import ALL, NORMS, OF_ALL, OF_ONE, by_seed
from .stylising import CONTRASTS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Test contents that are shown at full contrast.
SHOWN = 3
# Between norms at one place of an axis.
APART = 0.14
SHORT = NAMES | {"conditional": "Conditional IN"}
# AdaIN's yellow is faint on paper.
EDGE: dict[str, dict[str, Any]] = {"adaptive": {"markeredgecolor": "black", "markeredgewidth": 0.6}}


def draw(runs: Table, styles: Sequence[str], size: int) -> list[Picture]:
    """All figures, of the runs that are reported."""
    return [
        gallery(runs, styles, size, faded=False),
        gallery(runs, styles, size, faded=True),
        losses(runs, styles),
        dependence(runs, styles),
        training(runs, styles),
    ]


def gallery(runs: Table, styles: Sequence[str], size: int, *, faded: bool) -> Picture:
    """What the networks of seed 0 made of test contents, or of one that fades."""
    count = len(CONTRASTS) if faded else SHOWN
    start = SHOWN if faded else 0
    rows = ["style", "content", *NORMS]
    columns = len(styles)
    drawn = figure(0.9 + columns * count * 0.66, 0.72 * len(rows))
    grid = drawn.subplots(len(rows), columns, squeeze=False)
    for row, norm in enumerate(rows):
        for column, style in enumerate(styles):
            axes = grid[row, column]
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_visible(False)
            name = {"style": f"style_{style}", "content": "contents"}.get(norm, f"{norm}_{style}")
            strip = _read(runs.files, name)
            if strip is not None and norm != "style":
                strip = strip[:, start * size : (start + count) * size]
            if strip is not None:
                axes.imshow(strip, interpolation="nearest")
            if column == 0:
                axes.set_ylabel(
                    SHORT.get(norm, norm), rotation=0, ha="right", va="center", fontsize=8
                )
            if row == 0:
                axes.set_title(style, fontsize=9)
            if faded and norm == "content" and strip is not None:
                places = [(i + 0.5) * size for i in range(count)]
                axes.set_xticks(places, [f"{c:g}" for c in CONTRASTS], fontsize=7)
                axes.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False, length=0)
    if faded:
        return Picture("contrast", drawn, CONTRAST)
    return Picture("pictures", drawn, PICTURES)


PICTURES = (
    "Photographs that no network was trained on (second row), redrawn in the styles above them, by "
    "one network a row: without a norm, with BatchNorm and with InstanceNorm there is a network "
    "for each style, the last two rows have one network for all styles. A good picture has the "
    "texture's pattern everywhere and is still seen to be of its photograph. All are made in "
    "inference, by the networks of the first seed."
)
CONTRAST = (
    "One photograph whose contrast is lowered to the share above it, and what the networks make of "
    "it. A style has a contrast of its own, so a good picture does not fade with its content. "
    "InstanceNorm divides each picture's contrast out; BatchNorm divides by that of the pictures "
    "it was trained on, and a faint photograph stays faint."
)


def _read(folder: Path | None, name: str) -> Any:
    from matplotlib.image import imread

    path = None if folder is None else folder / f"{name}.png"
    return imread(path) if path is not None and path.exists() else None


def losses(runs: Table, styles: Sequence[str]) -> Picture:
    """Style and content loss of test contents by norm, and with whose statistics."""
    drawn = figure(9.0, 3.6)
    axes_style, axes_content, axes_whose = drawn.subplots(1, 3, width_ratios=[4, 4, 3])
    groups = [*((style, [style]) for style in styles), ("all styles", styles)]
    for axes, measure in ((axes_style, "test_style"), (axes_content, "test_content")):
        for place, norm in enumerate(NORMS):
            values = {}
            for x, (_, group) in enumerate(groups):
                if norm in OF_ONE or group is styles:
                    values[x + (place - 2) * APART] = by_seed(runs, norm, group, measure)
            draw_line(axes, values, norm, SHORT[norm], linestyle="none", **EDGE.get(norm, {}))
        axes.set_xticks(range(len(groups)), [name for name, _ in groups])
        _from_zero(axes)
    axes_style.set_ylabel("style loss of test contents")
    axes_content.set_ylabel("content loss of test contents")
    whose = [("running", "test_style"), ("batch", "batch_style"), ("its own", "alone_style")]
    values = {x: by_seed(runs, "batch", styles, measure) for x, (_, measure) in enumerate(whose)}
    draw_line(axes_whose, values, "batch")
    own = by_seed(runs, "instance", styles, "test_style")
    draw_line(axes_whose, {len(whose): own}, "instance")
    axes_whose.set_xticks(range(len(whose) + 1), [*(name for name, _ in whose), "IN"])
    axes_whose.set_xlabel("BatchNorm with statistics")
    axes_whose.set_ylabel("style loss of test contents")
    _from_zero(axes_whose)
    for axes in (axes_style, axes_content, axes_whose):
        tidy(axes)
    handles, labels = axes_style.get_legend_handles_labels()
    drawn.legend(handles, labels, loc="outside lower center", ncols=len(NORMS), frameon=False)
    return Picture("losses", drawn, LOSSES)


LOSSES = (
    "How far the redrawn test photographs are from their style (left; 0 is the style's own "
    "statistics, 1 a picture without any pattern) and from their content (middle), as means over "
    "seeds with 95 % intervals; lower is better in both. At 'all styles' stand the means over the "
    "styles, of networks made for each or, for the last two norms, of one network for all, which "
    "is trained for fewer steps a style. Right: the same trained BatchNorm networks given other "
    "statistics: those kept from training ('running'), those of a batch of test photographs, or "
    "those of each photograph alone ('its own'), which makes BatchNorm an InstanceNorm; beside "
    "them networks trained with InstanceNorm (IN). The fall from 'batch' to 'its own' is what "
    "mixing images costs."
)


def _from_zero(axes: Axes) -> None:
    """The axis from 0 to above the highest mark, which a margin of values alike would cut."""
    axes.set_ylim(0, 1.06 * axes.get_ylim()[1])


def dependence(runs: Table, styles: Sequence[str]) -> Picture:
    """Style loss by contrast, and how much a picture moves when something else changes."""
    drawn = figure(9.0, 3.6)
    axes_contrast, axes_moves = drawn.subplots(1, 2)
    for norm in NORMS:
        draw_line(
            axes_contrast,
            _contrast_curve(runs, norm, styles if norm in OF_ONE else [ALL]),
            norm,
            SHORT[norm],
            **EDGE.get(norm, {}),
        )
    axes_contrast.set_xscale("log", base=2)
    axes_contrast.set_xticks(CONTRASTS, [f"{c:g}" for c in CONTRASTS])
    axes_contrast.set_xlabel("contrast of the content")
    axes_contrast.set_ylabel("style loss of test contents")
    _from_zero(axes_contrast)
    moves = [
        ("other\nbatch-mates,\ntraining", "mates"),
        ("other\nbatch-mates,\ninference", "mates_inference"),
        ("half the\ncontrast", "contrast"),
        ("another\ncontent", "between"),
    ]
    for place, norm in enumerate(NORMS):
        values = {
            x + (place - 2) * APART: by_seed(runs, norm, styles, measure)
            for x, (_, measure) in enumerate(moves)
        }
        draw_line(axes_moves, values, norm, SHORT[norm], linestyle="none", **EDGE.get(norm, {}))
    axes_moves.set_xticks(range(len(moves)), [name for name, _ in moves], fontsize=8)
    axes_moves.set_ylabel("mean change of a pixel (0 to 1)")
    for axes in (axes_contrast, axes_moves):
        tidy(axes)
    handles, labels = axes_contrast.get_legend_handles_labels()
    drawn.legend(handles, labels, loc="outside lower center", ncols=len(NORMS), frameon=False)
    return Picture("dependence", drawn, DEPENDENCE)


DEPENDENCE = (
    "Left: style loss when the contents lose contrast; a flat line is a network that stylises a "
    "faint photograph as well as a strong one. Right: how much a redrawn picture changes when the "
    "other pictures of its batch are exchanged (with a batch's own statistics, as in training, and "
    "in inference), when its own content loses half of its contrast, and, as a yardstick, when its "
    "content is another photograph. Means over seeds and styles with 95 % intervals."
)


def _contrast_curve(runs: Table, norm: str, styles: Sequence[str]) -> dict[float, dict[int, float]]:
    """Style loss by contrast and seed, mean over the styles that the seed has."""
    found: dict[float, dict[int, list[float]]] = {}
    for style in styles:
        for row in runs.where(norm=norm, style=style):
            for contrast, value in runs.curve(row, "contrast"):
                found.setdefault(contrast, {}).setdefault(_seed(row), []).append(value)
    return {
        contrast: {seed: mean(v) for seed, v in seeds.items() if len(v) == len(styles)}
        for contrast, seeds in found.items()
    }


def _seed(row: Mapping[str, Value]) -> int:
    seed = row["seed"]
    assert isinstance(seed, int)
    return seed


def training(runs: Table, styles: Sequence[str]) -> Picture:
    """Losses over the steps of training, lines in training, marks on test contents in inference."""
    from matplotlib.ticker import LogLocator, NullLocator

    groups = [*((style, style, OF_ONE) for style in styles), ("all styles", ALL, OF_ALL)]
    drawn = figure(9.0, 4.8)
    grid = drawn.subplots(2, len(groups), sharey="row", squeeze=False)
    for column, (title, style, norms) in enumerate(groups):
        for row, part in enumerate(("style", "content")):
            axes = grid[row, column]
            for norm in norms:
                _draw_curves(axes, runs.where(norm=norm, style=style), part, norm)
            tidy(axes)
        grid[0, column].set_title(title, fontsize=9)
        grid[1, column].set_xlabel("step")
    if any(axes.lines for axes in grid[0]):
        grid[0, 0].set_yscale("log")
        grid[0, 0].yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        grid[0, 0].yaxis.set_major_formatter("{x:g}")
        grid[0, 0].yaxis.set_minor_locator(NullLocator())
    # Only now, for it fixes the top too, and the axes of a row share theirs.
    grid[1, 0].set_ylim(bottom=0)
    grid[0, 0].set_ylabel("style loss")
    grid[1, 0].set_ylabel("content loss")
    labels = {
        label: handle
        for axes in (grid[0, 0], grid[0, -1])
        for handle, label in zip(*axes.get_legend_handles_labels())
    }
    drawn.legend(
        labels.values(), labels.keys(), loc="outside lower center", ncols=len(NORMS), frameon=False
    )
    return Picture("training", drawn, TRAINING)


TRAINING = (
    "Losses over the steps of training, means over seeds, the style loss on a logarithmic scale; "
    "lower is better. Lines are the photographs trained on, with a batch's statistics for "
    "BatchNorm; marks are test photographs in inference. These are other photographs, easier or "
    "harder ones: what tells of a norm is how far its marks are from its line beside how far "
    "those of another norm are. The learning rate is tuned for each norm and style. The networks "
    "of the last column learn all styles at once, with fewer steps for each."
)


def _draw_curves(axes: Axes, runs: Table, part: str, norm: str) -> None:
    look = STYLES[norm]
    for kind in ("train", "test"):
        by_step: dict[float, list[float]] = {}
        for row in runs:
            for step, value in runs.curve(row, f"{kind}_{part}"):
                by_step.setdefault(step, []).append(value)
        if not by_step:
            continue
        steps = sorted(by_step)
        values = [mean(by_step[step]) for step in steps]
        if kind == "train":
            axes.plot(steps, values, color=look["color"], linestyle=look["linestyle"])
        else:
            style = EDGE.get(norm, {}) | {"markersize": 5}
            axes.plot(
                steps,
                values,
                color=look["color"],
                marker=look["marker"],
                linestyle="none",
                label=SHORT[norm],
                **style,
            )
