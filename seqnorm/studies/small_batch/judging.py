"""What the table of the study says: differences by seed, and a verdict read off them."""

from __future__ import annotations

from collections.abc import Iterable

from seqnorm.studies.evidence import Finding, Interval, paired
from seqnorm.studies.table import Table

# Whoever argues against BatchNorm says that it is worse from here downwards (Wu & He 2018, fig. 1:
# clearly at 4 and 2 images); above it no difference is predicted.
SMALL = 4
RIVALS = {"images": "group", "text": "layer"}
NAMES = {"batch": "BatchNorm", "group": "GroupNorm", "layer": "LayerNorm"}
THINGS = {"images": "images", "text": "documents"}


def numbers(table: Table, column: str) -> list[int]:
    """The whole numbers in a column, the largest first."""
    return sorted((v for v in table.distinct(column) if isinstance(v, int)), reverse=True)


def findings(table: Table) -> list[Finding]:
    """Of the reported runs."""
    found: list[Finding] = []
    for part, rival in RIVALS.items():
        rows = table.where(part=part)
        found += _against(rows, part, rival)
        if part == "images" and rows.where(norm="instance").rows:
            found += _against(rows, part, "instance")
        found += _rises(rows, part, rival)
        found += _of_running_statistics(rows, part)
        found += _ghosts(table, part)
    found += _one_row(table)
    return found


def _against(rows: Table, part: str, rival: str) -> Iterable[Finding]:
    name = {"instance": "InstanceNorm"}.get(rival) or NAMES[rival]
    for batch in numbers(rows, "batch"):
        a, b = (rows.where(batch=batch, norm=norm).by_seed("error") for norm in ("batch", rival))
        yield Finding(
            f"{part}, batch {batch}: test error, BatchNorm minus {name}",
            paired(a, b).scaled(100),
            "points",
            int(batch <= SMALL),
        )


def _rises(rows: Table, part: str, rival: str) -> Iterable[Finding]:
    batches = [batch for batch in numbers(rows, "batch") if batch > 1]
    if len(batches) < 2:
        return
    largest, smallest = batches[0], batches[-1]
    for measure, word, unit, factor in (
        ("error", "test error", "points", 100),
        ("loss", "training loss", "", 1),
    ):
        for norm, expected in (("batch", 1), (rival, 0)):
            small, large = (
                rows.where(batch=batch, norm=norm).by_seed(measure) for batch in (smallest, largest)
            )
            yield Finding(
                f"{part}, {NAMES[norm]}: {word}, batch {smallest} minus batch {largest}",
                paired(small, large).scaled(factor),
                unit,
                expected,
            )


def _of_running_statistics(rows: Table, part: str) -> Iterable[Finding]:
    for batch in [batch for batch in numbers(rows, "batch") if batch > 1]:
        of_batch = rows.where(batch=batch, norm="batch")
        running, fresh = (of_batch.by_seed(m) for m in ("error", "error_reestimated"))
        yield Finding(
            f"{part}, batch {batch}, BatchNorm: test error with running statistics minus that with "
            "statistics of all training data taken after training",
            paired(running, fresh).scaled(100),
            "points",
            int(batch <= SMALL),
        )


def _ghosts(table: Table, part: str) -> Iterable[Finding]:
    ghosts = table.where(part=f"{part}_ghost")
    for batch in numbers(ghosts, "batch"):
        whole = table.where(part=part, norm="batch", batch=batch).by_seed("error")
        for group in numbers(ghosts, "group"):
            divided = ghosts.where(batch=batch, group=group).by_seed("error")
            yield Finding(
                f"{part}, BatchNorm, batch {batch}: test error, statistics of {group} "
                f"{THINGS[part]} minus statistics of all {batch}",
                paired(divided, whole).scaled(100),
                "points",
                int(group <= SMALL),
            )


