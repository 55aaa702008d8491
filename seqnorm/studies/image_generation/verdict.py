"""What the study answers, in sentences that follow from its intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import mean

from seqnorm.studies.evidence import Interval, paired
from seqnorm.studies.table import Table

from .reading import by_seed, compare


def verdict(runs: Table, styles: Sequence[str]) -> str:
    """Of the reported runs: how well, what a picture depends on, why, beside other networks."""
    difference = compare(runs, "test_style", styles)
    if difference.n < 2:
        return "Too few runs of BatchNorm and InstanceNorm to say."
    paragraphs = [
        [_style(runs, styles, difference), _content(runs, styles)],
        [_faint(runs, styles), _mates(runs, styles)],
        [_whose(runs, styles)],
        [_bare(runs, styles), _all_styles(runs, styles)],
    ]
    joined = (" ".join(filter(None, sentences)) for sentences in paragraphs)
    return "\n\n".join(filter(None, joined))


def _mean(runs: Table, styles: Sequence[str], norm: str, measure: str) -> float:
    values = by_seed(runs, norm, styles, measure)
    return mean(values.values()) if values else math.nan


def _style(runs: Table, styles: Sequence[str], difference: Interval) -> str:
    batch, instance = (_mean(runs, styles, n, "test_style") for n in ("batch", "instance"))
    signs = {style: compare(runs, "test_style", [style]).sign for style in styles}
    worse = [style for style, sign in signs.items() if sign > 0]
    better = [style for style, sign in signs.items() if sign < 0]
    numbers = f"style loss {batch:.2f} against {instance:.2f} on test photographs"
    if difference.sign > 0:
        lead = f"BatchNorm stylises worse than InstanceNorm ({numbers})"
    elif difference.sign < 0:
        lead = f"BatchNorm stylises better than InstanceNorm, against the argument ({numbers})"
    else:
        lead = f"BatchNorm and InstanceNorm stylise alike within the uncertainty ({numbers})"
    parts = [
        f"worse with {_list(worse)}" if worse else "",
        f"better with {_list(better)}" if better else "",
    ]
    said = " and ".join(part for part in parts if part) or "shown to differ with none"
    return f"{lead}. Style by style it is {said}."


def _faint(runs: Table, styles: Sequence[str]) -> str:
    moved = {n: _mean(runs, styles, n, "contrast") for n in ("batch", "instance")}
    faint = {n: _mean(runs, styles, n, "faint_style") for n in ("batch", "instance")}
    full = {n: _mean(runs, styles, n, "test_style") for n in ("batch", "instance")}
    if compare(runs, "contrast", styles).sign <= 0:
        return "That BatchNorm's picture follows the photograph's contrast more is not shown."
    said = (
        f"BatchNorm's picture follows the contrast of the photograph: halving that moves a pixel "
        f"by {moved['batch']:.3f} on average, against {moved['instance']:.3f} with InstanceNorm."
    )
    if compare(runs, "faint_style", styles).sign <= 0:
        return said
    return (
        f"{said} At a quarter of the contrast its style loss is {faint['batch']:.2f} instead of "
        f"{full['batch']:.2f}; InstanceNorm's is {faint['instance']:.2f} instead of "
        f"{full['instance']:.2f}."
    )


def _mates(runs: Table, styles: Sequence[str]) -> str:
    sign = compare(runs, "mates", styles).sign
    if sign <= 0:
        return "That a picture depends on its batch-mates is not shown."
    mates, between = (_mean(runs, styles, "batch", m) for m in ("mates", "between"))
    later = _mean(runs, styles, "batch", "mates_inference")
    return (
        f"In training other batch-mates move a pixel of the same picture by {mates:.3f}, where "
        f"another photograph moves it by {between:.3f}; in inference by {later:.1g}."
    )


def _whose(runs: Table, styles: Sequence[str]) -> str:
    own = by_seed(runs, "batch", styles, "test_style")
    batch, alone = (by_seed(runs, "batch", styles, m) for m in ("batch_style", "alone_style"))
    gap, mixing, cost = paired(own, batch).sign, paired(own, alone).sign, paired(alone, own).mean
    losses = f"{_mean(runs, styles, 'batch', 'alone_style'):.2f}"
    if mixing > 0:
        said = (
            "Given the statistics of each picture alone, the same BatchNorm networks draw better "
            f"(style loss {losses}): mixing images costs them {-cost:.2f}"
        )
    elif mixing < 0:
        said = (
            "Given the statistics of each picture alone, the same BatchNorm networks draw worse "
            f"(style loss {losses})"
        )
    else:
        said = (
            "Giving the same BatchNorm networks the statistics of each picture alone makes no sure "
            "difference"
        )
    train = {
        1: "With the statistics of a batch, as in training, they do better than in inference",
        -1: "With the statistics of a batch, as in training, they do worse than in inference",
        0: "Between a batch's statistics and those of inference no difference is shown",
    }[gap]
    return f"{said}. {train}."


def _content(runs: Table, styles: Sequence[str]) -> str:
    content = compare(runs, "test_content", styles).sign
    total = compare(runs, "test_total", styles).sign
    said = {
        1: "BatchNorm keeps less of the content",
        -1: "BatchNorm keeps more of the content",
        0: "In how much of the content is kept no difference is shown",
    }[content]
    loss = {
        1: "the loss that both minimise is larger with BatchNorm",
        -1: "the loss that both minimise is smaller with BatchNorm",
        0: "in the loss that both minimise no difference is shown",
    }[total]
    return f"{said}; {loss}."


def _bare(runs: Table, styles: Sequence[str]) -> str:
    bare = by_seed(runs, "none", styles, "test_style")
    compared = paired(by_seed(runs, "batch", styles, "test_style"), bare)
    if compared.n < 2:
        return ""
    said = {
        1: "the network stylises better than with BatchNorm",
        -1: "the network stylises worse than with BatchNorm",
        0: "no difference from BatchNorm is shown",
    }[compared.sign]
    return f"Without a norm {said} (style loss {mean(bare.values()):.2f})."


def _all_styles(runs: Table, styles: Sequence[str]) -> str:
    said = []
    one = by_seed(runs, "batch", styles, "test_style")
    for norm, name in (("conditional", "Conditional InstanceNorm"), ("adaptive", "AdaIN")):
        of_all = by_seed(runs, norm, styles, "test_style")
        compared = paired(of_all, one)
        if compared.n < 2:
            continue
        than = {1: "a larger", -1: "a smaller", 0: "no surely different"}[compared.sign]
        loss = mean(of_all.values())
        said.append(f"with {name} has {than} style loss ({loss:.2f})")
    if not said:
        return ""
    return (
        f"One network for all {len(styles)} styles {', and '.join(said)} "
        "than a BatchNorm network made for each."
    )


def _list(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
