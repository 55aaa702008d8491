"""The callback that gives a new classifier what it takes from the training texts."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from seqnorm.models import cooccurrence_embedding

from .classification import TextClassification


class StartEmbedding(Callback):
    """Give a new model the vectors that its embedding starts with, and its words' frequencies.

    Callbacks are set up after the texts are tokenised, and this one before weights are averaged or,
    in a resumed run, restored.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        assert isinstance(pl_module, TextClassification)
        if stage != "fit":
            return
        data: Any = trainer.datamodule  # type: ignore[attr-defined]  # set by a connector
        if pl_module.network.wide is not None:
            pl_module.network.wide.set_frequencies(data.training_tokens)
        weight, std = pl_module.network.embedding.weight, pl_module.network.embedding_std
        if pl_module.hparams["embedding"] == "cooccurrence":
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
    """Copy ``vectors`` (V, E) into the rows ``known`` (V,) of an embedding.

    They are scaled to the root mean square of the other rows.
    """
    if vectors.shape[1] != weight.shape[1]:
        raise ValueError(
            f"the vectors of data.vectors have {vectors.shape[1]} numbers, an embedding "
            f"{weight.shape[1]}: --model.embedding_size {vectors.shape[1]}"
        )
    chosen = vectors[known]
    rank_zero_info(f"Pretrained vectors: {len(chosen)} of {len(weight)} tokens")
    with torch.no_grad():
        weight[known] = (chosen * (std / chosen.square().mean().sqrt())).to(weight)
