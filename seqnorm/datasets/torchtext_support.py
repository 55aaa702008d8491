"""Import of torchtext, whose last release works with torch 2.3 and no later version."""

from __future__ import annotations

import importlib
from types import ModuleType

import torch


def import_torchtext(what: str, *parts: str) -> ModuleType:
    """Import torchtext with these parts and those for tokens; `what` names the user of it.

    Raises ModuleNotFoundError, which names the extra to install, if it is missing or cannot be
    loaded with the installed torch.
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
    # Each import of a part warns that torchtext is no longer developed; the README says so too.
    torchtext.disable_torchtext_deprecation_warning()
    for part in ("data.utils", "transforms", "vocab", *parts):
        importlib.import_module(f"torchtext.{part}")
    return torchtext
