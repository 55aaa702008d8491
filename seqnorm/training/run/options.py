"""The parser that the commands share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from jsonargparse import ActionConfigFile  # type: ignore[attr-defined]  # public, not in __all__
from lightning.pytorch.cli import LightningArgumentParser

from ..checkpoints.checkpoint_file import Checkpoint
from .yaml_texts import keep_texts, mode

TaskName = Literal["classification", "language", "series_classification", "series_regression"]


def command_parser(
    command: str, description: str, task: str = "classification"
) -> LightningArgumentParser:
    """Return a parser with the options that all commands have."""
    parser = LightningArgumentParser(
        prog=f"seqnorm {command}",
        description=description,
        exit_on_error=False,
        parser_mode=mode(),
    )
    parser.add_argument(
        "-c", "--config", action=ActionConfigFile, help="A file of options in YAML or JSON."
    )
    parser.add_argument(
        "--task",
        type=TaskName,
        default=task,
        help="The task; it decides about the options and their defaults.",
    )
    return parser


def parse(
    parser: LightningArgumentParser, arguments: Sequence[str], checkpoint: Checkpoint | None
) -> Any:
    """Parse the arguments of a command.

    Raises:
        ValueError: The options name another checkpoint than the one that was read.
    """
    keep_texts(parser)
    options = parser.parse_args(list(arguments))
    if options.ckpt_path != (None if checkpoint is None else checkpoint.path):
        raise ValueError(f"give --ckpt_path {options.ckpt_path} once, on the command line")
    return options
