"""Findings and claims of the study of small batches."""

from __future__ import annotations

from seqnorm.studies.evidence import Finding, Seeds
from seqnorm.studies.figures import NAMES
from seqnorm.studies.table import Table

# The argument against BatchNorm predicts that it is worse from here downwards (Wu & He 2018, fig.
# 1: clearly at 4 and 2 images); above it no difference is predicted.
SMALL = 4
RIVALS = {"images": "group", "text": "layer"}
THINGS = {"images": "images", "text": "documents"}


def numbers(table: Table, column: str) -> list[int]:
    """Return the whole numbers in a column, the largest first."""
    return sorted((v for v in table.distinct(column) if isinstance(v, int)), reverse=True)


class Errors:
    """Errors in percent of the reported runs of a part, "images" or "text"."""

    def __init__(self, runs: Table, part: str) -> None:
        self.runs, self.part = runs, part
        self.batches = numbers(runs.where(part=part), "batch")

    def of(self, norm: str, batch: int, measure: str = "error") -> Seeds:
        return 100 * self.runs.by_seed(measure, part=self.part, norm=norm, batch=batch)

    def against(self, rival: str, batch: int) -> Seeds:
        """Return the error of BatchNorm minus that of another norm."""
        return self.of("batch", batch) - self.of(rival, batch)

    def rise(self, norm: str, large: int, small: int, measure: str = "error") -> Seeds:
        """Return the error of the small batch minus that of the large one."""
        return self.of(norm, small, measure) - self.of(norm, large, measure)

    def parting(self, rival: str, large: int, small: int) -> Seeds:
        """Return the rise of BatchNorm's error minus that of another norm."""
        return self.rise("batch", large, small) - self.rise(rival, large, small)

    def ghost(self, batch: int, group: int) -> Seeds:
        """Return the error with statistics of groups minus that with statistics of the batch."""
        groups = self.runs.where(part=f"{self.part}_ghost", batch=batch, group=group)
        return 100 * groups.by_seed("error") - self.of("batch", batch)

    def anew(self, batch: int) -> Seeds:
        """Return the error with running statistics minus that with statistics taken anew."""
        return self.of("batch", batch) - self.of("batch", batch, "error_reestimated")

    def one_row(self, norm: str) -> Seeds:
        """Return BatchNorm's error by the statistics of a single row minus that of a norm."""
        return 100 * self.runs.by_seed("error", part=f"{self.part}_one_row") - self.of(norm, 1)


def findings(runs: Table) -> list[Finding]:
    """Return all findings; those that answer the question first."""
    first: list[Finding] = []
    rest: list[Finding] = []

    def add(
        what: str, value: Seeds, expected: int = 0, *, key: bool = False, lead: bool = False
    ) -> None:
        points = "" if "loss" in what else "points"
        found = Finding(what, value.interval, points, int(expected), key)
        (first if lead else rest).append(found)

    def compare(errors: Errors, rival: str) -> None:
        part, sizes = errors.part, [size for size in errors.batches if size > 1]
        own, name = rival == RIVALS[part], NAMES[rival]
        if len(sizes) > 1:
            what = f"{part}: rise of test error from batch {sizes[0]} to {sizes[-1]}, BatchNorm"
            parted = errors.parting(rival, sizes[0], sizes[-1])
            add(f"{what} minus {name}", parted, 1, key=own, lead=own)
        for size in sizes[::-1]:
            add(
                f"{part}, batch {size}: test error, BatchNorm minus {name}",
                errors.against(rival, size),
                size <= SMALL,
                key=size == sizes[0 if own else -1],
                lead=own and size in (sizes[0], sizes[-1]),
            )

    for part, rival in RIVALS.items():
        errors = Errors(runs, part)
        compare(errors, rival)
        sizes = [size for size in errors.batches if size > 1]
        ghosts = runs.where(part=f"{part}_ghost")
        for batch in numbers(ghosts, "batch"):
            groups = numbers(ghosts, "group")
            for group in groups:
                what = f"{part}, BatchNorm, batch {batch}: test error, statistics of {group}"
                add(
                    f"{what} {THINGS[part]} minus statistics of all {batch}",
                    errors.ghost(batch, group),
                    group <= SMALL,
                    key=group == groups[-1],
                    lead=group == groups[-1],
                )
        one_row = runs.where(part=f"{part}_one_row").rows
        if 1 in errors.batches:
            what = f"{part}, batch 1: test error, BatchNorm"
            add(f"{what} minus {NAMES[rival]}", errors.against(rival, 1), 1, lead=not one_row)
            for norm, name in (("layer", "LayerNorm"), ("batch", "the library's BatchNorm")):
                if one_row:
                    words = f"{what} by the statistics of the single row minus {name}"
                    add(words, errors.one_row(norm), 1, lead=norm == "layer")
        for norm, expected in (("batch", 1), (rival, 0)) if len(sizes) > 1 else ():
            for measure, words in (("error", "test error"), ("loss", "training loss")):
                rise = errors.rise(norm, sizes[0], sizes[-1], measure)
                what = f"{part}, {NAMES[norm]}: {words}, batch {sizes[-1]} minus batch {sizes[0]}"
                add(what, 0.01 * rise if measure == "loss" else rise, expected)
        for size in sizes:
            what = f"{part}, batch {size}, BatchNorm: test error with running statistics minus that"
            words = "with statistics of all training data taken after training"
            add(f"{what} {words}", errors.anew(size), size <= SMALL)
        if part == "images" and runs.where(part=part, norm="instance").rows:
            compare(errors, "instance")
            what = f"{part}, batch 1: test error, BatchNorm minus {NAMES['instance']}"
            add(what, errors.against("instance", 1), 1)
    return first + rest


def quantities(runs: Table) -> dict[str, Errors]:
    """Return the numbers of the text."""
    return {part: Errors(runs, part) for part in RIVALS}
