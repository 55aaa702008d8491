"""Seeds of an epoch, and statistics taken anew."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer

from seqnorm.training import TextClassification, TextData
from seqnorm.training.callbacks import ReestimateStatistics, SeedEachEpoch


def draws(seed: int, epoch: int, rank: int) -> tuple[float, float, float]:
    trainer = SimpleNamespace(current_epoch=epoch, global_rank=rank)
    SeedEachEpoch(seed).on_train_epoch_start(trainer, None)  # type: ignore[arg-type]
    legacy = np.random.rand()  # noqa: NPY002  the global generator is what is seeded
    return random.random(), legacy, float(torch.rand(()))


def test_seeds() -> None:
    first = draws(0, 1, 0)
    assert draws(0, 1, 0) == first
    others = [draws(1, 1, 0), draws(0, 2, 0), draws(0, 1, 1), draws(0, 11, 0), draws(1, 0, 0)]
    for place in range(3):
        assert len({found[place] for found in [first, *others]}) == 6


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
def test_statistics_are_those_of_all_training_documents(corpus: Path, tmp_path: Path) -> None:
    data = TextData(str(corpus), batch_size=10)
    model = TextClassification(
        data.tokenizer_json,
        data.classes,
        norm="batch_pooled",
        embedding_size=4,
        hidden_size=3,
        bidirectional=False,
        lr=0.1,
    )
    trainer = Trainer(
        max_epochs=1,
        callbacks=[ReestimateStatistics()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(model, data)
    # By hand: the input projection of every token of every training document.
    tokens = torch.tensor([token for tokens in data._parts["train"].tokens for token in tokens])
    recurrent = model.network.recurrent
    frames = model.network.embedding(tokens) @ recurrent.weight_ih_l0.T
    table = recurrent.norm_ih_l0.table
    torch.testing.assert_close(table.running_mean[0], frames.mean(0), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(table.running_var[0], frames.var(0), rtol=1e-4, atol=1e-5)
    assert model.training  # as fit leaves it
    assert not table.running_mean.is_inference()


def test_a_model_without_statistics_is_left_alone(corpus: Path) -> None:
    data = TextData(str(corpus))
    model = TextClassification(data.tokenizer_json, data.classes, norm="layer")
    trainer = SimpleNamespace(train_dataloader=[None])
    ReestimateStatistics().on_validation_epoch_start(trainer, model)  # type: ignore[arg-type]
