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


LENGTHS = [3, 0, 5, 1]


def states(layer: Any, seed: int) -> Any:
    generator = torch.Generator().manual_seed(seed)
    shape = (layer.num_layers, len(LENGTHS), layer.hidden_size)
    drawn = [torch.randn(shape, dtype=torch.float64, generator=generator) for _ in "hc"]
    return tuple(drawn) if isinstance(layer, torch.nn.LSTM) else drawn[0]


def listed(found: Any) -> list[torch.Tensor]:
    output, state = found
    return [output, *state] if isinstance(state, tuple) else [output, state]


@pytest.mark.parametrize("cls", [LSTM, GRU])
def test_without_a_norm_it_computes_what_theirs_does(cls: Any) -> None:
    """Sequences of length zero, and any order of lengths, with gradients."""
    reference = getattr(theirs, cls.__name__)(3, 4, num_layers=2, batch_first=True).double()
    layer = cls.from_torch(reference)
    lengths = torch.tensor(LENGTHS)
    x = torch.randn(len(LENGTHS), max(LENGTHS), 3, dtype=torch.float64, requires_grad=True)
    calls = [layer(x, lengths=lengths, enforce_sorted=False)]
    calls.append(reference(x, lengths=lengths, enforce_sorted=False))
    weights = [torch.randn_like(part) for part in listed(calls[0])]
    gradients = []
    for call in calls:
        total = torch.stack([(w * part).sum() for w, part in zip(weights, listed(call))]).sum()
        parameters = layer.parameters() if call is calls[0] else reference.parameters()
        gradients.append(torch.autograd.grad(total, [x, *parameters]))
    for one, two in zip(listed(calls[0]), listed(calls[1])):
        torch.testing.assert_close(one, two, rtol=1e-10, atol=1e-12)
    for one, two in zip(*gradients):
        torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-11)
    hx = states(layer, 1)
    for one, two in zip(listed(layer(x, hx)), listed(reference(x, hx))):
        torch.testing.assert_close(one, two, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("cls", [LSTM, GRU])
def test_a_sequence_computes_the_same_alone(cls: Any) -> None:
    layer = cls(3, 4, batch_first=True, norm="layer", dtype=torch.float64)
    x = torch.randn(len(LENGTHS), max(LENGTHS), 3, dtype=torch.float64)
    poisoned = x.clone()
    for b, length in enumerate(LENGTHS):
        poisoned[b, max(length, 1) :] = torch.nan  # theirs reads a step of an empty sequence
    found = listed(layer(poisoned, lengths=torch.tensor(LENGTHS), enforce_sorted=False))
    for b, length in enumerate(LENGTHS):
        if length:
            alone = listed(layer(x[b : b + 1, :length]))
            torch.testing.assert_close(found[0][b, :length], alone[0][0])
        for part, expected in zip(found[1:], alone[1:] if length else found[1:]):
            wanted = expected[:, 0] if length else torch.zeros_like(part[:, b])
            torch.testing.assert_close(part[:, b], wanted)
    copied = layer.repeat_interleave(states(layer, 2), 3)
    assert layer(x[:, :1].repeat_interleave(3, 0), copied)[0].shape == (12, 1, 4)
