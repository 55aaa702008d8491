"""The runs that compare norms of language models: their order and their options."""

from __future__ import annotations

import importlib.util
import shlex
from pathlib import Path
from typing import Any

import pytest

from seqnorm.training.results.language_table import COLUMNS, markdown
from seqnorm.training.results.rows import append_row

ROOT = Path(__file__).parent.parent


def load() -> Any:
    spec = importlib.util.spec_from_file_location("language", ROOT / "benchmarks" / "language.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


language = load()
BATCH = ("mr_stream", "batch")


def test_every_run_is_made_once(tmp_path: Path) -> None:
    path = tmp_path / "language.csv"
    made: list[tuple[str, ...]] = []
    interrupted = [True]

    def run(arguments: list[str]) -> None:
        given = dict(zip(arguments[::2], arguments[1::2]))
        config, norm = Path(given["--config"]).stem, given["--model.norm"]
        lr, seed = given["--model.lr"], given["--seed_everything"]
        made.append((config, norm, lr, seed))
        if len(made) == 15 and interrupted:
            interrupted.clear()
            raise KeyboardInterrupt
        row = dict.fromkeys(COLUMNS, "1")
        row |= {"corpus": "mr", "mode": config, "norm": "none" if norm == "null" else norm}
        best = {"layer": 0.01, "batch": 0.1, "null": 0.003}[norm]
        row |= {"lr": lr, "seed": seed, "val_loss": str(abs(float(lr) - best))}
        append_row(path, {**row, "config": shlex.join(arguments)}, COLUMNS)

    configs = ["mr_stream", "mr_documents"]
    with pytest.raises(KeyboardInterrupt):
        language.make(configs, path, run)
    made.pop()
    language.make(configs, path, run)
    assert len(made) == len(set(made)) == 2 * (6 + 8 + 6)
    tried = [lr for config, norm, lr, seed in made if (config, norm, seed) == (*BATCH, "0")]
    assert tried == ["0.003", "0.01", "0.03", "0.1", "0.3"]
    assert [run for run in made if run[:2] == BATCH][5:] == [(*BATCH, "0.1", s) for s in "123"]
    language.make(configs, path, run)
    assert len(made) == 40
    assert len(markdown(path).splitlines()) == 2 + 6


def test_runs_with_options_of_their_own_are_not_counted(tmp_path: Path) -> None:
    path = tmp_path / "language.csv"
    for more in ((), ("--trainer.max_epochs", "9"), ("--config", "configs/other.yaml")):
        arguments = language.options("mr_stream", "layer", 0.01, "0", path)
        row = dict.fromkeys(COLUMNS, "1") | {"norm": "layer"}
        append_row(path, {**row, "config": shlex.join([*arguments, *more])}, COLUMNS)
    assert len(language.rows_of(path, "mr_stream", "layer")) == 1
    assert language.rows_of(path, "mr_stream", "batch") == []
    made = ROOT / "results" / "language.csv"
    assert [len(language.rows_of(made, "mr_stream", norm)) for norm in language.NORMS] == [7, 9, 7]


def test_a_run_without_a_row(tmp_path: Path) -> None:
    with pytest.raises(
        RuntimeError, match=r"train\.py fit --config configs/language/a\.yaml .* no row"
    ):
        language.make(["a"], tmp_path / "none.csv", lambda arguments: None)
