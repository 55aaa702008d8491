"""The command ``seqnorm sweep``: its trials, one after another."""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from optuna.trial import Trial, TrialState

from seqnorm.datasets.telling import told_once

from ..run.config_files import check_configs
from ..run.main import as_command, named_in
from ..run.task import TASKS
from .outputs import PICTURE, in_words, line, summary, write_best, write_table
from .picture import draw
from .space import Space
from .study import (
    ERROR,
    FOLDER,
    MOST_DEATHS,
    OF_MEMORY,
    SECONDS,
    TWIN,
    SweepStudy,
    is_interrupted,
    quieten_optuna,
)
from .sweep import Sweep, continued_sweep, new_sweep
from .trials import OF_DATA, TrialError, run_trial

# If so many trials fail with the same error and none succeeds, all would.
ALIKE = 3


def main(arguments: Sequence[str]) -> None:
    """Run the command.

    Args:
        arguments: The options, with paths of configurations.
    """
    with as_command(), told_once():
        quieten_optuna()
        check_configs(arguments)
        folder = _resumed(arguments)
        if folder is None:
            named, *_ = named_in(arguments)
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
        f"  {_resume_command(path)}",
        flush=True,
    )
    alike = None
    try:
        with _told(path):
            while alike is None and (hours is None or time.monotonic() - began < 3600 * hours):
                trial = study.begin(sweep.trials)
                _tell_given_up(study, space)
                if trial is None:
                    break
                _try(sweep, study, trial)
                write_table(study, space, path)
                write_best(study, space, sweep.monitor, path)
                ended = next(each for each in study.trials if each.number == trial.number)
                print(line(ended, study, space, sweep.monitor, sweep.trials), flush=True)
                alike = _alike(study)
    finally:
        study.close()
    if alike is not None:
        raise ValueError(alike)
    write_table(study, space, path)
    title = f"{path.parent.name}/{path.name}: {len(study.trials)} trials"
    if study.best is not None:
        title += f", the best {sweep.monitor} is {study.best.value:.4f} (trial {study.best.number})"
    draw(study, space, sweep.monitor, title, path / PICTURE)
    print("\n".join(summary(study, space, sweep.monitor, path, sweep.no_test)))
    if study.best is None and study.trials:
        raise ValueError("no trial of the sweep is complete")


def _resume_command(path: Path) -> str:
    return f"seqnorm sweep --resume {shlex.quote(str(path))}"


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Say how to continue the sweep if something ends the block before its time."""
    try:
        yield
    except BaseException as error:
        print(f"The sweep was interrupted. To continue it:\n  {_resume_command(path)}", flush=True)
        if isinstance(error, KeyboardInterrupt):  # it needs no traceback
            sys.exit(128 + signal.SIGINT)
        raise


def _tell_given_up(study: SweepStudy, space: Space) -> None:
    """Name the options that are not tried again."""
    while study.given_up:
        trial = study.given_up.pop(0)
        print(
            f"The options of trial {trial.number} are given up, because {MOST_DEATHS} processes "
            f"died with them: {in_words(space.values(trial.params))}",
            flush=True,
        )


def _try(sweep: Sweep, study: SweepStudy, trial: Trial) -> None:
    """Run a trial and store its outcome.

    If the user, the machine or the corpus ends it, its options are planned again.
    """
    began = time.monotonic()
    about: dict[str, Any] = {FOLDER: f"trial_{trial.number}"}

    def report(validation: int, value: float) -> bool:
        trial.report(value, validation)
        return trial.should_prune()

    if (twin := study.twin(trial)) is not None:
        for validation, reported in twin.intermediate_values.items():
            trial.report(reported, validation)
        about = {FOLDER: twin.user_attrs[FOLDER], TWIN: twin.number, SECONDS: 0.0}
        if ERROR in twin.user_attrs:
            about[ERROR] = twin.user_attrs[ERROR]
        study.end(trial, twin.state, twin.value, **about)
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
        if error.of_memory:
            about[OF_MEMORY] = True
    except (KeyboardInterrupt, SystemExit, OSError, *OF_DATA):
        study.interrupt(trial)
        write_table(study, sweep.space, sweep.path)
        raise
    about[SECONDS] = round(time.monotonic() - began, 1)
    study.end(trial, state, value, **about)


def _alike(study: SweepStudy) -> str | None:
    """Return the error that all of the first trials have failed with, if there is one."""
    ended = [trial for trial in study.trials if trial.state.is_finished()]
    # A trial with the options of another one has the same error in any case.
    ended = [t for t in ended if not is_interrupted(t) and TWIN not in t.user_attrs]
    errors = [trial.user_attrs.get(ERROR) for trial in ended]
    if len(errors) >= ALIKE and errors[0] is not None and set(errors) == {errors[0]}:
        return f"all of the first {len(errors)} trials failed alike: {errors[0]}"
    return None
