"""Making the runs of a study: in several processes, resumable, a share of them if asked for.

Each run is computed by one thread, so its numbers depend on neither the number of processes nor
on their order. Its row is on disk as soon as it is made; what an interruption costs is the runs
that were under way.
"""

from __future__ import annotations

import multiprocessing
import os
import platform
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from seqnorm.files import commit, lock

from . import table as tables
from .study import Outcome, Study
from .table import Setting, Table, Value, run_id

Say = Callable[[str], None]


class StudyError(RuntimeError):
    """A study cannot go on; the message says why and what to do."""


@dataclass(frozen=True)
class Share:
    """Part ``index`` (from 1) of ``count`` of the runs of every stage."""

    index: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Share:
        """From "2/3".

        Raises:
            ValueError: it is no such fraction.
        """
        index, _, count = text.partition("/")
        if not (index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count)):
            raise ValueError(f"a share is written as 2/3, the second of three, got {text!r}")
        return cls(int(index), int(count))


def path_of(study: Study, folder: Path) -> Path:
    """The study's table in a folder of results."""
    return folder / f"{study.name}.csv"


def make_runs(
    study: Study,
    folder: Path,
    *,
    processes: int = 1,
    share: Share | None = None,
    only: Setting | None = None,
    say: Say = print,
) -> Table:
    """Makes all runs that are not in the study's table yet, and returns the table.

    Args:
        study: what is to be run.
        folder: of results; the table is ``<folder>/<name>.csv``.
        processes: how many runs at once.
        share: only this part of the runs.
        only: only runs whose factors have these values.
        say: takes lines about the progress.

    Raises:
        StudyError: runs failed (after all others were made), or another process writes the table.
    """
    share = share or Share()
    code = commit()  # now, for it may be another by the time that a run ends
    with _alone(study, folder):
        table = tables.read(path_of(study, folder))
        failed: dict[str, str] = {}
        clock = _Clock(study, processes)
        while missing := _missing(study, table, share, only or {}, failed):
            clock.plan(missing)
            for setting, outcome, seconds in _all_made(study, missing, processes):
                run = run_id(setting, study.factors)
                clock.made(setting, seconds)
                if isinstance(outcome, BaseException):
                    failed[run] = f"{type(outcome).__name__}: {outcome}"
                    say(f"{study.name} {run}: failed, {failed[run]}")
                    continue
                table = _with(study, folder, table, setting, outcome, seconds, code)
                say(f"{study.name} {run}: {seconds:.0f} s; {clock.left()}")
    if failed:
        lines = "\n".join(f"  {run}: {reason}" for run, reason in failed.items())
        raise StudyError(f"{len(failed)} run(s) of {study.name} failed:\n{lines}")
    return table


def run_again(study: Study, folder: Path, only: Setting, say: Say = print) -> bool:
    """Makes runs that the table has once more; whether all their measures came out the same.

    Raises:
        StudyError: the table has no such run.
    """
    table = tables.read(path_of(study, folder))
    same, seen = True, 0
    for setting in study.settings(table):
        run = run_id(setting, study.factors)
        rows = [row for row in table if row["run"] == run]
        if not rows or not tables.matches(setting, only):
            continue
        seen += 1
        outcome, _ = _run(study, setting)
        if isinstance(outcome, BaseException):
            raise outcome
        for name in study.measures:
            then, now = tables.to_text(rows[0][name]), tables.to_text(outcome.values.get(name))
            if then or now:
                same = same and then == now
                say(f"{run} {name}: {then} then, {now} now{'' if then == now else ': DIFFERS'}")
    if not seen:
        raise StudyError(f"{path_of(study, folder)} has no run with {dict(only)}")
    return same


def merge(study: Study, folder: Path, others: Sequence[Path], say: Say = print) -> Table:
    """Takes the runs of other folders of results into this one.

    Raises:
        StudyError: a run is there twice with different measures, or a folder has no table.
    """
    if empty := [str(other) for other in others if not path_of(study, other).exists()]:
        raise StudyError(f"{', '.join(empty)} has no {study.name}.csv to merge")
    with _alone(study, folder):
        table = tables.read(path_of(study, folder))
        for other in others:
            theirs = tables.read(path_of(study, other))
            known = {row["run"]: row for row in table}
            fresh = []
            for row in theirs:
                ours = known.get(row["run"])
                if ours is None:
                    fresh.append(row)
                elif not tables.matches(ours, {name: row[name] for name in study.measures}):
                    raise StudyError(f"{row['run']} came out differently in {folder} and {other}")
            added = {row["run"] for row in fresh}
            curves = {key: points for key, points in theirs.curves.items() if key[0] in added}
            table = Table([*table.rows, *fresh], {**table.curves, **curves})
            say(f"{study.name}: {len(fresh)} runs from {other}, {len(table)} in all")
            for file in sorted((other / study.name).glob("*")):
                tables.replace(folder / study.name / file.name, file.read_bytes())
        tables.write(path_of(study, folder), (*study.factors, *study.measures), table)
        return tables.read(path_of(study, folder))


