"""What the table of the study says: differences by seed, and a verdict read off them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from seqnorm.studies.evidence import Finding, Interval, paired
from seqnorm.studies.table import Table

# Whoever argues against BatchNorm says that it is worse from here downwards (Wu & He 2018, fig. 1:
# clearly at 4 and 2 images); above it no difference is predicted.
SMALL = 4
RIVALS = {"images": "group", "text": "layer"}
NAMES = {
    "batch": "BatchNorm",
    "group": "GroupNorm",
    "layer": "LayerNorm",
    "instance": "InstanceNorm",
}
THINGS = {"images": "images", "text": "documents"}


def numbers(table: Table, column: str) -> list[int]:
    """The whole numbers in a column, the largest first."""
    return sorted((v for v in table.distinct(column) if isinstance(v, int)), reverse=True)


def findings(table: Table) -> list[Finding]:
    """Of the reported runs, first what answers the question: how the distance to a norm within one
    example moves, what it is in the smallest batch and in the largest, what small groups and one
    example at a time do."""
    first: list[Finding] = []
    rest: list[Finding] = []
    for part, rival in RIVALS.items():
        rows = table.where(part=part)
        against, ghosts = _against(rows, part, rival), _ghosts(table, part)
        alone = [against.pop(1)] if 1 in against else []
        one_row = list(_one_row(table)) if part == "text" else []
        if one_row:  # the starker of the two, LayerNorm's, is last
            alone, one_row = one_row[-1:], [*alone, *one_row[:-1]]
        first += _parting(rows, part, rival)
        first += [against.pop(batch) for batch in _ends(against)]
        first += [ghosts.pop(group) for group in _ends(ghosts)[:1]]
        first += alone
        rest += [*against.values(), *_rises(rows, part, rival), *ghosts.values(), *one_row]
        rest += _of_running_statistics(rows, part).values()
        if part == "images" and rows.where(norm="instance").rows:
            rest += _parting(rows, part, "instance")
            rest += _against(rows, part, "instance").values()
    return first + rest


def _ends(found: Iterable[int]) -> list[int]:
    """The smallest and the largest number, one of them if they are the same."""
    sizes = sorted(found)
    return list(dict.fromkeys([*sizes[:1], *sizes[-1:]]))


def _against(rows: Table, part: str, rival: str) -> dict[int, Finding]:
    """By the size of the batch."""
    found = {}
    batches = numbers(rows, "batch")
    smallest = min((batch for batch in batches if batch > 1), default=0)
    for batch in batches:
        a, b = (rows.where(batch=batch, norm=norm).by_seed("error") for norm in ("batch", rival))
        found[batch] = Finding(
            f"{part}, batch {batch}: test error, BatchNorm minus {NAMES[rival]}",
            paired(a, b).scaled(100),
            "points",
            int(batch <= SMALL),
            key=batch == (batches[0] if rival == RIVALS[part] else smallest),
        )
    return found


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


def _parting(rows: Table, part: str, rival: str) -> Iterable[Finding]:
    """By how much BatchNorm's error rises more than the other's."""
    batches = [batch for batch in numbers(rows, "batch") if batch > 1]
    if len(batches) < 2:
        return
    rises = []
    for norm in ("batch", rival):
        small, large = (
            rows.where(batch=batch, norm=norm).by_seed("error")
            for batch in (batches[-1], batches[0])
        )
        rises.append({seed: small[seed] - large[seed] for seed in small.keys() & large.keys()})
    yield Finding(
        f"{part}: rise of test error from batch {batches[0]} to {batches[-1]}, BatchNorm minus "
        f"{NAMES[rival]}",
        paired(*rises).scaled(100),
        "points",
        1,
        key=rival == RIVALS[part],
    )


def _of_running_statistics(rows: Table, part: str) -> dict[int, Finding]:
    """By the size of the batch."""
    found = {}
    for batch in [batch for batch in numbers(rows, "batch") if batch > 1]:
        of_batch = rows.where(batch=batch, norm="batch")
        running, fresh = (of_batch.by_seed(m) for m in ("error", "error_reestimated"))
        found[batch] = Finding(
            f"{part}, batch {batch}, BatchNorm: test error with running statistics minus that with "
            "statistics of all training data taken after training",
            paired(running, fresh).scaled(100),
            "points",
            int(batch <= SMALL),
        )
    return found


def _ghosts(table: Table, part: str) -> dict[int, Finding]:
    """By the size of the group."""
    found = {}
    ghosts = table.where(part=f"{part}_ghost")
    for batch in numbers(ghosts, "batch"):
        whole = table.where(part=part, norm="batch", batch=batch).by_seed("error")
        groups = numbers(ghosts, "group")
        for group in groups:
            divided = ghosts.where(batch=batch, group=group).by_seed("error")
            found[group] = Finding(
                f"{part}, BatchNorm, batch {batch}: test error, statistics of {group} "
                f"{THINGS[part]} minus statistics of all {batch}",
                paired(divided, whole).scaled(100),
                "points",
                int(group <= SMALL),
                key=group == groups[-1],
            )
    return found


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
    """In words, from the intervals of the findings alone; a paragraph for images, one for text."""
    paragraphs = []
    for part, rival in RIVALS.items():
        rows = table.where(part=part)
        sentences = [
            *_of_rises(rows, part, rival),
            *_of_batches(rows, part, rival),
            *(_of_batches(rows, part, "instance") if part == "images" else ()),
            *_of_ghosts(table, part),
            *_of_averages(rows, part),
            *_of_one(table, part, rival),
        ]
        if sentences:
            paragraphs.append(" ".join(sentences))
    return "\n\n".join(paragraphs) or "Too few runs to say."


def _by_sign(found: Mapping[int, Finding]) -> dict[int, list[int]]:
    """Sizes by the sign of their finding, of those that have two runs."""
    signs: dict[int, list[int]] = {1: [], 0: [], -1: []}
    for size, finding in found.items():
        if finding.interval.n > 1:
            signs[finding.interval.sign].append(size)
    return signs


def _of_rises(rows: Table, part: str, rival: str) -> Iterable[str]:
    rises = [f.interval for f in _rises(rows, part, rival)]
    if len(rises) < 2 or min(rises[0].n, rises[1].n) < 2:
        return
    batches = [batch for batch in numbers(rows, "batch") if batch > 1]
    for finding in _parting(rows, part, rival):
        by = f"by {abs(finding.interval.mean):.1f} points"
        outcome = {
            1: f"BatchNorm loses ground {by}",
            0: "that BatchNorm loses ground is not shown",
            -1: f"BatchNorm gains ground {by}",
        }
        yield (
            f"On {part}, from batch {batches[0]} to {batches[-1]}, BatchNorm's test error "
            f"{_change(rises[0])}, {NAMES[rival]}'s {_change(rises[1])}: "
            f"{outcome[finding.interval.sign]}."
        )


def _change(rise: Interval) -> str:
    if rise.sign == 0:
        return "is not shown to change"
    return f"{'rises' if rise.sign > 0 else 'falls'} by {abs(rise.mean):.1f} points"


def _of_batches(rows: Table, part: str, rival: str) -> Iterable[str]:
    against = {b: f for b, f in _against(rows, part, rival).items() if b > 1}
    words = {1: "worse than", 0: "not told apart from", -1: "better than"}
    said = [
        f"{words[sign]} {NAMES[rival]} at batch {_joined(batches)}"
        for sign, batches in _by_sign(against).items()
        if batches
    ]
    if said:
        yield f"BatchNorm is {', '.join(said)}."


def _of_ghosts(table: Table, part: str) -> Iterable[str]:
    words = {1: "raise the error", 0: "make no sure difference", -1: "lower the error"}
    signs = _by_sign(_ghosts(table, part))
    said = [
        f"statistics of {_joined(groups)} {THINGS[part]} {words[sign]}"
        for sign, groups in signs.items()
        if groups
    ]
    if said:
        cause = "Noisy statistics alone do harm: with" if signs[1] else "With"
        yield f"{cause} the optimiser's batch and rate unchanged, {', '.join(said)}."


def _of_averages(rows: Table, part: str) -> Iterable[str]:
    signs = _by_sign(_of_running_statistics(rows, part))
    said = [
        f"{word} the error at batch {_joined(signs[sign])}"
        for sign, word in ((1, "lower"), (-1, "raise"))
        if signs[sign]
    ]
    if said:
        yield f"Statistics taken anew after training {' and '.join(said)}."
    elif signs[0]:
        yield "That statistics taken anew after training change the error is not shown."


def _of_one(table: Table, part: str, rival: str) -> Iterable[str]:
    alone = table.where(part=f"{part}_one_row").by_seed("error")
    rows = table.where(part=part, batch=1)
    a, b = (rows.where(norm=norm).by_seed("error") for norm in ("batch", rival))
    thing = THINGS[part].removesuffix("s")
    said = [
        f"{name} is {_by_points(difference)} {NAMES[rival]}"
        for name, difference in (
            ("BatchNorm", paired(a, b)),
            ("BatchNorm by its single row", paired(alone, b)),
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
