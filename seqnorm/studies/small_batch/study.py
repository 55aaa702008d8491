"""Which runs the study makes, and how each is made.

Parts, the factor ``part``:

- ``images``, ``text``: the optimiser's batch is what the statistics rest on, as in practice; at
  batch 1 every example is seen alone (online).
- ``images_ghost``, ``text_ghost``: the optimiser's batch stays the largest one, and BatchNorm's
  statistics rest on groups of it, which parts their noise from the optimiser's.
- ``text_one_row``: batch 1, BatchNorm's statistics those of the single row of each time step, which
  this library refuses to take: it normalises a single row by running statistics.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import ClassVar

from seqnorm.studies.evidence import Finding
from seqnorm.studies.study import Outcome, Picture, Study
from seqnorm.studies.table import Setting, Table
from seqnorm.studies.tuning import choose_rate, tuning_seeds

from . import drawing, judging
from .images import ImageRun, load_task
from .texts import TextRun, load_text_task


@dataclass(frozen=True)
class SmallBatch(Study):
    """Batch sizes from dozens down to one, on images and on text.

    Args:
        seeds: 0 to seeds - 1 are reported.
        tuning: seeds that choose learning rates.
        root: where data sets lie.
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
        tokens: documents are cut after so many.
        words: vocabulary.
        hidden: features of the embedding and of the LSTM.
    """

    name: ClassVar[str] = "small_batch"
    title: ClassVar[str] = "Small batches give noisy statistics"
    question: ClassVar[str] = (
        "Does BatchNorm lose accuracy as the batch shrinks, where norms within one example do not, "
        "and is it the noise of the statistics that does it?"
    )
    factors: ClassVar[tuple[str, ...]] = (
        "part",
        "stage",
        "norm",
        "batch",
        "group",
        "rate",
        "seed",
    )
    measures: ClassVar[tuple[str, ...]] = (
        "error",
        "error_reestimated",
        "validation_error",
        "loss",
    )
    extent: ClassVar[tuple[str, ...]] = ("seeds", "root")

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
        seeds = tuning_seeds(self.tuning)
        chosen: dict[tuple[str, str, int], float | None] = {}
        # Smaller batches of images have the largest one's rate, in proportion.
        images = product(["images"], self.image_norms, self.image_batches[:1])
        for part, norm, batch in [*images, *product(["text"], self.text_norms, self.text_batches)]:
            tuned = done.where(part=part, stage="tune", norm=norm, batch=batch)
            grid = self.image_rates if part == "images" else self.text_rates
            rates, best = choose_rate(tuned, grid, seeds, "validation_error", largest=False)
            chosen[part, norm, batch] = best
            for rate, seed in product(rates, seeds):
                yield _setting(part, "tune", norm, batch, rate, seed)
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
                yield _setting("images", "run", norm, batch, rate, seed)
            for group in self.image_groups if norm == "batch" else ():
                yield _setting("images_ghost", "run", norm, largest, rate, seed, group)
        for norm, batch in product(self.text_norms, self.text_batches):
            rate = chosen["text", norm, batch]
            if rate is None:
                continue
            yield _setting("text", "run", norm, batch, rate, seed)
            if norm == "batch" and batch == self.text_batches[0]:
                for group in self.text_groups:
                    yield _setting("text_ghost", "run", norm, batch, rate, seed, group)
            if norm == "batch" and batch == 1:
                yield _setting("text_one_row", "run", norm, batch, rate, seed)

    def run(self, setting: Setting) -> Outcome:
        norm, batch, group = setting["norm"], setting["batch"], setting.get("group")
        rate, seed = setting["rate"], setting["seed"]
        assert isinstance(norm, str)
        assert isinstance(batch, int)
        assert group is None or isinstance(group, int)
        assert isinstance(rate, (int, float))
        assert isinstance(seed, int)
        if str(setting["part"]).startswith("images"):
            task = load_task(self.images, self.image_count, self.root)
            made = ImageRun(norm, batch, group, rate, self.image_epochs, self.width, seed)
            return Outcome(made.measure(task))
        texts = load_text_task(self.corpus, self.tokens, self.words, self.text_count, self.root)
        epochs = self.text_epochs if batch > 1 else 1
        twice = setting["part"] == "text_one_row"
        trained = TextRun(norm, batch, group, rate, epochs, self.hidden, seed, twice)
        return Outcome(trained.measure(texts))

    def cost(self, setting: Setting) -> float:
        """Seconds on the machine of the committed results: a part for calls, one for examples."""
        batch, group = setting["batch"], setting.get("group")
        assert isinstance(batch, int)
        assert group is None or isinstance(group, int)
        if str(setting["part"]).startswith("images"):
            examples = self.image_count * self.image_epochs
            return examples * (0.0016 / batch + 0.0002)
        examples = self.text_count * (self.text_epochs if batch > 1 else 1)
        return 1.0 + examples * (0.0035 / (group or batch) + 0.0003)

    def pictures(self, table: Table) -> list[Picture]:
        return drawing.pictures(table.where(stage="run"))

    def findings(self, table: Table) -> list[Finding]:
        return judging.findings(table.where(stage="run"))

    def verdict(self, table: Table) -> str:
        return judging.verdict(table.where(stage="run"))


def _setting(
    part: str,
    stage: str,
    norm: str,
    batch: int,
    rate: float,
    seed: int,
    group: int | None = None,
) -> Setting:
    return {
        "part": part,
        "stage": stage,
        "norm": norm,
        "batch": batch,
        "group": group,
        "rate": rate,
        "seed": seed,
    }
