"""Numbers of the study of small batches."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

from seqnorm.studies.evidence import Finding, Seeds
from seqnorm.studies.figures import NAMES
from seqnorm.studies.remedied_training import REMEDIES
from seqnorm.studies.table import Table

if TYPE_CHECKING:
    from .study import SmallBatch

# The argument against BatchNorm predicts that it is worse at this batch size and below (Wu & He
# 2018, fig. 1: clearly at 4 and 2 images); above it no difference is predicted.
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

    def against(self, rival: str, batch: int, norm: str = "batch") -> Seeds:
        """Return the error of BatchNorm, or of another norm, minus that of a rival."""
        return self.of(norm, batch) - self.of(rival, batch)

    def rise(self, norm: str, large: int, small: int) -> Seeds:
        """Return the error of the small batch minus that of the large one."""
        return self.of(norm, small) - self.of(norm, large)

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


def findings(study: SmallBatch, table: Table) -> list[Finding]:
    """Return all findings, for each part with its rival, and BatchNorm beside InstanceNorm."""
    runs = table.where(stage="run")
    found: list[Finding] = []

    def add(what: str, value: Seeds, expected: int, key: bool = False) -> None:
        found.append(Finding(what, value.interval, "points", int(expected), key))

    def against(errors: Errors, rival: str, batch: int, key: bool) -> None:
        what = f"{errors.part}, batch {batch}: test error, BatchNorm minus {NAMES[rival]}"
        add(what, errors.against(rival, batch), batch <= SMALL, key)

    for part, rival in RIVALS.items():
        errors, things = Errors(runs, part), THINGS[part]
        sizes = [size for size in errors.batches if size > 1]
        if len(sizes) > 1:
            what = f"{part}: rise of test error from batch {sizes[0]} to {sizes[-1]}, BatchNorm"
            parted = errors.parting(rival, sizes[0], sizes[-1])
            add(f"{what} minus {NAMES[rival]}", parted, 1, True)
        for size in dict.fromkeys([*sizes[-1:], *sizes[:1]]):
            against(errors, rival, size, size == sizes[0])
        ghosts = runs.where(part=f"{part}_ghost")
        for batch in numbers(ghosts, "batch"):
            group = numbers(ghosts, "group")[-1]
            what = f"{part}, BatchNorm, batch {batch}: test error, statistics of {group} {things}"
            words = f"{what} minus statistics of all {batch}"
            add(words, errors.ghost(batch, group), group <= SMALL, True)
        if runs.where(part=f"{part}_one_row").rows:
            what = f"{part}, batch 1: test error, BatchNorm by the statistics of the single row"
            add(f"{what} minus LayerNorm", errors.one_row("layer"), 1)
        elif 1 in errors.batches:
            against(errors, rival, 1, False)
    images = Errors(runs, "images")
    for size in [size for size in images.batches if size > 1][-1:]:
        if runs.where(part="images", norm="instance").rows:
            against(images, "instance", size, True)
    for part, remedy in product(RIVALS, REMEDIES):
        errors, rival = Errors(runs, part), RIVALS[part]
        for size in numbers(runs.where(part=part, norm=remedy), "batch")[-2:]:
            against(errors, remedy, size, False)
            what = f"{part}, batch {size}: test error, {NAMES[remedy]} minus {NAMES[rival]}"
            add(what, errors.against(rival, size, remedy), 0)
    return found


def quantities(study: SmallBatch, table: Table) -> dict[str, Errors]:
    """Return the numbers of the text."""
    runs = table.where(stage="run")
    return {part: Errors(runs, part) for part in RIVALS}
