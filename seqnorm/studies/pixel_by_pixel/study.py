"""Runs of the study of sequences on which BatchNorm of every time step was introduced.

The factor ``task`` has these values:

- ``digits``: 8 x 8 images, read pixel by pixel; all sequences have 64 steps.
- ``digits_permuted``: the same, with the pixels of all images in one random order.
- ``japanese_vowels``: utterances of different lengths; the last steps have few sequences.

The factor ``norm`` is the LSTM's, and "none" is no norm. "batch_anew" is trained as "batch" is, but
before each evaluation, mean and variance of every step are taken anew from all training sequences,
as Cooijmans et al. do.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import product

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seqnorm.models.recurrent import layer_maker
from seqnorm.nn import reestimate_statistics
from seqnorm.nn.statistics import batch_statistics
from seqnorm.studies.study import Outcome, Study
from seqnorm.studies.table import Setting, Table
from seqnorm.studies.tuning import tuned_runs

from . import figures as drawing
from . import verdict
from .data import Sequences, Task, digits, japanese_vowels

TASKS = ("digits", "digits_permuted", "japanese_vowels")
NORMS = ("batch", "batch_anew", "layer", "rms", "none")


class Classifier(nn.Module):
    """A recurrent layer whose last state is classified."""

    def __init__(self, cell: str, features: int, hidden: int, classes: int, norm: str) -> None:
        super().__init__()
        named = None if norm == "none" else norm.removesuffix("_anew")
        self.recurrent = layer_maker(cell, named, None)(features, hidden)
        self.head = nn.Linear(hidden, classes)

    def forward(self, sequences: Sequences) -> Tensor:
        """Return logits (N, C)."""
        _, states = self.recurrent(sequences.values, lengths=sequences.lengths)
        h = states[0] if isinstance(states, tuple) else states
        logits: Tensor = self.head(h[0])
        return logits


@dataclass(frozen=True)
class PixelByPixel(Study):
    """Norms of an LSTM on images that are read pixel by pixel, and on utterances.

    Raises:
        ValueError: a task or a norm is unknown, or a task has no number of epochs.
    """

    name = "pixel_by_pixel"
    title = "Where BatchNorm in a recurrent network shone"
    question = (
        "BatchNorm of every time step was introduced on images that are read pixel by pixel "
        "(Cooijmans et al. 2017, sec. 5.1), where all sequences have one length: is it the better "
        "norm there?"
    )
    factors = ("task", "stage", "norm", "rate", "seed")
    # BatchNorm is measured with other statistics than the running ones, too: with those of all
    # training sequences, with averages over batches, and with those of each test batch.
    measures = (
        *("accuracy", "accuracy_anew", "accuracy_average", "accuracy_batch"),
        *("validation", "mean_validation", "loss"),
    )

    seeds: int  # reported seeds, from 0
    tuning: int  # seeds that choose learning rates
    rates: list[float]
    root: str  # folder that corpora are fetched to
    tasks: list[str]
    norms: list[str]
    epochs: dict[str, int]  # of each task
    batch: int
    cell: str
    hidden: int

    def __post_init__(self) -> None:
        for name, known in (("tasks", TASKS), ("norms", NORMS)):
            if unknown := set(getattr(self, name)) - set(known):
                raise ValueError(f"{name} {sorted(unknown)}: write some of {', '.join(known)}")
        if missing := set(self.tasks) - set(self.epochs):
            raise ValueError(f"epochs has no number for {', '.join(sorted(missing))}")

    def settings(self, done: Table) -> Iterator[Setting]:
        pairs = product(self.tasks, self.norms)
        cases: list[tuple[Setting, list[float]]] = [
            ({"task": task, "norm": norm}, self.rates) for task, norm in pairs
        ]
        yield from tuned_runs(
            done, cases, measure="mean_validation", tuning=self.tuning, seeds=self.seeds
        )

    def run(self, setting: Setting) -> Outcome:
        data = self.data(setting["task"])
        torch.manual_seed(setting["seed"])
        features, classes = data.train.values.shape[2], int(data.train.classes.max()) + 1
        model = Classifier(self.cell, features, self.hidden, classes, setting["norm"])
        curve, loss = self._train(model, data, setting)
        found = [accuracy for _, accuracy in curve]
        values = {"validation": found[-1], "mean_validation": sum(found) / len(found)}
        if setting["stage"] == "run":
            values |= {
                "accuracy": accuracy(self._asked(model, data, setting), data.test),
                "loss": loss,
            }
            if setting["norm"] == "batch":
                values |= self._other_statistics(model, data)
        return Outcome(values, {"validation": curve})

    def _train(
        self, model: Classifier, data: Task, setting: Setting
    ) -> tuple[list[tuple[float, float]], float]:
        """Train with Adam, the rate falling to 0 as half a cosine.

        Return the validation accuracy after every epoch, and the mean loss of the last epoch.
        """
        draw = torch.Generator().manual_seed(setting["seed"])
        rate, epochs = setting["rate"], self.epochs[setting["task"]]
        optimiser = torch.optim.Adam(model.parameters(), rate)
        batches = math.ceil(len(data.train.lengths) / self.batch)
        curve = []
        for epoch in range(epochs):
            model.train()
            order = torch.randperm(len(data.train.lengths), generator=draw)
            total = 0.0
            for step, places in enumerate(order.tensor_split(batches), epoch * batches):
                cosine = math.cos(math.pi * step / (epochs * batches))
                optimiser.param_groups[0]["lr"] = rate * (1 + cosine) / 2
                chosen = data.train.take(places)
                loss = F.cross_entropy(model(chosen), chosen.classes)
                optimiser.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimiser.step()
                total += loss.item()
            asked = self._asked(model, data, setting)
            curve.append((epoch + 1.0, accuracy(asked, data.validation)))
        return curve, total / batches

    def _other_statistics(self, model: Classifier, data: Task) -> dict[str, float]:
        parts = self._parts(data.test)
        right = sum(len(part.lengths) * accuracy(model, part, by_batch=True) for part in parts)
        share = right / len(data.test.lengths)
        found = {"accuracy_batch": share}
        for name, estimate in (("anew", "population"), ("average", "average")):
            asked = self._with_statistics(model, data, estimate)
            found[f"accuracy_{name}"] = accuracy(asked, data.test)
        return found

    def _asked(self, model: Classifier, data: Task, setting: Setting) -> Classifier:
        """Return the model with the statistics that its norm has in inference."""
        anew = setting["norm"] == "batch_anew"
        return self._with_statistics(model, data, "population") if anew else model

    def _with_statistics(self, model: Classifier, data: Task, estimate: str) -> Classifier:
        copy = deepcopy(model)
        reestimate_statistics(copy, self._parts(data.train), estimate=estimate)
        return copy

    def _parts(self, part: Sequences) -> list[Sequences]:
        """Return the sequences in batches, in random order."""
        order = torch.randperm(len(part.lengths), generator=torch.Generator().manual_seed(0))
        return [part.take(places) for places in order.split(self.batch)]

    def data(self, task: str) -> Task:
        return _load(task, self.root)

    figures = drawing.figures
    findings = verdict.findings
    quantities = verdict.quantities


@lru_cache(maxsize=3)
def _load(task: str, root: str) -> Task:
    of_digits = partial(digits, permuted=task == "digits_permuted")
    return japanese_vowels(root) if task == "japanese_vowels" else of_digits()


@torch.no_grad()
def accuracy(model: Classifier, part: Sequences, by_batch: bool = False) -> float:
    """Return the share of sequences that are classified correctly in inference mode.

    Args:
        by_batch: normalise by the statistics of all these sequences, and not by the running ones.
    """
    model.eval()
    with batch_statistics(model) if by_batch else nullcontext():
        return float((model(part).argmax(1) == part.classes).float().mean())
