"""Findings and claims of the study of image generation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from seqnorm.studies.evidence import Finding, Seeds, mean_of
from seqnorm.studies.table import Table

# One network for each style, or one for all of them.
OF_ONE = ("none", "batch", "instance")
OF_ALL = ("conditional", "adaptive")
NORMS = (*OF_ONE, *OF_ALL)
# The style of a network that has them all.
ALL = "all"
# Measures that are compared as means over styles, and the sign that the argument predicts.
FIRST = (
    ("style loss of test photographs", "test_style", 1),
    ("loss that is minimised, on test photographs", "test_total", 1),
    ("change of a picture when the contrast of its content is halved", "contrast", 1),
    ("style loss of test photographs at a quarter of their contrast", "faint_style", 1),
    ("change of a picture when its batch-mates change, in training mode", "mates", 1),
)
LATER = (
    ("style loss of the worst quarter of the test photographs", "worst_style", 1),
    ("content loss of test photographs", "test_content", 0),
    ("style loss in training", "train_style", 1),
    ("change of a picture when its batch-mates change, in inference", "mates_inference", 0),
    ("difference of the pictures of two contents", "between", 0),
)


def by_seed(runs: Table, norm: str, styles: Sequence[str], measure: str) -> Seeds:
    """Return a measure's mean over styles.

    A run of one network for all styles has that mean already, whichever styles are asked for.
    """
    wanted = [ALL] if norm in OF_ALL else styles
    return mean_of(runs.by_seed(measure, norm=norm, style=style) for style in wanted)


def compare(runs: Table, measure: str, styles: Sequence[str]) -> Seeds:
    """Return the mean over styles of BatchNorm minus that of InstanceNorm."""
    return by_seed(runs, "batch", styles, measure) - by_seed(runs, "instance", styles, measure)


def findings(runs: Table, styles: Sequence[str]) -> list[Finding]:
    """Return all findings; those that answer the question first."""
    style_loss = {norm: by_seed(runs, norm, styles, "test_style") for norm in NORMS}
    found: list[Finding] = []

    def add(what: str, value: Seeds, expected: int = 0, key: bool = False) -> None:
        found.append(Finding(what, value.interval, expected=expected, key=key))

    def one_for_all(other: str, name: str) -> None:
        for norm, full in (("conditional", "Conditional InstanceNorm"), ("adaptive", "AdaIN")):
            what = f"style loss, one network for all styles with {full} minus one network for each"
            add(f"{what} with {name}", style_loss[norm] - style_loss[other])

    for measures in (FIRST, LATER):
        for what, measure, expected in measures:
            name = f"{what}, BatchNorm minus InstanceNorm, mean over styles"
            add(name, compare(runs, measure, styles), expected, measures is FIRST)
        if measures is FIRST:
            for whose, measure in (
                ("those of each picture alone", "alone_style"),
                ("those of the batch", "batch_style"),
            ):
                what = "style loss of the same BatchNorm networks, running statistics minus"
                other = by_seed(runs, "batch", styles, measure)
                add(f"{what} {whose}", style_loss["batch"] - other, 1)
            what = "style loss of test photographs, BatchNorm minus no norm, mean over styles"
            add(what, style_loss["batch"] - style_loss["none"])
            one_for_all("batch", "BatchNorm")
    for style in styles:
        what = f"style loss of test photographs, {style}, BatchNorm minus InstanceNorm"
        add(what, compare(runs, "test_style", [style]), 1)
    one_for_all("instance", "InstanceNorm")
    return found


def quantities(runs: Table, styles: Sequence[str]) -> dict[str, Any]:
    """Return the numbers of the text: means over styles, and BatchNorm minus InstanceNorm."""
    return {
        "of": lambda norm, measure: by_seed(runs, norm, styles, measure),
        "more": lambda measure, *of: compare(runs, measure, of or styles),
    }
