"""Folds are a stratified division that depends on a seed and on the examples alone."""

from __future__ import annotations

import csv
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import small_series
import torch
from zipped import zipped

from seqnorm.datasets import (
    CORPORA,
    DatasetError,
    Documents,
    Fold,
    Series,
    SeriesLayout,
    load_corpus,
    load_series,
    split_validation,
)
from seqnorm.datasets import corpora as module
from seqnorm.datasets.documents import Row
from seqnorm.datasets.series.corpora import split_series_fold
from seqnorm.datasets.splitting import split_fold

CLASSES = ("a", "b", "c")


def documents(*sizes: int) -> Documents:
    labels = [label for label, size in enumerate(sizes) for _ in range(size)]
    random.Random(0).shuffle(labels)
    return Documents(tuple(f"text {n}" for n in range(len(labels))), tuple(labels))


def parts_of(whole: Documents, folds: int, seed: int = 0) -> list[Documents]:
    found = []
    for number in range(1, folds + 1):
        rest, test = split_fold(whole, Fold(number, folds, seed), "x", CLASSES)
        pairs = list(zipped(*whole))
        split = [*zipped(*rest)], [*zipped(*test)]
        assert sorted(split[0] + split[1]) == sorted(pairs)
        assert all(part == sorted(part, key=pairs.index) for part in split)
        found.append(test)
    return found


def test_every_document_is_in_one_fold_and_every_class_in_all() -> None:
    whole = documents(40, 23, 5)
    found = parts_of(whole, 5)
    assert sorted(text for test in found for text in test.texts) == sorted(whole.texts)
    sizes = [len(test.texts) for test in found]
    assert max(sizes) - min(sizes) <= 1
    for label, size in enumerate((40, 23, 5)):
        counts = [Counter(test.labels)[label] for test in found]
        assert sum(counts) == size
        assert max(counts) - min(counts) <= 1


def test_the_division_depends_on_the_seed_and_not_on_the_order() -> None:
    whole = documents(30, 30)
    order = random.Random(1).sample(range(60), 60)
    shuffled = Documents(*(tuple(column[place] for place in order) for column in whole))
    first, again = parts_of(whole, 3), parts_of(shuffled, 3)
    assert [{*test.texts} for test in first] == [{*test.texts} for test in again]
    other = parts_of(whole, 3, seed=1)
    assert {*first[0].texts} not in [{*test.texts} for test in other]


def test_validation_is_chosen_apart_from_the_folds() -> None:
    """With the same hash, the validation part of all but one fold would lie in the first one."""
    whole = documents(200, 200)
    firsts = {*parts_of(whole, 4)[0].texts}
    rest, _ = split_fold(whole, Fold(2, 4), "x", CLASSES)
    _, validation = split_validation(rest, 0.2)
    part = len(firsts.intersection(validation.texts)) / len(validation.texts)
    assert 0.15 < part < 0.55


