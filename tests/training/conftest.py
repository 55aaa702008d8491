"""A small corpus, and the command line without a process."""

from __future__ import annotations

import csv
import random
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_runs import CrashError

CLASSES = {
    "grain": ("corn", "crop", "wheat"),
    "sport": ("goal", "match", "team"),
    "trade": ("deal", "export", "tariff"),
}


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder with 90 documents to train on and 30 to test on."""
    folder = tmp_path_factory.mktemp("corpora") / "tiny"
    folder.mkdir()
    draw = random.Random(0)
    for part, documents in (("train", 90), ("test", 30)):
        with (folder / f"{part}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("text", "label"))
            for number in range(documents):
                label = sorted(CLASSES)[number % 3]
                words = draw.choices(CLASSES[label], k=2)
                words += [f"w{draw.randrange(20)}" for _ in range(draw.randrange(12))]
                draw.shuffle(words)
                writer.writerow((f"{' '.join(words)} {part}{number}", label))
    return folder


@pytest.fixture(scope="session")
def lines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder with training, validation and test lines for a language model."""
    folder = tmp_path_factory.mktemp("texts") / "lines"
    folder.mkdir()
    draw = random.Random(0)
    for name, count in (("train", 60), ("valid", 12), ("test", 15)):
        found = []
        for _ in range(count):
            words = [draw.choice(CLASSES["grain"]), "and", draw.choice(CLASSES["sport"])]
            found.append(" ".join((words * 3)[: draw.randrange(8)]))
        (folder / f"{name}.txt").write_text("\n".join(["corn and goal", *found]) + "\n")
    return folder


@pytest.fixture
def crash_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int | None], None]:
    """Return a function that makes training raise at a step, or with None no longer."""
    from seqnorm.training import (
        LanguageModelling,
        SeriesClassification,
        SeriesRegression,
        TextClassification,
    )

    at: list[int | None] = [None]

    def crash(kind: Any) -> None:
        train = kind.training_step

        def step(self: Any, batch: Any) -> Any:
            if self.trainer.global_step == at[0]:
                raise CrashError
            return train(self, batch)

        monkeypatch.setattr(kind, "training_step", step)

    for kind in (TextClassification, LanguageModelling, SeriesClassification, SeriesRegression):
        crash(kind)

    def set_step(step: int | None) -> None:
        at[0] = step

    return set_step


@pytest.fixture
def run_seqnorm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Return a function that runs ``seqnorm`` in a folder of the test's own."""
    from seqnorm.command.main import main

    monkeypatch.chdir(tmp_path)

    def run(*arguments: str | Path) -> None:
        words = [str(argument) for argument in arguments]
        monkeypatch.setattr(sys, "argv", ["seqnorm", *words])
        with warnings.catch_warnings():
            # Lightning's CLI uses a method that jsonargparse has renamed.
            warnings.filterwarnings("ignore", ".*", DeprecationWarning, "lightning|jsonargparse")
            main()

    return run
