"""Callbacks of a training run."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer, callbacks
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from seqnorm.models import cooccurrence_embedding

from .classification import TextClassification


class SeedEachEpoch(Callback):
    """Seeds Python, NumPy and torch at the start of every epoch from (seed, epoch, process).

    An epoch's dropout masks then do not depend on what the process did before, and a run resumed
    at an epoch's start draws what an uninterrupted one draws.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        key = f"{self.seed} {trainer.current_epoch} {trainer.global_rank}"
        seed = random.Random(key).getrandbits(32)
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002  the global generator is what is meant
        torch.manual_seed(seed)


class BuffersOfTheFirst(Callback):
    """Of several processes, each begins an epoch with the buffers of the first.

    ``DistributedDataParallel`` hands them out before a pass, but for the first one after a
    validation; and a run that is resumed begins with the first one's, which the checkpoint holds.
    """

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.world_size > 1 and torch.distributed.is_initialized():
            for buffer in pl_module.buffers():
                torch.distributed.broadcast(buffer.data, src=0)


class StartEmbedding(Callback):
    """Gives a new model's embedding the vectors that it is to start with.

    A callback, for it comes after the texts are tokenised and before weights are averaged or, in a
    resumed run, restored.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        assert isinstance(pl_module, TextClassification)
        if stage != "fit":
            return
        data = trainer.datamodule  # type: ignore[attr-defined]
        weight, std = pl_module.network.embedding.weight, pl_module.network.embedding_std
        if pl_module.embedding == "cooccurrence":
            try:
                vectors = cooccurrence_embedding(data.training_tokens, *weight.shape, std=std)
            except ValueError as error:
                raise ValueError(f"{error} (--model.embedding normal)") from error
            with torch.no_grad():
                weight.copy_(vectors)
        if data.vectors is not None:
            pretrained, known = data.vectors
            _fill(weight, pretrained, known, std)


def _fill(weight: Tensor, vectors: Tensor, known: Tensor, std: float) -> None:
    """Puts ``vectors`` (V, E) in the rows ``known`` (V,) of an embedding, scaled to the root mean
    square that its others have."""
    if vectors.shape[1] != weight.shape[1]:
        raise ValueError(
            f"the vectors of data.vectors have {vectors.shape[1]} numbers, an embedding "
            f"{weight.shape[1]}: --model.embedding_size {vectors.shape[1]}"
        )
    chosen = vectors[known]
    rank_zero_info(f"Pretrained vectors: {len(chosen)} of {len(weight)} tokens")
    with torch.no_grad():
        weight[known] = (chosen * (std / chosen.square().mean().sqrt())).to(weight)


class WeightAverage(callbacks.EMAWeightAveraging):
    """Lightning's, in single precision where the weights are in half.

    In half it would stand still, for a thousandth of a difference is lost in the rounding.

    Buffers are taken over, not averaged: the counts among BatchNorm's are integers.
    """

    def __init__(self, decay: float) -> None:
        super().__init__(decay=decay, use_buffers=False)
        self._weights: list[Tensor] = []  # those of the model, while it has the average's

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        weights = () if self._average_model is None else self._average_model.parameters()
        for weight in weights:
            if weight.dtype in (torch.float16, torch.bfloat16):
                weight.data = weight.data.float()

    def _swap_models(self, pl_module: LightningModule) -> None:
        """Lends the model the average for a validation, and back.

        Lightning takes the average back from the model, rounded to the precision of that.
        """
        assert self._average_model is not None
        average = self._average_model.module
        lent: Iterable[Tensor] = self._weights or average.parameters()
        self._weights = [] if self._weights else [p.data.clone() for p in pl_module.parameters()]
        for own, other in zip(pl_module.parameters(), lent):
            own.data.copy_(other.data)
        # Statistics may have been taken anew for the average.
        for one, two in zip(pl_module.buffers(), average.buffers()):
            kept = one.data.clone()
            one.data.copy_(two.data)
            two.data.copy_(kept)


class RunEarlyStopping(callbacks.EarlyStopping):
    """Lightning's, which besides remembers over an interruption that it had stopped the run, unless
    that goes on with another patience; and waits for the first validation."""

    def __init__(self, monitor: str, mode: str, patience: int) -> None:
        super().__init__(monitor, mode=mode, patience=patience, strict=False)
        self._stopped = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._stopped or self.wait_count >= self.patience:
            trainer.should_stop = True

    def _evaluate_stopping_criteria(self, current: Tensor) -> tuple[bool, str | None]:
        stop, reason = super()._evaluate_stopping_criteria(current)
        self._stopped |= stop  # for good, even where trainer.min_epochs has it wait
        return stop, reason

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "stopped": self._stopped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict({**state_dict, "patience": self.patience})
        self._stopped = state_dict.get("stopped", False) and state_dict["patience"] == self.patience


class RunCheckpoint(callbacks.ModelCheckpoint):
    """Lightning's, whose one file lies in this run's folder whatever a checkpoint says.

    What it says is of where the run was before it was moved or copied, or of a stranger's choice;
    and it is what is read, replaced and removed.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        own = str(Path(str(self.dirpath)) / f"{self.filename}{self.FILE_EXTENSION}")
        scores = state_dict["best_k_models"].values()
        paths = ("best_model_path", "kth_best_model_path", "last_model_path")
        mended: dict[str, Any] = {name: own if state_dict[name] else "" for name in paths}
        mended["dirpath"] = self.dirpath
        mended["best_k_models"] = dict(zip([own], scores))
        super().load_state_dict({**state_dict, **mended})

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Where nothing is validated there is nothing to choose by, and no error in that.
        if self.monitor is None or self.monitor in trainer.callback_metrics:
            super().on_train_epoch_end(trainer, pl_module)


class RunProgressBar(callbacks.RichProgressBar):
    """Lightning's, which keeps the line of every epoch and leaves the run's number out of it."""

    def __init__(self) -> None:
        super().__init__(leave=True)

    def get_metrics(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        return metrics
