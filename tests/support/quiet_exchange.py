"""``convert_norm`` without its warnings."""

from __future__ import annotations

import warnings
from typing import Any

from torch import nn

from seqnorm.nn import convert_norm


def quietly(model: nn.Module, **options: Any) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return convert_norm(model, **options)
