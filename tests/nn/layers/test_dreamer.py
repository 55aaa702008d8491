"""DreamerV3's recurrence against its equations in float64, in plain loops.

Axes: T steps, B sequences, I = input size, E = embedding size, H = hidden size, P = H / heads.
"""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from tolerances import GRADIENTS, REORDERED, VALUES, assert_close, assert_equal
from torch import Tensor
from torch.nn import functional as F
from torch_versions import needs_compiler

import seqnorm
from seqnorm.nn.recurrence.blocks import block_linear

T, B, I, E, H = 5, 3, 4, 3, 6  # noqa: E741  the axes' letters
F64 = torch.float64
Weights = dict[str, Tensor]


def build(heads: int = 2, **options: Any) -> seqnorm.DreamerGRUCell:
    """Return a cell with every parameter moved from its initial value."""
    options = {"heads": heads, "embedding_size": E, "dtype": F64, **options}
    cell = seqnorm.DreamerGRUCell(I, H, **options)
    with torch.no_grad():
        for name, parameter in cell.named_parameters():
            if name.startswith("gain"):
                parameter.uniform_(0.5, 1.5)
            else:
                parameter.normal_(0.0, 0.6)
    return cell


def silu_of_rms(row: Tensor, gain: Tensor) -> Tensor:
    """Hafner et al. 2023: RMSNorm with eps 1e-4, then SiLU."""
    square = sum(number * number for number in row) / len(row)
    found = [g * number / (square + 1e-4) ** 0.5 for g, number in zip(gain, row)]
    return torch.stack([y * torch.sigmoid(y) for y in found])


def in_blocks(weight: Tensor, h: Tensor, heads: int) -> Tensor:
    """Row r of a gate reads the units of h of its own block."""
    size = len(h) // heads
    numbers = []
    for r, row in enumerate(weight):
        block = (r % len(h)) // size
        numbers.append(sum(row[j] * h[block * size + j] for j in range(size)))
    return torch.stack(numbers)


def one_step(p: Weights, x: Tensor, h: Tensor, heads: int) -> Tensor:
    """Compute the new state of one sequence."""
    nothing = torch.zeros((), dtype=F64)
    e = silu_of_rms(p["weight_eh"] @ h + p.get("bias_e", nothing), p["gain_e"])
    v = p["weight_ih"] @ torch.cat([e, x]) + in_blocks(p["weight_hh"], h, heads)
    v = silu_of_rms(v + p.get("bias_h", nothing), p["gain_h"])
    gates = in_blocks(p["weight_gates"], v, heads) + p.get("bias_gates", nothing)
    new = []
    for j in range(H):
        reset, update = torch.sigmoid(gates[j]), torch.sigmoid(gates[2 * H + j] - 1)
        candidate = torch.tanh(reset * gates[H + j])
        new.append(update * candidate + (1 - update) * h[j])
    return torch.stack(new)


def by_equations(p: Weights, x: Tensor, h: Tensor, begins: list[list[bool]], heads: int) -> Tensor:
    """Return the states (T, B, H) of every step; ``begins`` is true where an episode begins."""
    states = []
    before = list(h)
    for t in range(len(x)):
        for b in range(x.shape[1]):
            old = torch.zeros_like(before[b]) if begins[t][b] else before[b]
            before[b] = one_step(p, x[t, b], old, heads)
        states.append(torch.stack(before))
    return torch.stack(states)


def by_cell(cell: Any, x: Tensor, h: Tensor, begins: list[list[bool]] | None) -> Tensor:
    states = []
    for t in range(len(x)):
        resets = {} if begins is None else {"resets": torch.tensor(begins[t])}
        h = cell(x[t], h, **resets)
        states.append(h)
    return torch.stack(states)


NEVER = [[False] * B] * T
SOMETIMES = [[True, False, False], [False, False, True], [False] * B, [True, True, True]]
SOMETIMES += [[False, True, False]]


@pytest.mark.parametrize("options", [{}, {"bias": False}], ids=["biases", "no biases"])
@pytest.mark.parametrize("heads", [1, 2, 3, 6])
@pytest.mark.parametrize("begins", [NEVER, SOMETIMES], ids=["whole", "resets"])
def test_against_the_equations(
    begins: list[list[bool]], heads: int, options: dict[str, Any]
) -> None:
    """States and the gradients of inputs, parameters and the initial state."""
    cell = build(heads, **options)
    parameters = dict(cell.named_parameters())
    assert len(parameters) == (9 if not options else 6)
    x, h = torch.randn(T, B, I, dtype=F64), torch.randn(B, H, dtype=F64)
    cotangent = torch.randn(T, B, H, dtype=F64)
    leaves = {"input": x.requires_grad_(), "h": h.requires_grad_(), **parameters}
    results = []
    copies = {name: p.detach().clone().requires_grad_() for name, p in parameters.items()}
    for found, of in (
        (by_cell(cell, x, h, None if begins is NEVER else begins), leaves),
        (by_equations(copies, x, h, begins, heads), {**leaves, **copies}),
    ):
        grads = torch.autograd.grad((found * cotangent).sum(), list(of.values()))
        results.append([found, *grads])
    assert_close(results[0][0], results[1][0], VALUES)
    for name, mine, theirs in zip(leaves, results[0][1:], results[1][1:]):
        assert_close(mine, theirs, GRADIENTS, name)


