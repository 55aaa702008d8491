"""Make the runs of a study, several at once, on one machine or many.

Each run is computed by one thread, so its numbers depend neither on the number of runs at once nor
on their order. Its row is on disk as soon as it is made, and an interruption costs only the runs
that were under way.
"""

from __future__ import annotations

import os
import platform
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import NamedTuple

import torch

from seqnorm.files import commit, lock

from . import table as tables
from .engines import Engine
from .study import Outcome, Study
from .table import Setting, Table, Value, run_id

Say = Callable[[str], None]


class StudyError(RuntimeError):
    """A study cannot go on; the message gives the reason and a remedy."""


class Made(NamedTuple):
    """A run that was made, or the exception that ended it."""

    setting: Setting
    outcome: Outcome | Exception
    seconds: float
    machine: str


def path_of(study: Study, folder: Path) -> Path:
    """Return the path of the study's table in a folder of results."""
    return folder / f"{study.name}.csv"


def make_runs(
    study: Study,
    folder: Path,
    *,
    engine: Engine | None = None,
    only: Setting | None = None,
    say: Say = print,
) -> Table:
    """Make all runs that are missing in the study's table, and return the table.

    Args:
        folder: of results; the table is ``<folder>/<name>.csv``.
        engine: makes the runs; by default one run at a time in this process.
        only: make only runs whose factors have these values.
        say: takes lines about the progress.

    Raises:
        StudyError: runs failed (after all others were made), or another process writes the table.
    """
    engine = engine or Engine()
    about: dict[str, Value] = {"commit": commit()}  # it may change during the runs
    failed: dict[str, str] = {}
    seconds: list[float] = []
    with _alone(study, folder), engine.started() as jobs:
        table = tables.read(path_of(study, folder))
        while missing := _missing(study, table, only or {}, failed):
            for made, left in zip(_all_made(study, missing, engine), range(len(missing))[::-1]):
                name = f"{study.name} {run_id(made.setting, study.factors)}"
                seconds.append(made.seconds)
                if isinstance(made.outcome, Exception):
                    reason = f"{type(made.outcome).__name__}: {made.outcome}"
                    failed[run_id(made.setting, study.factors)] = reason
                    say(f"{name}: failed, {reason}")
                    continue
                about |= {"seconds": round(made.seconds, 1), "machine": made.machine}
                table = _with(study, folder, table, made, about)
                say(f"{name}: {made.seconds:.0f} s; {_in_words(left * mean(seconds) / jobs)}")
    if failed:
        lines = "\n".join(f"  {run}: {reason}" for run, reason in failed.items())
        raise StudyError(f"{len(failed)} run(s) of {study.name} failed:\n{lines}")
    return table


def _in_words(seconds: float) -> str:
    if seconds <= 0:
        return "none left of this stage"
    return f"about {seconds / 60:.0f} min left" if seconds >= 60 else "less than a minute left"


def _missing(study: Study, table: Table, only: Setting, failed: Collection[str]) -> list[Setting]:
    there = {row["run"] for row in table}.union(failed)
    found = (s for s in study.settings(table) if tables.matches(s, only))
    return [setting for setting in found if run_id(setting, study.factors) not in there]


def _with(study: Study, folder: Path, table: Table, made: Made, about: Setting) -> Table:
    """Write the table with one more row, and return it as it is read back.

    An interrupted and an uninterrupted study then go on alike.
    """
    setting, outcome = made.setting, made.outcome
    assert isinstance(outcome, Outcome)
    run = run_id(setting, study.factors)
    if unknown := set(outcome.values) - set(study.measures):
        raise StudyError(f"{study.name} measured {sorted(unknown)}, which its measures do not list")
    row = {"run": run, **setting, **outcome.values, **about}
    curves = {(run, name): list(points) for name, points in outcome.curves.items()}
    grown = replace(table, rows=[*table.rows, row], curves={**table.curves, **curves})
    for name, content in outcome.files.items():
        tables.replace(folder / study.name / name, content)
    tables.write(path_of(study, folder), (*study.factors, *study.measures), grown)
    return tables.read(path_of(study, folder))


def make_one(study: Study, setting: Setting, parent: int | None = None) -> Made:
    """Make one run by one thread of this process.

    Args:
        parent: process that gave the work. If it started this process and is killed, it cannot
            tell its children to stop, so a thread ends this process within a second.
    """
    if parent is not None and parent == os.getppid():
        _end_with(parent)
    start = time.perf_counter()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    outcome: Outcome | Exception
    try:
        outcome = study.run(setting)
    except Exception as error:
        outcome = error
    finally:
        torch.set_num_threads(threads)
    return Made(setting, outcome, time.perf_counter() - start, machine())


def _all_made(study: Study, missing: Sequence[Setting], engine: Engine) -> Iterator[Made]:
    """Yield the runs as they are made."""
    under_way: list[str] = []

    def calls() -> Iterator[tuple[Study, Setting, int]]:
        for setting in missing:
            under_way.append(run_id(setting, study.factors))
            yield study, setting, os.getpid()

    try:
        for made in engine.results(make_one, calls()):
            under_way.remove(run_id(made.setting, study.factors))
            yield made
    except Exception as error:  # from the engine; exceptions of runs are results
        raise StudyError(
            f"a process of {study.name} died (out of memory, or killed) at one of: "
            f"{', '.join(under_way)}; finished runs are kept: run again, with fewer --processes "
            f"if memory was short ({type(error).__name__}: {error})"
        ) from error


def _end_with(parent: int) -> None:
    """End this process when its parent is gone."""
    name = "end with parent"

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    if all(thread.name != name for thread in threading.enumerate()):
        threading.Thread(target=watch, name=name, daemon=True).start()


def machine() -> str:
    """Return the processor, its instruction set and the version of torch, as rows record them."""
    capability = torch.backends.cpu.get_cpu_capability()
    return f"{platform.machine()} {capability} torch {torch.__version__}"


@contextmanager
def _alone(study: Study, folder: Path) -> Iterator[None]:
    """Hold the lock of the study's table."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f".{study.name}.lock"
    with open(path, "w", encoding="utf-8") as file:
        try:
            lock(file, wait=False)
            # The last holder removes the file: a file opened before that locks nothing.
            alone = path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat())
        except BlockingIOError:
            alone = False
        if not alone:
            raise StudyError(
                f"another process is writing {path_of(study, folder)}: let it finish, or give this "
                "one another --results"
            )
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
