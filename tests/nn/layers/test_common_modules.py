"""PyTorch's own test cases for its recurrent layers and cells, run through seqnorm's."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from tolerances import GRADIENTS, VALUES, assert_close
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

import seqnorm

common = pytest.importorskip(
    "torch.testing._internal.common_modules",
    reason="PyTorch's own cases need torch.testing._internal and the package expecttest",
    exc_type=ImportError,
)

OURS = {
    nn.LSTM: seqnorm.LSTM,
    nn.GRU: seqnorm.GRU,
    nn.RNN: seqnorm.RNN,
    nn.LSTMCell: seqnorm.LSTMCell,
    nn.GRUCell: seqnorm.GRUCell,
    nn.RNNCell: seqnorm.RNNCell,
}
INFOS = [info for info in common.module_db if info.module_cls in OURS]
NAMES = [info.module_cls.__name__ for info in INFOS]
F64 = torch.float64


def leaves(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, PackedSequence):
        return [value.data]
    return [leaf for part in value for leaf in leaves(part)]


def results(module: nn.Module, case: Any) -> tuple[list[Tensor], list[Tensor]]:
    """Return the results of a call and the gradients of all its inputs."""
    inputs = leaves(list(case.forward_input.args))
    for tensor in inputs:
        tensor.grad = None
    module.zero_grad()
    found = leaves(module(*case.forward_input.args, **case.forward_input.kwargs))
    generator = torch.Generator().manual_seed(1)
    cotangents = [torch.randn(r.shape, dtype=F64, generator=generator) for r in found]
    torch.autograd.backward(found, cotangents)
    sources = [*inputs, *module.parameters()]
    return found, [source.grad.clone() for source in sources if source.grad is not None]


def test_every_module_has_cases() -> None:
    assert {info.module_cls for info in INFOS} == set(OURS)


@pytest.mark.parametrize("backend", [None, "reference"])
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("info", INFOS, ids=NAMES)
def test_inputs(info: Any, training: bool, backend: str | None) -> None:
    cases = info.module_inputs_func(
        info, "cpu", F64, requires_grad=True, training=training, with_packed_sequence=True
    )
    assert len(cases) >= 2
    drawn = {case.constructor_input.kwargs.get("nonlinearity", "tanh") for case in cases}
    assert not info.module_cls.__name__.startswith("RNN") or drawn >= {"tanh", "relu"}
    for case in cases:
        arguments = case.constructor_input
        reference = info.module_cls(*arguments.args, **arguments.kwargs, dtype=F64)
        module = OURS[info.module_cls](*arguments.args, **arguments.kwargs, dtype=F64)
        module.load_state_dict(reference.state_dict())
        reference.train(training)
        module.train(training)
        expected, expected_grads = results(reference, case)
        with seqnorm.use_backend(backend) if backend else nullcontext():
            found, grads = results(module, case)
        assert len(found) == len(expected)
        assert len(grads) == len(expected_grads) > len(list(module.parameters()))
        for a, e in zip(found, expected):
            assert_close(a, e, VALUES)
        for a, e in zip(grads, expected_grads):
            assert_close(a, e, GRADIENTS)
        packed = isinstance(case.forward_input.args[0], PackedSequence)
        if not packed:  # PyTorch's definition of unbatched input: a batch of one
            again = case.reference_fn(module, *case.forward_input.args)
            for a, e in zip(found, leaves(again)):
                assert_close(a, e, VALUES)


@pytest.mark.parametrize("info", INFOS, ids=NAMES)
def test_error_inputs(info: Any) -> None:
    cases = info.module_error_inputs_func(
        info, "cpu", torch.float32, requires_grad=False, training=True
    )
    assert len(cases) >= 2  # in torch 2.3; later ones have four
    for case in cases:
        arguments = case.module_error_input.constructor_input
        forward = case.module_error_input.forward_input
        cls = OURS[info.module_cls]
        matches = pytest.raises(case.error_type, match=case.error_regex)
        if case.error_on is common.ModuleErrorEnum.CONSTRUCTION_ERROR:
            with matches:
                cls(*arguments.args, **arguments.kwargs)
        else:
            module = cls(*arguments.args, **arguments.kwargs)
            with matches:
                module(*forward.args, **forward.kwargs)