def _one_row(table: Table) -> Iterable[Finding]:
    alone = table.where(part="text_one_row").by_seed("error")
    rows = table.where(part="text", batch=1)
    for norm, name in (("batch", "the library's BatchNorm"), ("layer", "LayerNorm")):
        yield Finding(
            "text, batch 1: test error, BatchNorm by the statistics of the single row minus "
            f"{name}",
            paired(alone, rows.where(norm=norm).by_seed("error")).scaled(100),
            "points",
            1,
        )


def verdict(table: Table) -> str:
    """In words, from the intervals of the findings alone."""
    sentences: list[str] = []
    for part, rival in RIVALS.items():
        rows = table.where(part=part)
        sentences += _of_batches(rows, part, rival)
        sentences += _of_rises(rows, part, rival)
        sentences += _of_ghosts(table, part)
        sentences += _of_one(table, part, rival)
    return " ".join(sentences) or "Too few runs to say."


def _of_batches(rows: Table, part: str, rival: str) -> Iterable[str]:
    signs: dict[int, list[int]] = {1: [], 0: [], -1: []}
    for batch in [batch for batch in numbers(rows, "batch") if batch > 1]:
        a, b = (rows.where(batch=batch, norm=norm).by_seed("error") for norm in ("batch", rival))
        difference = paired(a, b)
        if difference.n > 1:
            signs[difference.sign].append(batch)
    words = {1: "worse than", 0: "not told apart from", -1: "better than"}
    said = [
        f"{words[sign]} {NAMES[rival]} at batch {_joined(batches)}"
        for sign, batches in signs.items()
        if batches
    ]
    if said:
        yield f"On {part} BatchNorm is {'; '.join(said)}."


def _of_rises(rows: Table, part: str, rival: str) -> Iterable[str]:
    rises = [f.interval for f in _rises(rows, part, rival)]
    if len(rises) < 2 or min(rises[0].n, rises[1].n) < 2:
        return
    said = " and ".join(
        f"{NAMES[norm]}'s test error {_change(rise)}"
        for norm, rise in zip(("batch", rival), rises, strict=False)
    )
    yield f"From the largest batch to the smallest above 1 {said}."


def _change(rise: Interval) -> str:
    if rise.sign == 0:
        return "does not change by more than chance"
    return f"{'rises' if rise.sign > 0 else 'falls'} by {abs(rise.mean):.1f} points"


def _of_ghosts(table: Table, part: str) -> Iterable[str]:
    ghosts = table.where(part=f"{part}_ghost")
    signs: dict[int, list[int]] = {1: [], 0: [], -1: []}
    for group, finding in zip(numbers(ghosts, "group"), _ghosts(table, part), strict=False):
        if finding.interval.n > 1:
            signs[finding.interval.sign].append(group)
    words = {1: "cost accuracy", 0: "show no difference", -1: "gain accuracy"}
    said = [
        f"statistics of {_joined(groups)} {words[sign]}" for sign, groups in signs.items() if groups
    ]
    if said:
        cause = "It is the statistics that do it: with" if signs[1] else "With"
        yield f"{cause} the optimiser's batch unchanged, {', '.join(said)}."


def _of_one(table: Table, part: str, rival: str) -> Iterable[str]:
    alone = table.where(part=f"{part}_one_row").by_seed("error")
    rows = table.where(part=part, batch=1)
    a, b = (rows.where(norm=norm).by_seed("error") for norm in ("batch", rival))
    thing = THINGS[part].removesuffix("s")
    said = [
        f"{name} is {_by_points(difference)} {NAMES[rival]}"
        for name, difference in (
            ("BatchNorm", paired(a, b)),
            ("BatchNorm by the single row's own statistics", paired(alone, b)),
        )
        if difference.n > 1
    ]
    if said:
        yield f"With one {thing} at a time {' and '.join(said)}."


def _by_points(difference: Interval) -> str:
    if difference.sign == 0:
        return "not told apart from"
    word = "worse" if difference.sign > 0 else "better"
    return f"{abs(difference.mean) * 100:.1f} points {word} than"


def _joined(numbers_: list[int]) -> str:
    texts = [str(number) for number in numbers_]
    return " and ".join(filter(None, [", ".join(texts[:-1]), texts[-1]]))
