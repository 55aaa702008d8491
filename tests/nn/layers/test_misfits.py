"""Tensors that do not fit a layer cause an error, and never an access outside of their memory.

Axes: T steps, B sequences, N packed rows, I = input size, H = hidden size.
"""

from __future__ import annotations

import re
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from beside_reference import needs_kernels
from tolerances import SINGLE, assert_close
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

import seqnorm
from seqnorm.nn.layers.cells import LAYERS

I, H, T, B = 3, 4, 5, 2  # noqa: E741  the axes' letters
CELLS = ["LSTM", "GRU"]
NORMS = [None, "layer", "batch"]


@pytest.mark.parametrize(
    ("rows", "sizes"),
    [(3, [5, 5]), (6, [1, 2, 3]), (3, [5, -2]), (3, [3, 0]), (4, [2, 1]), (2, []), (0, [1])],
)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("cell", LAYERS)
def test_batch_sizes_that_do_not_fit(cell: str, norm: Any, rows: int, sizes: list[int]) -> None:
    options = {"num_heads": 2} if cell == "SLSTM" else {}
    packed = PackedSequence(torch.randn(rows, I), torch.tensor(sizes, dtype=torch.int64))
    with pytest.raises(ValueError, match=f"add up to the {rows} rows.*{re.escape(str(sizes))}"):
        LAYERS[cell](I, H, norm=norm, **options)(packed)


@pytest.mark.parametrize("order", [[0], [0, 1, 2]])
def test_an_order_of_other_sequences(order: list[int]) -> None:
    index = torch.tensor(order)
    packed = PackedSequence(torch.randn(3, I), torch.tensor([2, 1]), index, index)
    with pytest.raises(ValueError, match=f"each of its 2 sequences, got {len(order)} indices"):
        seqnorm.LSTM(I, H, norm="layer")(packed)


def test_a_packed_sequence_without_rows() -> None:
    packed = PackedSequence(torch.randn(0, I), torch.tensor([], dtype=torch.int64))
    output, (h, _) = seqnorm.LSTM(I, H, norm="layer")(packed)
    assert output.data.shape == (0, H)
    assert h.shape == (1, 0, H)


WRONG = {
    "weight_hh_l0": (2, 2),
    "weight_ih_l0": (16, 1),
    "bias_ih_l0": (1,),
    "norm_ih_l0.weight": (1,),
    "norm_hh_l0.weight": (H,),
    "norm_hh_l0.table.running_mean": (512, 3),
}


def put(module: nn.Module, path: str, value: Tensor) -> None:
    """Replace a tensor of a layer, as code for pruning or sharding does."""
    *parents, name = path.split(".")
    owner = module.get_submodule(".".join(parents))
    if name in owner._parameters:
        owner._parameters[name].data = value  # type: ignore[union-attr]
    else:
        setattr(owner, name, value)


@needs_kernels
@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("cell", CELLS)
def test_parameters_of_another_shape(cell: str, norm: Any, name: str) -> None:
    """The kernels get addresses only, and would read past the end."""
    for training in (True, False):
        layer = LAYERS[cell](I, H, norm=norm).train(training)
        if name not in layer.state_dict():
            pytest.skip("the layer has no such tensor")
        if training and "table" in name:
            continue  # if it is not read
        put(layer, name, torch.zeros(WRONG[name]))
        with (
            seqnorm.use_backend("cpu"),
            pytest.raises(RuntimeError, match=r"must be|to be equal size"),
        ):
            layer(torch.randn(T, B, I))


@needs_kernels
@pytest.mark.parametrize("cell", CELLS)
def test_parameters_that_change_before_the_backward_pass(cell: str) -> None:
    layer = LAYERS[cell](I, H, norm="layer")
    output, _ = layer(torch.randn(T, B, I))
    layer.weight_hh_l0.data = torch.zeros(2, 2)
    with pytest.raises(RuntimeError, match=r"weight_hh must be \(\d+, 4\), got \(2, 2\)"):
        output.sum().backward()


def test_a_layer_that_is_told_another_size() -> None:
    layer = seqnorm.LSTM(I, H, norm="layer")
    with pytest.raises(AttributeError, match=r"LSTM: hidden_size cannot be changed"):
        layer.hidden_size = 400
    x = torch.randn(T, B, I)
    right, _ = layer(x)
    layer.__dict__["hidden_size"] = 400  # the sizes of its parameters count
    assert_close(layer(x)[0], right, SINGLE)
    with torch.no_grad():
        assert_close(layer(x)[0], right.detach(), SINGLE)


@pytest.mark.parametrize("saving", [False, True])
@pytest.mark.parametrize("norm", NORMS)
def test_a_storage_that_was_freed(norm: Any, saving: bool) -> None:
    """A sharded model frees a parameter that is kept elsewhere; hooks see it as well."""
    layer = seqnorm.LSTM(I, H, norm=norm)
    layer.weight_hh_l0.untyped_storage().resize_(0)
    hooks = torch.autograd.graph.save_on_cpu() if saving else nullcontext()
    with hooks, pytest.raises(RuntimeError, match=r"storage|memory"):
        layer(torch.randn(T, B, I))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("saving", [False, True])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "IndRNN"])
def test_any_parameter_that_was_freed(
    kind: str, norm: Any, saving: bool, dtype: torch.dtype
) -> None:
    """torch itself would read the freed memory in a sum of two tensors."""
    x = torch.randn(T, B, I, dtype=dtype)
    for name, _ in getattr(seqnorm, kind)(I, H, norm=norm).named_parameters():
        layer = getattr(seqnorm, kind)(I, H, norm=norm, dtype=dtype)
        layer.get_parameter(name).untyped_storage().resize_(0)
        hooks = torch.autograd.graph.save_on_cpu() if saving else nullcontext()
        with hooks, pytest.raises(RuntimeError, match="storage was freed"):
            layer(x)


@pytest.mark.parametrize("lengths", [None, [2, T]])
def test_states_that_were_freed(lengths: list[int] | None) -> None:
    layer, h = seqnorm.LSTM(I, H, norm="layer"), torch.zeros(1, 2, H)
    h.untyped_storage().resize_(0)
    with pytest.raises(RuntimeError, match="storage"):
        layer(torch.randn(T, 2, I), (h, h), lengths=lengths)


@pytest.mark.parametrize("norm", NORMS)
def test_a_tensor_of_symbolic_zeros(norm: Any) -> None:
    layer = seqnorm.LSTM(I, H, norm=norm).eval()
    found, _ = layer(torch._efficientzerotensor(T, B, I))
    assert_close(found, layer(torch.zeros(T, B, I))[0], SINGLE)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("layout", [torch.sparse_coo, torch._mkldnn])
def test_layouts_that_are_not_dense(norm: Any, layout: torch.layout) -> None:
    x = torch.randn(T, B, I)
    x = x.to_mkldnn() if layout == torch._mkldnn else x.to_sparse()
    with pytest.raises(TypeError, match=f"LSTM takes dense input.*{re.escape(str(layout))}"):
        seqnorm.LSTM(I, H, norm=norm)(x)


@pytest.mark.parametrize("norm", NORMS)
def test_a_sparse_weight(norm: Any) -> None:
    """The definition computes it, because torch's functions multiply sparse tensors."""
    layer = seqnorm.LSTM(I, H, norm=norm).eval()
    x = torch.randn(T, B, I)
    expected, _ = layer(x)
    layer.weight_hh_l0 = nn.Parameter(layer.weight_hh_l0.detach().to_sparse())
    assert_close(layer(x)[0].detach(), expected.detach(), SINGLE)
