"""The message for a missing package that an extra of seqnorm installs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

HINT = "pip install 'seqnorm[train]'"
# The modules that the extra installs.
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
    """Explain failed imports within the context: ``user`` needs the module.

    Raises:
        ModuleNotFoundError: a module is missing; the message says how to install it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        named = (error.name or "seqnorm").partition(".")[0]
        if named == "seqnorm" or "seqnorm[" in str(error):  # a bug here, or explained already
            raise
        raise ModuleNotFoundError(
            f"{user} needs the module {named}, which is not installed: {HINT}", name=error.name
        ) from error


def need(user: str, *modules: str) -> None:
    """Import modules before a long computation that needs them at its end.

    Raises:
        ModuleNotFoundError: one is missing.
    """
    with explained(user):
        for module in modules:
            import_module(module)


@contextmanager
def or_exit() -> Iterator[None]:
    """End the program with one line and status 2 if a module of an extra is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        if "seqnorm[" not in str(error):
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
