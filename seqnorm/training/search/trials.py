"""One trial of a sweep: a run of ``fit`` without its test."""

from __future__ import annotations

import gc
import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.cli import LightningArgumentParser

from seqnorm.files import write_atomically

from ..callbacks.pruning import EndWorse
from ..errors import is_of_memory, line_of
from ..run.fit import build, train
from ..run.loggers import close, log_end
from ..run.task import Task
from ..run.yaml_texts import dump
from .study import WARMUP

# Errors that the options of a trial cause. All others end the sweep.
OF_OPTIONS = (FloatingPointError, MemoryError, MisconfigurationException, ValueError)


class TrialError(Exception):
    """A trial that failed by its own options."""


def run_trial(
    task: Task,
    parser: LightningArgumentParser,
    config: dict[str, Any],
    path: Path,
    report: Callable[[int, float], bool],
) -> tuple[float, bool]:
    """Train a model in the folder ``path``.

    Args:
        task: The task.
        parser: The parser of the command.
        config: The configuration of the run.
        path: The folder of the run.
        report: Takes the number and the value of each validation, and returns true to end the run.

    Returns:
        The monitored quantity of the best epoch, and whether ``report`` ended the run.

    Raises:
        TrialError: The options do not go together, or lead to numbers that are not finite.
    """
    try:
        with hushed():
            return _trained(task, parser, config, path, report)
    except (*OF_OPTIONS, RuntimeError) as error:
        if not isinstance(error, OF_OPTIONS) and not is_of_memory(error):
            raise
        words = line_of(error)
    finally:
        gc.collect()  # of the model, before the next one is built
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    raise TrialError(words)


def _trained(
    task: Task,
    parser: LightningArgumentParser,
    config: dict[str, Any],
    path: Path,
    report: Callable[[int, float], bool],
) -> tuple[float, bool]:
    made = build(task, parser, parser.parse_args(["--config", dump(config)]))
    made.run.check(made.model)
    if made.trainer.enable_progress_bar is None:
        made.trainer.enable_progress_bar = False
    path.mkdir()
    write_atomically(path / "config.yaml", dump(config))  # if the run fails before it writes it
    pruning = EndWorse(str(made.run.monitor), report, WARMUP)
    trainer = train(task, made, config, path, callbacks=[pruning])
    score = made.run.best.best_model_score
    if score is None or not math.isfinite(score):
        raise ValueError(
            f"no validation gave a finite {made.run.monitor}"
            if score is None
            else f"{made.run.monitor} is {float(score)}"
        )
    metrics = {f"best_{made.run.monitor}": float(score)}
    log_end(trainer.loggers, config, metrics, [path / "learning_curve.png"])
    close(trainer.loggers)
    return float(score), pruning.ended


@contextmanager
def hushed() -> Iterator[None]:
    """Leave out the lines that a run prints, except warnings."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before):
            logger.setLevel(level)
