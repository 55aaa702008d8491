"""The README is right: its files exist, its examples run, its tables are those of the results."""

from __future__ import annotations

import csv
import re
import warnings
from collections import defaultdict
from pathlib import Path
from statistics import geometric_mean

import pytest

from seqnorm.training.results.classification_table import markdown
from seqnorm.training.results.language_table import markdown as language_models

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_file_it_names_exists() -> None:
    names = set(re.findall(r"\b(?:configs|results|data)/[\w./-]*\w\.\w+", README))
    assert {name.split("/")[0] for name in names} == {"configs", "results", "data"}
    assert not [name for name in names if not (ROOT / name).is_file()]


def test_the_examples_run() -> None:
    first, *others = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    scope: dict[str, object] = {}
    exec(first, scope)
    assert scope["output"].shape == (3, 50, 256)  # type: ignore[attr-defined]
    assert type(scope["lstm"]).__name__ == "LSTM"
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "running statistics are dropped")
        for example in others:
            exec(example, scope)
    assert str(scope["svg"]).startswith("<svg")
    assert [type(layer).__name__ for layer in scope["network"]] == ["Conv2d", "GroupNorm"]  # type: ignore[attr-defined]


def test_what_the_examples_print(capsys: pytest.CaptureFixture[str]) -> None:
    """The comment after a print is the beginning of the printed text."""
    scope: dict[str, object] = {}
    printed = []
    for example in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
        for line in example.splitlines():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                exec(line, scope)
            if line.startswith("print("):
                printed.append((line.split("  # ")[1], capsys.readouterr().out))
    assert len(printed) >= 2
    for said, came in printed:
        assert came.startswith(said.removesuffix("...").removesuffix(", "))


def test_the_table_is_made_from_the_results() -> None:
    (table,) = re.findall(r"<!-- results -->\n(.*?)<!-- end of results -->", README, re.DOTALL)
    assert table.strip() == markdown(ROOT / "results" / "text_classification.csv")


def test_the_table_of_language_models_is_made_from_the_results() -> None:
    (table,) = re.findall(r"<!-- language -->\n(.*?)<!-- end of language -->", README, re.DOTALL)
    assert table.strip() == language_models(ROOT / "results" / "language.csv")


def test_the_speeds_are_those_of_the_results() -> None:
    ratios: defaultdict[tuple[str, ...], list[float]] = defaultdict(list)
    with (ROOT / "results" / "cpu_speed.csv").open() as file:
        for row in csv.DictReader(file):
            if row["baseline"].startswith("torch"):
                names = (row["shape"], row["norm"], row["mode"], row["cell"])
                ratios[names].append(float(row["ratio"]))
    for text, names in (
        ("LayerNorm, training", ("grid", "layer", "train")),
        ("LayerNorm, inference", ("grid", "layer", "infer")),
        ("BatchNorm of every step, training", ("grid", "batch", "train")),
        ("LayerNorm, training, lengths like those of Reuters R8", ("ragged", "layer", "train")),
        ("the same, two layers in both directions", ("ragged_deep", "layer", "train")),
    ):
        means = [geometric_mean(ratios[(*names, cell)]) for cell in ("lstm", "gru")]
        assert f"| {text} | {means[0]:.2f} | {means[1]:.2f} |" in README
    worst = max(max(ratios["grid", "layer", "train", cell]) for cell in ("lstm", "gru"))
    pooled = geometric_mean(ratios["grid", "batch_pooled", "train", "lstm"])
    inference = max(ratios["grid", "batch", "infer", "lstm"])
    text = " ".join(README.split())
    assert f"The worst of LayerNorm in training is {worst:.2f}." in text
    assert f"(LSTM, training: {pooled:.2f})" in text
    assert f"on one short sequence (up to {inference:.2f})" in text


def test_all_commands_set_up_from_constraints() -> None:
    commands = re.findall(r"^python3 -m venv .*$", README, re.MULTILINE)
    found = [(c.split(" && ")[-1], re.findall(r"-c (\S+)", c)) for c in commands]
    assert found == [
        ("python train.py fit", ["constraints.txt"]),
        ("python -m pytest", ["constraints.txt"]),
        ("python -m pytest", ["constraints-torchtext.txt"]),
    ]