@pytest.mark.parametrize("heads", [1, 2, 3])
def test_the_form_of_the_published_code(heads: int) -> None:
    """Kernels (blocks, inputs, outputs); each block reads its units of h, and then e and x.

    The last kernel has the gates of a block side by side: reset, candidate, update.
    """
    cell, P = build(heads), H // heads
    kernel = torch.randn(heads, P + E + I, P, dtype=F64)
    gates, bias = torch.randn(heads, P, 3 * P, dtype=F64), torch.randn(heads, 3 * P, dtype=F64)
    with torch.no_grad():
        cell.weight_hh.copy_(torch.cat([one[:P].T for one in kernel]))
        cell.weight_ih.copy_(torch.cat([one[P:].T for one in kernel]))
        by_gate = gates.mT.unflatten(1, (3, P)).transpose(0, 1)
        cell.weight_gates.copy_(by_gate.flatten(0, 2))
        assert cell.bias_gates is not None
        cell.bias_gates.copy_(bias.unflatten(1, (3, P)).transpose(0, 1).flatten())
    p = copy.deepcopy(cell.state_dict())
    x, h = torch.randn(B, I, dtype=F64), torch.randn(B, H, dtype=F64)
    new = []
    for b in range(B):
        e = silu_of_rms(p["weight_eh"] @ h[b] + p["bias_e"], p["gain_e"])
        parts = h[b].split(P)
        v = torch.cat([torch.cat([k, e, x[b]]) @ one for k, one in zip(parts, kernel)])
        v = silu_of_rms(v + p["bias_h"], p["gain_h"])
        of_block = [k @ one + more for k, one, more in zip(v.split(P), gates, bias)]
        reset, candidate, update = (
            torch.cat([block.split(P)[j] for block in of_block]) for j in range(3)
        )
        update = torch.sigmoid(update - 1)
        candidate = torch.tanh(torch.sigmoid(reset) * candidate)
        new.append(update * candidate + (1 - update) * h[b])
    assert_close(cell(x, h), torch.stack(new), VALUES)


