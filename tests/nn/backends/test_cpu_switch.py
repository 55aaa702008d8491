"""SEQNORM_KERNELS chooses the instruction set of the kernels for a whole program."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from beside_reference import needs_kernels

from seqnorm.nn.backends.cpu import library

# Print results of a layer, the variant that the library was given, and its description.
PROGRAM = """
import sys, warnings
import torch, seqnorm
from seqnorm.nn.backends.cpu import kernels
told = []
class Spy:
    def __getattr__(self, name):
        return lambda *given: (told.append(given[0]), getattr(real, name)(*given))
real, kernels.LIBRARY = kernels.LIBRARY, Spy()
torch.manual_seed(0)
layer = seqnorm.LSTM(3, 17, norm="layer", dtype=torch.float64)
x = torch.randn(5, 4, 3, dtype=torch.float64)
with seqnorm.use_backend("reference"):
    expected = layer(x)[0]
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    assert torch.allclose(layer(x)[0], expected, rtol=0.0, atol=1e-12)
warned = [str(warning.message) for warning in caught]
print(set(told), warned, seqnorm.available_backends()["cpu"], sep="\\n")
"""


def under(word: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "SEQNORM_KERNELS": word}
    command = [sys.executable, "-c", PROGRAM]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


@needs_kernels
@pytest.mark.parametrize("word", ["", *library.VARIANTS])
def test_the_kernels_that_are_asked_for(word: str) -> None:
    done = under(word)
    assert done.returncode == 0, done.stderr
    told, warned, status = done.stdout.splitlines()
    chosen = word or list(library.VARIANTS)[-1]
    assert told == str({library.VARIANTS[chosen]})
    assert warned == "[]"
    by = " (chosen by SEQNORM_KERNELS)" if word else ""
    assert status.startswith(f"active: {chosen}{by}, ")


def test_no_kernels() -> None:
    done = under("none")
    assert done.returncode == 0, done.stderr
    told, warned, status = done.stdout.splitlines()
    assert told == "set()"
    reason = "switched off by SEQNORM_KERNELS=none"
    assert status == f"absent: {reason}"
    slow = "normalised layers are slow here, because backend 'cpu' is absent"
    assert warned == str([f"{slow}: {reason}"])


def test_a_program_that_asks_for_others_does_not_start() -> None:
    done = under("AVX2")
    assert done.returncode != 0
    assert "ValueError: SEQNORM_KERNELS must be one of " in done.stderr
    assert "'none' here, got 'AVX2'" in done.stderr


@pytest.mark.parametrize("word", ["avx", "AVX2", "0", " ", "neon"])
def test_kernels_that_are_nowhere(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "ASKED", word)
    with pytest.raises(ValueError, match="SEQNORM_KERNELS must be one of ") as caught:
        library._chosen()
    there = ", ".join(f"{name!r}" for name in (*library.VARIANTS, "none"))
    assert f"must be one of {there} here, got {word!r}" in str(caught.value)


@pytest.mark.parametrize(
    ("variants", "why", "listed"),
    [
        ({"base": 0, "avx2": 1}, "", "'base', 'avx2', 'none' here, got 'avx512'$"),
        ({}, "its kernels were lost", "'none' here, got 'avx512': its kernels were lost$"),
    ],
    ids=["narrower", "no library"],
)
def test_kernels_that_are_on_other_machines(
    variants: dict[str, int], why: str, listed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"ASKED": "avx512", "VARIANTS": variants, "WHY_NOT": why}.items():
        monkeypatch.setattr(library, name, value)
    with pytest.raises(ValueError, match=f"SEQNORM_KERNELS must be one of {listed}"):
        library._chosen()
