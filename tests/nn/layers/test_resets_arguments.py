"""Arguments of calls with resets: wrong ones are refused as without resets.

Axes: T steps, B sequences, I = input size, H = hidden size.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pack_sequence

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


LENGTHS = [4, 0, 7, 1]
needs_jagged = pytest.mark.skipif(
    not hasattr(torch.nested, "nested_tensor_from_jagged"), reason="needs torch 2.4"
)


def drawn(seed: int) -> tuple[list[Tensor], list[int], list[int]]:
    """Return resets of sequences of four lengths, numbers before them, and those after them."""
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.rand(length, generator=generator) < 0.3 for length in LENGTHS]
    before = torch.randint(0, 9, (len(LENGTHS),), generator=generator).tolist()
    after = []
    for flags, number in zip(rows, before):
        for begins in flags.tolist():
            number = 1 if begins else number + 1
        after.append(number)
    return rows, before, after


@pytest.mark.parametrize("seed", range(4))
def test_numbers_of_steps_in_each_form(seed: int) -> None:
    rows, before, after = drawn(seed)
    numbers = torch.tensor(before)
    padded = torch.ones(max(LENGTHS), len(LENGTHS), dtype=torch.bool)  # padding is not read
    for b, flags in enumerate(rows):
        padded[: len(flags), b] = flags
    count = seqnorm.steps_since_reset
    assert count(padded, numbers, LENGTHS).tolist() == after
    assert count(padded.T, numbers, LENGTHS, batch_first=True).tolist() == after
    bounds = [0, *torch.tensor(LENGTHS).cumsum(0).tolist()]
    assert count(torch.cat(rows), numbers, cu_seqlens=bounds).tolist() == after
    for flags, number, expected in zip(rows, before, after):
        for own in (number, torch.tensor(number)):
            found = count(flags, own)
            assert found.shape == ()
            assert found.tolist() == expected
    kept = [b for b, length in enumerate(LENGTHS) if length]  # torch packs no empty sequence
    packed = pack_sequence([rows[b] for b in kept], enforce_sorted=False)
    assert count(packed, numbers[kept]).tolist() == [after[b] for b in kept]
    ordered = sorted(kept, key=lambda b: -LENGTHS[b])
    packed = pack_sequence([rows[b] for b in ordered])
    assert count(packed, numbers[ordered]).tolist() == [after[b] for b in ordered]


@needs_jagged
def test_numbers_of_steps_of_nested_resets() -> None:
    rows, before, after = drawn(5)
    nested = torch.nested.nested_tensor_from_jagged(
        torch.cat(rows), torch.tensor([0, 4, 4, 11, 12])
    )
    assert seqnorm.steps_since_reset(nested, torch.tensor(before)).tolist() == after
    gaps = torch.ones(4, 8, dtype=torch.bool)
    for b, flags in enumerate(rows):
        gaps[b, 1 : 1 + len(flags)] = flags
    with_gaps = torch.nested.nested_tensor_from_jagged(
        gaps.flatten(), torch.arange(1, 34, 8), torch.tensor(LENGTHS)
    )
    assert seqnorm.steps_since_reset(with_gaps, torch.tensor(before)).tolist() == after
    channels = torch.nested.nested_tensor_from_jagged(
        torch.cat(rows)[:, None], torch.tensor([0, 4, 4, 11, 12])
    )
    with pytest.raises(ValueError, match=r"layout jagged, got 3 axes and torch\.jagged"):
        seqnorm.steps_since_reset(channels)


@pytest.mark.parametrize("form", ["packed", "one after another", "unbatched"])
def test_the_numbers_are_those_that_the_layer_needs(form: str) -> None:
    """A stream in two calls computes the same as in one, with statistics of every step."""
    layer = seqnorm.LSTM(I, H, norm="batch", dtype=torch.float64)
    x = torch.randn(T, B, I, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    layer(x)
    layer.eval()
    rows = [torch.arange(T) == b for b in range(B)]
    cut = 4

    def call(first: int, last: int, state: Any, numbers: Any) -> tuple[Any, Any, Any]:
        parts = [x[first:last, b] for b in range(B)]
        resets: Any = [flags[first:last] for flags in rows]
        given: dict[str, Any] = {}
        if form == "packed":
            parts, resets = pack_sequence(parts), pack_sequence(resets)
        elif form == "unbatched":
            parts, resets = parts[2], resets[2]
        else:
            given = {"cu_seqlens": [b * (last - first) for b in range(B + 1)]}
            parts, resets = torch.cat(parts), torch.cat(resets)
        _, state = layer(parts, state, resets=resets, first_step=numbers, **given)
        return state, seqnorm.steps_since_reset(resets, numbers, **given), given

    state, numbers, _ = call(0, cut, None, 0)
    state, numbers, _ = call(cut, T, state, numbers)
    whole, numbers_of_whole, _ = call(0, T, None, 0)
    assert torch.equal(numbers, numbers_of_whole)
    for part, expected in zip(state, whole):
        assert torch.allclose(part, expected, rtol=1e-12, atol=1e-12)


WRONG_NUMBERS: dict[str, tuple[tuple[Any, ...], dict[str, Any], type[Exception], str]] = {
    "lengths of packed": (
        (pack_sequence([NO[:, 0]]), 0, [T]),
        {},
        ValueError,
        "PackedSequence knows its lengths: leave lengths=None",
    ),
    "bounds of packed": (
        (pack_sequence([NO[:, 0]]),),
        {"cu_seqlens": [0, T]},
        ValueError,
        "leave cu_seqlens=None",
    ),
    "packed numbers": ((pack_sequence([X[:, 0, 0]]),), {}, TypeError, r"write resets.bool\(\)"),
    "unbatched numbers": ((X[:, 0, 0],), {}, TypeError, r"write resets.bool\(\)"),
    "one step of a batch": (
        (NO[0], torch.arange(B)),
        {},
        ValueError,
        r"first_step has 5 numbers: write resets\[None\]",
    ),
    "lengths of one sequence": ((NO[:, 0], 0, [T]), {}, ValueError, "lengths belong to a batch"),
    "a list": (([True],), {}, ValueError, "PackedSequence, got list"),
    "a list with bounds": (([True],), {"cu_seqlens": [0, 1]}, TypeError, "torch.as_tensor"),
    "a column with bounds": (
        (NO[:, :1],),
        {"cu_seqlens": [0, T]},
        ValueError,
        r"write resets.squeeze\(-1\)",
    ),
    "lengths with bounds": ((NO[:, 0], 0, [T]), {"cu_seqlens": [0, T]}, ValueError, "lengths=None"),
    "other bounds": ((NO[:, 0],), {"cu_seqlens": [0, 3]}, ValueError, "rise from 0 to the 7 rows"),
    "numbers of another batch": (
        (pack_sequence([NO[:, 0]]), torch.arange(B)),
        {},
        ValueError,
        r"shape \(1,\)",
    ),
}


@pytest.mark.parametrize("case", WRONG_NUMBERS)
def test_resets_that_cannot_be_counted(case: str) -> None:
    given, options, error, message = WRONG_NUMBERS[case]
    with pytest.raises(error, match=message):
        seqnorm.steps_since_reset(*given, **options)
