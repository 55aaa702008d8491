"""A batch without rows has all gradients, and they are zero.

A process that waits for the gradients of every parameter would otherwise wait forever.

Axes: T steps, B sequences, I = input size, H = hidden size.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from beside_reference import F64
from comparing import DISTINCT, HEADS, scheme_of
from comparing import build as built
from hidden_states import as_hx, draw, output_normed, parts_of
from tolerances import assert_equal
from torch import Tensor, nn

import seqnorm
from seqnorm.nn.layers.cells import LAYERS

I, H = 3, 4  # noqa: E741  the axes' letters
# Input (T, B) and lengths.
EMPTY: dict[str, tuple[int, int, list[int] | None]] = {
    "no sequences": (5, 0, None),
    "no sequences, with lengths": (5, 0, []),
    "lengths of zero": (5, 2, [0, 0]),
    "no steps": (0, 2, None),
}


def check(results: list[Tensor], leaves: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Check that every leaf has a gradient: zero, or the expected one."""
    torch.autograd.backward([result.sum() for result in results])
    for name, leaf in leaves.items():
        assert leaf.grad is not None, name
        assert_equal(leaf.grad, expected.get(name, torch.zeros_like(leaf)), name)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("case", EMPTY)
@pytest.mark.parametrize(("name", "cell"), DISTINCT)
def test_layers(name: str, cell: str, case: str, training: bool) -> None:
    steps, batch, lengths = EMPTY[case]
    layer = built(cell, scheme_of(name, cell), num_layers=2, bidirectional=True).train(training)
    x = torch.randn(steps, batch, I, dtype=F64, requires_grad=True)
    before = {key: value.clone() for key, value in layer.state_dict().items()}
    for hx in (None, [part.requires_grad_() for part in draw(cell, 4, batch, H)]):
        layer.zero_grad()
        x.grad = None
        output, state = layer(x, None if hx is None else as_hx(hx), lengths=lengths)
        assert output.shape == (steps, batch, 2 * H)
        leaves, expected = {"x": x, **dict(layer.named_parameters())}, {}
        for k, part in enumerate(hx or []):
            leaves[f"hx[{k}]"] = part
            expected[f"hx[{k}]"] = torch.ones_like(part)  # the final states are the initial ones
            assert_equal(parts_of(state)[k], part)
        for each in (output, *parts_of(state)):  # by any of them alone
            assert each.requires_grad
        check([output, *parts_of(state)], leaves, expected)
    for key, value in layer.state_dict().items():
        assert_equal(value, before[key], key)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_parameters_hold_is_not_looked_at(value: float) -> None:
    layer = seqnorm.LSTM(I, H, norm="layer")
    with torch.no_grad():
        layer.weight_hh_l0.fill_(value)
    output, (h, c) = layer(torch.randn(5, 2, I), lengths=[0, 0])
    check([output, h, c], dict(layer.named_parameters()), {})
    for state in (h, c):
        assert_equal(state, torch.zeros_like(state))


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_as_torch_has_it(kind: str) -> None:
    theirs, ours = getattr(nn, kind)(I, H), getattr(seqnorm, kind)(I, H)
    for layer in (theirs, ours):
        x = torch.randn(5, 0, I, requires_grad=True)
        layer(x)[0].sum().backward()
        assert x.grad.shape == x.shape
        for parameter in layer.parameters():
            assert_equal(parameter.grad, torch.zeros_like(parameter))


@pytest.mark.parametrize("form", ["padded", "chunks", "zoneout", "half precision", "autocast"])
@pytest.mark.parametrize("norm", [None, "layer", "batch"])
def test_every_way_of_computing(form: str, norm: Any) -> None:
    layer = seqnorm.LSTM(I, H, 2, norm=norm, zoneout=0.2 if form == "zoneout" else 0.0)
    if form == "chunks":
        seqnorm.compute_in_chunks(layer, 2, recompute=True)
    dtype = torch.bfloat16 if form == "half precision" else torch.float32
    x = torch.randn(5, 0, I, dtype=dtype, requires_grad=True)
    with torch.autocast("cpu", enabled=form == "autocast"):
        output, _ = layer.to(dtype)(x)
        full, _ = layer(torch.randn(5, 2, I, dtype=dtype))
    assert output.dtype == full.dtype
    check([output], {"x": x, **dict(layer.named_parameters())}, {})


@pytest.mark.parametrize(("name", "cell"), DISTINCT)
def test_cells(name: str, cell: str) -> None:
    scheme = scheme_of(name, cell)
    norms = [] if scheme is None else scheme.norms.values()
    if output_normed(scheme) or any(norm.over_time for norm in norms):
        pytest.skip("no cell has this norm, or trains with it")
    options = {"num_heads": HEADS[cell]} if cell in HEADS else {}
    one = getattr(seqnorm, f"{cell}Cell")(I, H, norm=scheme, dtype=F64, **options)
    x = torch.randn(0, I, dtype=F64, requires_grad=True)
    step = (
        {"first_step": 0}
        if any(n.over_batch for n in (scheme.norms if scheme else {}).values())
        else {}
    )
    results = list(parts_of(one(x, **step)))
    assert all(result.shape == (0, H) for result in results)
    check(results, {"x": x, **dict(one.named_parameters())}, {})


@pytest.mark.parametrize("shape", [(0, 5, I), (2, 0, I)])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "norm",
    [
        lambda: seqnorm.LayerNorm(I, layout="NTC"),
        lambda: seqnorm.RMSNorm(I, layout="NTC"),
        lambda: seqnorm.InstanceNorm(I, affine=True, layout="NTC"),
        lambda: seqnorm.BatchNorm(I, layout="NTC"),
        lambda: seqnorm.BatchNorm(I, max_steps=4, layout="NTC"),
        lambda: seqnorm.GroupNorm(1, I, layout="NTC"),
    ],
)
def test_norms(norm: Any, training: bool, shape: tuple[int, ...]) -> None:
    module, x = norm().train(training), torch.randn(shape, requires_grad=True)
    check([module(x)], {"x": x, **dict(module.named_parameters())}, {})


@pytest.mark.parametrize("cell", LAYERS)
def test_an_empty_batch_in_the_reference(cell: str) -> None:
    options = {"num_heads": HEADS[cell]} if cell in HEADS else {}
    layer = LAYERS[cell](I, H, norm="layer", **options)
    with seqnorm.use_backend("reference"):
        output, _ = layer(torch.randn(4, 0, I))
    check([output], dict(layer.named_parameters()), {})
