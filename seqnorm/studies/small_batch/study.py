"""Runs of the study of small batches.

The factor ``part`` has these values:

- ``images``, ``text``: the statistics rest on the optimiser's batch, as in practice. At batch 1
  every example is seen alone (online).
- ``images_ghost``, ``text_ghost``: the optimiser's batch stays the largest one and BatchNorm's
  statistics rest on groups of it, which separates their noise from the optimiser's.
- ``text_one_row``: batch 1, with BatchNorm's statistics from the single row of each time step. This
  library does not take such statistics: it normalises a single row by running statistics.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

from seqnorm.studies.evidence import Finding
from seqnorm.studies.study import Outcome, Study
from seqnorm.studies.table import Setting, Table
from seqnorm.studies.tuning import plan

from . import figures, verdict
from .data import load_task, load_text_task
from .measures import measure_images, measure_text
from .training import ImageRun, TextRun

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class SmallBatch(Study):
    """Batch sizes from dozens down to one, on images and on text.

    Args:
        seeds: number of reported seeds, from 0.
        tuning: number of seeds that choose learning rates.
        root: folder of the data sets.
        images: digits (on photographs) or cifar10.
        image_norms, image_batches: largest batch first.
        image_count: training images of an epoch.
        image_epochs: passes over them.
        image_rates: grid for the largest batch; others in proportion to the batch.
        image_groups: sizes of ghost batches.
        width: of the convolutional network.
        corpus: of texts.
        text_norms, text_batches: largest batch first; batch 1 is trained for one epoch.
        text_count: training documents.
        text_epochs: passes over them.
        text_rates: grid for every batch size.
        text_groups: sizes of ghost batches.
        tokens: length at which documents are cut.
        words: size of the vocabulary.
        hidden: features of the embedding and of the LSTM.
    """

    name = "small_batch"
    title = "Small batches give noisy statistics"
    question = (
        "Does BatchNorm lose accuracy as the batch shrinks, where norms within one example do not, "
        "and is it the noise of the statistics that does it?"
    )
    factors = ("part", "stage", "norm", "batch", "group", "rate", "seed")
    measures = ("error", "error_reestimated", "validation_error", "loss")
    extent = ("seeds", "root")

    seeds: int
    tuning: int
    root: str
    images: str
    image_norms: list[str]
    image_batches: list[int]
    image_count: int
    image_epochs: int
    image_rates: list[float]
    image_groups: list[int]
    width: int
    corpus: str
    text_norms: list[str]
    text_batches: list[int]
    text_count: int
    text_epochs: int
    text_rates: list[float]
    text_groups: list[int]
    tokens: int
    words: int
    hidden: int

    def __post_init__(self) -> None:
        for part in ("image", "text"):
            batches: list[int] = getattr(self, f"{part}_batches")
            if batches != sorted(set(batches), reverse=True) or min(batches, default=0) < 1:
                raise ValueError(f"{part}_batches must fall from the largest on, got {batches}")
            if wrong := [g for g in getattr(self, f"{part}_groups") if batches[0] % g]:
                raise ValueError(f"{part}_groups {wrong} do not divide the batch {batches[0]}")

    def settings(self, done: Table) -> Iterator[Setting]:
        chosen: dict[tuple[str, str, int], float | None] = {}
        # Smaller batches of images have the largest one's rate, in proportion.
        images = product(["images"], self.image_norms, self.image_batches[:1])
        for part, norm, batch in [*images, *product(["text"], self.text_norms, self.text_batches)]:
            case: Setting = {"part": part, "norm": norm, "batch": batch}
            grid = self.image_rates if part == "images" else self.text_rates
            tries, best = plan(done, case, grid, self.tuning, "validation_error", largest=False)
            yield from tries
            chosen[part, norm, batch] = best
        for seed in range(self.seeds):
            yield from self._reported(chosen, seed)

    def _reported(
        self, chosen: Mapping[tuple[str, str, int], float | None], seed: int
    ) -> Iterator[Setting]:
        for norm in self.image_norms:
            largest = self.image_batches[0]
            rate = chosen["images", norm, largest]
            if rate is None:
                continue
            for batch in self.image_batches:
                yield _run("images", norm, batch, rate, seed)
            for group in self.image_groups if norm == "batch" else ():
                yield _run("images_ghost", norm, largest, rate, seed, group)
        for norm, batch in product(self.text_norms, self.text_batches):
            rate = chosen["text", norm, batch]
            if rate is None:
                continue
            yield _run("text", norm, batch, rate, seed)
            if norm == "batch" and batch == self.text_batches[0]:
                for group in self.text_groups:
                    yield _run("text_ghost", norm, batch, rate, seed, group)
            if norm == "batch" and batch == 1:
                yield _run("text_one_row", norm, batch, rate, seed)

    def run(self, setting: Setting) -> Outcome:
        norm, batch, group = setting["norm"], setting["batch"], setting.get("group")
        rate, seed = setting["rate"], setting["seed"]
        if setting["part"].startswith("images"):
            task = load_task(self.images, self.image_count, self.root)
            of_images = ImageRun(norm, batch, group, rate, self.image_epochs, self.width, seed)
            return Outcome(measure_images(of_images, task))
        texts = load_text_task(self.corpus, self.tokens, self.words, self.text_count, self.root)
        epochs = self.text_epochs if batch > 1 else 1
        twice = setting["part"] == "text_one_row"
        made = TextRun(norm, batch, group, rate, epochs, self.hidden, seed, twice)
        return Outcome(measure_text(made, texts))

    def cost(self, setting: Setting) -> float:
        """Return seconds on the machine of the committed results, by calls and by examples."""
        batch, group = setting["batch"], setting.get("group")
        if setting["part"].startswith("images"):
            examples = self.image_count * self.image_epochs
            return float(examples * (0.0016 / batch + 0.0002))
        examples = self.text_count * (self.text_epochs if batch > 1 else 1)
        return float(1 + examples * (0.0035 / (group or batch) + 0.0003))

    def figures(self, table: Table) -> dict[str, Figure]:
        return figures.figures(table.where(stage="run"))

    def findings(self, table: Table) -> list[Finding]:
        return verdict.findings(table.where(stage="run"))

    def quantities(self, table: Table) -> dict[str, Any]:
        return verdict.quantities(table.where(stage="run"))


def _run(
    part: str, norm: str, batch: int, rate: float, seed: int, group: int | None = None
) -> Setting:
    """Return a reported run."""
    return dict(zip(SmallBatch.factors, (part, "run", norm, batch, group, rate, seed)))
