"""The program that compares a million steps counts them and stops at a difference."""

from __future__ import annotations

import re
from typing import Any

import million_steps
import pytest
import torch
from beside_reference import needs_kernels
from kernel_cases import Case
from million_steps import main, moved

from seqnorm.nn.backends.cpu import kernels
from seqnorm.nn.backends.cpu.call import BIASES

pytestmark = needs_kernels


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(million_steps, "WIDEST", 20)
    monkeypatch.setattr(million_steps, "LONGEST", 5)
    monkeypatch.setattr(million_steps, "EVERY", 0.0)


def words_of(line: str) -> list[str]:
    return line.replace(",", "").split()


def test_equal_calls(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--steps", "150"]) == 0
    *progress, last = capsys.readouterr().out.splitlines()
    assert last.startswith("seeds 0 to ")
    words = words_of(last)
    seeds, steps, calls = int(words[3]) + 1, int(words[6]), int(words[8])
    assert len(progress) == seeds
    assert calls == seeds * million_steps.CALLS_OF_A_SEED
    assert 150 <= steps <= 4 * 5 * calls


def test_a_difference(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The gradient of a bias differs by a millionth, at the greatest length."""
    real = kernels.compute_gradients

    def wrong(passes: Any) -> Any:
        every = real(passes)
        for one, found in zip(passes, every):
            if one.arguments.T == 5 and found[BIASES + 1] is not None:
                found[BIASES + 1].mul_(1.0 + 1e-6)
        return every

    monkeypatch.setattr(kernels, "compute_gradients", wrong)
    assert main(["--end", "50"]) == 1
    failed, repeat = capsys.readouterr().out.splitlines()[-2:]
    assert re.match(r"gradient of \w*bias|gradient of norm_\w+\.bias", failed)
    assert main(repeat.split()[3:]) == 1
    assert capsys.readouterr().out.splitlines()[-2:] == [failed, repeat]


def test_magnified_rounding(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A change of the definition by last bits is not a mismatch, whatever the tolerance."""
    monkeypatch.setattr(million_steps, "VALUES", 1e-17)
    monkeypatch.setattr(million_steps, "GRADIENTS", 1e-17)
    assert main(["--steps", "100"]) == 0
    counted = words_of(capsys.readouterr().out.splitlines()[-1])
    assert int(counted[counted.index("magnify") - 2]) > 10
    monkeypatch.setattr(million_steps, "MAGNIFIED", 1e-3)
    assert main(["--steps", "100"]) == 1


def test_an_error(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def failing(*_: Any) -> None:
        raise RuntimeError("no kernel today")

    monkeypatch.setattr(kernels, "compute", failing)
    assert main([]) == 1
    assert "RuntimeError: no kernel today" in capsys.readouterr().out


def test_the_last_bit_is_moved() -> None:
    options = {"num_layers": 1, "bidirectional": False, "bias": True}
    case = Case("layer", "LSTM", "layer", (3, 4), options, [2, 1], 1, "base", True, 0)
    layer, call = case.draw()
    other, there = moved(layer, call)
    pairs = [*zip(layer.parameters(), other.parameters()), (call.input, there.input)]
    for before, after in pairs:
        assert not torch.equal(before, after)
        torch.testing.assert_close(before, after, rtol=2.0**-51, atol=0.0)
