"""The study of a sweep: its draws, and the trials of processes that died."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, Trial, TrialState
from source_tree import ROOT

from seqnorm.training.search.study import (
    AGAIN,
    JOURNAL,
    SweepStudy,
    is_interrupted,
    quieten_optuna,
)

SPACE = {
    "x": FloatDistribution(0.0, 1.0),
    "kind": CategoricalDistribution(["a", None]),
}
FIRST = {"x": 0.25}
LATEST = 13  # beyond the random trials


OPEN: list[SweepStudy] = []


@pytest.fixture(autouse=True)
def _quiet_and_closed() -> Iterator[None]:
    quieten_optuna()
    yield
    while OPEN:
        OPEN.pop().close()


def opened(path: Path, **options: Any) -> SweepStudy:
    path.mkdir(exist_ok=True)
    study = SweepStudy(path, SPACE, **{"higher": False, "seed": 3, "first": FIRST, **options})
    OPEN.append(study)
    return study


def run(study: SweepStudy, count: int) -> None:
    """Run trials of which a smaller x is better until there are ``count``."""
    while (trial := study.begin(count)) is not None:
        finish(study, trial)


def finish(study: SweepStudy, trial: Trial) -> None:
    study.end(trial, TrialState.COMPLETE, trial.params["x"])


def params(study: SweepStudy) -> list[dict[str, Any]]:
    return [trial.params for trial in study.trials if not is_interrupted(trial)]


def test_a_sweep_that_is_continued_draws_what_one_without_an_end_draws(tmp_path: Path) -> None:
    whole = opened(tmp_path / "whole")
    run(whole, LATEST)
    assert len(whole.trials) == LATEST
    assert whole.trials[0].params["x"] == 0.25
    for count in (4, 9, LATEST):
        part = opened(tmp_path / "part")
        run(part, count)
        part.close()
    assert params(part) == params(whole)
    values = [trial.params["x"] for trial in whole.trials]
    assert len(set(values)) == LATEST, "no draw is repeated"
    assert whole.best is not None
    assert whole.best.value == min(values)
    other = opened(tmp_path / "other", seed=4)
    run(other, 3)
    assert params(other)[0]["x"] == 0.25
    assert params(other)[1] != params(whole)[1]


DIES = """
import os, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_study import finish, opened
study = opened(Path(sys.argv[1]))
trial = study.begin(99)
print(trial.number, flush=True)
{end}
"""


def begin_elsewhere(path: Path, end: str) -> subprocess.Popen[str]:
    """Begin a trial in another process, and wait until it has begun."""
    code = DIES.format(tests=str(Path(__file__).parent), end=end)
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(path)],
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'tests' / 'support'}", "PATH": ""},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip().isdigit()
    return process


def test_a_trial_of_a_dead_process_is_tried_once_more(tmp_path: Path) -> None:
    whole = opened(tmp_path / "whole")
    run(whole, LATEST)
    path = tmp_path / "dies"
    path.mkdir()
    study = opened(path)
    run(study, 2)
    study.close()
    for number in (2, 3):
        process = begin_elsewhere(path, "os._exit(9)")
        process.communicate()
        study = opened(path)
        assert study.trials[-1].number == number
        assert study.trials[-1].state == TrialState.RUNNING
    trial = study.begin(LATEST)
    assert trial is not None
    dead: list[FrozenTrial] = study.trials[2:4]
    assert [is_interrupted(each) for each in dead] == [True, True]
    assert dead[1].user_attrs[AGAIN] == 2
    assert dead[0].params == dead[1].params
    assert trial.params == whole.trials[3].params, "it is not tried a third time"
    finish(study, trial)
    run(study, LATEST)
    complete = [each for each in study.trials if each.state == TrialState.COMPLETE]
    assert len(complete) == LATEST
    assert [each.params for each in complete[:2]] == params(whole)[:2]
    study.close()
    assert not (path / "processes").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="locks of POSIX")
def test_a_trial_of_a_living_process_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "study"
    path.mkdir()
    process = begin_elsewhere(path, "input()\nfinish(study, trial)\nstudy.close()")
    study = opened(path)
    mine = study.begin(99)
    assert mine is not None
    assert mine.number == 1
    assert study.trials[0].state == TrialState.RUNNING
    assert mine.params["x"] != study.trials[0].params["x"]
    process.communicate("\n")
    assert process.returncode == 0
    assert study.trials[0].state == TrialState.COMPLETE
    assert study.trials[0].value == study.trials[0].params["x"] == 0.25
    assert study.begin(2) is None, "running trials count"


def test_a_line_that_was_not_finished_is_removed(tmp_path: Path) -> None:
    study = opened(tmp_path / "study")
    run(study, 3)
    study.close()
    journal = tmp_path / "study" / JOURNAL
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code":4,"wor')
    study = opened(tmp_path / "study")
    assert len(study.trials) == 3
    run(study, 4)
    assert len(opened(tmp_path / "study").trials) == 4
    assert journal.read_bytes().startswith(whole)


def test_failed_and_better_trials(tmp_path: Path) -> None:
    study = opened(tmp_path / "study", higher=True)
    assert study.best is None
    for value in (0.5, 0.9, 0.9):
        trial = study.begin(9)
        assert trial is not None
        study.end(trial, TrialState.COMPLETE, value)
    trial = study.begin(9)
    assert trial is not None
    study.end(trial, TrialState.FAIL, None, error="too large")
    assert study.best is not None
    assert study.best.number == 1, "the first of equals"
    failed = study.trials[3]
    assert not is_interrupted(failed)
    assert study.twin(trial) is None
    again = study.begin(9)
    assert again is not None
    assert again.number == 4, "a failed trial counts and is not tried again"
