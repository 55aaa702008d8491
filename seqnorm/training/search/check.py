"""Checks before the first trial: errors of every trial, and values that no trial can be built with.

The corpus is read here, too, and the quantity that the trials are compared by is chosen.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import optuna
from lightning.pytorch import Trainer
from lightning.pytorch.cli import LightningArgumentParser
from optuna.samplers import RandomSampler

from ..data.base import PartsDataModule
from ..errors import OF_INPUTS, is_of_memory, line_of
from ..run.fit import build
from ..run.loggers import check_loggers
from ..run.quiet import warn_of_slowness
from ..run.task import Task
from ..run.trainer import make_trainer
from ..run.yaml_texts import dump
from .space import Space, is_same, with_values
from .trials import hushed

# So many draws from the space are built before the first trial, if the first one fails.
TRIED = 10
# Trials need no logger, checkpoints or progress bar to be checked.
PLAIN = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}


def check_trials(task: Task, parser: LightningArgumentParser, space: Space) -> Any:
    """Build the first trial, or another one of the space, to find an error of every trial.

    Then each value of the space is tried.

    Args:
        task: The task.
        parser: The parser of the command.
        space: The search space.

    Returns:
        What was built: the model, the data and the run, which has chosen its monitored quantity.

    Raises:
        ValueError: Every trial would fail, or every trial with one of the values.
    """
    drawn = optuna.create_study(sampler=RandomSampler(seed=0))
    draws = [space.values(drawn.ask(space.distributions).params) for _ in range(TRIED)]
    draws[0] |= space.values(space.given())
    made, trainer, good = _first_built(task, parser, space, draws)
    if made.trainer.logger is None:
        check_loggers(made.run.loggers)
    if trainer.world_size > 1:
        raise ValueError(
            f"a trial trains in one process, not in {trainer.world_size}: set --trainer.devices 1, "
            "and begin seqnorm sweep --resume FOLDER in further processes, which share the trials"
        )
    if trainer.limit_val_batches == 0:
        raise ValueError("a sweep compares validations: trainer.limit_val_batches must not be 0")
    warn_of_slowness(trainer)
    backgrounds = [{}, good, *(each for each in draws if each is not good)]
    for name, values in space.tried.items():
        for value in values:
            if not is_same(value, good[name]):
                _check_value(task, parser, space, backgrounds, made, name, value)
    return made


def _first_built(
    task: Task, parser: LightningArgumentParser, space: Space, draws: list[dict[str, Any]]
) -> tuple[Any, Trainer, dict[str, Any]]:
    """Return what was built for the first draw that can be built, with its trainer, and this draw.

    Raises:
        ValueError: No draw can be built. The error is that of the first one.
    """
    first: Exception | None = None
    for number, values in enumerate(draws):
        try:
            options = parser.parse_args(["--config", dump(with_values(space.config, values))])
            if number == 0:  # it prints what a trial has
                made = build(task, parser, options)
            else:
                with hushed():
                    made = build(task, parser, options)
            return made, _check_parts(made), values
        except OF_INPUTS as error:
            first = first or error
    assert first is not None
    raise first


def _check_parts(made: Any) -> Trainer:
    """Find errors of a trial that appear between its building and its first step.

    Returns:
        A trainer without files.

    Raises:
        ValueError: The run does not fit the model, or there are no such batches.
        MisconfigurationException: There is no such trainer.
    """
    made.run.check(made.model)
    with hushed():
        made.data.train_dataloader()
        made.data.val_dataloader()
        return make_trainer({**made.trainer.as_dict(), **PLAIN}, made.model)


def _check_value(
    task: Task,
    parser: LightningArgumentParser,
    space: Space,
    backgrounds: list[dict[str, Any]],
    made: Any,
    name: str,
    value: Any,
) -> None:
    """Build a trial with a value of the space.

    The other options are those that were given. If the value does not go together with them, it is
    tried with those of other trials.

    Args:
        task, parser, space: Those of ``check_trials``.
        backgrounds: The values of other options to try: none, those of a trial that can be built,
            and those of random trials.
        made: The trial that was built.
        name: The name of the option.
        value: Its value.

    Raises:
        ValueError: No trial can be built with the value.
    """
    wrong: Exception | None = None
    for number, values in enumerate(backgrounds):
        config = with_values(space.config, {**values, name: value})
        try:
            with hushed():
                _build_part(task, parser, config, made, name)
            return
        except (*OF_INPUTS, RuntimeError) as error:
            if is_of_memory(error):  # there may be more at the time of the trial
                return
            if not isinstance(error, OF_INPUTS):
                raise
            if number < 2:  # the second background can be built, so the value is at fault
                wrong = error
    assert wrong is not None
    raise ValueError(
        f"the space has a value for {name} that no trial can be built with, {value!r}: "
        f"{line_of(wrong)}"
    ) from wrong


def _build_part(
    task: Task, parser: LightningArgumentParser, config: Mapping[str, Any], made: Any, name: str
) -> None:
    """Build the part of a trial that an option changes; a model needs no corpus of its own."""
    options = parser.parse_args(["--config", dump(config)])
    group = name.partition(".")[0]
    if group == "run":
        task.run(**options.run).check(made.model)
    elif group == "model":
        linked = {target: getattr(made.data, source) for source, target in task.links.items()}
        try:
            model = task.module(**{**options.model, **linked})
        except TypeError as error:  # as in ``build``
            raise ValueError(str(error)) from error
        task.run(**options.run).check(model)
    else:
        other = build(task, parser, options)
        _check_parts(other)


def read_data(task: Task, parser: LightningArgumentParser, config: dict[str, Any]) -> Any:
    """Return the data of a configuration as a state, for which the corpus is read.

    Raises:
        ValueError: The corpus cannot be read.
    """
    data = _data(task, parser, config)
    return data.state_dict()


def check_data(
    task: Task, parser: LightningArgumentParser, config: dict[str, Any], state: Any, path: object
) -> None:
    """Refuse to continue a sweep whose data have changed.

    Args:
        task: The task.
        parser: The parser of the command.
        config: The configuration of the sweep.
        state: The value of ``read_data`` at its beginning.
        path: The folder of the sweep.

    Raises:
        ValueError: The corpus cannot be read, or it is another one.
    """
    data = _data(task, parser, config)
    data.check_same({type(data).__qualname__: state}, path)


def _data(task: Task, parser: LightningArgumentParser, config: dict[str, Any]) -> PartsDataModule:
    options = parser.parse_args(["--config", dump(config)])
    return task.data(**options.data)
