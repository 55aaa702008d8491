"""One rule for the names of parts."""

from __future__ import annotations

import pytest

from seqnorm.datasets import DatasetError
from seqnorm.datasets.parts import parts_by_name


def named(*names: str) -> dict[str, str]:
    return parts_by_name("data", ((name.partition(".")[0], name) for name in names))


def test_names() -> None:
    assert named("test", "Dev.csv", "unsupervised", "train.tsv") == {
        "train": "train.tsv",
        "validation": "Dev.csv",
        "test": "test",
    }
    assert list(named("test", "train", "val")) == ["train", "validation", "test"]
    assert named("training", "a") == {}, "classes of these names are no parts"


def test_what_is_refused() -> None:
    with pytest.raises(DatasetError, match=r"^data has more than one validation part: val, dev$"):
        named("train", "val", "dev")
    with pytest.raises(DatasetError, match=r"^data has testing\.csv: call this part 'test'$"):
        named("train.csv", "testing.csv")
