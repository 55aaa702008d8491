"""Numbers of the study of remedies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from seqnorm.studies.evidence import Finding, Seeds
from seqnorm.studies.figures import NAMES
from seqnorm.studies.table import Table

if TYPE_CHECKING:
    from .study import Remedies


class Errors:
    """Errors of the reported runs, in percent of the documents."""

    def __init__(self, runs: Table) -> None:
        self.runs = runs

    def of(self, norm: str, batch: int, measure: str = "error") -> Seeds:
        return 100 * self.runs.by_seed(measure, norm=norm, batch=batch)

    def against(self, rival: str, batch: int, norm: str = "batch") -> Seeds:
        """Return the error of BatchNorm, or of another norm, minus that of a rival."""
        return self.of(norm, batch) - self.of(rival, batch)

    def unlearnt(self, norm: str, batch: int) -> Seeds:
        """Return 100 for each run that puts more than half of the documents into a wrong class."""
        found = self.of(norm, batch)
        return Seeds({seed: 100.0 * (error > 50) for seed, error in found.items()})

    def anew(self, batch: int, norm: str = "batch") -> Seeds:
        """Return the error with running statistics minus that with statistics taken anew."""
        return self.of(norm, batch) - self.of(norm, batch, "error_anew")

    def longer(self, norm: str, batch: int, anew: bool = False) -> Seeds:
        """Return the error on whole documents minus that on their beginnings.

        Args:
            anew: take the running statistics anew from whole training documents before.
        """
        whole = self.of(norm, batch, "error_whole_anew" if anew else "error_whole")
        return whole - self.of(norm, batch, "error_beginning")

    def whole(self, rival: str, batch: int, norm: str = "batch") -> Seeds:
        """Return the error of BatchNorm, or of another norm, on whole documents minus a rival's."""
        return self.of(norm, batch, "error_whole") - self.of(rival, batch, "error_whole")


def findings(study: Remedies, table: Table) -> list[Finding]:
    """Return every norm's error minus LayerNorm's, and what whole documents add to it."""
    errors = Errors(table.where(stage="run"))
    large, small = study.batches[0], study.batches[-1]
    found: list[Finding] = []

    def add(words: str, value: Seeds, expected: int = 0, key: bool = False) -> None:
        found.append(Finding(words, value.interval, "points", expected, key))

    for norm in (norm for norm in study.norms if norm != "layer"):
        for size in study.batches:
            words = f"batch {size}: test error, {NAMES[norm]} minus LayerNorm"
            predicted = int(norm == "batch" and size == small)
            key = norm in ("batch", "batch_frozen") and size == small
            add(words, errors.against("layer", size, norm), predicted, key)
    for norm in study.norms:
        words = f"trained on {study.tokens} tokens, batch {large}, {NAMES[norm]}: error on whole "
        words += "documents minus that on their beginnings"
        add(words, errors.longer(norm, large), int(norm == "batch"), norm in ("batch", "layer"))
    words = f"batch {small}, BatchNorm: running statistics minus statistics taken anew"
    add(words, errors.anew(small), 1, True)
    return found


def quantities(study: Remedies, table: Table) -> dict[str, Errors]:
    """Return the numbers of the text."""
    return {"errors": Errors(table.where(stage="run"))}
