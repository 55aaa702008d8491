"""Pretrained word vectors from files such as GloVe's and fastText's: a token and numbers a line.

Axes: V tokens of the vocabulary, E numbers of a vector.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import torch
from torch import Tensor

from .documents import DatasetError
from .torchtext_tokenizing import import_torchtext


def read_vectors(path: str | Path, vocabulary: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Read the vectors (V, E) of a vocabulary's tokens, and a mask (V,) of the tokens in the file.

    A first line of two numbers, the number of vectors and their length, is skipped (fastText). The
    vector of a token that is not in the file is zero. If a token occurs twice, its first vector is
    used. Only the vectors of the vocabulary are kept in memory.

    Raises DatasetError, which names the line, for a file that cannot be read in this form or has no
    token of the vocabulary.
    """
    numbers = {token: number for number, token in enumerate(vocabulary)}
    size: int | None = None
    found: dict[int, list[float]] = {}
    with _opened(path) as file:
        for line, text in enumerate(file, start=1):
            parts = text.rstrip("\n").rstrip(" ").split(" ")
            if line == 1 and len(parts) == 2 and all(part.isdigit() for part in parts):
                size = int(parts[1])
                continue
            size = len(parts) - 1 if size is None else size
            # A few tokens of GloVe contain spaces.
            token = " ".join(parts[: len(parts) - size])
            if size < 1 or not token:
                raise DatasetError(
                    f"{path}, line {line}: a token and {max(size, 1)} numbers are needed, not "
                    f"{text[:60]!r}"
                )
            number = numbers.get(token)
            if number is not None and number not in found:
                try:
                    found[number] = [float(part) for part in parts[len(parts) - size :]]
                except ValueError as error:
                    raise DatasetError(f"{path}, line {line}: {error}") from error
    return _assembled(path, found, len(vocabulary), size)


def read_vectors_by_torchtext(path: str | Path, vocabulary: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Read the same by torchtext's `Vectors`, which keeps the whole file in memory.

    If a token occurs twice, its last vector is used. A file with a token that contains spaces, as a
    few in GloVe do, is refused.

    Raises ModuleNotFoundError if torchtext cannot be loaded, and DatasetError as `read_vectors`.
    """
    torchtext = import_torchtext("reading vectors by torchtext")
    with _opened(path):
        pass
    # With an empty cache, torchtext cannot unpickle an earlier copy beside the file.
    with tempfile.TemporaryDirectory() as cache:
        try:
            vectors = torchtext.vocab.Vectors(str(path), cache=cache)
        # TypeError: it takes lines of a token and one number for headers, and finds no size.
        except (ValueError, RuntimeError, TypeError) as error:
            raise DatasetError(f"{path}: torchtext cannot read vectors from it: {error}") from error
    found = {
        number: vectors[token].tolist()
        for number, token in enumerate(vocabulary)
        if token in vectors.stoi
    }
    return _assembled(path, found, len(vocabulary), vectors.dim)


@contextmanager
def _opened(path: str | Path) -> Iterator[TextIO]:
    try:
        with open(path, encoding="utf-8", newline="\n") as file:
            yield file
    except OSError as error:
        raise DatasetError(f"vectors cannot be read from {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path} is not UTF-8 text: {error}") from error


def _assembled(
    path: str | Path, found: dict[int, list[float]], tokens: int, size: int | None
) -> tuple[Tensor, Tensor]:
    if not found or size is None:
        raise DatasetError(f"{path} has no vector for any of the {tokens} tokens of the vocabulary")
    vectors = torch.zeros(tokens, size, device="cpu")
    known = torch.zeros(tokens, dtype=torch.bool, device="cpu")
    rows = torch.tensor(list(found), device="cpu")
    vectors[rows] = torch.tensor(list(found.values()), device="cpu")
    known[rows] = True
    return vectors, known
