"""Arguments of calls with resets: wrong ones are refused as without resets.

Axes: T steps, B sequences, I = input size, H = hidden size.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence

import seqnorm

T, B, I, H = 7, 5, 3, 4  # noqa: E741 (the axes' letters)
X = torch.zeros(T, B, I)
HX = (torch.zeros(1, B, H), torch.zeros(1, B, H))
NO = torch.zeros(T, B, dtype=torch.bool)
WRONG: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "a list": ({"resets": [[True]]}, TypeError, "torch.as_tensor"),
    "numbers": ({"resets": NO.float()}, TypeError, r"write resets.bool\(\)"),
    "turned": ({"resets": NO.T}, ValueError, "write resets.T"),
    "one channel": ({"resets": NO[..., None]}, ValueError, r"write resets.squeeze\(-1\)"),
    "another shape": ({"resets": NO[1:]}, ValueError, r"\(T, B\) = \(7, 5\)"),
    "an unknown step": ({"resets": NO, "hx": HX}, ValueError, r"first_step=\(B,\)"),
    "an unknown step of both directions": (
        {"resets": NO, "hx": tuple(torch.cat([part] * 2) for part in HX), "bidirectional": True},
        ValueError,
        "leave hx=None, or first_step=torch.zeros",
    ),
    "packed for padded": (
        {"resets": pack_padded_sequence(NO[..., None], [T] * B)._replace(data=NO.reshape(-1))},
        ValueError,
        "in the form of the input",
    ),
    "words": ({"first_step": ["a"] * B}, TypeError, "must hold integers"),
    "fractions": ({"first_step": torch.zeros(B)}, TypeError, "must hold integers"),
    "too many numbers": ({"first_step": torch.zeros(B + 1).long()}, ValueError, r"shape \(5,\)"),
    "a step before the first": ({"first_step": torch.arange(B) - 1}, ValueError, "at least 0"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arguments(case: str) -> None:
    options, error, text = WRONG[case]
    both = options.get("bidirectional", False)
    layer = seqnorm.LSTM(I, H, norm="batch", bidirectional=both)
    with pytest.raises(error, match=text):
        layer(X, **{name: value for name, value in options.items() if name != "bidirectional"})


def test_wrong_arguments_of_cells() -> None:
    cell = seqnorm.LSTMCell(I, H, norm="batch")
    with pytest.raises(ValueError, match=r"resets must have shape \(B,\) = \(5,\)"):
        cell(X[0], resets=NO)
    with pytest.raises(ValueError, match="say which one this is"):
        cell(X[0], resets=NO[0])
    pooled = seqnorm.LSTM(I, H, norm="cooijmans2016_sequencewise")
    with pytest.raises(ValueError, match="pooled over time"):
        pooled(X, HX, resets=NO, first_step=torch.arange(B))
    with pytest.raises(ValueError, match="reads from both ends"):
        seqnorm.LSTM(I, H, bidirectional=True)(X, first_step=torch.arange(B))


BAD_STATES: dict[str, Any] = {
    "three parts": (torch.zeros(1, B, H),) * 3,
    "one sequence": (torch.zeros(1, 1, H),) * 2,
    "one unit": (torch.zeros(1, B, 1),) * 2,
    "without layers": (torch.zeros(B, H),) * 2,
    "half precision": (torch.zeros(1, B, H, dtype=torch.float16),) * 2,
    "integers": (torch.zeros(1, B, H, dtype=torch.int32),) * 2,
}


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("case", BAD_STATES)
def test_resets_hide_no_wrong_state(case: str, grad: bool) -> None:
    layer, cell = seqnorm.LSTM(I, H, norm="layer"), seqnorm.LSTMCell(I, H, norm="layer")
    hx = BAD_STATES[case]
    with torch.set_grad_enabled(grad):
        with pytest.raises((ValueError, RuntimeError)):
            layer(X[:1], hx, resets=NO[:1])
        if case != "without layers":
            with pytest.raises((ValueError, RuntimeError)):
                cell(X[0], tuple(part[0] for part in hx), resets=NO[0])


@pytest.mark.parametrize("numbers", [1.5, True, [1, 2], torch.ones(B), torch.ones(B + 1).long()])
def test_resets_hide_no_wrong_number(numbers: Any) -> None:
    cell = seqnorm.LSTMCell(I, H, norm="batch").eval()
    with pytest.raises((TypeError, ValueError), match="first_step"):
        cell(X[0], (HX[0][0], HX[1][0]), numbers, resets=NO[0])
    assert cell(X[0], None, [1, 2, 3, 4, 0], resets=NO[0])[0].shape == (B, H)


def test_resets_of_another_device_are_not_ignored() -> None:
    layer = seqnorm.LSTM(I, H, norm="layer")
    hx = tuple(torch.randn(1, B, H) for _ in "hc")
    with torch.no_grad(), pytest.raises(NotImplementedError):
        layer(X[:1], hx, resets=torch.ones(1, B, dtype=torch.bool, device="meta"))


def test_numbers_of_steps() -> None:
    resets = torch.tensor([[0, 0, 1], [1, 0, 0], [0, 0, 1], [1, 0, 0]], dtype=torch.bool)
    found = seqnorm.steps_since_reset(resets, 5, [3, 4, 2])
    assert found.tolist() == [2, 9, 2]
    assert seqnorm.steps_since_reset(resets.T, batch_first=True).tolist() == [1, 4, 2]
    none = torch.zeros(0, 2, dtype=torch.bool)
    assert seqnorm.steps_since_reset(none, torch.tensor([3, 4])).tolist() == [3, 4]
