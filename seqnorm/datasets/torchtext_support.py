"""torchtext, where it can be loaded: its last release works with torch 2.3 and no later one."""

from __future__ import annotations

import importlib
from types import ModuleType

import torch


def import_torchtext(what: str, *parts: str) -> ModuleType:
    """torchtext with these parts of it beside those for tokens, for `what` needs it.

    Raises ModuleNotFoundError, which names the extra to install, where it is missing or cannot be
    loaded into the torch that is there.
    """
    try:
        torchtext = importlib.import_module("torchtext")
    except (ImportError, OSError) as error:  # OSError: its library lacks symbols of torch
        missing = isinstance(error, ModuleNotFoundError) and error.name == "torchtext"
        reason = "it is not installed" if missing else f"it cannot be loaded ({error})"
        raise ModuleNotFoundError(
            f"{what} needs torchtext 0.18, which works with torch 2.3 alone; here is torch "
            f"{torch.__version__}, and {reason}. Install it in an environment of its own: "
            "pip install -c constraints-torchtext.txt 'seqnorm[train,torchtext]'",
            name="torchtext",
        ) from error
    # It says at every import of a part that it is no longer developed, which the README says too.
    torchtext.disable_torchtext_deprecation_warning()
    for part in ("data.utils", "transforms", "vocab", *parts):
        importlib.import_module(f"torchtext.{part}")
    return torchtext
