"""Comparison of layers without a norm in half precision with torch's, in one process.

    ONEDNN_MAX_CPU_ISA=AVX2 python tests/support/half_precision.py

torch's LSTM supports half-precision dtypes depending on the processor, or on oneDNN's variable. The
program raises AssertionError if ours depends on it too, and prints, case by case, why torch's layer
is not used.

Axes: T steps, B sequences, I = input size, H = hidden size.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

import seqnorm
from seqnorm.nn.backends import explain
from seqnorm.nn.backends.cpu.traced import COMPILES
from seqnorm.nn.recurrence.packing import Packing

I, H, T, B = 4, 8, 6, 5  # noqa: E741  the axes' letters
BF16, F16, F32, F64 = torch.bfloat16, torch.float16, torch.float32, torch.float64
KINDS: dict[str, dict[str, Any]] = {
    "LSTM": {},
    "LSTM, projected": {"proj_size": 3},
    "GRU": {},
    "RNN": {},
}
# An output has a few dozen rounding errors.
FURTHEST = {BF16: 0.1, F16: 0.015, F32: 1e-5, F64: 1e-12}


def cases() -> Iterator[tuple[str, torch.dtype, torch.dtype | None, bool, bool, bool]]:
    """Yield kind, dtype of weights and input, dtype of autocast, gradients, training, oneDNN."""
    for kind, dtype, cast in itertools.product(KINDS, (F32, BF16, F16, F64), (None, BF16, F16)):
        for recording, training, onednn in itertools.product((True, False), repeat=3):
            if kind == "LSTM" or recording == training == onednn:  # the others do not use oneDNN
                yield kind, dtype, cast, recording, training, onednn


def call(layer: Any, x: Tensor, cast: torch.dtype | None, recording: bool = True) -> list[Tensor]:
    """Return output and final states, after a backward pass if gradients are needed."""
    with torch.set_grad_enabled(recording), torch.autocast("cpu", cast, cast is not None):
        output, last = layer(x)
    if recording:
        output.float().sum().backward()
        assert all(bool(p.grad.isfinite().all()) for p in layer.parameters())
    return [output, *(last if isinstance(last, tuple) else (last,))]


def fails(layer: nn.Module, x: Tensor, *options: Any) -> bool:
    try:
        call(layer, x, *options)
    except RuntimeError:
        return True
    return False


def refusal(layer: Any, x: Tensor, cast: torch.dtype | None, recording: bool) -> str | None:
    packing = Packing.of_equal_lengths(B, T, x.device)
    dtype = cast if cast is not None and x.dtype != F64 else x.dtype
    state = (x.new_zeros(B, H, dtype=dtype),) * (2 if isinstance(layer, seqnorm.LSTM) else 1)
    with torch.set_grad_enabled(recording), torch.autocast("cpu", cast, cast is not None):
        return explain(layer.directions()[0], x.flatten(0, 1), packing, state)["aten"]


def check(
    kind: str,
    dtype: torch.dtype,
    cast: torch.dtype | None,
    recording: bool,
    training: bool,
    onednn: bool,
) -> str | None:
    """Check that ours does not depend on the machine, and that torch is used where possible."""
    torch.manual_seed(0)
    name, options = kind.split(",")[0], KINDS[kind]
    layer = getattr(seqnorm, name)(I, H, dtype=dtype, **options).train(training)
    theirs = getattr(nn, name)(I, H, dtype=dtype, **options).train(training)
    theirs.load_state_dict(layer.state_dict())
    x = torch.randn(T, B, I, dtype=dtype)
    with torch.backends.mkldnn.flags(enabled=onednn):
        found = call(layer, x, cast, recording)
        reason = refusal(layer, x, cast, recording)
        assert (reason is not None) == fails(theirs, x, cast, recording), reason
    half = dtype if cast is None or dtype == F64 else cast
    assert [part.dtype for part in found] == [half] * len(found)
    exact = getattr(seqnorm, name)(I, H, dtype=F64, **options)
    exact.load_state_dict(layer.state_dict())
    for part, value in zip(found, call(exact, x.double(), None, recording=False)):
        assert float((part.detach().double() - value).abs().max()) < FURTHEST[half]
    return reason


class Cast(nn.Module):
    """An LSTM within autocast, to be compiled."""

    def __init__(self, cast: torch.dtype) -> None:
        super().__init__()
        self.layer = seqnorm.LSTM(I, H, num_layers=2)
        self.cast = cast

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", self.cast):
            return self.layer(x)[0]


def check_graphs(cast: torch.dtype) -> None:
    """Check that a program exported without oneDNN runs with oneDNN."""
    module, x = Cast(cast).eval(), torch.randn(T, B, I)
    with torch.no_grad():
        expected = module(x)
        for made in (
            torch.export.export(module, (x,)).module(),
            torch.compile(module, backend="eager"),
        ):
            found = made(x)
            assert found.dtype == cast
            assert float((found - expected).abs().max()) < FURTHEST[cast]


def main() -> None:
    torch.set_num_threads(1)
    reasons = {str(case): check(*case) for case in cases()}
    print(json.dumps({case: reason for case, reason in reasons.items() if reason is not None}))
    for cast in (BF16, F16) if COMPILES else ():  # torch 2.3 cannot trace autocast
        check_graphs(cast)


if __name__ == "__main__":
    main()
