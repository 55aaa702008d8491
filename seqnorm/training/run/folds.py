"""``seqnorm fit --folds 5``: cross-validation, one run after another."""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import math
import shlex
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.utilities import rank_zero_only

from seqnorm.datasets.fetching import remember
from seqnorm.datasets.folding import Fold
from seqnorm.datasets.record_files import record_line
from seqnorm.datasets.telling import told_once
from seqnorm.extra import need
from seqnorm.files import lock, next_folder, write_atomically

from ..callbacks.kept_predictions import KeepPredictions
from ..checkpoints.checkpoint_file import read_checkpoint
from ..data.base import PartsDataModule
from ..data.language import NO_FOLDS
from .fit import fit_one, parsed, plain_config
from .task import Task
from .yaml_texts import dump

# The options of a cross-validation, and the words and data of its beginning, in its folder.
CONFIG, START = "config.yaml", "cross_validation.json"
# The file that is written last in the folder of a fold.
FINISHED = "fold.json"


class FinishedFold(NamedTuple):
    """The results of a finished fold.

    Attributes:
        row: Its row of results.
        headings, predictions: The headings and rows of its predictions.
    """

    row: dict[str, str]
    headings: list[str]
    predictions: list[list[str]]


def options_of_folds(arguments: Sequence[str]) -> list[str]:
    """Add the options of the cross-validation that ``--folds_path`` names.

    Raises:
        ValueError: There are other options beside it.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--folds_path")
    with contextlib.suppress(argparse.ArgumentError):
        given, others = parser.parse_known_args(list(arguments))
        if given.folds_path is None or {"-h", "--help"}.intersection(others):
            return list(arguments)
        path = Path(given.folds_path).expanduser() / CONFIG
        if others:
            raise ValueError(
                f"the cross-validation goes on with the options in {path}: leave out "
                f"{shlex.join(others)}"
            )
        return ["--config", str(path), *arguments]
    return list(arguments)  # the command's own parser reports the error


@told_once()
def cross_validate(
    task: Task, parser: LightningArgumentParser, options: Any, words: Sequence[str]
) -> None:
    """Train and test one run for each fold, or go on with an interrupted cross-validation.

    Args:
        task: The task.
        parser, options: The value of ``parsed``.
        words: The options as the user wrote them.

    Raises:
        ValueError: The options cannot be combined, the data have changed since the beginning, or
            another process trains the folds.
    """
    _check(task, options)
    need("seqnorm fit --folds", "matplotlib", "sklearn")
    count, continued = options.folds, options.folds_path
    options.folds = options.folds_path = None
    options.data.folds, options.data.fold = count, 1
    data = task.data(**options.data)
    name, notice = data.corpus.name, data.corpus.notice
    if continued is None:
        path, repeated = _begin(task, parser, options, data, words)
    else:
        path = Path(continued).expanduser()
        repeated = _beginning(path, data)
    del data
    found: list[FinishedFold] = []
    with _locked(path):
        try:
            for number in range(1, count + 1):
                options.data.fold = number
                found.append(
                    _fold(task, parser, options.clone(), repeated, path / f"fold_{number}")
                )
                _write_table(task, found, path)
                remember(notice)  # the first run has shown it
                gc.collect()  # a trainer and its model refer to one another
        except BaseException:
            if any(path.glob(f"fold_*/{CONFIG}")):  # training had begun
                print(
                    f"The cross-validation has {len(found)} of {count} folds. To go on:\n"
                    f"seqnorm fit --folds_path {shlex.quote(str(path))}"
                )
            else:
                shutil.rmtree(path)
            raise
    _write_predictions(found, path)
    every = [row for fold in found for row in fold.predictions]
    task.write_all(found[0].headings, every, name, path)
    print(f"{name}, {count} folds, mean ± standard deviation: {_spreads(task, found)}")
    print(f"The table of the folds and the predictions on their test parts are in {path}")


def _check(task: Task, options: Any) -> None:
    """Refuse options that cannot be combined.

    Raises:
        ValueError: There are such options.
    """
    if not task.scores:
        raise ValueError(NO_FOLDS)
    if options.folds is None:
        raise ValueError("give --folds_path on the command line, not in a file")
    Fold(1, options.folds)  # checks the number
    if options.ckpt_path is not None:
        raise ValueError(
            "--ckpt_path resumes a single run, without --folds; a cross-validation goes on with "
            "--folds_path, as --folds_path runs/r8/folds_0"
        )
    if options.data.folds is not None or options.data.fold is not None:
        raise ValueError(
            f"--folds {options.folds} trains all folds: leave data.folds and data.fold out, or, to "
            "train one of them, leave --folds out"
        )
    for name, value in (
        ("find_lr", options.find_lr),
        ("trainer.fast_dev_run", options.trainer.fast_dev_run),
        ("trainer.limit_test_batches 0", options.trainer.limit_test_batches == 0),
    ):
        if value:
            raise ValueError(f"--folds with {name}: there would be no test; leave one of them out")
    if getattr(rank_zero_only, "rank", 0) != 0:
        raise ValueError("the folds are trained one after another: start a single process")


def _begin(
    task: Task,
    parser: LightningArgumentParser,
    options: Any,
    data: PartsDataModule,
    words: Sequence[str],
) -> tuple[Path, list[str]]:
    """Make the folder of a cross-validation, with the files from which it can go on.

    Returns:
        The folder, and the words that repeat a fold but for its number.
    """
    digests = data.state_dict()
    run = task.run(**options.run)
    repeated = _without_folds(words, options.data.folds)
    sizes = task.class_counts(data)
    if run.monitor is None and sizes:  # the same one is to choose the best epoch of every fold
        run.choose_monitor(sizes)
        options.run.monitor = run.monitor
        repeated += ["--run.monitor", str(run.monitor)]
    config = plain_config(parser, options)
    config["folds"] = options.data.folds
    config["data"] |= {"folds": None, "fold": None}
    path = next_folder(run.place(options.data.corpus), "folds")
    write_atomically(path / CONFIG, dump(config))
    beginning = {"words": repeated, "data": digests}
    write_atomically(path / START, json.dumps(beginning, indent=1) + "\n")
    return path, repeated


def _without_folds(words: Sequence[str], folds: int) -> list[str]:
    """Return the options that repeat a fold but for its number, from those of all folds."""
    left = list(words)
    places = [place for place, word in enumerate(left) if word.partition("=")[0] == "--folds"]
    for place in reversed(places):
        del left[place : place + (1 if "=" in left[place] else 2)]
    # A configuration may have a number too.
    return [*left, "--folds", "null", "--data.folds", str(folds)]


def _beginning(path: Path, data: PartsDataModule) -> list[str]:
    """Return the words that repeat a fold of the cross-validation in the folder ``path``.

    Raises:
        ValueError: Its data were other ones, or the file that says so is damaged.
    """
    try:
        stored = json.loads((path / START).read_text(encoding="utf-8"))
        words, digests = list(map(str, stored["words"])), stored["data"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path / START} is damaged: begin a new cross-validation with --folds"
        ) from error
    data.check_same({type(data).__qualname__: digests}, path)
    return words


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keep other processes from training the folds in the folder at the same time."""
    with (path / ".lock").open("ab") as file:
        try:
            lock(file, wait=False)
        except BlockingIOError as error:
            raise ValueError(f"another process trains the folds in {path}") from error
        yield