@pytest.mark.parametrize(
    ("number", "folds", "words"),
    [
        (1, 1, "folds must be at least 2, got 1"),
        (0, 3, "fold must lie between 1 and folds=3, got 0"),
        (4, 3, "fold must lie between 1 and folds=3, got 4"),
    ],
)
def test_bad_numbers(number: int, folds: int, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Fold(number, folds)


def test_a_class_that_is_too_small() -> None:
    """The error is our own: scikit-learn would only warn."""
    with pytest.raises(
        DatasetError, match=r"x: the rarest class, 'b', has 4 of the 44 documents, .*most 4"
    ):
        split_fold(documents(40, 4), Fold(1, 5), "x", CLASSES)
    with pytest.raises(DatasetError, match=r"'b', has 1 of the 41 documents, .*5 folds; give more"):
        split_fold(documents(40, 1), Fold(1, 5), "x", CLASSES)
    with pytest.raises(DatasetError, match="3 documents cannot be divided into 4 folds"):
        split_fold(documents(2, 1), Fold(1, 4), "x", CLASSES)


def write(path: Path, rows: list[tuple[str, str]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows])


def test_parts_of_ones_own(tmp_path: Path) -> None:
    """The validation part is in the folds, the test part is not, and a text is in one fold."""
    train = [(f"train {n}", "ab"[n % 2]) for n in range(20)]
    validation = [(f"valid {n}", "ab"[n % 2]) for n in range(10)]
    repeated = [(" train 3 ", "b"), ("valid 2", "a"), ("test 1", "b"), ("valid 5", "a")]
    test = [(f"test {n}", "ab"[n % 2]) for n in range(4)]
    write(tmp_path / "train.csv", train)
    write(tmp_path / "valid.csv", [*validation, *repeated])
    write(tmp_path / "test.csv", test)
    found = [load_corpus(tmp_path, fold=Fold(number, 3)) for number in (1, 2, 3)]
    texts = [text for corpus in found for text in corpus.test.texts]
    kept = {text for text, _ in [*train, *validation]} - {"valid 5"}  # it has two labels
    assert Counter(texts) == dict.fromkeys(kept, 1)
    for corpus in found:
        assert corpus.validation is None
        assert {*corpus.train.texts} == kept - {*corpus.test.texts}
    assert found[0].told == (
        "Fold 1 of 3 is the test part: 10 of 29 documents, those of the validation part (14) "
        "included. The corpus's own test part (4 documents) is in no fold and is not used"
    )


def test_a_test_part_that_is_split_off(tmp_path: Path) -> None:
    rows = [(f"text {n}", "ab"[n % 2]) for n in range(40)]
    write(tmp_path / "x.csv", rows)
    path = tmp_path / "x.csv"
    held_out = {*load_corpus(path, test_fraction=0.25).test.texts}
    assert len(held_out) == 10
    for number in (1, 2):
        corpus = load_corpus(path, test_fraction=0.25, fold=Fold(number, 2))
        assert not held_out & {*corpus.test.texts, *corpus.train.texts}
    whole = load_corpus(path, fold=Fold(1, 2))
    assert len(whole.train.texts) + len(whole.test.texts) == 40
    with pytest.raises(ValueError, match="is evaluated as a whole; leave folds and fold out"):
        load_corpus(path, alone="test", fold=Fold(1, 2))


@pytest.mark.parametrize("published", [True, False])
def test_a_corpus_by_name(published: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A corpus that was published without a test part is divided as a whole."""
    rows = [Row(f"text {n}", "ab"[n % 2]) for n in range(40)]
    parts = {"train": rows[:30], "test": rows[30:]} if published else {"train": rows}
    source = replace(CORPORA["mr"], read=lambda _: parts)
    monkeypatch.setattr(module, "CORPORA", {"mr": source})
    monkeypatch.setattr(module, "load_members", lambda *_: {})
    corpus = load_corpus("mr", fold=Fold(2, 5))
    assert len(corpus.test.texts) == (6 if published else 8)
    assert len(corpus.train.texts) == (24 if published else 32)
    assert corpus.report.split_off == 0
    assert ("own test part (10 documents)" in corpus.told) == published


@pytest.mark.parametrize("answer", ["label", "targets"])
def test_series(answer: str, tmp_path: Path) -> None:
    """Series with targets are divided too; equal ids of two parts are told apart."""
    for part, count in (("train", 20), ("valid", 10), ("test", 5)):
        small_series.write_parquet(tmp_path / f"{part}.parquet", small_series.make(count, count))
    columns = {"label_column": "label"} if answer == "label" else {"target_columns": ("slope",)}
    layout = SeriesLayout(
        answer=answer,  # type: ignore[arg-type]  # from the list above
        feature_columns=("x", "y"),
        **columns,  # type: ignore[arg-type]  # likewise
    )
    found = [load_series(tmp_path, layout=layout, fold=Fold(n, 3)) for n in (1, 2, 3)]
    tests = [corpus.test for corpus in found if corpus.test is not None]
    expected = [*(f"s{n}" for n in range(20)), *(f"validation_s{n}" for n in range(10))]
    assert sorted(name for test in tests for name in test.ids) == sorted(expected)
    for corpus, test in zipped(found, tests):
        assert len(test.ids) == 10
        assert corpus.validation is None
        assert {*corpus.train.ids} == {*expected} - {*test.ids}
        assert corpus.told.endswith(
            "10 of 30 series, those of the validation part (10) included. The corpus's own test "
            "part (5 series) is in no fold and is not used"
        )
    if answer == "label":
        counts = [Counter(test.labels) for test in tests]
        for name in small_series.CLASSES:
            assert max(c[name] for c in counts) - min(c[name] for c in counts) <= 1


def test_series_with_targets_may_be_too_few() -> None:
    values = tuple(torch.full((2, 1), float(n)) for n in range(3))
    series = Series(("a", "b", "c"), values, (), ((1.0,), (2.0,), (3.0,)))
    rest, test = split_series_fold(series, Fold(1, 3), "x")
    assert [len(rest.ids), len(test.ids)] == [2, 1]
    with pytest.raises(DatasetError, match="x: 3 series cannot be divided into 4 folds"):
        split_series_fold(series, Fold(1, 4), "x")
