"""Numbers of the study of sequences that are read pixel by pixel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from seqnorm.studies.evidence import Finding, Seeds
from seqnorm.studies.figures import NAMES
from seqnorm.studies.table import Table

if TYPE_CHECKING:
    from .study import PixelByPixel

WORDS = {
    "digits": "digits",
    "digits_permuted": "permuted digits",
    "japanese_vowels": "Japanese Vowels",
}


class Accuracies:
    """Accuracies of the reported runs of one task, in percent."""

    def __init__(self, runs: Table, task: str) -> None:
        self.runs = runs.where(task=task)

    def of(self, norm: str, measure: str = "accuracy") -> Seeds:
        return 100 * self.runs.by_seed(measure, norm=norm)

    def mistakes(self, norm: str) -> Seeds:
        """Return the mistakes in 100 sequences."""
        return Seeds({seed: 100 - value for seed, value in self.of(norm).items()})

    def against(self, rival: str, norm: str = "batch", measure: str = "accuracy") -> Seeds:
        """Return the accuracy with BatchNorm, or with another norm, minus that with a rival."""
        return self.of(norm, measure) - self.of(rival, measure)


def findings(study: PixelByPixel, table: Table) -> list[Finding]:
    """Return BatchNorm's accuracy minus that of every other norm, at the end and on the way."""
    runs = table.where(stage="run")
    found: list[Finding] = []
    measures = {
        "accuracy": "test accuracy",
        "mean_validation": "mean validation accuracy over all epochs",
    }
    for task in study.tasks:
        of = Accuracies(runs, task)
        for measure, words in measures.items():
            for norm in (norm for norm in study.norms if norm != "batch"):
                value = of.against(norm, measure=measure)
                what = f"{WORDS[task]}: {words}, BatchNorm minus {NAMES[norm]}"
                key = (measure, norm) == ("accuracy", "layer")
                found.append(Finding(what, value.interval, "points", 0, key))
    return found


def quantities(study: PixelByPixel, table: Table) -> dict[str, Any]:
    """Return the numbers of the text, of each task."""
    runs = table.where(stage="run")
    names = ("digits", "permuted", "vowels")
    return {name: Accuracies(runs, task) for name, task in zip(names, WORDS)}
