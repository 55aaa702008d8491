"""The runs that compare the accuracy of classifiers: their options, tests and tables."""

from __future__ import annotations

import csv
import importlib
from pathlib import Path
from typing import Any

import pytest
from pages import marked
from scipy.stats import binomtest
from source_tree import ROOT

from seqnorm.command.early import with_configs
from seqnorm.training.run.fit import fit_parser
from seqnorm.training.run.options import parse
from seqnorm.training.run.task import TASKS

pytestmark = pytest.mark.usefixtures("importable_benchmarks")
RESULTS = ROOT / "results" / "accuracy.csv"


def load() -> Any:
    return importlib.import_module("accuracy")


def row(**changed: object) -> dict[str, str]:
    made = {
        "corpus": "r8",
        "norm": "layer",
        "variant": "recipe",
        "seed": 0,
        "accuracy": 0.98,
        "macro_f1": 0.95,
        "recurrent": 0.97,
        "tfidf": 0.96,
        "only_right": 10,
        "only_wrong": 2,
        "linear": 0.9726,
        "documents": 100,
    }
    return {name: str(value) for name, value in {**made, **changed}.items()}


def test_mcnemar_is_the_binomial_test() -> None:
    for right, wrong in ((0, 0), (3, 9), (25, 11), (7, 7)):
        expected = binomtest(right, right + wrong).pvalue if right + wrong else 1.0
        assert load().mcnemar(right, wrong) == pytest.approx(expected)


def test_the_tables() -> None:
    found = [row(), row(seed=1, accuracy=0.97, only_right=5, only_wrong=5)]
    first = load().tables(found)
    # The mean ± 12.706 * 0.00707 / sqrt(2), Student's interval of two runs.
    line = "| r8 | layer | 0.9750 (0.9115 to 1.0385) | 0.9700 | 0.9600 | 0.9500 | 0.9726 "
    assert first.splitlines()[2] == f"{line}| 0.04, 1.00 | 2 |"
    assert len(first.splitlines()) == 3, "without variants there is nothing to compare"
    more = load().tables([*found, *(row(variant=name) for name in load().VARIANTS)])
    assert "| r8 | one loss | 0.9800 (-inf to inf) | 1 |" in more


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_all_options_are_those_of_a_run() -> None:
    accuracy = load()
    parser = fit_parser(TASKS["classification"])
    for corpus, words in accuracy.CONFIGS.items():
        for norm, chosen in accuracy.NORMS.items():
            options = parse(parser, with_configs([*words, *chosen]), None)
            found = (options.data.corpus, options.model.norm or "none", options.model.wide)
            assert found == (corpus, norm, True)
    base = with_configs(accuracy.CONFIGS["r8"])
    usual = parse(parser, base, None).as_dict()
    for variant, changes in accuracy.VARIANTS.items():
        changed = parse(parser, [*base, *changes], None).as_dict()
        differ = [
            f"--{part}.{name}"
            for part in ("model", "data")
            for name in usual[part]
            if usual[part][name] != changed[part][name]
        ]
        assert differ == list(changes[::2]), variant


def test_the_page_has_the_tables_of_the_results() -> None:
    with RESULTS.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert marked(ROOT / "docs" / "accuracy.md", "accuracy") == load().tables(rows)
    keys = [tuple(each[name] for name in load().COLUMNS[:4]) for each in rows]
    assert len(keys) == len(set(keys))


def test_a_run_is_made_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    accuracy = load()
    monkeypatch.setattr(accuracy, "ROOT", tmp_path)
    made: list[tuple[object, ...]] = []

    def make(*key: object) -> None:
        made.append(key)
        accuracy.append_row(
            tmp_path / accuracy.RESULTS,
            {**dict.fromkeys(accuracy.COLUMNS, ""), **dict(zip(accuracy.COLUMNS, key))},
            accuracy.COLUMNS,
        )

    monkeypatch.setattr(accuracy, "make", make)
    for words in (["r8", "--seeds", "1"], ["r8", "--seeds", "2"], ["r8", "r52", "--norms", "none"]):
        monkeypatch.setattr("sys.argv", ["accuracy.py", *words])
        accuracy.main()
    assert made[:2] == [("r8", "layer", "recipe", 0), ("r8", "layer", "recipe", 1)]
    assert [key[1] for key in made[2:]] == ["none"] * 10
