"""Runs of the study of remedies.

LSTMs that differ in their norm alone are trained on the beginnings of documents, in large and in
small batches. Each is tested on beginnings as long as those of training, and on longer ones.

The factor ``norm`` has these values: norms of the batch (``FAMILY``), of which two act on training
(``seqnorm.studies.remedied_training``); norms within one example; "dynamic_tanh", which takes no
statistics; "none". Statistics taken anew after training are a measure of every run with statistics.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import torch

from seqnorm.models import TextClassifier
from seqnorm.nn import Norm, NormScheme
from seqnorm.studies.remedied_training import REMEDIES
from seqnorm.studies.study import Outcome, Study
from seqnorm.studies.table import Setting, Table
from seqnorm.studies.texts import (
    Texts,
    at_random,
    classifier,
    error,
    in_order,
    load_texts,
    replace_norm,
    train,
    with_statistics,
)
from seqnorm.studies.tuning import tuned_runs

from . import figures as drawing
from . import verdict

FAMILY = ("batch", *REMEDIES, "batch_pooled")
GAIN = 0.1  # that of the other norms at the beginning (Cooijmans et al. 2017)


@dataclass(frozen=True)
class Remedies(Study):
    """Remedies that keep BatchNorm, and norms that need none, on one task.

    Raises:
        ValueError: the batches do not fall, or ``tokens`` is not below ``whole``.
    """

    name = "remedies"
    title = "What to do: keep BatchNorm, or leave it"
    question = (
        "Batches get small, and sequences get longer than those of training: which remedies keep "
        "BatchNorm usable, and how do they compare with norms that need no batch?"
    )
    factors = ("stage", "norm", "batch", "rate", "seed")
    measures = (
        *("error", "error_anew", "error_beginning", "error_whole", "error_whole_anew"),
        *("validation_error", "loss"),
    )
    extent = ("seeds", "root", "norms")

    seeds: int  # reported seeds, from 0
    tuning: int  # seeds that choose learning rates
    rates: list[float]  # to choose from for every norm and batch size
    corpus: str
    root: str  # folder that corpora are fetched to
    norms: list[str]
    batches: list[int]  # documents in a batch, the largest first
    documents: int  # at most so many training documents
    tested: int  # at most so many test documents
    epochs: int
    tokens: int  # length of the beginnings of training
    whole: int  # length at which whole documents are cut, and steps with running statistics
    vocabulary: int  # at most so many known words
    hidden: int  # features of the embedding and of the LSTM
    pooling: str  # of the outputs of all steps

    def __post_init__(self) -> None:
        if self.batches != sorted(set(self.batches), reverse=True) or min(self.batches) < 2:
            raise ValueError(f"batches must fall from the largest to 2 or more: {self.batches}")
        if not 1 < self.tokens < self.whole:
            raise ValueError(f"tokens must be from 2 to below whole={self.whole}: {self.tokens}")

    def settings(self, done: Table) -> Iterator[Setting]:
        pairs = product(self.norms, self.batches)
        cases: list[tuple[Setting, list[float]]] = [
            ({"norm": norm, "batch": batch}, self.rates) for norm, batch in pairs
        ]
        numbers = {"tuning": self.tuning, "seeds": self.seeds}
        yield from tuned_runs(done, cases, measure="validation_error", largest=False, **numbers)

    def run(self, setting: Setting) -> Outcome:
        data, norm = self.texts(), setting["norm"]
        part = data.train.head(self.tokens)
        model = self.model(norm, data, setting["seed"])
        how = {"rate": setting["rate"], "batch": setting["batch"], "seed": setting["seed"]}
        losses = list(train(model, part, epochs=self.epochs, norm=norm, **how))
        last = losses[-len(losses) // self.epochs :]
        values = {
            "loss": sum(last) / len(last),
            "validation_error": error(model, data.validation.head(self.tokens)),
        }
        if setting["stage"] == "run":
            values |= self._tested(model, data, norm)
        return Outcome(values)

    def _tested(self, model: TextClassifier, data: Texts, norm: str) -> dict[str, float]:
        short, long = data.test.head(self.tokens), data.test.longer(self.tokens)
        values = {
            "error": error(model, short),
            "error_beginning": error(model, long.head(self.tokens)),
            "error_whole": error(model, long),
        }
        if norm in FAMILY:
            for name, part, test in (
                ("error_anew", data.train.head(self.tokens), short),
                ("error_whole_anew", data.train, long),
            ):
                values[name] = error(with_statistics(model, part, in_order(part)), test)
        return values

    def texts(self) -> Texts:
        """Load the documents; the training documents are a random choice."""
        sizes = (self.documents, self.tested, self.tested)
        return load_texts(self.corpus, self.root, self.whole, self.vocabulary, at_random, sizes)

    def model(self, norm: str, data: Texts, seed: int) -> TextClassifier:
        """Return the untrained network. One seed gives the same first matrices."""
        torch.manual_seed(seed)
        sizes = {"embedding": self.hidden, "hidden": self.hidden, "max_steps": self.whole}
        plain = "none" if norm == "dynamic_tanh" else norm
        model = classifier(data, plain, pooling=self.pooling, **sizes)
        if norm == "dynamic_tanh":
            site = Norm("dynamic_tanh", gain=GAIN)
            replace_norm(model, NormScheme(input=site, hidden=site, cell=site))
        torch.manual_seed(seed + 1)  # independent of what the recurrent layer has drawn
        model.head.reset_parameters()
        return model

    figures = drawing.figures
    findings = verdict.findings
    quantities = verdict.quantities