def _missing(
    study: Study, table: Table, share: Share, only: Setting, failed: dict[str, str]
) -> list[Setting]:
    there = {row["run"] for row in table} | failed.keys()
    mine = list(study.settings(table))[share.index - 1 :: share.count]
    return [s for s in mine if tables.matches(s, only) and run_id(s, study.factors) not in there]


def _with(
    study: Study,
    folder: Path,
    table: Table,
    setting: Setting,
    outcome: Outcome,
    seconds: float,
    code: str,
) -> Table:
    run = run_id(setting, study.factors)
    if unknown := set(outcome.values) - set(study.measures):
        raise StudyError(f"{study.name} measured {sorted(unknown)}, which its measures do not list")
    row: dict[str, Value] = {"run": run}
    row.update((name, setting.get(name)) for name in study.factors)
    row.update((name, outcome.values.get(name)) for name in study.measures)
    row.update(seconds=round(seconds, 1), machine=_machine(), commit=code)
    curves = {(run, name): list(points) for name, points in outcome.curves.items()}
    grown = Table([*table.rows, row], {**table.curves, **curves})
    for name, content in outcome.files.items():
        tables.replace(folder / study.name / name, content)
    tables.write(path_of(study, folder), (*study.factors, *study.measures), grown)
    # As they are in the file, so that an interrupted and an uninterrupted study go on alike.
    return tables.read(path_of(study, folder))


def _run(study: Study, setting: Setting) -> tuple[Outcome | Exception, float]:
    start = time.perf_counter()
    torch.set_num_threads(1)
    try:
        return study.run(setting), time.perf_counter() - start
    except Exception as error:
        return error, time.perf_counter() - start


def _all_made(
    study: Study, missing: Sequence[Setting], processes: int
) -> Iterator[tuple[Setting, Outcome | Exception, float]]:
    # Fresh processes: a forked one would inherit torch's threads, but not what they were doing.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, _start_worker) as pool:
        waiting = list(reversed(missing))
        running: dict[Future[tuple[Outcome | Exception, float]], Setting] = {}
        try:
            while waiting or running:
                # Only what can run at once is handed over, so that an interruption is soon obeyed.
                while waiting and len(running) < processes:
                    setting = waiting.pop()
                    running[pool.submit(_run, study, setting)] = setting
                for done in wait(running, return_when=FIRST_COMPLETED).done:
                    made = done.result()
                    yield running.pop(done), *made
        except BrokenProcessPool as error:
            lost = ", ".join(run_id(s, study.factors) for s in running.values())
            raise StudyError(
                f"a process of {study.name} died (out of memory, or killed) at one of: {lost}; "
                "what was finished is kept: run again, with fewer --processes if memory was short"
            ) from error


def _start_worker() -> None:
    # Killed, the process that gave the work can tell nobody to stop.
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _machine() -> str:
    return (
        f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()} torch {torch.__version__}"
    )


@contextmanager
def _alone(study: Study, folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f".{study.name}.lock"
    with open(path, "w", encoding="utf-8") as file:
        try:
            lock(file, wait=False)
            # Whoever had it removes the file: what was opened before that nobody else can see.
            if not (path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat())):
                raise BlockingIOError
        except BlockingIOError as error:
            raise StudyError(
                f"another process is writing {path_of(study, folder)}: let it finish, or give this "
                "one another --results and merge them"
            ) from error
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


class _Clock:
    """How long the rest will take, from what was made so far."""

    def __init__(self, study: Study, processes: int) -> None:
        self._study = study
        self._processes = processes
        self._spent = self._cost = self._left = 0.0

    def plan(self, settings: Sequence[Setting]) -> None:
        self._left = sum(self._study.cost(setting) for setting in settings)

    def made(self, setting: Setting, seconds: float) -> None:
        cost = self._study.cost(setting)
        self._left -= cost
        self._cost += cost
        self._spent += seconds

    def left(self) -> str:
        if self._left <= 0:
            return "none left of this stage"
        minutes = self._left * self._spent / max(self._cost, 1e-9) / self._processes / 60
        return f"about {minutes:.0f} min left" if minutes >= 1 else "less than a minute left"
