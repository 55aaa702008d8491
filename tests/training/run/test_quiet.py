"""The output of training has what concerns the run, and no more."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from small_runs import SMALL
from source_tree import ROOT

from seqnorm.training.run import quiet

Command = Callable[..., None]


def test_calm_output(corpus: Path, tmp_path: Path) -> None:
    size = ("--model.embedding_size=8", "--model.hidden_size=8", "--trainer.max_epochs=2")
    command = [sys.executable, "-m", "seqnorm", "fit", f"--data.corpus={corpus}", *size]
    process = subprocess.run(
        command,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100"},
    )
    said = process.stdout
    for words in ("Tip:", "FLOPs", "TPU", "GPU available: False", "Warning", "Epoch 0"):
        assert words not in said
    for words in (" parameters: embedding ", "Documents: ", "Epoch 1/2", "Epoch 2/2"):
        assert words in said, words
    assert said.rstrip().endswith("The run is in runs/tiny/version_0")


def test_a_summary_by_lightning_if_asked(
    corpus: Path, run_seqnorm: Command, capfd: pytest.CaptureFixture[str]
) -> None:
    asked = "--trainer.enable_model_summary=true"
    run_seqnorm("fit", "--data.corpus", corpus, *SMALL, asked, "--trainer.max_epochs=1")
    assert "Trainable params" in capfd.readouterr().out


def test_missing_kernels_are_named(
    corpus: Path,
    run_seqnorm: Command,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    state = {"cpu": "absent: no compiler; install one"}
    monkeypatch.setattr(quiet, "available_backends", lambda: state)
    with caplog.at_level("INFO"):
        run_seqnorm("fit", "--data.corpus", corpus, *SMALL, "--trainer.max_epochs=1")
    said = "Training is slow, because the compiled kernels are missing: absent: no compiler"
    assert said in caplog.text
