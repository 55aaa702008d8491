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

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from seqnorm.studies.remedied_training import REMEDIES
from seqnorm.studies.study import Outcome, Study
from seqnorm.studies.table import Setting, Table
from seqnorm.studies.texts import Texts, at_random, load_texts
from seqnorm.studies.tuning import tuned_runs

from . import figures as drawing
from . import verdict
from .data import load_images
from .measures import measure_images, measure_text
from .training import Run


@dataclass(frozen=True)
class SmallBatch(Study):
    """Batch sizes from dozens down to one, on images and on text."""

    name = "small_batch"
    title = "Small batches give noisy statistics"
    question = (
        "Does BatchNorm lose accuracy as the batch shrinks, where norms within one example do not, "
        "and is it the noise of the statistics that does it?"
    )
    factors = ("part", "stage", "norm", "batch", "group", "rate", "seed")
    measures = ("error", "error_reestimated", "validation_error", "loss")
    extent = ("seeds", "root", "image_norms", "text_norms")

    seeds: int  # reported seeds, from 0
    tuning: int  # seeds that choose learning rates
    root: str  # folder of the data sets
    image_norms: list[str]
    image_batches: list[int]  # the largest first
    image_count: int  # training images of an epoch
    image_epochs: int
    image_rates: list[float]  # grid for the largest batch; others in proportion to the batch
    image_groups: list[int]  # sizes of ghost batches
    width: int  # of the convolutional network
    corpus: str
    text_norms: list[str]
    text_batches: list[int]  # the largest first; batch 1 is trained for one epoch
    text_count: int  # training documents
    text_epochs: int
    text_rates: list[float]  # grid for every batch size
    text_groups: list[int]  # sizes of ghost batches
    tokens: int  # length at which documents are cut
    words: int  # size of the vocabulary
    hidden: int  # features of the embedding and of the LSTM

    def __post_init__(self) -> None:
        for part in ("image", "text"):
            batches: list[int] = getattr(self, f"{part}_batches")
            if batches != sorted(set(batches), reverse=True) or min(batches, default=0) < 1:
                raise ValueError(f"{part}_batches must fall from the largest on, got {batches}")
            if wrong := [g for g in getattr(self, f"{part}_groups") if batches[0] % g]:
                raise ValueError(f"{part}_groups {wrong} do not divide the batch {batches[0]}")

    def settings(self, done: Table) -> Iterator[Setting]:
        # Smaller batches of images have the largest one's rate, in proportion.
        cases: list[tuple[Setting, list[float]]] = []
        for norm, batch in product(self.image_norms, self.image_batches[:1]):
            cases.append(({"part": "images", "norm": norm, "batch": batch}, self.image_rates))
        for norm, batch in product(self.text_norms, self.text_batches):
            if batch == 1 and norm in REMEDIES:
                continue  # the running statistics, on which they rest, are of no document
            cases.append(({"part": "text", "norm": norm, "batch": batch}, self.text_rates))
        numbers = {"tuning": self.tuning, "seeds": self.seeds}
        for run in tuned_runs(done, cases, measure="validation_error", largest=False, **numbers):
            yield run
            if run["stage"] == "run":
                yield from self._beside(run)

    def _beside(self, run: Setting) -> Iterator[Setting]:
        """Yield the other runs at the rate of this one."""
        part, batch = run["part"], run["batch"]
        for size in self.image_batches[1:] if part == "images" else ():
            yield {**run, "batch": size}
        if run["norm"] == "batch":
            groups = self.image_groups if part == "images" else self.text_groups
            for group in groups if part == "images" or batch == self.text_batches[0] else ():
                yield {**run, "part": f"{part}_ghost", "group": group}
            if part == "text" and batch == 1:
                yield {**run, "part": "text_one_row"}

    def run(self, setting: Setting) -> Outcome:
        images, batch = setting["part"].startswith("images"), setting["batch"]
        epochs = self.image_epochs if images else self.text_epochs if batch > 1 else 1
        features, seed = self.width if images else self.hidden, setting["seed"]
        how = (setting["rate"], epochs, features, seed, setting["part"] == "text_one_row")
        run = Run(setting["norm"], batch, setting.get("group"), *how)
        if images:
            return Outcome(measure_images(run, load_images(self.image_count, self.root)))
        return Outcome(measure_text(run, self.texts()))

    def texts(self) -> Texts:
        """Load the documents; the training documents are a random choice."""
        sizes = (self.text_count, None, None)
        texts = load_texts(self.corpus, self.root, self.tokens, self.words, at_random, sizes)
        if (count := len(texts.train)) < self.text_count:
            raise ValueError(f"{self.corpus} has only {count} training documents: lower text_count")
        return texts

    figures = drawing.figures
    findings = verdict.findings
    quantities = verdict.quantities
