"""Half precision and autocast: products in half, states, statistics and tables in float32."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hidden_states import as_hx, draw
from torch import Tensor, nn

import seqnorm
from seqnorm.nn.layers.cells import LAYERS

I, H, T, B = 4, 8, 6, 5  # noqa: E741  the axes' letters
# Three sequences have all steps: a norm of two nearly equal rows would amplify rounding errors.
LENGTHS = [6, 1, 6, 0, 6]
PAIRS = [
    (kind, norm)
    for norm in (None, "layer", "rms", "batch", "batch_pooled", "haste", "icefall")
    for kind in LAYERS
    if norm is None or kind in seqnorm.PRESETS[norm]
]
HALVES = [torch.bfloat16, torch.float16]
# One rounding to bfloat16 is 2 ** -9 of a value, and an output has a few dozen of them.
FURTHEST = {torch.bfloat16: 0.1, torch.float16: 0.015}


def layer_of(kind: str, norm: Any, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    return LAYERS[kind](I, H, 2, bidirectional=True, norm=norm, **options)


def sample(seed: int = 1) -> Tensor:
    return torch.randn(T, B, I, generator=torch.Generator().manual_seed(seed))


def leaves(result: Any) -> list[Tensor]:
    if isinstance(result, Tensor):
        return [result]
    return [leaf for part in result for leaf in leaves(part)]


def assert_near(half: list[Tensor], single: list[Tensor], dtype: torch.dtype) -> None:
    """Check that results are as close as half precision allows, and that it was used."""
    assert len(half) == len(single)
    scale = max(1.0, *(float(s.detach().abs().max()) for s in single))
    furthest = max(float((h.float() - s).detach().abs().max()) for h, s in zip(half, single))
    assert 1e-6 < furthest / scale < FURTHEST[dtype]


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize(("kind", "norm"), PAIRS)
def test_autocast(kind: str, norm: str | None, training: bool) -> None:
    layer = layer_of(kind, norm).train(training)
    x = sample()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = leaves(layer(x, lengths=LENGTHS))
    tables = {name: value.clone() for name, value in layer.named_buffers()}
    twin = layer_of(kind, norm).train(training)
    expected = leaves(twin(x, lengths=LENGTHS))
    # As in torch's layer without a norm; other states keep the precision of the weights.
    kept = torch.bfloat16 if norm is None and hasattr(nn, kind) else torch.float32
    for part in found:
        assert part.dtype == kept
        assert bool(part.isfinite().all())
    assert_near(found, expected, torch.bfloat16)
    sum(part.square().sum() for part in found).backward()
    for name, parameter in layer.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.dtype == torch.float32, name
        assert bool(parameter.grad.isfinite().all()), name
    for name, value in twin.named_buffers():
        if name.endswith("count"):
            assert tables[name].equal(value), name
        else:
            assert tables[name].dtype == torch.float32, name
            assert torch.allclose(tables[name], value, atol=0.05, rtol=0.05), name


@pytest.mark.parametrize("norm", [None, "layer"])
@pytest.mark.parametrize("kind", LAYERS)
def test_autocast_gives_one_dtype_whatever_the_lengths(kind: str, norm: str | None) -> None:
    """Full and ragged batches use different backends."""
    layer = layer_of(kind, norm)
    x = sample()
    steps, batch, _ = x.shape
    state = [part.float() for part in draw(kind, 4, batch, H)]  # two layers, two directions
    dtypes = set()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for lengths in (None, [steps] * batch, [steps] * (batch - 1) + [1], [0] * batch):
            for hx in (None, as_hx(state)):
                dtypes |= {part.dtype for part in leaves(layer(x, hx, lengths))}
    assert dtypes == {torch.bfloat16 if norm is None and hasattr(nn, kind) else torch.float32}


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_autocast_with_a_projection(norm: str) -> None:
    """W_hr h is a product, hence in half precision, and as the next state float32 again."""
    layer = layer_of("LSTM", norm, proj_size=3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = leaves(layer(sample(), lengths=LENGTHS))
    assert [part.shape[-1] for part in found] == [6, 3, H]
    assert {part.dtype for part in found} == {torch.float32}
    sum(part.sum() for part in found).backward()
    assert {parameter.grad.dtype for parameter in layer.parameters()} == {torch.float32}


@pytest.mark.parametrize("norm", ["layer", "batch"])
@pytest.mark.parametrize("kind", LAYERS)
def test_autocast_keeps_the_state_single_behind_a_half_input(kind: str, norm: str) -> None:
    """The state stays float32 with the bfloat16 input of a Linear under autocast."""
    layer = layer_of(kind, norm)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        embedded = nn.Linear(I, I)(sample())
        assert embedded.dtype == torch.bfloat16
        found = leaves(layer(embedded, lengths=LENGTHS))
    for part in found:
        assert part.dtype == torch.float32


@pytest.mark.parametrize("lengths", [[0] * B, None], ids=["no rows", "no steps"])
@pytest.mark.parametrize("kind", LAYERS)
def test_autocast_of_nothing(kind: str, lengths: list[int] | None) -> None:
    layer = layer_of(kind, "layer")
    x = sample() if lengths else sample()[:0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = leaves(layer(x, lengths=lengths))
    assert {part.dtype for part in found} == {torch.float32}


@pytest.mark.parametrize("kind", LAYERS)
def test_autocast_of_a_cell(kind: str) -> None:
    cell = getattr(seqnorm, f"{kind}Cell")(I, H, norm="batch")
    x = sample()[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = leaves(cell(x, first_step=0))
    assert {part.dtype for part in found} == {torch.float32}
    sum(part.sum() for part in found).backward()
    assert {p.grad.dtype for p in cell.parameters()} == {torch.float32}


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize(("kind", "norm"), PAIRS)
def test_a_module_cast_to_half(
    kind: str, norm: str | None, training: bool, dtype: torch.dtype
) -> None:
    layer, single = layer_of(kind, norm), layer_of(kind, norm)
    x = sample()
    for module in (layer, single):
        module(3 * x, lengths=LENGTHS)  # fill the tables with more than 0 and 1
    layer.to(dtype).train(training)
    single.train(training)
    for name, value in layer.state_dict().items():
        if "running" in name:
            assert value.dtype == torch.float32, name
        elif not name.endswith("count"):
            assert value.dtype == dtype, name
    with torch.no_grad():
        for cast, full in zip(layer.parameters(), single.parameters()):
            full.copy_(cast)  # equal weights
    found = leaves(layer(x.to(dtype), lengths=LENGTHS))
    expected = leaves(single(x.to(dtype).float(), lengths=LENGTHS))
    for part in found:
        assert part.dtype == dtype
        assert bool(part.isfinite().all())
    assert_near(found, expected, dtype)
    for (name, value), full in zip(layer.named_buffers(), single.buffers()):
        assert value.dtype in (torch.float32, torch.int64), name
        assert torch.allclose(value.float(), full.float(), atol=0.05, rtol=0.05), name


@pytest.mark.parametrize(
    ("kind", "norm"),
    [  # a norm of the output does not depend on it
        (kind, norm)
        for kind, norm in PAIRS
        if norm not in (None, "haste") and seqnorm.PRESETS[norm][kind].output is None
    ],
)
def test_statistics_of_half_are_single(kind: str, norm: str) -> None:
    """The square of 300 exceeds float16, but the norm of 300 must be right."""
    half, single = (LAYERS[kind](I, H, norm=norm, dtype=d) for d in (torch.float16, torch.float32))
    half.load_state_dict(single.state_dict())
    single.load_state_dict(half.state_dict())
    x = (2000 * sample()).half()
    found, expected = leaves(half(x)), leaves(single(x.float()))
    assert_near(found, expected, torch.float16)
    for (name, value), full in zip(half.named_buffers(), single.buffers()):
        assert torch.allclose(value.float(), full.float(), rtol=0.01, atol=0.05), name


@pytest.mark.parametrize("dtype", HALVES)
def test_half_keeps_small_steps_of_a_running_mean(dtype: torch.dtype) -> None:
    """Tables stay float32, because an average in bfloat16 loses updates below 2 ** -9 of it."""
    layer = seqnorm.LSTM(I, H, norm=seqnorm.preset("batch", "LSTM", momentum=1e-4), dtype=dtype)
    table = layer.norm_ih_l0.table
    layer(sample().to(dtype))
    table.count.fill_(10**6)  # after the cumulative average
    table.running_mean.fill_(1.0)
    layer(sample().to(dtype))
    moved = (table.running_mean[:T] - 1.0).abs()
    assert 0 < float(moved.max()) < 2**-9


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("norm", seqnorm.PRESETS)
def test_every_preset_is_built_in_half(norm: str, dtype: torch.dtype) -> None:
    for kind in seqnorm.PRESETS[norm]:
        layer = LAYERS[kind](I, H, norm=norm, dtype=dtype)
        assert {p.dtype for p in layer.parameters()} == {dtype}
        for buffer in layer.buffers():
            assert buffer.dtype in (torch.float32, torch.int64)
        output, _ = layer(sample().to(dtype), lengths=LENGTHS)
        assert output.dtype == dtype
        assert bool(output.isfinite().all())


@pytest.mark.parametrize("method", ["half", "bfloat16", "float", "double"])
def test_casting_methods(method: str) -> None:
    layer = layer_of("LSTM", "batch", dtype=torch.float64)
    mean = layer.norm_ih_l0.table.running_mean
    mean.fill_(1 / 3)
    getattr(layer, method)()
    table = layer.norm_ih_l0.table
    expected = {"half": torch.float64, "bfloat16": torch.float64, "float": torch.float32}
    assert table.running_mean.dtype == expected.get(method, torch.float64)
    assert float(table.running_mean[0, 0]) == pytest.approx(1 / 3, rel=1e-7)
    assert table.count.dtype == torch.int64
    assert layer.weight_ih_l0.dtype == getattr(torch, {"float": "float32"}.get(method, method))


@pytest.mark.parametrize("kind", LAYERS)
def test_default_dtype(kind: str) -> None:
    torch.set_default_dtype(torch.float64)
    try:
        layer = layer_of(kind, "batch")
    finally:
        torch.set_default_dtype(torch.float32)
    assert {p.dtype for p in layer.parameters()} == {torch.float64}
    assert {b.dtype for b in layer.buffers()} == {torch.float64, torch.int64}
