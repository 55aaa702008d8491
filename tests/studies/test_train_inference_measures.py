"""Answers with each kind of statistics and companions, compared with single documents."""

from __future__ import annotations

import math

import pytest
import torch

from seqnorm.models import TextClassifier
from seqnorm.studies.texts import Part, logits, with_statistics
from seqnorm.studies.train_inference import measures

DOCUMENTS = Part(
    [[2, 3, 4, 5], [6, 2], [7, 8, 9, 2, 3, 4], [5], [6, 7, 8, 2], [3, 3, 2, 9, 8]],
    [0, 1, 2, 0, 1, 2],
)


def classifier(norm: str | None) -> TextClassifier:
    torch.manual_seed(0)
    model = TextClassifier(
        10, 3, norm=norm, embedding_size=4, hidden_size=5, bidirectional=False, pooling="mean",
        embedding_std=1.0, pool_embeddings=False, word_dropout=0.5, zoneout=0.2,
    )  # fmt: skip
    batch = DOCUMENTS.batch(range(6))
    model(batch.tokens, batch.lengths)  # fills the running tables
    return model


def state(model: TextClassifier) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_unchanged(model: TextClassifier, before: dict[str, torch.Tensor]) -> None:
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize(("count", "size"), [(6, 4), (10, 4), (3, 8), (7, 1)])
def test_random_batches_hold_everything_once(count: int, size: int) -> None:
    draw = torch.Generator().manual_seed(1)
    batches = measures.equal_batches(count, size, draw)
    assert sorted(index for batch in batches for index in batch) == list(range(count))
    sizes = [len(batch) for batch in batches]
    assert max(sizes) <= size
    assert max(sizes) - min(sizes) <= 1
    assert measures.equal_batches(40, 8, draw) != measures.equal_batches(40, 8, draw)


@pytest.mark.parametrize("norm", ["batch", "batch_pooled", "layer", None])
def test_running_statistics_answer_each_document_by_itself(norm: str | None) -> None:
    model = classifier(norm)
    before = state(model)
    order = [[3, 0, 5], [1, 4, 2]]
    found = logits(model, DOCUMENTS, order, by_batch=False)
    model.eval()
    for index in range(6):
        batch = DOCUMENTS.batch([index])
        torch.testing.assert_close(found[index], model(batch.tokens, batch.lengths)[0])
    assert_unchanged(model, before)


@pytest.mark.parametrize("norm", ["batch", "batch_pooled"])
def test_statistics_of_the_batch_depend_on_its_documents_and_are_not_kept(norm: str) -> None:
    model = classifier(norm)
    before = state(model)
    a = logits(model, DOCUMENTS, [[3, 0, 5], [1, 4, 2]], by_batch=True)
    b = logits(model, DOCUMENTS, [[0, 1, 2], [3, 4, 5]], by_batch=True)
    again = logits(model, DOCUMENTS, [[3, 0, 5], [1, 4, 2]], by_batch=True)
    assert torch.equal(a, again)
    assert measures.largest_difference(a, b) > 1e-3
    assert_unchanged(model, before)
    beside = measures.accompanied(model, DOCUMENTS, [0, 2], [[3, 5], [4, 1]])
    torch.testing.assert_close(beside, a[[0, 2]])


@pytest.mark.parametrize("norm", ["layer", None])
def test_other_norms_do_not_depend_on_companions(norm: str | None) -> None:
    model = classifier(norm)
    a = logits(model, DOCUMENTS, [[3, 0, 5], [1, 4, 2]], by_batch=True)
    b = measures.accompanied(model, DOCUMENTS, range(6), [[5]] * 5 + [[]])
    assert measures.changed(a, b) == 0
    assert measures.largest_difference(a, b) < 1e-6


def test_one_row_normalises_to_nothing() -> None:
    """Normalised by a single row's statistics, documents differ in nothing but their length."""
    model = classifier("batch")
    found = logits(model, DOCUMENTS, measures.twice(6), by_batch=True)
    torch.testing.assert_close(found[0], found[4], rtol=0, atol=1e-6)
    assert DOCUMENTS.tokens[0] != DOCUMENTS.tokens[4]


def test_statistics_are_taken_anew_in_a_copy() -> None:
    model = classifier("batch_pooled")
    before = state(model)
    copy = with_statistics(model, DOCUMENTS, [[0, 1, 2], [3, 4, 5]])
    frames = model.embedding(torch.tensor([t for text in DOCUMENTS.tokens for t in text]))
    projected = frames @ model.recurrent.weight_ih_l0.T
    table = copy.recurrent.norm_ih_l0.table
    torch.testing.assert_close(table.running_mean[0], projected.mean(0))
    torch.testing.assert_close(table.running_var[0], projected.var(0))
    assert_unchanged(model, before)


def test_scores() -> None:
    answers = torch.tensor([[2.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 3.0]])
    found = measures.score(answers, Part([[2], [3], [4]], [0, 1, 2]))
    chances = [
        math.exp(row[label]) / sum(math.exp(value) for value in row)
        for row, label in zip(answers.tolist(), (0, 1, 2))
    ]
    assert found["loss"] == pytest.approx(-sum(math.log(p) for p in chances) / 3)
    assert found["accuracy"] == pytest.approx(2 / 3)
    other = answers.clone()
    other[0] = torch.tensor([0.0, 5.0, 0.0])
    assert measures.changed(answers, other) == pytest.approx(1 / 3)
    assert measures.largest_difference(answers, other) == 5
