"""Pretrained word vectors of a file as GloVe's and fastText's: a token and its numbers a line.

Axes: V tokens of the vocabulary, E numbers of a vector.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

import torch
from torch import Tensor

from seqnorm.datasets.documents import DatasetError
from seqnorm.datasets.torchtext_support import import_torchtext


def read_vectors(path: str | Path, vocabulary: Sequence[str]) -> tuple[Tensor, Tensor]:
    """The vectors (V, E) of a vocabulary's tokens, and (V,) which of them the file has.

    A first line of two numbers, how many vectors there are and of which length, is fastText's; the
    vectors of a token that is not in the file are zeros. Of a token that comes twice the first
    counts. Only the vectors of the vocabulary are kept in memory.

    Raises DatasetError for a file that cannot be read so, naming the line, or has none of the
    tokens.
    """
    numbers = {token: number for number, token in enumerate(vocabulary)}
    size: int | None = None
    found: dict[int, list[float]] = {}
    with _opened(path) as file:
        for line, text in enumerate(_decoded(file, path), start=1):
            parts = text.rstrip("\n").rstrip(" ").split(" ")
            if line == 1 and len(parts) == 2 and all(part.isdigit() for part in parts):
                size = int(parts[1])
                continue
            size = len(parts) - 1 if size is None else size
            # A few tokens of GloVe's hold spaces themselves.
            token = " ".join(parts[: len(parts) - size])
            if size < 1 or not token:
                raise DatasetError(
                    f"{path}, line {line}: a token and {max(size, 1)} numbers are needed, not "
                    f"{text[:60]!r}"
                )
            number = numbers.get(token)
            if number is not None and number not in found:
                found[number] = _floats(path, line, parts[len(parts) - size :])
    return _assembled(path, found, len(vocabulary), size)


def read_vectors_by_torchtext(path: str | Path, vocabulary: Sequence[str]) -> tuple[Tensor, Tensor]:
    """The same by torchtext's `Vectors`, which reads and keeps the whole file.

    Of a token that comes twice the last counts here, and a file with a token that holds spaces, as
    a few of GloVe's do, is refused.

    Raises ModuleNotFoundError where torchtext cannot be loaded, DatasetError as `read_vectors`.
    """
    torchtext = import_torchtext("reading vectors by torchtext")
    with _opened(path):
        pass
    # It would unpickle a copy of an earlier time that it finds beside the file.
    with tempfile.TemporaryDirectory() as cache:
        try:
            vectors = torchtext.vocab.Vectors(str(path), cache=cache)
        # Of vectors of two numbers, which it takes for a header, it knows no size: a TypeError.
        except (ValueError, RuntimeError, TypeError) as error:
            raise DatasetError(f"{path}: torchtext cannot read vectors from it: {error}") from error
    found = {
        number: vectors[token].tolist()
        for number, token in enumerate(vocabulary)
        if token in vectors.stoi
    }
    return _assembled(path, found, len(vocabulary), vectors.dim)


def _opened(path: str | Path) -> TextIO:
    try:
        return open(path, encoding="utf-8", newline="\n")
    except OSError as error:
        raise DatasetError(f"vectors cannot be read from {path}: {error.strerror}") from error


def _decoded(file: TextIO, path: str | Path) -> Iterator[str]:
    try:
        yield from file
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path} is not UTF-8 text: {error}") from error


def _floats(path: str | Path, line: int, parts: Sequence[str]) -> list[float]:
    try:
        return [float(part) for part in parts]
    except ValueError as error:
        raise DatasetError(f"{path}, line {line}: {error}") from error


def _assembled(
    path: str | Path, found: dict[int, list[float]], tokens: int, size: int | None
) -> tuple[Tensor, Tensor]:
    if not found or size is None:
        raise DatasetError(f"{path} has no vector of any of the {tokens} tokens of the vocabulary")
    vectors = torch.zeros(tokens, size, device="cpu")
    known = torch.zeros(tokens, dtype=torch.bool, device="cpu")
    rows = torch.tensor(list(found), device="cpu")
    vectors[rows] = torch.tensor(list(found.values()), device="cpu")
    known[rows] = True
    return vectors, known
