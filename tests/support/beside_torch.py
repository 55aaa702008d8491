"""Comparison of a module with torch's: the same weights, the same call, and all results.

Axes: T steps, B sequences, I = input size, H = hidden size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from tolerances import GRADIENTS, VALUES, assert_close
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

import seqnorm
import seqnorm.nn.layers.cells

I, H, T, B = 3, 5, 4, 3  # noqa: E741  the axes' letters
F64 = torch.float64
# torch's class and ours, for every layer of torch.
LAYERS = {
    name: (getattr(nn, name), ours)
    for name, ours in seqnorm.nn.layers.cells.LAYERS.items()
    if hasattr(nn, name)
}
CELLS = {
    f"{name}Cell": (getattr(nn, f"{name}Cell"), getattr(seqnorm, f"{name}Cell")) for name in LAYERS
}
Options = dict[str, Any]


def twins(kind: str, *args: Any, **options: Any) -> tuple[nn.Module, nn.Module]:
    """Return torch's module and ours with the same weights, loaded from torch's state dict."""
    theirs, ours = (LAYERS | CELLS)[kind]
    args = args or (I, H)
    reference = theirs(*args, dtype=F64, **options)
    module = ours(*args, dtype=F64, **options)
    module.load_state_dict(reference.state_dict())
    return reference, module


def tensors(result: Any) -> list[Tensor]:
    """Return all tensors of a nested result, and the data of packed sequences."""
    if isinstance(result, Tensor):
        return [result]
    if isinstance(result, PackedSequence):
        return [result.data]
    return [tensor for part in result for tensor in tensors(part)]


def fresh(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=F64, generator=generator).requires_grad_()


def states(kind: str, options: Options, batch: tuple[int, ...]) -> list[Tensor]:
    entries = options.get("num_layers", 1) * (2 if options.get("bidirectional") else 1)
    sizes = [options.get("proj_size") or H, H][: 2 if kind.startswith("LSTM") else 1]
    return [fresh(entries, *batch, size, seed=10 + n) for n, size in enumerate(sizes)]


def assert_same(
    reference: nn.Module,
    module: nn.Module,
    call: Callable[[nn.Module, Tensor, list[Tensor]], Any],
    input: Tensor,
    hx: list[Tensor],
) -> None:
    """Compare results, and all gradients under random cotangents."""
    found: list[tuple[list[Tensor], list[Tensor]]] = []
    for either in (reference, module):
        either.zero_grad()
        x = input.detach().clone().requires_grad_()
        initial = [part.detach().clone().requires_grad_() for part in hx]
        results = tensors(call(either, x, initial))
        torch.autograd.backward(
            results, [fresh(*r.shape, seed=20 + n).detach() for n, r in enumerate(results)]
        )
        grads = [x.grad, *(part.grad for part in initial), *(p.grad for p in either.parameters())]
        assert all(grad is not None for grad in grads)
        found.append((results, grads))
    (expected, expected_grads), (actual, actual_grads) = found
    assert len(actual) == len(expected)
    assert len(actual_grads) == len(expected_grads)
    for a, e in zip(actual, expected):
        assert_close(a, e, VALUES)
    for a, e in zip(actual_grads, expected_grads):
        assert_close(a, e, GRADIENTS)
