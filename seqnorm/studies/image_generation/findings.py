"""What the table of the study says, each difference with its uncertainty."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from seqnorm.studies.evidence import Finding, paired
from seqnorm.studies.table import Table

from .reading import ALL, by_seed, compare

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
# Whose statistics else a BatchNorm network can be given.
STATISTICS = (
    ("those of each picture alone", "alone_style"),
    ("those of the batch", "batch_style"),
)


def findings(runs: Table, styles: Sequence[str]) -> list[Finding]:
    """Of the reported runs, what answers the question first."""
    of_all = list(_of_all_styles(runs, styles))
    return [
        *_compared(runs, styles, FIRST, key=True),
        *_with_other_statistics(runs, styles),
        _beside_none(runs, styles),
        *of_all[1::2],  # beside BatchNorm
        *_compared(runs, styles, LATER),
        *_by_style(runs, styles),
        *of_all[::2],
    ]


def _compared(
    runs: Table,
    styles: Sequence[str],
    measures: Sequence[tuple[str, str, int]],
    key: bool = False,
) -> Iterator[Finding]:
    for what, measure, expected in measures:
        yield Finding(
            f"{what}, BatchNorm minus InstanceNorm, mean over styles",
            compare(runs, measure, styles),
            expected=expected,
            key=key,
        )


def _with_other_statistics(runs: Table, styles: Sequence[str]) -> Iterator[Finding]:
    own = by_seed(runs, "batch", styles, "test_style")
    for what, measure in STATISTICS:
        yield Finding(
            f"style loss of the same BatchNorm networks, running statistics minus {what}",
            paired(own, by_seed(runs, "batch", styles, measure)),
            expected=1,
        )


def _beside_none(runs: Table, styles: Sequence[str]) -> Finding:
    own, bare = (by_seed(runs, norm, styles, "test_style") for norm in ("batch", "none"))
    return Finding(
        "style loss of test photographs, BatchNorm minus no norm, mean over styles",
        paired(own, bare),
    )


def _by_style(runs: Table, styles: Sequence[str]) -> Iterator[Finding]:
    for style in styles:
        yield Finding(
            f"style loss of test photographs, {style}, BatchNorm minus InstanceNorm",
            compare(runs, "test_style", [style]),
            expected=1,
        )


def _of_all_styles(runs: Table, styles: Sequence[str]) -> Iterator[Finding]:
    """Of each of the two norms, beside InstanceNorm and beside BatchNorm."""
    one, own = (by_seed(runs, norm, styles, "test_style") for norm in ("instance", "batch"))
    for norm, name in (("conditional", "Conditional InstanceNorm"), ("adaptive", "AdaIN")):
        of_all = by_seed(runs, norm, [ALL], "test_style")
        for other, values in (("InstanceNorm", one), ("BatchNorm", own)):
            yield Finding(
                f"style loss, one network for all styles with {name} minus one network for each "
                f"with {other}",
                paired(of_all, values),
            )
