"""The command ``seqnorm sweep``: its trials, one after another."""

from __future__ import annotations

import argparse
import shlex
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from optuna.trial import Trial, TrialState

from ..run.config_files import check_configs
from ..run.main import as_command, named_in
from ..run.task import TASKS
from .outputs import PICTURE, line, summary, write_best, write_table
from .picture import draw
from .study import ERROR, FOLDER, SECONDS, TWIN, SweepStudy, is_interrupted, quieten_optuna
from .sweep import Sweep, continued_sweep, new_sweep
from .trials import TrialError, run_trial

# If so many trials fail with the same error and none succeeds, all would.
ALIKE = 3


def main(arguments: Sequence[str]) -> None:
    """Run the command.

    Args:
        arguments: The options, with paths of configurations.
    """
    with as_command():
        quieten_optuna()
        check_configs(arguments)
        folder = _resumed(arguments)
        if folder is None:
            named, _ = named_in(arguments)
            # The parser reports another name.
            task = TASKS.get(named or "", TASKS["classification"])
            sweep, hours = new_sweep(task, arguments)
        else:
            sweep, hours = continued_sweep(folder, arguments)
        _run(sweep, hours)


def _resumed(arguments: Sequence[str]) -> Path | None:
    """Return the folder of the sweep to continue, if the arguments name one."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--resume")
    with suppress(argparse.ArgumentError):
        given, _ = parser.parse_known_args(list(arguments))
        if given.resume not in (None, "null", "none"):
            return Path(given.resume).expanduser()
    return None


def _run(sweep: Sweep, hours: float | None) -> None:
    """Run trials until there are enough, and write the files of the sweep."""
    path, space = sweep.path, sweep.space
    began = time.monotonic()
    study = SweepStudy(
        path,
        space.distributions,
        higher=sweep.higher,
        seed=sweep.config["seed_everything"],
        first=space.given(),
    )
    print(
        f"A sweep of {sweep.trials} trials over {', '.join(space.distributions)}; the "
        f"{'highest' if sweep.higher else 'lowest'} {sweep.monitor} is the best.\n"
        f"Everything that it writes is in {path}. To continue it after an interruption:\n"
        f"  seqnorm sweep --resume {shlex.quote(str(path))}",
        flush=True,
    )
    try:
        while hours is None or time.monotonic() - began < 3600 * hours:
            trial = study.begin(sweep.trials)
            if trial is None:
                break
            _try(sweep, study, trial)
            write_table(study, space, path)
            write_best(study, space, sweep.monitor, path)
            ended = next(each for each in study.trials if each.number == trial.number)
            print(line(ended, study, space, sweep.monitor, sweep.trials), flush=True)
            _check_alike(study)
    finally:
        study.close()
    write_table(study, space, path)
    title = f"{path.parent.name}/{path.name}: {len(study.trials)} trials"
    if study.best is not None:
        title += f", the best {sweep.monitor} is {study.best.value:.4f} (trial {study.best.number})"
    draw(study, space, sweep.monitor, title, path / PICTURE)
    print("\n".join(summary(study, space, sweep.monitor, path, sweep.has_test)))
    if study.best is None and study.trials:
        raise ValueError("no trial of the sweep is complete")


def _try(sweep: Sweep, study: SweepStudy, trial: Trial) -> None:
    """Run a trial and store its outcome."""
    began = time.monotonic()
    about: dict[str, Any] = {FOLDER: f"trial_{trial.number}"}

    def report(validation: int, value: float) -> bool:
        trial.report(value, validation)
        return trial.should_prune()

    if (twin := study.twin(trial)) is not None:
        for validation, reported in twin.intermediate_values.items():
            trial.report(reported, validation)
        about = {FOLDER: twin.user_attrs[FOLDER], TWIN: twin.number, SECONDS: 0.0}
        study.end(trial, TrialState.COMPLETE, twin.value, **about)
        return
    value, state = None, TrialState.FAIL
    try:
        value, ended = run_trial(
            sweep.task,
            sweep.parser,
            sweep.space.configured(trial.params),
            sweep.path / about[FOLDER],
            report,
        )
        state = TrialState.PRUNED if ended else TrialState.COMPLETE
    except TrialError as error:
        about[ERROR] = str(error)
    about[SECONDS] = round(time.monotonic() - began, 1)
    study.end(trial, state, value, **about)


def _check_alike(study: SweepStudy) -> None:
    """End the sweep if all trials fail alike.

    Raises:
        ValueError: The first trials have failed with the same error.
    """
    ended = [trial for trial in study.trials if trial.state.is_finished()]
    ended = [trial for trial in ended if not is_interrupted(trial)]
    errors = [trial.user_attrs.get(ERROR) for trial in ended]
    if len(errors) >= ALIKE and errors[0] is not None and set(errors) == {errors[0]}:
        raise ValueError(f"all of the first {len(errors)} trials failed alike: {errors[0]}")
