"""The search for a learning rate says what it suggests, and leaves nothing but a picture."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from small_runs import SMALL, assert_picture

from seqnorm.training.run.rate_finder import HIGHEST, LOWEST

Command = Callable[..., None]


@pytest.mark.parametrize("task", ["classification", "language"])
def test_it_suggests_a_rate(
    task: str,
    corpus: Path,
    lines: Path,
    run_seqnorm: Command,
    caplog: pytest.LogCaptureFixture,
) -> None:
    data = corpus if task == "classification" else lines
    with caplog.at_level("INFO"):
        run_seqnorm("fit", f"--task={task}", "--data.corpus", data, *SMALL, "--find_lr=true")
    (found,) = re.findall(r"Suggested: --model.lr (\S+), a tenth of (\S+), where", caplog.text)
    assert LOWEST / 10 <= float(found[0]) <= HIGHEST / 10
    assert float(found[1]) == pytest.approx(10 * float(found[0]), rel=0.2)
    made = sorted(path for path in Path().rglob("*") if path.is_file())
    assert made == [Path(f"runs/{data.stem}/learning_rates.png")]
    assert_picture(made[0])
