"""The network for series: padding, ragged computation, options, bad arguments."""

from __future__ import annotations

import pytest
import torch
from tolerances import VALUES, assert_close

from seqnorm.models import SeriesClassifier
from seqnorm.models.recurrent import CELLS
from seqnorm.nn.statistics import RunningTable

NORMS = [None, "layer", "rms", "batch", "batch_pooled"]
LENGTHS = torch.tensor([6, 1, 2, 4])
PADDING = torch.arange(6) >= LENGTHS[:, None]
ALL = "last+mean+max+attention"


def network(**options: object) -> SeriesClassifier:
    chosen: dict[str, object] = {"hidden_size": 8, "pooling": ALL, **options}
    return SeriesClassifier(5, 3, **chosen).double()  # type: ignore[arg-type]


def values() -> torch.Tensor:
    return torch.randn(4, 6, 5, dtype=torch.float64)


@pytest.mark.parametrize(
    ("cell", "norm"),
    [(cell, norm) for cell in CELLS for norm in (NORMS if cell == "lstm" else [None, "batch"])],
)
def test_poisoned_padding_changes_nothing(cell: str, norm: str | None) -> None:
    """Neither outputs nor gradients nor running statistics depend on the padding."""
    x, found = values(), []
    for poison in (0.0, torch.nan, torch.inf, 1e30):
        torch.manual_seed(0)
        model = network(cell=cell, norm=norm, num_layers=2, projection_size=7)
        padded = x.masked_fill(PADDING[..., None], poison).requires_grad_()
        model(padded, LENGTHS).square().sum().backward()
        gradients = [parameter.grad for parameter in model.parameters()]
        assert padded.grad is not None
        assert not padded.grad[PADDING].any()
        state = [buffer.clone() for buffer in model.buffers()]
        output = model.eval()(padded, LENGTHS)
        found.append([output, padded.grad, *gradients, *state])
    for other in found[1:]:
        for one, two in zip(found[0], other):
            assert torch.equal(one, two)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("projection_size", [None, 7])
def test_inference_equals_the_ragged_computation(
    norm: str | None, projection_size: int | None
) -> None:
    """Each series alone, without padding, and pooled by sums over its steps."""
    model = network(norm=norm, projection_size=projection_size, pooling="mean+max+last")
    x = values()
    for _ in range(3):  # updates BatchNorm's statistics
        model(x, LENGTHS)
    model.eval()
    padded = model(x.masked_fill(PADDING[..., None], torch.nan), LENGTHS)
    for row, length in enumerate(LENGTHS.tolist()):
        alone = x[row : row + 1, :length]
        if model.projection is not None:
            alone = alone @ model.projection.weight.T + model.projection.bias
        output, _ = model.recurrent(alone)
        last = torch.cat([output[0, -1, :8], output[0, 0, 8:]])
        pooled = torch.cat([output[0].mean(0), output[0].max(0).values, last])
        expected = pooled @ model.head.weight.T + model.head.bias
        assert_close(padded[row], expected, VALUES)


def test_training_with_batch_norm_sees_valid_rows_alone() -> None:
    """The statistics of a step equal those of the rows that still run, computed by hand."""
    model = network(norm="batch", bidirectional=False, cell="rnn", pooling="last")
    x = values()
    model(x.masked_fill(PADDING[..., None], 1e30), LENGTHS)
    table = dict(model.named_modules())["recurrent.norm_ih_l0.table"]
    assert isinstance(table, RunningTable)
    first = x[:, 0] @ model.recurrent.weight_ih_l0.T
    second = x[LENGTHS > 1, 1] @ model.recurrent.weight_ih_l0.T
    momentum = table.running_mean[0] / first.mean(0)
    assert_close(momentum, momentum[0].expand_as(momentum), VALUES)
    assert_close(table.running_mean[1] / second.mean(0), momentum, VALUES)


@pytest.mark.parametrize("projection", [None, 4])
@pytest.mark.parametrize("pooling", ["last+mean+max+attention", "last+mean+max"])
@pytest.mark.parametrize(("layers", "bidirectional"), [(2, False), (1, True), (2, True)])
@pytest.mark.parametrize("norm", [None, "layer", "batch", "batch_pooled"])
def test_chunks_give_the_same_outputs(
    norm: str | None, layers: int, bidirectional: bool, pooling: str, projection: int | None
) -> None:
    model = SeriesClassifier(
        *(2, 3),
        hidden_size=8,
        norm=norm,
        num_layers=layers,
        bidirectional=bidirectional,
        pooling=pooling,
        projection_size=projection,
    ).double()
    lengths = torch.tensor([13, 0, 7, 11])
    x = torch.randn(4, 13, 2, dtype=torch.float64)
    model(x[:, :9], torch.tensor([9, 3, 7, 9]))  # some steps have statistics
    model.eval()
    x[torch.arange(13) >= lengths[:, None]] = torch.nan
    expected = model(x, lengths).detach()
    assert expected.isfinite().all()
    for steps in (1, 4, 13, 50):
        assert_close(model.in_chunks(x, lengths, steps), expected, VALUES, f"{steps} steps")
    assert model.recurrent.chunks is None


def test_chunks_of_nothing() -> None:
    model = network().eval()
    features = 5
    none = torch.zeros(0, dtype=torch.int64)
    assert model.in_chunks(torch.zeros(0, 7, features).double(), none).shape[0] == 0
    empty = model.in_chunks(torch.zeros(2, 0, features).double(), torch.zeros(2, dtype=torch.int64))
    assert torch.equal(empty, model.head.bias.expand_as(empty))
    with pytest.raises(ValueError, match="steps must be at least 1"):
        model.in_chunks(torch.zeros(1, 5, features), torch.tensor([5]), 0)
    with pytest.raises(ValueError, match="in_chunks is for inference: call eval"):
        model.train().in_chunks(torch.zeros(1, 5, features), torch.tensor([5]))


@pytest.mark.parametrize("norm", [None, "layer", "batch"])
def test_it_learns(norm: str | None) -> None:
    """It memorises eight series whose class depends on their first step."""
    model = SeriesClassifier(2, 3, hidden_size=16, norm=norm)
    lengths = torch.tensor([6, 4, 5, 6, 3, 6, 2, 6])
    classes = torch.arange(8) % 3
    x = torch.randn(8, 6, 2)
    x[:, 0, 0] = classes - 1.0
    optimiser = torch.optim.Adam(model.parameters(), 0.03)
    losses = []
    for _ in range(30):
        loss = torch.nn.functional.cross_entropy(model(x, lengths), classes)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cell": "lstn"}, "cell 'lstn' is unknown"),
        ({"norm": "layr"}, "did you mean 'layer'"),
        ({"norm": None, "norm_options": {"gain": 1}}, "without a norm"),
        ({"pooling": "most"}, "unknown part 'most'"),
        ({"projection_size": 0}, "projection_size must be at least 1, got 0"),
        ({"dropout": 1.5}, "dropout"),
    ],
)
def test_bad_arguments(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        network(**options)


def test_bad_sizes() -> None:
    with pytest.raises(ValueError, match="num_features must be at least 1"):
        SeriesClassifier(0, 3)
    with pytest.raises(ValueError, match="num_outputs must be at least 1"):
        SeriesClassifier(2, 0)
