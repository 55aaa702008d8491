"""Batches without padding: sequences one after another, and nested tensors.

Axes: T steps, B sequences, N rows, I = input size, H = hidden size.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from comparing import DISTINCT, build, randomise, scheme_of
from hidden_states import as_hx, draw, parts_of
from tolerances import GRADIENTS, VALUES, assert_close, assert_equal
from torch import Tensor

import seqnorm

I, H = 3, 4  # noqa: E741 (the axes' letters)
LENGTHS = [3, 6, 0, 2, 6]
BOUNDS = [0, 3, 9, 9, 11, 17]
needs_jagged = pytest.mark.skipif(
    not hasattr(torch.nested, "nested_tensor_from_jagged"), reason="needs torch 2.4"
)


def flat(padded: Tensor, lengths: list[int] = LENGTHS) -> Tensor:
    return torch.cat([padded[:n, b] for b, n in enumerate(lengths)])


def outcome(layer: Any, call: Any, leaves: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Return output rows, final states and tables of a call, and gradients of its loss."""
    layer = copy.deepcopy(layer)
    rows, last = call(layer)
    values = [rows, *parts_of(last)]
    torch.manual_seed(1)
    loss = sum((value * torch.randn(value.shape).double()).sum() for value in values)
    parameters = list(layer.parameters())
    gradients = torch.autograd.grad(loss, [*leaves, *parameters], materialize_grads=True)
    tables = [value for name, value in layer.state_dict().items() if ".running" in name]
    return [value.detach() for value in values] + tables, list(gradients)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("name", "cell"), DISTINCT)
@needs_jagged
def test_they_equal_the_padded_batch(name: str, cell: str, training: bool) -> None:
    layer = build(cell, scheme_of(name, cell), num_layers=2, bidirectional=True)
    randomise(layer)
    layer.train(training)
    x = torch.randn(6, 5, I).double().requires_grad_()
    hx = [part.requires_grad_() for part in draw(cell, 4, 5, H)]

    def padded(one: Any) -> Any:
        output, last = one(x, as_hx(hx), LENGTHS)
        return flat(output), last

    def after_another(one: Any) -> Any:
        return one(flat(x), as_hx(hx), cu_seqlens=BOUNDS)

    def nested(one: Any) -> Any:
        given = torch.nested.nested_tensor_from_jagged(flat(x), torch.tensor(BOUNDS))
        output, last = one(given, as_hx(hx))
        assert output.is_nested
        assert output.shape == (5, given.shape[1], 2 * H)
        return output.values(), last

    values, gradients = outcome(layer, padded, [x, *hx])
    for call in (after_another, nested):
        found, slopes = outcome(layer, call, [x, *hx])
        for one, two in zip(found, values):
            assert_close(one, two, VALUES)
        for one, two in zip(slopes, gradients):
            assert_close(one, two, GRADIENTS)


@needs_jagged
def test_a_nested_tensor_with_rows_between() -> None:
    """A narrowed nested tensor has rows that belong to no sequence, and they are not read."""
    layer = build("LSTM", scheme_of("layer", "LSTM"))
    x = torch.randn(5, 6, I).double()
    x[0, 3:] = x[1, 2:] = x[2, 5:] = float("nan")
    starts, lengths = torch.tensor([0, 0, 0, 0, 0]), torch.tensor([3, 2, 5, 6, 6])
    given = torch.nested.narrow(x, 1, starts, lengths, layout=torch.jagged)
    output, (h, _) = layer(given)
    right, (last, _) = layer(x.transpose(0, 1), lengths=lengths)
    assert_close(h, last, VALUES)
    for b, n in enumerate(lengths.tolist()):
        assert_close(output.values().unflatten(0, (5, 6))[b, :n], right[:n, b], VALUES)


@needs_jagged
def test_gradients_reach_the_sequences_of_a_nested_tensor() -> None:
    layer = build("GRU", scheme_of("layer", "GRU"))
    parts = [torch.randn(n, I).double().requires_grad_() for n in (2, 4)]
    given = torch.nested.as_nested_tensor(parts, layout=torch.jagged)
    output, _ = layer(given)
    (output.values() ** 2).sum().backward()
    for part in parts:
        alone = part.detach().clone().requires_grad_()
        (layer(alone)[0] ** 2).sum().backward()
        assert part.grad is not None
        assert alone.grad is not None
        assert_close(part.grad, alone.grad, GRADIENTS)


