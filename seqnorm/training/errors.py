"""What went wrong, as one line that whoever gave the input can use."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jsonargparse import ArgumentError
from lightning.fabric.utilities.exceptions import MisconfigurationException

from seqnorm.datasets import FetchError
from seqnorm.extra import HINT, MODULES

VARIABLE = "SEQNORM_TRACEBACK"
STATUS = 2
# What inputs, files and the machine bring about. All else is a fault of the program, whose
# traceback is wanted.
OF_INPUTS = (
    ArgumentError,
    FetchError,
    FloatingPointError,
    ImportError,
    MemoryError,
    MisconfigurationException,
    OSError,
    ValueError,
)


@contextmanager
def one_line() -> Iterator[None]:
    """Within, what inputs bring about ends the program with one line on standard error.

    With ``SEQNORM_TRACEBACK=1`` in the environment it is raised with its traceback.
    """
    try:
        yield
    except (*OF_INPUTS, RuntimeError) as error:
        if not isinstance(error, OF_INPUTS) and not is_of_memory(error):
            raise
        if os.environ.get(VARIABLE, "0") not in ("", "0"):
            raise
        # In one piece, for several processes may end at once.
        sys.stderr.write(f"error: {line_of(error)}\n")
        sys.exit(STATUS)


def line_of(error: BaseException) -> str:
    """The message of an error in one line that is safe to print.

    Whatever a terminal would take as a command is written as its escape; an error without words
    gives its kind.
    """
    words = " ".join(str(error).split()) or type(error).__name__
    # Libraries say what they miss in words of their own.
    named = MODULES.intersection(re.findall(r"\w+", words))
    if isinstance(error, ModuleNotFoundError) and named and "seqnorm[" not in words:
        words = f"{words} (all that training needs: {HINT})"
    if is_of_memory(error):
        words = f"there is not enough memory: {words}"
    return printable(words)


def is_of_memory(error: BaseException) -> bool:
    """Whether there was not enough memory, for which torch has errors of its own."""
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def printable(text: str) -> str:
    """The text, with an escape for every character that cannot be seen."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