def test_blocks_are_apart_but_for_the_embedding(monkeypatch: pytest.MonkeyPatch) -> None:
    cell = build(3)
    with torch.no_grad():
        cell.weight_ih[:, :E].zero_()  # of e, which reads all of h
        cell.gain_h.fill_(1.0)
    x, h = torch.randn(1, I, dtype=F64), torch.randn(1, H, dtype=F64)
    h = h.requires_grad_()
    weight = block_linear(h, cell.weight_hh, None, 3)[0]
    for unit in range(H):
        (read,) = torch.autograd.grad(weight[unit], h, retain_graph=True)
        assert (read[0] != 0).tolist() == [k // 2 == unit // 2 for k in range(H)]
    # The norm of all units is the only other way between the blocks of the whole cell.
    monkeypatch.setattr(cell, "_activated", lambda v, gain: F.silu(v * gain))
    new = cell(x, h)[0]
    for unit in range(H):
        (read,) = torch.autograd.grad(new[unit], h, retain_graph=True)
        assert (read[0] != 0).tolist() == [k // 2 == unit // 2 for k in range(H)]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e6])
def test_nothing_of_the_last_episode_is_left(value: float) -> None:
    cell = build()
    x = torch.randn(B, I, dtype=F64)
    h = torch.randn(B, H, dtype=F64)
    h[1] = value
    begins = torch.tensor([False, True, False])
    found = cell(x, h.requires_grad_(), resets=begins)
    assert_equal(found[1], cell(x, None)[1])
    grads = torch.autograd.grad(found.square().sum(), [h, *cell.parameters()])
    assert all(bool(grad.isfinite().all()) for grad in grads)
    assert not grads[0][1].any()
    assert grads[0][0].all()


def test_one_sequence_without_a_batch() -> None:
    cell = build()
    x, h = torch.randn(B, I, dtype=F64), torch.randn(B, H, dtype=F64)
    expected = cell(x, h)
    assert_close(cell(x[0], h[0]), expected[0], REORDERED)
    assert_close(cell(x[0]), cell(x)[0], REORDERED)
    reset = cell(x[0], h[0], resets=torch.tensor(True))
    assert_close(reset, cell(x)[0], REORDERED)
    assert cell(x[:0], h[:0]).shape == (0, H)


def test_higher_derivatives() -> None:
    cell = build()
    x = torch.randn(2, I, dtype=F64, requires_grad=True)
    h = torch.randn(2, H, dtype=F64, requires_grad=True)
    assert torch.autograd.gradcheck(cell, (x, h))
    assert torch.autograd.gradgradcheck(cell, (x, h))


@needs_compiler
def test_one_graph() -> None:
    cell = build()
    compiled = torch.compile(cell, backend="aot_eager", fullgraph=True)
    x, h = torch.randn(B, I, dtype=F64), torch.randn(B, H, dtype=F64)
    resets = torch.tensor([True, False, False])
    torch._dynamo.reset()
    assert_close(compiled(x, h, resets=resets), cell(x, h, resets=resets), REORDERED)
    torch._dynamo.reset()


def test_autocast_leaves_the_state_as_it_is() -> None:
    cell = build().float()
    x, h = torch.randn(B, I), torch.randn(B, H)
    exact = cell(x, h)
    with torch.autocast("cpu", torch.bfloat16):
        found = cell(x, h)
        assert cell(x.bfloat16(), h).dtype == torch.float32
    assert found.dtype == torch.float32
    assert 0 < (found - exact).abs().max() < 0.1


def test_initial_values() -> None:
    cell = seqnorm.DreamerGRUCell(16, 64)
    assert (cell.heads, cell.embedding_size, cell.norm.eps) == (8, 8, 1e-4)
    shapes = {name: tuple(value.shape) for name, value in cell.named_parameters()}
    assert shapes == {
        "weight_eh": (8, 64),
        "weight_ih": (64, 24),
        "weight_hh": (64, 8),
        "weight_gates": (192, 8),
        "gain_e": (8,),
        "gain_h": (64,),
        "bias_e": (8,),
        "bias_h": (64,),
        "bias_gates": (192,),
    }
    rows = {"weight_eh": 64, "weight_ih": 32, "weight_hh": 32, "weight_gates": 8}
    for name, value in cell.named_parameters():
        if name.startswith("weight"):
            bound = rows[name] ** -0.5
            assert 0.9 * bound < value.abs().max() <= bound, name
        else:
            assert bool((value == float(name.startswith("gain"))).all()), name


def test_copies() -> None:
    cell = build(3, bias=False)
    x = torch.randn(B, I, dtype=F64)
    for other in (copy.deepcopy(cell), pickle.loads(pickle.dumps(cell)), build(3, bias=False)):
        other.load_state_dict(cell.state_dict())
        assert_equal(other(x), cell(x))
    assert repr(cell) == "DreamerGRUCell(4, 6, heads=3, embedding_size=3, bias=False)"


def call(*arguments: Any, **options: Any) -> Any:
    return lambda: build()(*arguments, **options)


X = torch.zeros(B, I, dtype=F64)
REFUSALS: dict[str, tuple[Any, type[Exception], str]] = {
    "heads": (lambda: seqnorm.DreamerGRUCell(4, 12), ValueError, "heads=8 must divide hidden_size"),
    "size": (lambda: seqnorm.DreamerGRUCell(0, 8), ValueError, "input_size must be greater than"),
    "embedding": (lambda: build(embedding_size=0), ValueError, "embedding_size must be greater"),
    "eps": (lambda: build(eps=0.0), ValueError, "eps must be > 0"),
    "no tensor": (call([[0.0] * I]), TypeError, "DreamerGRUCell.*got"),
    "width": (call(X[:, :2]), ValueError, r"input must be \(B, I\) or \(I,\) with I = 4"),
    "sequence": (call(X[None]), ValueError, r"got \(1, 3, 4\)"),
    "state": (call(X, torch.zeros(B, 2)), ValueError, r"hx must be \(3, 6\) for this input"),
    "states": (call(X, (X,)), TypeError, "hx must be one Tensor h.*give h alone"),
    "resets": (call(X, resets=torch.zeros(B)), TypeError, "resets must be boolean"),
    "length": (call(X, resets=torch.zeros(2).bool()), ValueError, r"resets must have shape \(B,\)"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refusal(name: str) -> None:
    call_it, error, says = REFUSALS[name]
    with pytest.raises(error, match=says):
        call_it()


def test_dtypes_are_not_converted_silently() -> None:
    cell = build()
    x, h = torch.randn(B, I, dtype=F64), torch.randn(B, H, dtype=F64)
    with pytest.raises(TypeError, match=r"input is torch.int64 and the weights are torch.float64"):
        cell(x.long(), h)
    with pytest.raises(TypeError, match=r"hx is torch.float32 and the weights are torch.float64"):
        cell(x, h.float())
