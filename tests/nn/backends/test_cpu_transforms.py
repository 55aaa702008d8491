"""Function transforms, forward mode and tensors without memory.

The kernels may leave these to the definition, whose results are expected.

Axes: T steps, B sequences, I = input size, H = hidden size.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.utils.checkpoint
from beside_reference import F64, build, needs_kernels
from hidden_states import as_hx, of_layer
from tolerances import GRADIENTS, assert_close
from torch import Tensor
from torch.nn.utils.rnn import pack_sequence
from torch_versions import needs_transforms

import seqnorm

pytestmark = needs_kernels
I, H, T, B = 3, 5, 4, 2  # noqa: E741  the axes' letters


def grad_of_parameters(layer: Any, x: Tensor) -> list[Tensor]:
    def loss(parameters: dict[str, Tensor]) -> Tensor:
        output, _ = torch.func.functional_call(layer, parameters, (x,))
        return output.square().sum()

    return list(torch.func.grad(loss)(dict(layer.named_parameters())).values())


def of_state(layer: Any, x: Tensor) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """Return a function of h_0, and an h_0; the input and all else are plain tensors.

    The input is packed, because padding or reshaping within a transform would wrap it.
    """
    h_0, *others = (part[None] + 0.5 for part in of_layer(layer, B))
    packed = pack_sequence([x[:, 0], x[: T - 1, 1]])

    def loss(h_0: Tensor) -> Tensor:
        return layer(packed, as_hx((h_0, *others)))[0].data.square().sum()

    return loss, h_0


def grad_of_state(layer: Any, x: Tensor) -> list[Tensor]:
    loss, h_0 = of_state(layer, x)
    return [torch.func.grad(loss)(h_0)]


def vmapped_over_state(layer: Any, x: Tensor) -> list[Tensor]:
    loss, h_0 = of_state(layer, x)
    return [torch.func.vmap(loss)(torch.stack([h_0, h_0.cos()]))]


def beside(layer: Any, x: Tensor) -> list[Tensor]:
    """Make the call within a transform of other tensors."""
    packed = pack_sequence([x[:, 0]])
    return [torch.func.vmap(lambda by: by * layer(packed)[0].data)(torch.arange(3.0, dtype=F64))]


def per_sample(layer: Any, x: Tensor) -> list[Tensor]:
    """Return the gradients of every example of a batch."""

    def loss(parameters: dict[str, Tensor], one: Tensor) -> Tensor:
        output, _ = torch.func.functional_call(layer, parameters, (one[:, None],))
        return output.square().sum()

    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 1))
    return list(each(dict(layer.named_parameters()), x).values())


def vmapped(layer: Any, x: Tensor) -> list[Tensor]:
    return [torch.func.vmap(lambda one: layer(one)[0])(torch.stack([x, 2 * x]))]


def jvp(layer: Any, x: Tensor) -> list[Tensor]:
    return list(torch.func.jvp(lambda x: layer(x)[0], (x,), (x.cos(),)))


def hessian(layer: Any, x: Tensor) -> list[Tensor]:
    found = torch.autograd.functional.hessian(lambda x: layer(x)[0].square().sum(), x)
    return [found]


def jacobian(layer: Any, x: Tensor) -> list[Tensor]:
    return [torch.func.jacrev(lambda x: layer(x)[0].sum(0))(x)]


def vectorised(layer: Any, x: Tensor) -> list[Tensor]:
    options = {"vectorize": True}
    return [torch.autograd.functional.jacobian(lambda x: layer(x)[0].sum(0), x, **options)]


def dual_numbers(layer: Any, x: Tensor) -> list[Tensor]:
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, x.cos())
        value, tangent = torch.autograd.forward_ad.unpack_dual(layer(dual)[0])
        return [value.detach().clone(), tangent.detach().clone()]


def checkpointed(layer: Any, x: Tensor) -> list[Tensor]:
    x = x.clone().requires_grad_()
    output = torch.utils.checkpoint.checkpoint(lambda x: layer(x)[0], x, use_reentrant=False)
    return list(torch.autograd.grad(output.square().sum(), [x, *layer.parameters()]))


# Forward mode compiles formulas of torch in a way that torch has deprecated.
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize(
    "ask",
    [
        grad_of_parameters,
        pytest.param(grad_of_state, marks=needs_transforms),
        vmapped_over_state,
        beside,
        per_sample,
        vmapped,
        jvp,
        hessian,
        jacobian,
        vectorised,
        dual_numbers,
        checkpointed,
    ],
)
@pytest.mark.parametrize("cell", ["LSTM", "GRU"])
def test_transforms(cell: str, ask: Callable[[Any, Tensor], list[Tensor]]) -> None:
    layer = build(cell, "layer", I, H)
    x = torch.randn(T, B, I, dtype=F64)
    with seqnorm.use_backend("reference"):
        expected = ask(layer, x)
    found = ask(layer, x)
    assert len(found) == len(expected)
    for a, e in zip(found, expected):
        assert_close(a.detach(), e.detach(), GRADIENTS)


WITHOUT_MEMORY = """
import torch, seqnorm
from torch._subclasses.fake_tensor import FakeTensorMode
with FakeTensorMode():
    layer = seqnorm.GRU(3, 8, norm="layer")
    output, _ = layer(torch.randn(4, 2, 3))
    output.sum().backward()
    assert output.shape == (4, 2, 8) and layer.weight_hh_l0.grad.shape == (24, 8)
"""


def test_tensors_without_memory() -> None:
    """The test runs in a process of its own, because a kernel would end the process."""
    process = subprocess.run([sys.executable, "-c", WITHOUT_MEMORY], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
