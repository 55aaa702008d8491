"""Fixtures for the tests of several studies."""

from __future__ import annotations

import random
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write documents of 2 to 10 words, of two classes with words of their own."""
    folder = tmp_path_factory.mktemp("corpora") / "tiny"
    folder.mkdir()
    draw = random.Random(0)
    for part, documents in (("train", 80), ("test", 30)):
        lines = ["text,label"]
        for number in range(documents):
            words = [f"{'ab'[number % 2]}{draw.randrange(9)}" for _ in range(2 + number % 9)]
            lines.append(f"{' '.join(words)} {part}{number},{'ab'[number % 2]}")
        (folder / f"{part}.csv").write_text("\n".join(lines))
    return folder
