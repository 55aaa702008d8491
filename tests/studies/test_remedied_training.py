"""The remedies of the studies: when they begin, and which function training then computes."""

from __future__ import annotations

import math

import pytest
import torch

from seqnorm.models import ImageClassifier
from seqnorm.nn.statistics import RunningTable
from seqnorm.nn.statistics.freezing import any_frozen
from seqnorm.nn.statistics.renormalization import Renormalization
from seqnorm.studies.remedied_training import REMEDIES, before_step, built
from seqnorm.studies.texts import Part, Texts, classifier, logits, reestimate, train

TOKENS = [[2, 3, 4], [5, 6], [7, 2, 3, 4], [3], [6, 5, 4], [2, 2]]
PART = Part(TOKENS, [0, 1, 0, 1, 0, 1])
TEXTS = Texts(PART, PART, PART, vocabulary=8, classes=2)


def test_the_limits_grow_during_a_run() -> None:
    model = ImageClassifier(1, 3, norm=built("batch_renorm"), width=4)
    norms = [part for part in model.modules() if isinstance(part, Renormalization)]
    seen = []
    for step in (0, 5, 15, 25, 40, 99):
        before_step("batch_renorm", model, step, 100, lambda: None)
        assert all(torch.equal(norm.limits, norms[0].limits) for norm in norms)
        seen.append(norms[0].limits.tolist())
    middle = [1 + 2 * 10 / 35, 2.5]
    assert seen[:2] == [[1, 0], [1, 0]]
    assert seen[2] == pytest.approx(middle)
    assert seen[3] == pytest.approx([1 + 2 * 20 / 35, 5])
    assert seen[4:] == [[3, 5], [3, 5]]


def test_statistics_are_reestimated_once_and_then_frozen() -> None:
    model = ImageClassifier(1, 3, norm=built("batch_frozen"), width=4)
    asked: list[int] = []
    for step in range(8):
        before_step("batch_frozen", model, step, 8, lambda: asked.append(step))  # noqa: B023 (called at once)
        assert any_frozen(model) == (step >= 6)
    assert asked == [6]


@pytest.mark.parametrize("norm", ["batch", *REMEDIES])
def test_the_function_of_training_at_the_end(norm: str) -> None:
    torch.manual_seed(0)
    model = classifier(TEXTS, norm, embedding=4, hidden=4, max_steps=None)
    losses = list(train(model, PART, rate=0.01, epochs=4, batch=3, seed=0, norm=norm))
    assert all(map(math.isfinite, losses))
    order = [range(3), range(3, 6)]
    inference, training = logits(model, PART, order), logits(model, PART, order, by_batch=True)
    assert torch.equal(inference, training) == (norm == "batch_frozen")
    assert any_frozen(model) == (norm == "batch_frozen")


def test_other_norms_are_left_alone() -> None:
    runs = []
    for norm in ("none", "batch"):
        torch.manual_seed(0)
        model = classifier(TEXTS, "batch", embedding=4, hidden=4, max_steps=5)
        runs.append(list(train(model, PART, rate=0.01, epochs=2, batch=3, seed=0, norm=norm)))
    assert runs[0] == runs[1]


def test_statistics_of_all_documents_in_batches() -> None:
    model = classifier(TEXTS, "batch", embedding=4, hidden=4, max_steps=5)
    reestimate(model, PART)
    counts = [part.count.tolist() for part in model.modules() if isinstance(part, RunningTable)]
    # A step of a single row is not counted.
    assert counts == [[6, 5, 3, 0, 0]] * 3
