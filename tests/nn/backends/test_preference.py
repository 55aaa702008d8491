"""The preferred backend, by a variable of the environment, and the available backends.

Axes: T steps, B sequences, I = input size, H = hidden size.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from hidden_states import of_layer

import seqnorm
from seqnorm import Norm, NormScheme
from seqnorm.nn.backends import BACKENDS, aten, explain
from seqnorm.nn.recurrence.packing import Packing

I, H, T, B = 3, 8, 4, 4  # noqa: E741  the axes' letters


def spied(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record the names of the backends that compute, in order."""
    calls: list[str] = []

    def spy(name: str, run: Any) -> Any:
        return lambda *args: (calls.append(name), run(*args))[1]

    for name, module in BACKENDS.items():
        own = "run_layer" if hasattr(module, "run_layer") else "run"
        monkeypatch.setattr(module, own, spy(name, getattr(module, own)))
    return calls


@pytest.mark.parametrize("name", BACKENDS)
def test_a_preferred_backend(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried first, and the others compute what it refuses, in their order."""
    layers = [
        seqnorm.LSTM(I, H),
        seqnorm.GRU(I, H, norm="layer"),
        seqnorm.SLSTM(I, 2 * H),
        seqnorm.GRU(I, H, norm=NormScheme(hidden=Norm("layer", eps_on="std"))),
    ]
    packing = Packing.of_equal_lengths(B, T, torch.device("cpu"))
    rows = torch.randn(B * T, I)
    reasons = [
        explain(layer.directions()[0], rows, packing, of_layer(layer, B)) for layer in layers
    ]
    expected = [
        next(n for n in (name, *BACKENDS) if reasons_of[n] is None) for reasons_of in reasons
    ]
    assert expected[0] == (name if reasons[0][name] is None else "aten")
    assert expected[-1] == "reference"
    calls = spied(monkeypatch)
    monkeypatch.setenv("SEQNORM_BACKEND", name)
    x = torch.randn(T, B, I)
    for layer in layers:
        layer(x)
    assert calls == expected
    with seqnorm.use_backend("reference"):
        layers[0](x)
    assert calls[-1] == "reference", "pinned is more than preferred"
    monkeypatch.setenv("SEQNORM_BACKEND", "")
    layers[0](x)
    assert calls[-1] == "aten", "empty is not set"


@pytest.mark.parametrize(
    ("name", "hint"),
    [("refrence", " (did you mean 'reference'?)"), ("CPU", ""), ("cuda", ""), (" ", "")],
)
def test_a_preferred_backend_that_there_is_not(
    name: str, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every call raises an error, and the preference is not ignored."""
    layer, x = seqnorm.LSTM(I, H), torch.randn(T, B, I)
    monkeypatch.setenv("SEQNORM_BACKEND", name)
    known = ", ".join(repr(known) for known in BACKENDS)
    for _ in range(2):
        with pytest.raises(ValueError, match="SEQNORM_BACKEND must be one of") as caught:
            layer(x)
        assert str(caught.value) == (f"SEQNORM_BACKEND must be one of {known}, got {name!r}{hint}")
    with seqnorm.use_backend("reference"):
        layer(x)


def test_the_variable_of_a_whole_program() -> None:
    code = (
        "import torch, seqnorm\n"
        "from seqnorm.nn.backends import reference\n"
        "run, calls = reference.run, []\n"
        "reference.run = lambda *args: (calls.append(1), run(*args))[1]\n"
        "seqnorm.LSTM(3, 8, 2)(torch.randn(4, 2, 3))\n"
        "assert len(calls) == 2, calls\n"
    )
    environment = {**os.environ, "SEQNORM_BACKEND": "reference"}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


def test_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    found = seqnorm.available_backends()
    assert list(found) == list(BACKENDS)
    assert found["aten"] == "active: torch's own kernels, for cells without a norm"
    assert found["reference"] == "active: plain PyTorch, for every call"
    for text in found.values():
        assert text.startswith(("active: ", "absent: "))
        assert len(text) > 12
    monkeypatch.setattr(aten, "status", lambda: (False, "no torch"))
    assert seqnorm.available_backends()["aten"] == "absent: no torch"
