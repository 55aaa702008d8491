"""TextData: its use of the parts, and its division of work among processes."""

from __future__ import annotations

import csv
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from zipped import zipped

from seqnorm.training import TextClassification, TextData


def write(path: Path, rows: list[tuple[str, str]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows])


def test_parts_and_labels(corpus: Path) -> None:
    data = TextData(str(corpus), batch_size=16, max_length=5)
    data.setup("fit")
    assert data.classes == ("grain", "sport", "trade")
    train, validation = data.train_dataloader(), data.val_dataloader()
    assert [len(loader.dataset) for loader in (train, validation)] == [81, 9]  # type: ignore[arg-type]
    texts = dict(zipped(data.corpus.train.texts, data.corpus.train.labels))
    seen = []
    for batch in train:
        assert batch.tokens.shape[1] <= 5
        seen += batch.indices.tolist()
        for index, label in zipped(batch.indices.tolist(), batch.labels.tolist()):
            assert texts[data._documents["train"].texts[index]] == label
    assert sorted(seen) == list(range(81))


def test_the_vocabulary_is_that_of_the_training_part_alone(corpus: Path) -> None:
    data = TextData(str(corpus))
    words = set(data.tokenizer.vocabulary)
    train = {word for text in data._documents["train"].texts for word in text.split()}
    held_out = {
        word
        for part in ("validation", "test")
        for text in data._documents[part].texts
        for word in text.split()
    }
    assert words - {"<pad>", "<unk>"} == train
    assert held_out - train  # some words could leak
    assert len(TextData(str(corpus), min_frequency=2).tokenizer) < len(data.tokenizer)
    assert len(TextData(str(corpus), vocab_size=10).tokenizer) == 10
    assert len(TextData(str(corpus), kind="character").tokenizer) < 40


def test_all_seeds_train_on_the_same_documents_in_another_order(corpus: Path) -> None:
    orders = []
    for seed in (0, 0, 1):
        data = TextData(str(corpus), seed=seed, batch_size=10)
        data.setup("fit")
        assert data._documents["train"] == TextData(str(corpus))._documents["train"]
        orders.append([batch.indices.tolist() for batch in data.train_dataloader()])
    assert orders[0] == orders[1] != orders[2]
    other = TextData(str(corpus), split_seed=1)
    assert other._documents["train"] != TextData(str(corpus))._documents["train"]


def test_processes_divide_the_documents(corpus: Path) -> None:
    seen: list[int] = []
    for rank in (0, 1):
        data = TextData(str(corpus), batch_size=8)
        data.setup("test")
        data.trainer = SimpleNamespace(world_size=2, global_rank=rank)  # type: ignore[assignment]
        seen += [index for batch in data.test_dataloader() for index in batch.indices.tolist()]
    assert sorted(seen) == list(range(30))


def test_iterating_draws_nothing_from_the_global_generator(corpus: Path) -> None:
    data = TextData(str(corpus))
    data.setup("fit")
    before = torch.get_rng_state()
    list(data.train_dataloader())
    list(data.val_dataloader())
    assert torch.equal(torch.get_rng_state(), before)


def test_vocabulary_and_classes_of_a_checkpoint(tmp_path: Path, corpus: Path) -> None:
    tokenizer = TextData(str(corpus)).tokenizer_json
    model = TextClassification(tokenizer, ("trade", "other", "sport", "grain"))
    saved = {"hyper_parameters": dict(model.hparams), "state_dict": model.state_dict()}
    torch.save(saved, tmp_path / "a.ckpt")
    data = TextData(str(corpus), vocabulary=str(tmp_path / "a.ckpt"))
    data.setup("test")
    assert data.classes == ("trade", "other", "sport", "grain")
    assert data.tokenizer_json == tokenizer
    labels = [label for _, label, _ in (data._parts["test"][index] for index in range(3))]
    assert [data.classes[label] for label in labels] == ["grain", "sport", "trade"]
    (tmp_path / "more").mkdir()
    write(tmp_path / "more" / "train.csv", [("a b", "sport"), ("c d", "weather"), ("e", "sport")])
    strange = TextData(str(tmp_path / "more"), vocabulary=str(tmp_path / "a.ckpt"))
    with pytest.raises(ValueError, match="not trained on: weather; it knows trade, other"):
        strange._encode(strange.corpus.train, "train")


def test_a_validation_part_of_ones_own(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", [(f"good {n}", "a") for n in range(9)] + [("bad", "b")])
    write(tmp_path / "validation.csv", [("fine", "a"), ("poor", "b")])
    data = TextData(str(tmp_path))
    assert data._documents["validation"].texts == ("fine", "poor")
    assert len(data._documents["train"].texts) == 10
    assert not data.has_test


def test_the_last_documents_for_validation(corpus: Path) -> None:
    data = TextData(str(corpus), validation="last", validation_fraction=0.1)
    texts = data.corpus.train.texts
    assert data._documents["validation"].texts == texts[81:]
    assert data._documents["train"].texts == texts[:81]


def test_no_documents_for_validation(corpus: Path, tmp_path: Path) -> None:
    data = TextData(str(corpus), validation="nothing")
    assert data._documents["train"] == data.corpus.train
    data.setup("fit")
    assert data.training_tokens == data.tokenizer.encode(data.corpus.train.texts)
    with pytest.raises(
        ValueError, match=r"no validation part, because data\.validation is nothing"
    ):
        data.setup("validate")
    write(tmp_path / "train.csv", [("good", "a"), ("bad", "b")])
    write(tmp_path / "validation.csv", [("fine", "a"), ("poor", "b")])
    train = TextData(str(tmp_path), validation="nothing")._documents["train"]
    assert train == (("good", "bad", "fine", "poor"), (0, 1, 0, 1))


def test_the_language_of_ones_own_files(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", [("很好", "a"), ("不好", "b"), ("好", "a"), ("坏", "b")])
    options = {"validation_fraction": 0.5}
    data = TextData(str(tmp_path / "a.csv"), language="zh", **options)  # type: ignore[arg-type]
    assert data.corpus.language == "zh"
    assert {len(token) for token in data.tokenizer.vocabulary[2:]} == {1}


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ("predict", "none to predict: label texts with seqnorm predict"),
        ("test", "train.csv has no test part: set test_fraction.* train.csv and test.csv"),
    ],
)
def test_what_there_is_not(corpus: Path, stage: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TextData(str(corpus / "train.csv")).setup(stage)
