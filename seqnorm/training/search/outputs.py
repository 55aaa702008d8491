"""The lines and files of a sweep: one line for each trial, trials.csv, best.yaml and a picture."""

from __future__ import annotations

import csv
import io
import json
import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from seqnorm.files import write_atomically

from ..run.yaml_texts import dump
from .space import Space
from .study import ERROR, FOLDER, SECONDS, TWIN, SweepStudy, is_interrupted

TABLE, BEST, PICTURE = "trials.csv", "best.yaml", "sweep.png"


def state_of(trial: FrozenTrial) -> str:
    """Return the state of a trial in a word."""
    if is_interrupted(trial):
        return "interrupted"
    words = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned"}
    return words.get(trial.state, "failed" if trial.state == TrialState.FAIL else "running")


def score_of(trial: FrozenTrial, higher: bool) -> float | None:
    """Return the value of a trial, or the best one before it was pruned; None if it has none."""
    if trial.state == TrialState.COMPLETE:
        return trial.value
    values = [v for v in trial.intermediate_values.values() if math.isfinite(v)]
    return (max if higher else min)(values, default=None)


def line(trial: FrozenTrial, study: SweepStudy, space: Space, monitor: str, count: int) -> str:
    """Return the line of a trial that has ended.

    Args:
        trial: The trial.
        study: The study of the sweep.
        space: The search space.
        monitor: The quantity that the trials are compared by.
        count: The number of trials of the sweep.
    """
    state, score = state_of(trial), score_of(trial, study.higher)
    shown = "" if score is None else f"{monitor} {score:.4f}"
    if state == "pruned":
        shown = f"pruned after {len(trial.intermediate_values)} validations, {shown}"
    elif state != "complete":
        shown = "failed"
    elif TWIN in trial.user_attrs:
        shown = f"the options of trial {trial.user_attrs[TWIN]}, {shown}"
    best = study.best
    if best is not None:
        is_best = best.number == trial.number
        shown += ", the best" if is_best else f", best {best.value:.4f} in trial {best.number}"
    seconds = trial.user_attrs.get(SECONDS, 0.0)
    parts = [f"Trial {trial.number} of {count}", shown, f"{seconds:.1f} s"]
    found = " | ".join([*parts, in_words(space.values(trial.params))])
    return f"{found}\n  {trial.user_attrs[ERROR]}" if ERROR in trial.user_attrs else found


def in_words(values: Mapping[str, Any]) -> str:
    """Return values of options in short: ``lr 0.0031, norm batch``."""
    last = [name.rpartition(".")[2] for name in values]
    names = [short if last.count(short) == 1 else name for short, name in zip(last, values)]
    return ", ".join(f"{name} {_short(value)}" for name, value in zip(names, values.values()))


def _short(value: Any) -> str:
    if value is None:
        return "none"
    return f"{value:.4g}" if isinstance(value, float) else str(value).lower()


def as_options(values: Mapping[str, Any]) -> str:
    """Return values of options as they are given on the command line."""
    texts = {k: v if isinstance(v, str) else json.dumps(v) for k, v in values.items()}
    return " ".join(f"--{name}={shlex.quote(text)}" for name, text in texts.items())


def write_table(study: SweepStudy, space: Space, path: Path) -> None:
    """Write a row for each trial that has ended."""
    text = io.StringIO(newline="")
    fixed = ["trial", "state", "value", "validations", "seconds", "folder"]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*fixed, *space.distributions, "error"])
    for trial in study.trials:
        score, values = score_of(trial, study.higher), space.values(trial.params)
        row: list[Any] = [trial.number, state_of(trial), "" if score is None else score]
        row += [len(trial.intermediate_values), trial.user_attrs.get(SECONDS, "")]
        row += [trial.user_attrs.get(FOLDER, "")]
        row += [_cell(values[name]) if name in values else "" for name in space.distributions]
        writer.writerow([*row, trial.user_attrs.get(ERROR, "")])
    write_atomically(path / TABLE, text.getvalue(), shared=True)


def _cell(value: Any) -> Any:
    return "none" if value is None else value


def write_best(study: SweepStudy, space: Space, monitor: str, path: Path) -> None:
    """Write the configuration of the best trial."""
    best = study.best
    if best is not None:
        said = f"# Trial {best.number} of {len(study.trials)}: {monitor} {best.value:.6g}\n"
        text = said + dump(space.configured(best.params))
        write_atomically(path / BEST, text, shared=True)


def summary(
    study: SweepStudy, space: Space, monitor: str, path: Path, has_test: bool
) -> Sequence[str]:
    """Return the lines at the end of a sweep: the best options, and what to do with them."""
    trials, best = study.trials, study.best
    states = [state_of(trial) for trial in trials]
    counts = [f"{states.count(s)} {s}" for s in dict.fromkeys(sorted(states))]
    found = [f"{len(trials)} trials: {', '.join(counts) or 'none'}. The table is {path / TABLE}"]
    if best is None:
        return [*found, "No trial is complete yet."]
    run = path / best.user_attrs[FOLDER]
    checkpoint = shlex.quote(str(run / "checkpoints" / "best.ckpt"))
    found.append(f"Best: trial {best.number}, {monitor} {best.value:.4f}")
    found.append(f"  {as_options(space.values(best.params))}")
    found.append("To train it anew, and test it:" if has_test else "To train it anew:")
    found.append(f"  seqnorm fit --config {shlex.quote(str(path / BEST))}")
    if has_test:
        found += ["To test it as it was trained:", f"  seqnorm test --ckpt_path {checkpoint}"]
    return found