def test_no_rows() -> None:
    layer = build("LSTM", scheme_of("layer", "LSTM"))
    for bounds in ([0], [0, 0, 0]):
        output, (h, c) = layer(torch.zeros(0, I).double(), cu_seqlens=bounds)
        assert output.shape == (0, H)
        assert h.shape == c.shape == (1, len(bounds) - 1, H)


@pytest.mark.parametrize("norm", [None, "layer"])
def test_inference_equals_training_mode(norm: str | None) -> None:
    layer = build("LSTM", scheme_of(norm or "none", "LSTM"))
    x = torch.randn(17, I).double()
    right = layer(x, cu_seqlens=BOUNDS)
    with torch.no_grad():
        found = layer(x, cu_seqlens=torch.tensor(BOUNDS, dtype=torch.int32))
    for one, two in zip([found[0], *found[1]], [right[0], *right[1]]):
        assert_close(one, two.detach(), VALUES)


X = torch.zeros(17, I).double()
WRONG: dict[str, tuple[Any, dict[str, Any], type[Exception], str]] = {
    "a batch": (X[None], {"cu_seqlens": BOUNDS}, ValueError, r"the input is \(N, features\)"),
    "a list": (
        [1],
        {"cu_seqlens": BOUNDS},
        ValueError,
        r"the input is \(N, features\), .*, got list",
    ),
    "lengths": (X, {"cu_seqlens": BOUNDS, "lengths": LENGTHS}, ValueError, "leave lengths=None"),
    "fractions": (X, {"cu_seqlens": [0.0, 17.0]}, TypeError, "must be integers"),
    "lengths alone": (X, {"cu_seqlens": LENGTHS}, ValueError, "rise from 0 to the 17 rows"),
    "a row too many": (X, {"cu_seqlens": [0, 18]}, ValueError, "rise from 0 to the 17 rows"),
    "bounds that fall": (X, {"cu_seqlens": [0, 9, 3, 17]}, ValueError, "rise from 0"),
    "a matrix": (X, {"cu_seqlens": [[0, 17]]}, ValueError, r"shape \(B \+ 1,\)"),
    "a state": (
        X,
        {"cu_seqlens": BOUNDS, "hx": (torch.zeros(1, H).double(),) * 2},
        RuntimeError,
        "should also be 3-D",
    ),
    "resets of steps": (
        X,
        {"cu_seqlens": BOUNDS, "resets": torch.zeros(6, 5).bool()},
        ValueError,
        r"resets must have shape \(N,\) = \(17,\)",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arguments(case: str) -> None:
    x, options, error, text = WRONG[case]
    with pytest.raises(error, match=text):
        seqnorm.LSTM(I, H, dtype=torch.float64)(x, **options)


@needs_jagged
def test_wrong_nested_tensors() -> None:
    layer = seqnorm.LSTM(I, H)
    parts = [torch.zeros(2, I), torch.zeros(4, I)]
    given = torch.nested.nested_tensor(parts, layout=torch.jagged)
    with pytest.raises(ValueError, match="leave cu_seqlens=None"):
        layer(given, cu_seqlens=[0, 2, 6])
    with pytest.raises(ValueError, match="leave lengths=None"):
        layer(given, lengths=[2, 4])
    with pytest.raises(ValueError, match=r"a nested input is \(B, j, features\)"):
        layer(given.transpose(1, 2))
    with pytest.raises(RuntimeError, match="Expected 3, got 2"):
        layer(torch.nested.nested_tensor([p[:, :2] for p in parts], layout=torch.jagged))
    with pytest.warns(UserWarning, match="prototype"):
        strided = torch.nested.nested_tensor(parts)
    with pytest.raises(TypeError, match=r"layout=torch\.jagged"):
        layer(strided)


def test_resets_divide_documents() -> None:
    """A reset where a document begins changes nothing, and one inside it makes two of it."""
    layer = build("GRU", scheme_of("layer", "GRU"), bidirectional=True)
    x = torch.randn(17, I).double()
    resets = torch.zeros(17).bool()
    resets[[0, 3, 5, 9, 11]] = True
    found, _ = layer(x, cu_seqlens=BOUNDS, resets=resets)
    assert_equal(found, layer(x, cu_seqlens=[0, 3, 5, 9, 11, 17])[0])
