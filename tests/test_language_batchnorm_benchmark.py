"""The benchmark of BatchNorm in a language model: its options, measures and table."""

from __future__ import annotations

import csv
import importlib
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from pages import marked
from source_tree import ROOT

from seqnorm.command.early import with_configs
from seqnorm.datasets import LanguageBatch
from seqnorm.models import LanguageModel
from seqnorm.training.run.fit import fit_parser
from seqnorm.training.run.options import parse
from seqnorm.training.run.task import TASKS

pytestmark = pytest.mark.usefixtures("importable_benchmarks")


def load() -> Any:
    return importlib.import_module("language_batchnorm")


def test_all_options_exist() -> None:
    for words in load().VARIANTS.values():
        parse(fit_parser(TASKS["language"]), with_configs([*load().BASE, *words]), None)


def batches(count: int, seed: int) -> list[LanguageBatch]:
    draw = torch.Generator().manual_seed(seed)
    found = []
    for number in range(count):
        tokens = torch.randint(2, 9, (4, 7), generator=draw)
        targets = torch.randint(2, 9, (4, 7), generator=draw)
        lengths = torch.tensor([7, 6, 3, 1 + number])
        found.append(LanguageBatch(tokens, targets, lengths, torch.arange(4), starts=True))
    return found


def test_bits_are_counted_by_step_without_padding() -> None:
    torch.manual_seed(0)
    model = LanguageModel(9, norm="layer", embedding_size=4, hidden_size=5)
    data = batches(2, 0)
    total, count = load().bits(model, data)
    expected = [0.0] * 7
    for batch in data:
        for row, length in enumerate(batch.lengths.tolist()):
            logits, _ = model(batch.tokens[row : row + 1, :length])
            for step in range(length):
                p = logits[0, step].detach().double().softmax(-1)[batch.targets[row, step]]
                expected[step] -= math.log2(float(p))
    assert total[:7].tolist() == pytest.approx(expected, rel=1e-5)
    assert count[:8].tolist() == [8, 7, 6, 4, 4, 4, 2, 0]


def test_only_batchnorm_has_other_statistics() -> None:
    for norm, kinds in (("layer", {"running"}), ("batch", set(load().STATISTICS))):
        torch.manual_seed(0)
        model = LanguageModel(9, norm=norm, embedding_size=4, hidden_size=5)
        for batch in batches(3, 1):
            model.train()(batch.tokens, batch.lengths)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        found = load().measured(model, batches(3, 1), batches(2, 2))
        assert {kind for kind in load().STATISTICS if kind in found} == kinds
        assert all(torch.equal(before[name], v) for name, v in model.state_dict().items())
        counts = [4 * 2, 7 + 6 + 4 + 4]  # of the first step and of the next four
        parts = [found[f"running_{part}"] for part in ("first", "next", "others")]
        weights = [*counts, 35 - sum(counts)]
        mean = sum(w * part for w, part in zip(weights, parts)) / 35
        assert found["running"] == pytest.approx(mean)


def test_the_page_has_the_table_of_the_results() -> None:
    with (ROOT / load().RESULTS).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert marked(ROOT / "docs" / "language_models.md", "causes") == load().table(rows)
    assert {row["variant"] for row in rows} == set(load().VARIANTS)
    keys = [(row["variant"], row["seed"]) for row in rows]
    assert len(keys) == len(set(keys)) == 5 * len(load().VARIANTS)


def test_a_run_is_made_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    benchmark = load()
    monkeypatch.setattr(benchmark, "ROOT", tmp_path)
    made: list[tuple[str, int]] = []

    def run(variant: str, seed: int) -> None:
        made.append((variant, seed))
        row = dict.fromkeys(benchmark.COLUMNS, "") | {"variant": variant, "seed": str(seed)}
        benchmark.append_row(tmp_path / benchmark.RESULTS, row, benchmark.COLUMNS)

    for seeds in ("1", "2"):
        monkeypatch.setattr("sys.argv", ["language_batchnorm.py", "--seeds", seeds])
        benchmark.main(run)
    assert made == [(variant, seed) for seed in (0, 1) for variant in benchmark.VARIANTS]
