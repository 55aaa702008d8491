"""The table of ``docs/sweep.md`` is that of the sweep in ``results/sweep.csv``."""

from __future__ import annotations

import csv

from pages import DOCS, marked, read, rows
from source_tree import ROOT

from seqnorm.files import space_names

PAGE = DOCS / "sweep.md"


def test_the_table_and_the_numbers_are_those_of_the_results() -> None:
    with (ROOT / "results" / "sweep.csv").open(newline="") as file:
        trials = list(csv.DictReader(file))
    options = [name for name in trials[0] if name.startswith("model.")]
    expected = [
        [
            *(trial["trial"], trial["state"]),
            *(f"{float(trial['value']):.4f}", trial["validations"]),
            f"{float(trial['model.lr']):.2g}",
            *(trial[name] for name in options if name != "model.lr"),
        ]
        for trial in trials
    ]
    table = marked(PAGE, "sweep")
    assert rows(table) == expected
    names = [name.removeprefix("model.") for name in options]
    assert table.splitlines()[0].split(" | ")[4:] == [*names[:-1], f"{names[-1]} |"]
    text = " ".join(read(PAGE).split())
    complete = [float(trial["value"]) for trial in trials if trial["state"] == "complete"]
    assert f"falls from {complete[0]:.4f} with the options" in text
    assert f"to {min(complete):.4f}. On" in text
    assert len(complete) == 10
    assert "rest on ten complete trials" in text
    assert len(trials) - len(complete) == 5
    assert "five trials were pruned" in text


def test_every_shipped_space_is_named() -> None:
    for name in space_names():
        assert f"`{name}`" in read(PAGE)
