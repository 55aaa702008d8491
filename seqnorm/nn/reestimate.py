"""Population statistics of trained BatchNorm layers, taken anew in one pass over the data."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import TypeVar

import torch
from torch import nn

from .check import choose
from .tables import ESTIMATES, RunningTable

Batch = TypeVar("Batch")


@torch.no_grad()
def reestimate_statistics(
    model: nn.Module,
    batches: Iterable[Batch],
    forward: Callable[[nn.Module, Batch], object] | None = None,
    *,
    estimate: str = "population",
) -> int:
    """Replace every running table of ``model`` by statistics of all of ``batches``.

    Running averages follow the weights with a lag and rest on the last batches only; inference with
    statistics of the whole training set, as Cooijmans et al. 2017 (sec. 3) report it, is what this
    gives. BatchNorm layers normalise by the batch during the pass, everything else (dropout,
    zoneout) is in inference mode; the mode of every module is restored.

    Args:
        model: any module with normalised layers in it.
        batches: an iterable, gone through once; a training loader, say.
        forward: ``forward(model, batch)`` runs the model; ``model(batch)`` if None.
        estimate: "population" for the moments of all rows as one batch, "average" for the
            row-weighted average of the batches' means and variances.

    Returns:
        The number of batches seen.

    Raises:
        ValueError: there is nothing to estimate, or no batch; the tables are then as they were.
    """
    choose("estimate", estimate, ESTIMATES)
    tables = [module for module in model.modules() if isinstance(module, RunningTable)]
    if not tables:
        raise ValueError(
            "this model has no running statistics: no norm in it averages over the batch"
        )
    modes = {module: module.training for module in model.modules()}
    model.eval()
    for module in modes:
        if any(isinstance(child, RunningTable) for child in module.children()):
            module.training = True
    seen = 0
    try:
        with ExitStack() as stack:
            for table in tables:
                stack.enter_context(table.estimating(estimate))
            for batch in batches:
                if forward is None:
                    model(batch)
                else:
                    forward(model, batch)
                seen += 1
            if seen == 0:
                raise ValueError("no batches: an empty iterable, or a generator already used up")
    finally:
        for module, training in modes.items():
            module.training = training
    return seen
