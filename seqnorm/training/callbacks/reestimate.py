"""Re-estimation of BatchNorm's statistics during training, as averaged weights need it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer, callbacks
from torch import nn

from seqnorm.nn import reestimate_statistics
from seqnorm.nn.statistics import RunningTable
from seqnorm.nn.statistics.freezing import any_frozen


class ReestimateStatistics(Callback):
    """Re-estimate the statistics of BatchNorm from all training batches before every validation.

    Without any validation, it does so at the end of training. The model that is validated and kept
    then has the statistics of the whole training set and not running averages. Placed after a
    callback that averages weights and copies buffers (Lightning's with ``use_buffers=False``), it
    gives the statistics of the averaged weights. Each of several processes uses its own share of
    the batches. While ``FreezeStatistics`` holds, statistics stay as they are.

    Args:
        forward: ``forward(model, batch)`` runs the model on a training batch.
    """

    def __init__(
        self,
        forward: Callable[[nn.Module, Any], object] = lambda model, batch: model(
            batch.tokens, batch.lengths
        ),
    ) -> None:
        self.forward = forward
        self._validated = False

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._validated |= not trainer.sanity_checking
        self._estimate(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self._validated:
            self._estimate(trainer, pl_module)

    def _estimate(self, trainer: Trainer, pl_module: LightningModule) -> None:
        batches = trainer.train_dataloader
        # The trial of a validation at the start of a run must not change the statistics.
        if trainer.sanity_checking or batches is None:
            return
        if not any(isinstance(module, RunningTable) for module in pl_module.modules()):
            return
        if any_frozen(pl_module):
            return
        precision = trainer.precision_plugin
        # Validation runs in inference mode, which would make inference tensors of the tables.
        with torch.inference_mode(False), precision.forward_context():
            to_device = trainer.strategy.batch_to_device
            moved = (to_device(precision.convert_input(batch)) for batch in batches)
            reestimate_statistics(pl_module, moved, self.forward)


def stale_statistics(found: Sequence[Callback], model: nn.Module) -> str | None:
    """Return an error message if a callback averages weights and leaves stale running statistics.

    Lightning's ``StochasticWeightAveraging`` re-estimates the statistics of norms that derive from
    torch's, which a table of this library does not. ``WeightAveraging`` averages the tables and
    their counts, and an integer count may stay 0. With ``WeightAveraging(use_buffers=False)``, or a
    class derived from it, a later ``ReestimateStatistics`` gives every validation, and so the model
    that is kept, the statistics of the averaged weights.
    """
    tables = [name for name, module in model.named_modules() if isinstance(module, RunningTable)]
    for number, callback in enumerate(found if tables else ()):
        later = any(isinstance(other, ReestimateStatistics) for other in found[number:])
        whole = getattr(callback, "_use_buffers", True)
        if isinstance(callback, callbacks.StochasticWeightAveraging) or (
            isinstance(callback, callbacks.WeightAveraging) and (whole or not later)
        ):
            return (
                f"{type(callback).__name__} averages the weights, and the running statistics of "
                f"every time step ({tables[0]}{', ...' if tables[1:] else ''}) would not be those "
                "of the average. Use WeightAveraging(use_buffers=False) and after it "
                "seqnorm.training.ReestimateStatistics() (with seqnorm fit --run.ema_decay 0.999 "
                "--run.reestimate true); or a norm without running statistics (layer, rms); or "
                "average in a loop of your own and call seqnorm.update_bn(loader, model) at its end"
            )
    return None
