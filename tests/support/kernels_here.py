"""What tests need of a machine without the compiled kernels."""

from __future__ import annotations

import warnings

import torch

import seqnorm
from seqnorm.nn.backends.cpu import library


def hear_of_their_absence() -> None:
    """Call the layer that is the first to warn of it in a process: in a test it would be an
    error, in whichever comes first."""
    if library.LIBRARY is None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "normalised layers are slow here")
            seqnorm.LSTM(1, 2, norm="layer")(torch.zeros(1, 1, 1))
