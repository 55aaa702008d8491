"""Errors that inputs cause, printed as one line that helps whoever gave the input."""

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

from .wrong_values import explain_value

VARIABLE = "SEQNORM_TRACEBACK"
STATUS = 2
# Errors that inputs, files and the machine cause. All others are faults of the program and keep
# their traceback.
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
    """End the program with one line on standard error if an input causes an error in the block.

    With ``SEQNORM_TRACEBACK=1`` in the environment, the error is raised with its traceback.
    """
    try:
        yield
    except (*OF_INPUTS, RuntimeError) as error:
        if not isinstance(error, OF_INPUTS) and not is_of_memory(error):
            raise
        if os.environ.get(VARIABLE, "0") not in ("", "0"):
            raise
        # One write, because several processes may end at once.
        sys.stderr.write(f"error: {line_of(error)}\n")
        sys.exit(STATUS)


def line_of(error: BaseException) -> str:
    """Return the message of an error as one line that is safe to print.

    Control characters become escapes. An error without a message gives the name of its class.
    """
    words = explain_value(" ".join(str(error).split())) or type(error).__name__
    # Other libraries describe a missing package in their own words.
    named = MODULES.intersection(re.findall(r"\w+", words))
    if isinstance(error, ModuleNotFoundError) and named and "seqnorm[" not in words:
        words = f"{words} (all that training needs: {HINT})"
    if is_of_memory(error):
        words = f"there is not enough memory: {words}"
    return printable(words)


def is_of_memory(error: BaseException) -> bool:
    """Return whether an error, Python's or torch's, reports that memory ran out."""
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def printable(text: str) -> str:
    """Return the text with an escape for every character that cannot be seen."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
