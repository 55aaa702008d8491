"""Averaged weights have statistics of their own, or an error says how to get them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer, callbacks
from torch.utils.data import DataLoader

import seqnorm
from seqnorm.training import NormStatistics, ReestimateStatistics, TextClassification, TextData
from seqnorm.training.callbacks.kept_weights import WeightAverage

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),
    pytest.mark.filterwarnings("ignore:SWA is currently only supported every epoch"),
]
# Made for each run, because they keep the average.
AVERAGES: dict[str, Any] = {
    "swa": lambda **kw: callbacks.StochasticWeightAveraging(0.01, 1),
    "mean": lambda **kw: callbacks.WeightAveraging(**kw),
    "ema": lambda **kw: callbacks.EMAWeightAveraging(**kw),
    "ours": lambda **kw: WeightAverage(0.9),
}


def fit(model: LightningModule, data: Any, found: list[Callback], path: Path) -> None:
    Trainer(
        max_epochs=3,
        callbacks=found,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        use_distributed_sampler=False,
        default_root_dir=path,
    ).fit(model, *data)


def classifier(corpus: Path, norm: str) -> tuple[TextClassification, TextData]:
    data = TextData(str(corpus), batch_size=10)
    sizes: dict[str, Any] = {"embedding_size": 4, "hidden_size": 3, "bidirectional": False}
    return TextClassification(data.tokenizer_json, data.classes, norm=norm, **sizes), data


@pytest.mark.parametrize("name", AVERAGES)
def test_a_model_with_tables_is_refused_before_it_trains(
    name: str, corpus: Path, tmp_path: Path
) -> None:
    model, data = classifier(corpus, "batch")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    for found in ([AVERAGES[name]()], [ReestimateStatistics(), AVERAGES[name]()]):
        with pytest.raises(ValueError, match=r"averages the weights.*seqnorm\.update_bn\(loader"):
            fit(model, (data,), found, tmp_path)
    for key, value in model.network.state_dict().items():
        assert torch.equal(value, before[f"network.{key}"]), key


@pytest.mark.parametrize("name", AVERAGES)
def test_a_norm_of_one_example_needs_nothing(name: str, corpus: Path, tmp_path: Path) -> None:
    model, data = classifier(corpus, "layer")
    fit(model, (data,), [AVERAGES[name]()], tmp_path)


class Frames(LightningModule):
    """A user's own module, whose batches are frames (B, T, 2)."""

    def __init__(self, norm: str = "batch") -> None:
        super().__init__()
        self.lstm = seqnorm.LSTM(2, 3, batch_first=True, norm=norm)

    def training_step(self, batch: torch.Tensor) -> torch.Tensor:
        return self.lstm(batch)[0].square().mean()

    def validation_step(self, batch: torch.Tensor) -> None:
        self.lstm(batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.5)


def frames() -> tuple[Any, Any]:
    loader = DataLoader(torch.randn(24, 5, 2), batch_size=8)  # type: ignore[arg-type]  # a tensor has items
    return loader, loader


def of_frames(model: torch.nn.Module, batch: torch.Tensor) -> None:
    model.lstm(batch)  # type: ignore[operator]  # a Tensor or a Module


@pytest.mark.parametrize("name", ["mean", "ema", "ours"])
def test_tables_that_are_taken_anew_are_those_of_the_average(name: str, tmp_path: Path) -> None:
    """The solution in the error works: the kept model uses its own statistics."""
    model, data = Frames(), frames()
    found = [AVERAGES[name](use_buffers=False), ReestimateStatistics(of_frames)]
    fit(model, data, [*found, NormStatistics(picture=False)], tmp_path)
    kept = {key: value.clone() for key, value in model.named_buffers()}
    seqnorm.reestimate_statistics(model, data[0], of_frames)
    for key, value in model.named_buffers():
        torch.testing.assert_close(value, kept[key], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["swa", "mean", "ema"])
def test_of_any_module_the_diagnosis_warns(name: str, tmp_path: Path) -> None:
    model, data = Frames(), frames()
    with pytest.warns(UserWarning, match=r"averages the weights.*lstm\.norm_ih_l0\.table, \.\.\."):
        fit(model, data, [AVERAGES[name](), NormStatistics(min_rows=1, picture=False)], tmp_path)


def test_what_averaging_leaves_is_mended_afterwards(tmp_path: Path) -> None:
    model, (loader, _) = Frames(), frames()
    fit(model, (loader, loader), [AVERAGES["swa"]()], tmp_path)
    seqnorm.update_bn(((x, "label") for x in loader), model.lstm)
    for counts in model.lstm.report().rows.values():
        assert counts[:6] == (24, 24, 24, 24, 24, 0)
