"""Documents of the studies on texts: parts of them, their order, training on them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from seqnorm.studies.texts import (
    Part,
    at_random,
    classifier,
    evenly,
    load_texts,
    random_batches,
    train,
)


def test_parts_of_documents() -> None:
    part = Part([[1, 2, 3, 4, 5], [6], [7, 8, 9]], [0, 1, 2])
    assert part.lengths == [5, 1, 3]
    assert part.head(2).tokens == [[1, 2], [6], [7, 8]]
    assert part.tail(2).tokens == [[4, 5], [6], [8, 9]]
    assert part.again(2).tokens == [[1, 2, 1, 2, 1], [6], [7, 8, 7]]
    assert part.longer(2) == Part([[1, 2, 3, 4, 5], [7, 8, 9]], [0, 2])
    assert part.take(evenly(3, 2)) == part.longer(2)
    assert part.take(evenly(3, 3)) == part.take(evenly(3, 10)) == part


def test_random_documents_are_the_same_in_every_run() -> None:
    assert at_random(50, 7) == at_random(50, 7)
    assert len(set(at_random(50, 7))) == 7
    assert sorted(at_random(5, 9)) == [0, 1, 2, 3, 4]


def test_batches_hold_every_document_once() -> None:
    part = Part([[1] * (1 + i % 5) for i in range(70)], [0] * 70)
    orders = []
    for seed, epoch in ((0, 0), (0, 0), (0, 1), (1, 0)):
        sampler = random_batches(part, 8, seed)
        sampler.set_epoch(epoch)
        orders.append([index for indices in sampler for index in indices])
        assert sorted(orders[-1]) == list(range(70))
    assert orders[0] == orders[1]
    assert orders[0] not in orders[2:]


@pytest.mark.parametrize("words_of_chosen", [False, True])
def test_a_corpus_is_cut_and_encoded(words_of_chosen: bool, tmp_path: Path) -> None:
    for part, count in (("train", 40), ("test", 4)):
        lines = [f"{'a' if i % 2 else 'b'},word w{i} more text and {part}" for i in range(count)]
        (tmp_path / f"{part}.csv").write_text("\n".join(["label,text", *lines]) + "\n")
    texts = load_texts(
        *(str(tmp_path), str(tmp_path), 3, 100, at_random, (20, None, 3)), words_of_chosen
    )
    assert [len(texts.train), len(texts.validation), len(texts.test)] == [20, 4, 3]
    assert max(texts.train.lengths) == 3
    # Padding, the unknown word, five words and those of 20 or of all 36 training documents.
    assert (texts.vocabulary, texts.classes) == (7 + (20 if words_of_chosen else 36), 2)


def test_training_yields_falling_losses_and_a_falling_rate_changes_them(corpus: Path) -> None:
    texts = load_texts(str(corpus), "data", 9, 30, evenly, (None, None, None))

    def losses(falling: bool) -> list[float]:
        torch.manual_seed(0)
        model = classifier(texts, "layer", embedding=4, hidden=4, max_steps=None)
        how = {"rate": 0.05, "epochs": 6, "batch": 8, "seed": 0}
        return list(train(model, texts.train, **how, falling=falling))

    constant, falling = losses(False), losses(True)
    assert len(constant) == len(falling) == 6 * 9, "72 documents for training, 8 for validation"
    assert constant[0] == falling[0]
    assert constant[1:] != falling[1:]
    for found in (constant, falling):
        assert sum(found[-9:]) < 0.5 * sum(found[:9])
