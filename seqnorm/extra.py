"""The message for a package that an extra of seqnorm would have installed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

HINT = "pip install 'seqnorm[train]'"
# What the extra brings, by the names of modules.
MODULES = frozenset(
    [
        "lightning",
        "torchmetrics",
        "jsonargparse",
        "yaml",
        "tokenizers",
        "rich",
        "tensorboard",
        "matplotlib",
        "numpy",
        "pyarrow",
        "sklearn",
        "scipy",
        "PIL",
    ]
)


@contextmanager
def explained(user: str) -> Iterator[None]:
    """Imports within that miss a module say that ``user`` needs it, and how it is installed.

    Raises:
        ModuleNotFoundError: a module is missing that is not seqnorm's own.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        named = (error.name or "seqnorm").partition(".")[0]
        if named == "seqnorm" or "seqnorm[" in str(error):  # a fault of ours, or explained already
            raise
        raise ModuleNotFoundError(
            f"{user} needs the module {named}, which is not installed: {HINT}", name=error.name
        ) from error


def need(user: str, *modules: str) -> None:
    """Asks for modules before a long computation that would miss them at its end.

    Raises:
        ModuleNotFoundError: one is missing.
    """
    with explained(user):
        for module in modules:
            import_module(module)


@contextmanager
def or_exit() -> Iterator[None]:
    """Within, a missing module of an extra ends the program with one line and status 2."""
    try:
        yield
    except ModuleNotFoundError as error:
        if "seqnorm[" not in str(error):
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