def _fold(
    task: Task, parser: LightningArgumentParser, options: Any, words: list[str], folder: Path
) -> FinishedFold:
    """Train and test a fold, resume its run, or return the results that it left before."""
    number, count = options.data.fold, options.data.folds
    file = folder / FINISHED
    if finished := file.exists():
        found = _finished(task, file)
    else:
        kept, checkpoint = KeepPredictions(), None
        last = folder / "checkpoints" / "last.ckpt"
        if last.exists():
            checkpoint = read_checkpoint(last)
            parser, options = parsed(task, ["--ckpt_path", str(last)], checkpoint)
        elif folder.exists():  # interrupted before its first checkpoint
            shutil.rmtree(folder)
        print(f"Fold {number} of {count}")
        written = shlex.join([*words, "--data.fold", str(number)])
        trained = fit_one(task, parser, options, checkpoint, written, folder, [kept])
        if trained is None or trained.row is None:
            raise ValueError(f"there is nothing to show for fold {number}: it was not tested")
        row = {name: str(value) for name, value in trained.row.items()}
        found = FinishedFold(row, *task.predictions(trained.data, kept.found))
        write_atomically(file, json.dumps(found._asdict()))
    scores = ", ".join(
        f"{label} {float(found.row[column]):{form}}"
        for column, (label, form) in task.scores.items()
    )
    before = ", finished before" if finished else ""
    print(
        f"Fold {number} of {count}: {scores}; {found.row['epochs']} epochs, "
        f"{found.row['seconds']} s, in {folder}{before}"
    )
    return found


def _finished(task: Task, file: Path) -> FinishedFold:
    """Read the results of a finished fold.

    Raises:
        ValueError: The file is damaged.
    """
    try:
        found = FinishedFold(**json.loads(file.read_text(encoding="utf-8")))
        strings = [*(found.row[name] for name in task.columns), *found.headings]
        for row in found.predictions:
            if len(row) != len(found.headings):
                raise ValueError("a row of another length than the headings")
            strings += row
        if not all(isinstance(each, str) for each in strings):
            raise TypeError("a value is no string")
        for column in task.scores:
            float(found.row[column])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{file} is damaged: delete the folder {file.parent} and go on, which trains this fold "
            "again"
        ) from error
    return found


def _write_table(task: Task, found: Sequence[FinishedFold], path: Path) -> None:
    """Write the rows of results of the folds into folds.csv."""
    lines = [record_line(["fold", "examples", *task.columns, "run"])]
    for number, fold in enumerate(found, 1):
        row = [fold.row[name] for name in task.columns]
        run = path / f"fold_{number}"
        lines.append(record_line([number, len(fold.predictions), *row, run]))
    write_atomically(path / "folds.csv", "".join(lines))


def _write_predictions(found: Sequence[FinishedFold], path: Path) -> None:
    """Write each example, and its prediction by the run that was tested on it."""
    lines = [record_line(["fold", *found[0].headings])]
    for number, fold in enumerate(found, 1):
        lines += (record_line([number, *row]) for row in fold.predictions)
    write_atomically(path / "predictions.csv", "".join(lines))


def _spreads(task: Task, found: Sequence[FinishedFold]) -> str:
    """Return the mean and the sample standard deviation of each score in words."""
    parts = []
    for column, (label, form) in task.scores.items():
        values = [float(fold.row[column]) for fold in found]
        mean = sum(values) / len(values)
        deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))
        parts.append(f"{label} {mean:{form}} ± {deviation:{form}}")
    return ", ".join(parts)
