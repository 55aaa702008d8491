"""Normalised recurrent networks for PyTorch.

>>> import torch, seqnorm
>>> lstm = seqnorm.LSTM(16, 32, batch_first=True, bidirectional=True, norm="layer")
>>> output, (h, c) = lstm(torch.randn(3, 10, 16), lengths=[10, 4, 7])
>>> output.shape
torch.Size([3, 10, 64])

A program that has not imported torch imports it when a name is read for the first time, so that the
command line answers at once.
``seqnorm.load`` reads a model that ``seqnorm fit`` has trained; it needs the extra packages of
training. ``seqnorm.load_weights`` and ``seqnorm.to_weights`` exchange weights with other libraries,
and ``seqnorm.export`` writes layers for programs without this library.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from .version import __version__ as __version__

if TYPE_CHECKING:
    from . import export as export
    from . import nn
    from . import testing as testing
    from .nn import *  # noqa: F403  the public names are those of the library proper
    from .training.prediction.loaded import load as load
    from .weights import load_weights as load_weights
    from .weights import to_weights as to_weights

    __all__: list[str] = []
    __all__ += nn.__all__
else:

    def __getattr__(name):
        from importlib import import_module

        if name in ("export", "nn", "testing"):
            return import_module(f"{__name__}.{name}")
        if name == "load":
            # It is not in __all__, because a star import must not need the packages of training.
            return import_module(f"{__name__}.training.prediction.loaded").load
        if name in ("load_weights", "to_weights"):
            return getattr(import_module(f"{__name__}.weights"), name)
        if name.startswith("_") and name != "__all__":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        library = import_module(f"{__name__}.nn")
        if name == "__all__":
            return library.__all__
        if name not in library.__all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = globals()[name] = getattr(library, name)
        return found

    def __dir__():
        asked_for = {"export", "load", "load_weights", "nn", "testing", "to_weights"}
        return sorted({*globals(), *__getattr__("__all__"), *asked_for})

    if "torch" in sys.modules:  # register the operators of saved programs
        from . import nn as nn
