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
from typing import Any, Literal, Optional, cast

import yaml
from lightning.pytorch.utilities.exceptions import SIGTERMException

from seqnorm.datasets.layout import ungrouped_options
from seqnorm.files import CHECKPOINT

from ..checkpoints.checkpoint_file import Checkpoint, read_checkpoint
from ..errors import one_line
from ..export.formats import export
from ..prediction.onnx_file import OnnxFile
from .config_files import check_configs
from .evaluate import evaluate
from .fit import fit_one, parsed
from .folds import cross_validate, options_of_folds
from .options import command_parser, parse
from .quiet import quieten
from .task import TASKS, Task


def main(command: str, arguments: Sequence[str], words: Sequence[str]) -> None:
    """Run ``fit``, ``validate``, ``test``, ``predict`` or ``export``.

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
    named, path, onnx = named_in(arguments)
    if onnx is not None and command == "predict":
        if path is not None:
            raise ValueError("give --ckpt_path or --onnx, not both")
        file = OnnxFile(onnx)
        predict(TASKS[_agreed(named, file.task, onnx)], arguments, None, file)
        return
    checkpoint = None if path is None else read_checkpoint(path)
    if checkpoint is None and command != "fit" and not {"-h", "--help"}.intersection(arguments):
        more = ", or --onnx" if command == "predict" else ""
        raise ValueError(f"{command} needs --ckpt_path, as {CHECKPOINT}{more}")
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
    elif command == "export":
        export_model(arguments, checkpoint)
    else:
        evaluate(cast("Literal['validate', 'test']", command), task, arguments, checkpoint)


def predict(
    task: Task,
    arguments: Sequence[str],
    checkpoint: Checkpoint | None,
    onnx: OnnxFile | None = None,
) -> None:
    """Use a checkpoint, or the ONNX file of one, on new texts or series."""
    parser = command_parser("predict", "Use a checkpoint on new texts or series.")
    help = "The checkpoint; no other file of the training is needed."
    parser.add_argument("--ckpt_path", type=Optional[str], default=None, help=help)
    help = "A file of seqnorm export --to model.onnx, in place of a checkpoint."
    parser.add_argument("--onnx", type=Optional[str], default=None, help=help)
    parser.add_function_arguments(task.predict, skip={"checkpoint"})
    options = parse(parser, arguments, checkpoint).as_dict()
    for name in ("config", "task", "ckpt_path", "onnx"):
        del options[name]
    with ungrouped_options():
        task.predict(checkpoint if onnx is None else onnx, **options)


def export_model(arguments: Sequence[str], checkpoint: Checkpoint | None) -> None:
    """Write the model of a checkpoint as a file for other programs."""
    parser = command_parser("export", "Write a model as a file for other programs.")
    parser.add_argument("--ckpt_path", type=str, required=True, help="The checkpoint.")
    parser.add_function_arguments(export, skip={"checkpoint"})
    options = parse(parser, arguments, checkpoint)
    assert checkpoint is not None
    for path in export(checkpoint, options.to, options.step, options.int8):
        print(f"{path}: {path.stat().st_size:,} bytes")


def _agreed(named: str | None, found: str, path: str) -> str:
    """Return the task of an ONNX file, which is that of the option ``--task`` if it is given."""
    if named not in (None, found):
        raise ValueError(f"{path} holds a model of the task {found}, not of {named}")
    return found


def named_in(arguments: Sequence[str]) -> tuple[str | None, str | None, str | None]:
    """Return the task, checkpoint and ONNX file that a command line or its configurations name.

    An option goes before a file, and a later file before an earlier one. The command's own parser
    reports errors in them.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--task")
    parser.add_argument("--ckpt_path")
    parser.add_argument("--onnx")
    parser.add_argument("-c", "--config", action="append", default=[])
    with suppress(argparse.ArgumentError):
        given, _ = parser.parse_known_args(list(arguments))
        found: dict[str, Any] = {}
        for path in given.config:
            with suppress(OSError, ValueError, yaml.YAMLError):
                stated = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
                found |= stated if isinstance(stated, dict) else {}
        found |= {name: value for name, value in vars(given).items() if value is not None}
        stated = [found.get(name) for name in ("task", "ckpt_path", "onnx")]
        task, path, onnx = [
            None if value in (None, "null", "none", "None") else str(value) for value in stated
        ]
        return task, path, onnx
    return None, None, None
