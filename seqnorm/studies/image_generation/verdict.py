"""Numbers of the study of image generation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from seqnorm.studies.evidence import Finding, Seeds, mean_of
from seqnorm.studies.table import Table

if TYPE_CHECKING:
    from .study import ImageGeneration

# One network for each style, or one for all of them.
OF_ONE = ("none", "batch", "instance")
OF_ALL = ("conditional", "adaptive")
NORMS = (*OF_ONE, *OF_ALL)
# The style of a network that has them all.
ALL = "all"
# Measures that are compared as means over styles; the argument predicts that BatchNorm's is larger.
COMPARED = {
    "test_style": "style loss of test photographs",
    "test_total": "loss that is minimised, on test photographs",
    "contrast": "change of a picture when the contrast of its content is halved",
    "faint_style": "style loss of test photographs at a quarter of their contrast",
    "mates": "change of a picture when its batch-mates change, in training mode",
}


def by_seed(runs: Table, norm: str, styles: Sequence[str], measure: str) -> Seeds:
    """Return a measure's mean over styles.

    A run of one network for all styles has that mean already, whichever styles are asked for.
    """
    wanted = [ALL] if norm in OF_ALL else styles
    return mean_of(runs.by_seed(measure, norm=norm, style=style) for style in wanted)


def compare(runs: Table, measure: str, styles: Sequence[str]) -> Seeds:
    """Return the mean over styles of BatchNorm minus that of InstanceNorm."""
    return by_seed(runs, "batch", styles, measure) - by_seed(runs, "instance", styles, measure)


def findings(study: ImageGeneration, table: Table) -> list[Finding]:
    """Return all findings."""
    runs, styles = table.where(stage="run"), study.styles
    found: list[Finding] = []

    def add(what: str, value: Seeds, expected: int = 0, key: bool = False) -> None:
        found.append(Finding(what, value.interval, expected=expected, key=key))

    for measure, what in COMPARED.items():
        name = f"{what}, BatchNorm minus InstanceNorm, mean over styles"
        add(name, compare(runs, measure, styles), 1, True)
    loss = {norm: by_seed(runs, norm, styles, "test_style") for norm in NORMS}
    what = "style loss of the same BatchNorm networks, running statistics minus those of"
    for measure, whose in {"alone_style": "each picture alone", "batch_style": "the batch"}.items():
        add(f"{what} {whose}", loss["batch"] - by_seed(runs, "batch", styles, measure), 1)
    what = "style loss of test photographs, BatchNorm minus no norm, mean over styles"
    add(what, loss["batch"] - loss["none"])
    for norm, name in (("conditional", "Conditional InstanceNorm"), ("adaptive", "AdaIN")):
        what = f"style loss, one network for all styles with {name} minus one network for each"
        add(f"{what} with BatchNorm", loss[norm] - loss["batch"])
    return found


def quantities(study: ImageGeneration, table: Table) -> dict[str, Any]:
    """Return the numbers of the text: means over styles, and BatchNorm minus InstanceNorm."""
    runs, styles = table.where(stage="run"), study.styles
    return {
        "of": lambda norm, measure: by_seed(runs, norm, styles, measure),
        "more": lambda measure, *of: compare(runs, measure, of or styles),
    }
