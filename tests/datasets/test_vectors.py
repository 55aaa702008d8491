"""Pretrained vectors from a text file, by our own reader and by torchtext's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torchtext_here import needs_torchtext

from seqnorm.datasets import DatasetError, read_vectors, read_vectors_by_torchtext

Read = Callable[[Path, list[str]], "tuple[Tensor, Tensor]"]
VOCABULARY = ["<pad>", "<unk>", "corn", "café", "nowhere"]
READERS = [read_vectors, pytest.param(read_vectors_by_torchtext, marks=needs_torchtext)]


@pytest.fixture(params=READERS)
def read(request: pytest.FixtureRequest) -> Read:
    return request.param  # type: ignore[no-any-return]


@pytest.mark.parametrize("header", ["", "3 3\n"])
def test_glove_and_fasttext(header: str, read: Read, tmp_path: Path) -> None:
    path = tmp_path / "vectors.txt"
    path.write_text(header + "corn 1 -2.5 0\nother 9 9 9\ncafé 0.25 1e-3 7\n", encoding="utf-8")
    vectors, known = read(path, VOCABULARY)
    assert known.tolist() == [False, False, True, True, False]
    expected = torch.tensor([[0] * 3, [0] * 3, [1, -2.5, 0], [0.25, 1e-3, 7], [0] * 3])
    torch.testing.assert_close(vectors, expected)
    assert [file.name for file in tmp_path.iterdir()] == ["vectors.txt"], "nothing beside it"


def test_a_token_with_spaces_and_one_that_comes_twice(tmp_path: Path) -> None:
    path = tmp_path / "vectors.txt"
    path.write_text("corn 1 2\n. . 3 4\ncorn 5 6\n")
    vectors, known = read_vectors(path, ["corn", ". ."])
    assert known.all()
    assert vectors.tolist() == [[1, 2], [3, 4]]


@needs_torchtext
def test_torchtext_takes_the_last_and_no_spaces(tmp_path: Path) -> None:
    path = tmp_path / "vectors.txt"
    path.write_text("corn 1 2 3\ncorn 5 6 7\n")
    assert read_vectors_by_torchtext(path, ["corn"])[0].tolist() == [[5, 6, 7]]
    for refused in ("corn 1 2 3\n. . 3 4 5\n", "corn 1 2\n"):
        path.write_text(refused)
        with pytest.raises(DatasetError, match="torchtext cannot read vectors"):
            read_vectors_by_torchtext(path, ["corn", ". ."])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"corn 1 2\ncorn\n", r"line 2: a token and 2 numbers are needed, not 'corn"),
        (b"corn 1 x\n", "line 1: could not convert string to float: 'x'"),
        (b"other 1 2\n", "no vector for any of the 5 tokens"),
        (b"", "no vector for any"),
        (b"corn 1 2\n\xff\xfe 1 2\n", "not UTF-8"),
    ],
)
def test_what_cannot_be_read(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "vectors.txt"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=message):
        read_vectors(path, VOCABULARY)


def test_no_file(read: Read, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"cannot be read from .*none.txt: No such file"):
        read(tmp_path / "none.txt", VOCABULARY)
