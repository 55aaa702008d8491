"""The commands that train, test and use models."""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, cast

import yaml
from lightning.pytorch.utilities.exceptions import SIGTERMException

from seqnorm.datasets.layout import ungrouped_options
from seqnorm.files import CHECKPOINT

from ..checkpoints.checkpoint_file import Checkpoint, read_checkpoint
from ..errors import one_line
from .config_files import check_configs
from .evaluate import evaluate
from .fit import fit_one, parsed
from .folds import cross_validate, options_of_folds
from .options import command_parser, parse
from .quiet import quieten
from .task import TASKS, Task


def main(command: str, arguments: Sequence[str], words: Sequence[str]) -> None:
    """Run ``fit``, ``validate``, ``test`` or ``predict``.

    Args:
        arguments: The options, with paths of configurations.
        words: The options as the user wrote them.
    """
    with as_command():
        _run(command, arguments, words)


@contextmanager
def as_command() -> Iterator[None]:
    """Leave out warnings that tell users nothing, and end in one line if an input is wrong."""
    # Documents are encoded once and padded when needed; worker processes would only cost time.
    warnings.filterwarnings("ignore", ".*does not have many workers")
    # A resumed run writes into its own folder.
    warnings.filterwarnings("ignore", "Checkpoint directory .* exists and is not empty")
    # Lightning calls a function of torch that torch 2.13 has deprecated.
    warnings.filterwarnings("ignore", ".*LeafSpec.*", FutureWarning)
    # In few batches there is nothing to log between two epochs.
    warnings.filterwarnings("ignore", ".*smaller than the logging interval")
    quieten()
    try:
        with one_line():
            yield
    except SIGTERMException:
        # It carries no exit status, and a run that was cut short must not look like a success.
        sys.exit(128 + signal.SIGTERM)


def _run(command: str, arguments: Sequence[str], words: Sequence[str]) -> None:
    if command == "fit":
        arguments = options_of_folds(arguments)
    check_configs(arguments)
    named, path = named_in(arguments)
    checkpoint = None if path is None else read_checkpoint(path)
    if checkpoint is None and command != "fit" and not {"-h", "--help"}.intersection(arguments):
        raise ValueError(f"{command} needs --ckpt_path, as {CHECKPOINT}")
    if named is None and checkpoint is not None:
        named = checkpoint.task
    task = TASKS.get(named or "", TASKS["classification"])  # the parser reports another name
    if command == "fit":
        parser, options = parsed(task, arguments, checkpoint)
        if options.folds is None and options.folds_path is None:
            fit_one(task, parser, options, checkpoint, shlex.join(words))
        else:
            cross_validate(task, parser, options, words)
    elif command == "predict":
        predict(task, arguments, checkpoint)
    else:
        evaluate(cast("Literal['validate', 'test']", command), task, arguments, checkpoint)


def predict(task: Task, arguments: Sequence[str], checkpoint: Checkpoint | None) -> None:
    """Use a checkpoint on new texts or series."""
    parser = command_parser("predict", "Use a checkpoint on new texts or series.")
    help = "The checkpoint; no other file of the training is needed."
    parser.add_argument("--ckpt_path", type=str, required=True, help=help)
    parser.add_function_arguments(task.predict, skip={"checkpoint"})
    options = parse(parser, arguments, checkpoint).as_dict()
    for name in ("config", "task", "ckpt_path"):
        del options[name]
    with ungrouped_options():
        task.predict(checkpoint, **options)


def named_in(arguments: Sequence[str]) -> tuple[str | None, str | None]:
    """Return the task and the checkpoint that a command line or its configuration files name.

    An option goes before a file, and a later file before an earlier one. The command's own parser
    reports errors in them.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--task")
    parser.add_argument("--ckpt_path")
    parser.add_argument("-c", "--config", action="append", default=[])
    with suppress(argparse.ArgumentError):
        given, _ = parser.parse_known_args(list(arguments))
        found: dict[str, Any] = {}
        for path in given.config:
            with suppress(OSError, ValueError, yaml.YAMLError):
                stated = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
                found |= stated if isinstance(stated, dict) else {}
        found |= {name: value for name, value in vars(given).items() if value is not None}
        task, path = found.get("task"), found.get("ckpt_path")
        return (
            None if task is None else str(task),
            None if path in (None, "null", "none", "None") else str(path),
        )
    return None, None
