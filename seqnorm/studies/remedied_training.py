"""Remedies that keep BatchNorm, as further norms of the studies.

- ``batch_renorm``: Batch Renormalization (Ioffe 2017), whose limits grow during a run.
- ``batch_frozen``: BatchNorm whose running statistics are re-estimated and then frozen for the last
  part of a run (Wu & Johnson 2021, sec. 4).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from torch import nn

from seqnorm.nn import freeze_statistics, renormalization_limits, set_renormalization
from seqnorm.nn.statistics import batch_statistics
from seqnorm.nn.statistics.freezing import any_frozen

REMEDIES = ("batch_renorm", "batch_frozen")
# Parts of a run. Batch Renormalization is BatchNorm up to the first, and d and r have their final
# limits from the others on. The order is that of Ioffe 2017 (sec. 4), whose runs are longer.
BEGIN, D_END, R_END = 0.05, 0.25, 0.4
FROZEN = 0.75  # the part of a run after which statistics are frozen


def built(norm: str) -> str:
    """Return the name of the norm that a network is built with."""
    return "batch" if norm == "batch_frozen" else norm


def before_step(
    norm: str, model: nn.Module, step: int, steps: int, reestimate: Callable[[], object]
) -> None:
    """Apply the remedy, if the norm is one, before a step of training.

    Args:
        step, steps: number of the step from 0 on, and of all steps of the run.
        reestimate: replaces the running statistics by those of the present weights.
    """
    if norm == "batch_renorm":
        begin, d_end, r_end = (round(part * steps) for part in (BEGIN, D_END, R_END))
        set_renormalization(model, *renormalization_limits(step, begin, r_end, d_end))
    elif norm == "batch_frozen" and step == round(FROZEN * steps):
        reestimate()
        freeze_statistics(model)


def as_in_training(model: nn.Module) -> AbstractContextManager[None]:
    """Normalise as training does: by every batch, unless statistics are frozen."""
    if any_frozen(model):
        model.eval()
        return nullcontext()
    return batch_statistics(model)
