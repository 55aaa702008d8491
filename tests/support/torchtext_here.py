"""A mark for tests that need torchtext, which only torch 2.3 can load."""

from __future__ import annotations

import pytest
import torch

from seqnorm.datasets.torchtext_tokenizing import import_torchtext


def _why_not() -> str:
    try:
        import_torchtext("a test")
    except ModuleNotFoundError as error:
        return str(error)
    return ""


WHY_NOT = _why_not()
needs_torchtext = pytest.mark.skipif(
    bool(WHY_NOT), reason=f"torchtext is for torch 2.3, this is {torch.__version__}"
)
