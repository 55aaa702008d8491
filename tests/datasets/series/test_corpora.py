"""Japanese Vowels, the .ts format, and splits of series by class."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from small_series import make

from seqnorm.datasets import (
    SERIES_CORPORA,
    DatasetError,
    Series,
    SeriesLayout,
    load_series,
    split_last_series,
    split_series,
)
from seqnorm.datasets.series.files import read_file
from seqnorm.datasets.series.japanese_vowels import JAPANESE_VOWELS
from seqnorm.datasets.series.ts import read_ts

ROOT = Path(__file__).parents[3]
TS = """#A comment: with a colon
@problemName Tiny
@timeStamps false
@dimensions 2
@classLabel true 1 two
@data
1,2,3:4,5,6:1

7e-1:-8:two
"""


def series(count: int) -> Series:
    found = make(count)
    values = tuple(torch.tensor(each["values"], dtype=torch.float64) for each in found.values())
    return Series(tuple(found), values, tuple(each["label"] for each in found.values()))


def test_the_ts_format(tmp_path: Path) -> None:
    (tmp_path / "a.ts").write_text(TS)
    found = read_file(tmp_path / "a.ts", SeriesLayout())
    assert [values.tolist() for values in found.series.values] == [
        [[1, 4], [2, 5], [3, 6]],
        [[0.7, -8]],
    ]
    assert (found.features, found.series.labels) == (("0", "1"), ("1", "two"))
    assert found.series.ids == ("1", "2")
    goals = TS.replace("classLabel true 1 two", "targetLabel true").replace(":two", ":2.5")
    (tmp_path / "a.ts").write_text(goals)
    found = read_file(tmp_path / "a.ts", SeriesLayout(answer="targets"))
    assert (found.targets, found.series.targets) == (("target",), ((1.0,), (2.5,)))
    (tmp_path / "a.ts").write_text(TS)
    assert read_file(tmp_path / "a.ts", SeriesLayout(answer=None)).series.labels == ()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("4,5,6", "4,5", r"a.ts, line 7: feature 1 has 2 values and feature 0 has 3"),
        (":-8", "", "line 9: 1 features where 2 are expected"),
        ("7e-1", "?", r"line 9: feature 0, step 0 is '\?', not a finite number"),
        ("7e-1", "NaN", "not a finite number"),
        (":two", ":three", "the label 'three' is not one of"),
        ("timeStamps false", "timeStamps true", "files with time stamps"),
        ("@classLabel true 1 two\n", "", "there is no @classLabel true"),
        ("@data", "@dat", "line 7: neither @, nor # before @data"),
        ("@classLabel true 1 two", "@classLabel false", "there is no @classLabel true"),
        ("1,2,3:4,5,6:1\n\n7e-1:-8:two\n", "", "no series after @data"),
    ],
)
def test_other_forms_are_refused(old: str, new: str, message: str) -> None:
    assert old in TS
    with pytest.raises(DatasetError, match=message):
        read_ts(Path("a.ts"), TS.replace(old, new), "label")
    with pytest.raises(DatasetError, match="there is no @targetLabel true, so the file has no tar"):
        read_ts(Path("a.ts"), TS, "targets")


def test_a_split_keeps_the_classes() -> None:
    whole = series(60)
    for split in (split_series, split_last_series):
        train, validation = split(whole, 0.25)
        assert sorted([*train.ids, *validation.ids]) == sorted(whole.ids)
        counts, all_of = Counter(validation.labels), Counter(whole.labels)
        for label in all_of:
            assert abs(counts[label] - 0.25 * all_of[label]) <= 0.5
        place = {key: number for number, key in enumerate(whole.ids)}
        for part in (train, validation):
            assert [place[key] for key in part.ids] == sorted(place[key] for key in part.ids)
            for key, values, label in zip(part.ids, part.values, part.labels):
                assert values is whole.values[place[key]]
                assert label == whole.labels[place[key]]


def test_the_choice_depends_on_the_seed_and_the_numbers() -> None:
    whole = series(40)
    _, first = split_series(whole, 0.2, seed=0)
    assert set(first.ids) != set(split_series(whole, 0.2, seed=1)[1].ids)
    turned = whole.at(range(39, -1, -1))
    assert set(split_series(turned, 0.2, seed=0)[1].ids) == set(first.ids)
    of_targets = whole._replace(labels=(), targets=((1.0,),) * 40)
    assert len(split_series(of_targets, 0.2)[1].ids) == 8
    with pytest.raises(ValueError, match="fraction must lie strictly between 0 and 1"):
        split_series(whole, 1.0)
    with pytest.raises(DatasetError, match="2 series in 2 classes rounds to no series"):
        split_series(Series(("a", "b"), whole.values[:2], ("u", "v")), 0.3)


def test_it_is_described_where_the_data_lie() -> None:
    readme = (ROOT / "data" / "README.md").read_text("utf-8")
    for name, source in SERIES_CORPORA.items():
        package = source.package
        assert name == source.name
        assert f"| `{name}` | {package.name} {package.version} |" in readme
        assert f"| {package.filename} (" in readme
        assert package.sha256 in readme
        assert set(source.members.values()) == set(package.members)
        assert "must therefore not be redistributed" in source.notice


@pytest.mark.network
def test_the_real_corpus(tmp_path: Path) -> None:
    """The published sizes, and numbers of the first series as they stand in the file."""
    corpus = load_series("japanese_vowels", root=tmp_path)
    assert corpus.test is not None
    assert corpus.validation is None
    assert corpus.classes == tuple("123456789")
    assert Counter(corpus.train.labels) == dict.fromkeys("123456789", 30)
    tested = Counter(corpus.test.labels)
    assert [tested[label] for label in corpus.classes] == [31, 35, 88, 44, 29, 24, 40, 50, 29]
    lengths = [*corpus.train.lengths, *corpus.test.lengths]
    assert (min(lengths), max(lengths)) == (7, 29)
    assert len(corpus.features) == 12
    first = corpus.train.values[0]
    assert first.shape == (20, 12)
    assert first[0, :3].tolist() == [1.860936, -0.207383, 0.261557]
    assert first[-1, 0] == 1.261441
    again = load_series("japanese_vowels", root=tmp_path)
    assert all(torch.equal(*pair) for pair in zip(again.train.values, corpus.train.values))
    assert JAPANESE_VOWELS.notice == corpus.notice
