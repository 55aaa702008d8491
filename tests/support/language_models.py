"""Small language models for tests."""

from __future__ import annotations

from typing import Any

import torch
from comparing import uncounted_is_meant

import seqnorm
from seqnorm.models import LanguageModel

V, E, H = 11, 5, 4


def model_of(**options: Any) -> LanguageModel:
    """Build a float64 model with every parameter and statistic moved from its initial value."""
    heads = options.get("cell") == "slstm"  # the number must divide the units
    sizes: dict[str, Any] = {"embedding_size": 8 if heads else E, "hidden_size": 8 if heads else H}
    sizes["num_layers"] = 2
    model = LanguageModel(V, **{**sizes, **options}).double()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(1.0 if "norm" in name and name.endswith("weight") else 0.0, 0.5)
        for module in model.modules():
            if isinstance(module, seqnorm.nn.statistics.RunningTable):
                module.running_mean.normal_(0.0, 0.5)
                module.running_var.uniform_(0.3, 2.0)
                module.count[:7] = 5
    uncounted_is_meant()
    return model
