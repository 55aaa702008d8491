"""The commands of ``seqnorm``, and the checks that come before one of them is imported."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from seqnorm.extra import HINT, SWEEP_HINT, absent, or_exit
from seqnorm.version import __version__

from .early import (
    EarlyError,
    check_files,
    check_options,
    check_space,
    check_study,
    nearest,
    with_configs,
    with_input,
)

PROGRAM = "seqnorm"
DESCRIPTION = "Train, test and use normalised recurrent networks, and run the studies of BatchNorm."
NEEDED = ("lightning", "torchmetrics", "jsonargparse", "yaml", "tokenizers", "rich")
# The commands, and the modules that each one cannot begin without.
COMMANDS = {
    "fit": ("Train a model and test its best epoch, or resume an interrupted run.", NEEDED),
    "sweep": ("Search for better options by many runs of fit.", (*NEEDED, "matplotlib", "optuna")),
    "validate": ("Evaluate a checkpoint on the validation part.", NEEDED),
    "test": ("Evaluate a checkpoint on the test part.", NEEDED),
    "predict": ("Use a checkpoint on new texts or series.", NEEDED),
    "export": ("Write a model as an ONNX file, for programs without this library.", NEEDED),
    "study": ("Run the studies of BatchNorm's limitations, or write their report.", NEEDED),
    "info": ("Show versions, backends, kernels, and what is missing.", ()),
}
MORE = f"""Each command has options of its own: {PROGRAM} fit --help.
Documentation of the layers: python -c 'import seqnorm; help(seqnorm.LSTM)'."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command.

    Args:
        arguments: the command and its options; ``sys.argv`` without the program's name if None.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    command, options = words[0] if words else "", words[1:]
    if command not in COMMANDS:
        _list_commands(words)
    try:
        _, needed = COMMANDS[command]
        hint = SWEEP_HINT if command == "sweep" else HINT
        if missing := absent(f"{PROGRAM} {command}", needed, hint):
            raise EarlyError(missing)
        configured = with_input(command, with_configs(options))
        if command == "study":
            check_study(options)
        check_options(command, configured)
        if command == "sweep":
            check_space(configured)
        check_files(command, configured)
    except EarlyError as error:
        _refuse(str(error))
    if command == "info":
        from .info import main as info

        info(options)
    elif command == "study":
        with or_exit():
            from seqnorm.studies.commands import main as study
        study(options, f"{PROGRAM} study")
    elif command == "sweep":
        with or_exit():
            from seqnorm.training.search.main import main as sweep
        sweep(configured)
    else:
        with or_exit():
            from seqnorm.training.run.main import main as run
        run(command, configured, options)


def _list_commands(words: Sequence[str]) -> NoReturn:
    """Print the list of commands, the version, or an error, and exit."""
    command = words[0] if words else ""
    if command and not command.startswith("-"):
        hint = nearest(command, COMMANDS)
        _refuse(f"{command!r} is not a command{hint}; the commands are {', '.join(COMMANDS)}")
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description=DESCRIPTION,
        epilog=MORE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="command")
    for name, (help, _) in COMMANDS.items():
        commands.add_parser(name, help=help)
    parser.parse_args(words or ["--help"])
    sys.exit(2)


def _refuse(message: str) -> NoReturn:
    sys.stderr.write(f"error: {message}\n")
    sys.exit(2)
