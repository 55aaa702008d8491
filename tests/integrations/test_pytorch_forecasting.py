"""pytorch-forecasting's models with normalised layers in place of its own."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch

from seqnorm.integrations import torch_rnn

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    forecasting: Any = pytest.importorskip("pytorch_forecasting")
    theirs: Any = pytest.importorskip("pytorch_forecasting.models.nn.rnn")
    pandas: Any = pytest.importorskip("pandas")

pytestmark = pytest.mark.filterwarnings("ignore")  # warnings of the library


class LSTM(theirs.LSTM, torch_rnn.LSTM):  # type: ignore[misc]
    """A layer of both families, with the methods that pytorch-forecasting needs."""


class GRU(theirs.GRU, torch_rnn.GRU):  # type: ignore[misc]
    """A layer of both families, with the methods that pytorch-forecasting needs."""


MODELS: dict[str, tuple[str, dict[str, Any], list[str], type]] = {
    "network of LSTM": ("RecurrentNetwork", {"cell_type": "LSTM", "rnn_layers": 2}, ["rnn"], LSTM),
    "network of GRU": ("RecurrentNetwork", {"cell_type": "GRU"}, ["rnn"], GRU),
    "DeepAR": ("DeepAR", {"cell_type": "LSTM"}, ["rnn"], LSTM),
    "transformer": ("TemporalFusionTransformer", {}, ["lstm_encoder", "lstm_decoder"], LSTM),
}


@pytest.fixture(scope="module")
def series() -> Any:
    """Return six noisy sines, cut into windows of 4 to 12 steps and 4 to forecast."""
    steps = torch.arange(40.0)
    noise = torch.randn(6, 40, generator=torch.Generator().manual_seed(0))
    frames = [
        pandas.DataFrame(
            {
                "t": range(40),
                "value": (torch.sin(steps / 3 + g) + 0.1 * noise[g]).numpy(),
                "group": str(g),
            }
        )
        for g in range(6)
    ]
    return forecasting.TimeSeriesDataSet(
        pandas.concat(frames, ignore_index=True),
        time_idx="t",
        target="value",
        group_ids=["group"],
        min_encoder_length=4,
        max_encoder_length=12,
        max_prediction_length=4,
        time_varying_unknown_reals=["value"],
    )


@pytest.mark.parametrize("norm", [None, "layer", "batch"])
@pytest.mark.parametrize("name", MODELS)
def test_a_model_trains(name: str, norm: str | None, series: Any) -> None:
    model, options, layers, cls = MODELS[name]
    network = getattr(forecasting, model).from_dataset(series, hidden_size=16, **options)
    for layer in layers:
        old = getattr(network, layer)
        assert isinstance(old, (theirs.LSTM, theirs.GRU))
        setattr(network, layer, cls.from_torch(old, norm=norm))
    loader = series.to_dataloader(train=True, batch_size=16)
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    means = []
    for _ in range(4):
        losses = []
        for x, y in loader:
            optimiser.zero_grad()
            loss = network.loss(network(x).prediction, y).mean()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
        means.append(sum(losses) / len(losses))
    assert means[-1] < means[0] - 0.1
    for layer in layers:
        for key, parameter in getattr(network, layer).named_parameters():
            assert parameter.grad is not None, key
    network.eval()
    x, _ = next(iter(loader))
    assert bool(network(x).prediction.isfinite().all())
