"""Texts as streams and as documents."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from torch.utils.data import DataLoader

from seqnorm.datasets import LanguageBatch
from seqnorm.training import LanguageData


def batches(loader: DataLoader[object]) -> list[LanguageBatch]:
    found = list(loader)
    assert all(isinstance(batch, LanguageBatch) for batch in found)
    return found  # type: ignore[return-value]


def targets(found: list[LanguageBatch]) -> dict[int, list[int]]:
    """Return the predicted tokens, by row or document."""
    rows: dict[int, list[int]] = {}
    for batch in found:
        for row, (index, length) in enumerate(zip(batch.indices, batch.lengths)):
            rows.setdefault(int(index), []).extend(batch.targets[row, :length].tolist())
    return dict(sorted(rows.items()))


@pytest.mark.parametrize("level", ["word", "character"])
@pytest.mark.parametrize("mode", ["stream", "documents"])
def test_every_token_is_predicted_once_an_epoch(mode: str, level: str, lines: Path) -> None:
    options: dict[str, Any] = {"mode": mode, "level": level, "batch_size": 4, "window": 10}
    data = LanguageData(str(lines), **options)
    data.setup("fit")
    data.setup("test")
    for part, loader in (
        ("train", data.train_dataloader()),
        ("validation", data.val_dataloader()),
        ("test", data.test_dataloader()),
    ):
        found = batches(loader)
        texts = data.corpus.parts[part]
        expected = data.tokenizer.stream(texts).tolist()
        rows = targets(found)
        assert [token for row in rows.values() for token in row] == expected
        if mode == "documents":
            assert len(rows) == len(texts)
            assert all(batch.starts for batch in found)
            assert max(len(batch.lengths) for batch in found) <= 4
        else:
            # An evaluated stream is one row, which starts only once.
            assert len(rows) == (4 if part == "train" else 1)
            assert [batch.starts for batch in found] == [True] + [False] * (len(found) - 1)
            assert found[0].tokens.shape[1] == 10
        assert found[0].tokens[:, 0].tolist().count(data.tokenizer.eos_id) >= 1


def test_sizes_of_evaluation(lines: Path) -> None:
    options: list[dict[str, Any]] = [{"mode": "stream", "window": 5}, {"mode": "documents"}]
    for option in options:
        data = LanguageData(str(lines), eval_batch_size=3, **option)
        data.setup("validate")
        assert max(len(batch.lengths) for batch in batches(data.val_dataloader())) == 3


def of_process(lines: Path, rank: int, processes: int, **options: Any) -> LanguageData:
    data = LanguageData(str(lines), window=10, **options)
    data.setup("fit")
    data.trainer = SimpleNamespace(world_size=processes, global_rank=rank)  # type: ignore[assignment]
    return data


def test_a_stream_is_evaluated_in_a_row_of_each_process(lines: Path) -> None:
    rows: dict[int, list[int]] = {}
    for rank in range(3):
        data = of_process(lines, rank, 3)
        found = targets(batches(data.val_dataloader()))
        assert [*found] == [rank]
        rows.update(found)
        data = of_process(lines, rank, 3, eval_batch_size=7)
        assert [*targets(batches(data.val_dataloader()))] == [*range(rank, 7, 3)]
    expected = data.tokenizer.stream(data.corpus.parts["validation"]).tolist()
    assert [token for rank in range(3) for token in rows[rank]] == expected
    for option, loader in (("batch_size", "train"), ("eval_batch_size", "val")):
        data = of_process(lines, 0, 3, **{option: 2})
        with pytest.raises(ValueError, match=rf"^data\.{option} is .*: 2 row.* among 3 processes"):
            getattr(data, f"{loader}_dataloader")()


def test_documents_are_cut_in_training_alone(lines: Path) -> None:
    data = LanguageData(str(lines), mode="documents", max_length=6, level="character")
    data.setup("fit")
    longest = [
        max(int(batch.lengths.max()) for batch in batches(loader))
        for loader in (data.train_dataloader(), data.val_dataloader())
    ]
    assert longest[0] == 6
    assert longest[1] > 6


def test_the_vocabulary_is_the_training_part_s(tmp_path: Path) -> None:
    for name, text in (("train", "ab\nba"), ("valid", "ac"), ("test", "dd")):
        (tmp_path / f"{name}.txt").write_text(text)
    data = LanguageData(str(tmp_path), batch_size=2)
    assert sorted(data.tokenizer.vocabulary[3:]) == ["a", "b"]
    data.setup("test")
    assert targets(batches(data.test_dataloader())) == {0: [1, 1, 2]}


def test_documents_are_shuffled_in_training_alone(lines: Path) -> None:
    orders: dict[str, list[list[int]]] = {"train": [], "val": []}
    for seed in (0, 1):
        data = LanguageData(str(lines), mode="documents", batch_size=4, seed=seed)
        data.setup("fit")
        for part, found in orders.items():
            loader = getattr(data, f"{part}_dataloader")()
            found.append([int(i) for batch in batches(loader) for i in batch.indices])
    assert orders["val"][0] == orders["val"][1]
    assert orders["train"][0] != orders["train"][1]
    assert sorted(orders["train"][0]) == sorted(orders["train"][1])


@pytest.mark.parametrize("mode", ["stream", "documents"])
def test_unknown_words_that_were_never_trained(mode: str, tmp_path: Path) -> None:
    for name, text in (("train", "a b a b\nc"), ("valid", "a b"), ("test", "a d\ne d")):
        (tmp_path / f"{name}.txt").write_text(text)
    options: dict[str, Any] = {"mode": mode, "level": "word", "batch_size": 2}
    data = LanguageData(str(tmp_path), **options)
    data.setup("fit")
    with pytest.warns(UserWarning, match=r"^test: 3 of the .* unknown.*: set data\.min_frequency"):
        data.setup("test")
    data = LanguageData(str(tmp_path), min_frequency=2, **options)
    data.setup("fit")
    data.setup("test")


def test_what_is_refused(lines: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none to predict: score or continue texts with seqnorm"):
        LanguageData(str(lines)).setup("predict")
    (tmp_path / "train.txt").write_text("\n".join(f"a {n}" for n in range(20)))
    with pytest.raises(ValueError, match=r"has no test part: give a folder with train\.txt"):
        LanguageData(str(tmp_path)).setup("test")
    folder = tmp_path / "text8"
    folder.mkdir()
    (folder / "text8").write_bytes(b"ab " * 3_400_000)
    with pytest.raises(ValueError, match=r"one text without parts: read it with --data\.mode"):
        LanguageData("text8", root=str(tmp_path), mode="documents").setup("fit")
    with pytest.raises(ValueError, match="do not suffice for 10000 rows"):
        LanguageData(str(lines), batch_size=10_000).setup("fit")
    with pytest.raises(ValueError, match="max_length must be at least 1, got 0"):
        LanguageData(str(lines), max_length=0)
