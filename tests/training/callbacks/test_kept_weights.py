"""Seeds of an epoch, and re-estimated statistics."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch.utils.data import DataLoader

import seqnorm
from seqnorm.nn.autocast import is_autocast
from seqnorm.training import ReestimateStatistics, TextClassification, TextData
from seqnorm.training.callbacks.epoch_start import SeedEachEpoch
from seqnorm.training.callbacks.kept_weights import WeightAverage
from seqnorm.training.tasks.starting_embedding import StartEmbedding


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


def test_trying_validation_out_changes_no_statistics() -> None:
    """A trial at the start of a resumed run must not change its statistics."""
    model = torch.nn.Sequential(seqnorm.BatchNorm(3, layout="NTC"))
    trainer = SimpleNamespace(sanity_checking=True, train_dataloader=[torch.randn(2, 3, 3)])
    again = ReestimateStatistics(lambda module, batch: module(batch))
    again.on_validation_epoch_start(trainer, model)  # type: ignore[arg-type]
    assert int(model[0].table.count[0]) == 0


def test_an_average_is_lent_unrounded() -> None:
    """The re-estimated statistics belong to the average."""
    model = LightningModule()
    model.layer = torch.nn.Sequential(torch.nn.Linear(3, 50), torch.nn.BatchNorm1d(50)).bfloat16()
    average = WeightAverage(0.9)
    average.setup(SimpleNamespace(), model, "fit")  # type: ignore[arg-type]
    mean = average._average_model.module
    with torch.no_grad():
        for parameter in mean.parameters():
            assert parameter.dtype == torch.float32
            parameter += torch.rand_like(parameter)
    weights = [parameter.detach().clone() for parameter in model.parameters()]
    means = [parameter.detach().clone() for parameter in mean.parameters()]
    average.on_validation_epoch_start(None, model)  # type: ignore[arg-type]
    for own, expected in zip(model.parameters(), means):
        assert torch.equal(own, expected.bfloat16())
    model.layer[1].running_mean.fill_(7.0)
    average.on_validation_epoch_end(None, model)  # type: ignore[arg-type]
    for found, kept in ((model, weights), (mean, means)):
        assert all(torch.equal(*pair) for pair in zip(found.parameters(), kept))
    assert (mean.layer[1].running_mean == 7.0).all()
    assert (model.layer[1].running_mean == 0.0).all()


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
    assert model.training  # fit leaves it so
    assert not table.running_mean.is_inference()


class Frames(LightningModule):
    """A user's own module, whose batches are frames (B, T, 2)."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = seqnorm.LSTM(2, 3, batch_first=True, norm="batch_pooled")

    def training_step(self, batch: torch.Tensor) -> torch.Tensor:
        output, _ = self.lstm(batch)
        return output.float().square().mean()

    def validation_step(self, batch: torch.Tensor) -> None:
        pass

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
def test_statistics_of_another_module_in_the_precision_of_training(tmp_path: Path) -> None:
    seen = []

    def forward(model: torch.nn.Module, batch: torch.Tensor) -> None:
        seen.append(is_autocast("cpu"))
        model.lstm(batch)

    model, frames = Frames(), torch.randn(12, 5, 2)
    trainer = Trainer(
        max_epochs=1,
        precision="bf16-mixed",
        callbacks=[ReestimateStatistics(forward)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        default_root_dir=tmp_path,
    )
    loader = DataLoader(frames, batch_size=4)
    trainer.fit(model, loader, loader)
    assert seen == [True] * 3
    projected = (frames @ model.lstm.weight_ih_l0.T).flatten(0, 1)
    mean = model.lstm.norm_ih_l0.table.running_mean[0]
    torch.testing.assert_close(mean, projected.mean(0), rtol=0.05, atol=0.01)


def test_what_to_do_without_vectors(corpus: Path) -> None:
    data = TextData(str(corpus))
    model = TextClassification(data.tokenizer_json, data.classes)
    trainer = SimpleNamespace(datamodule=SimpleNamespace(training_tokens=[[2], [3]]))
    with pytest.raises(ValueError, match=r"random vectors instead \(--model\.embedding normal\)"):
        StartEmbedding().setup(trainer, model, "fit")  # type: ignore[arg-type]


def test_a_model_without_statistics_is_left_alone(corpus: Path) -> None:
    data = TextData(str(corpus))
    model = TextClassification(data.tokenizer_json, data.classes, norm="layer")
    trainer = SimpleNamespace(sanity_checking=False, train_dataloader=[None])
    ReestimateStatistics().on_validation_epoch_start(trainer, model)  # type: ignore[arg-type]
