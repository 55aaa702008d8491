"""Streams of a layer: pieces of any length have the outputs of the whole sequences.

Axes: T steps, B streams, I = input size, H = hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from comparing import DISTINCT, H, I, build, randomise, scheme_of
from hidden_states import parts_of
from tolerances import CUT, assert_close, assert_equal
from torch import Tensor

import seqnorm
from seqnorm import Stream
from seqnorm.nn.backends.cpu import library
from seqnorm.nn.layers.cells import LAYERS

T, B = 9, 4
OPTIONS: dict[str, dict[str, Any]] = {
    "one": {},
    "two_layers": {"num_layers": 2, "batch_first": True},
    "learned": {"num_layers": 2, "learn_initial_state": True, "zoneout": 0.2},
    "projected": {"num_layers": 2, "proj_size": 2, "learn_initial_state": True},
}
CASES = [
    pytest.param(name, cell, shape, id=f"{name}-{cell}-{shape}")
    for name, cell in DISTINCT
    for shape in OPTIONS
    if cell == "LSTM" or shape != "projected"
]


def layer_of(name: str, cell: str, **options: Any) -> Any:
    layer = build(cell, scheme_of(name, cell), **options)
    randomise(layer)
    if not layer.learn_initial_state:
        return layer.eval()
    with torch.no_grad():
        for letter in layer.step.learned:
            getattr(layer, f"{letter}_0").normal_()
    return layer.eval()


def whole(layer: Any, x: Tensor, **options: Any) -> Tensor:
    """Return the outputs of whole sequences (T, B, I) by the definition, in the same order."""
    with torch.no_grad(), seqnorm.use_backend("reference"):
        arguments = given(layer, x, **options)
        output: Tensor = layer(arguments.pop("x"), **arguments)[0]
    return output.transpose(0, 1) if layer.batch_first else output


def given(layer: Any, x: Tensor, **options: Any) -> dict[str, Any]:
    """Return the arguments of a piece (t, B, ...) in the layer's order of axes."""
    swap = layer.batch_first and x.dim() > 1
    if swap and options.get("resets") is not None:
        options["resets"] = options["resets"].T
    return {"x": x.transpose(0, 1) if swap else x, **options}


def fed(stream: Stream, x: Tensor, **options: Any) -> Tensor:
    output: Tensor = stream(**given(stream.model, x, **options))
    return output.transpose(0, 1) if getattr(stream.model, "batch_first", False) else output


def cuts(steps: int) -> list[int]:
    """Draw the bounds of pieces, some of which have no step or one."""
    return [0, *torch.randint(0, steps + 1, (5,)).sort().values.tolist(), steps]


@pytest.mark.parametrize(("name", "cell", "shape"), CASES)
def test_pieces_are_the_whole(name: str, cell: str, shape: str) -> None:
    layer = layer_of(name, cell, **OPTIONS[shape])
    x = torch.randn(T, B, I).double()
    expected = whole(layer, x)
    for bounds in (list(range(T + 1)), cuts(T), [0, 1, T]):
        stream = Stream(layer, B)
        found = [fed(stream, x[a:b]) for a, b in zip(bounds, bounds[1:])]
        assert_close(torch.cat(found), expected, CUT, f"{bounds}")
        assert stream.steps.tolist() == [T] * B
        stream.reset()
        assert stream.steps.tolist() == [0] * B
        assert_close(fed(stream, x), expected, CUT)


@pytest.mark.parametrize(("name", "cell", "shape"), CASES[::3])
def test_ragged_pieces_with_resets(name: str, cell: str, shape: str) -> None:
    """Each stream has steps of its own, poisoned padding, resets, and begins anew in between."""
    layer = layer_of(name, cell, **OPTIONS[shape])
    stream = Stream(layer, B)
    x, resets = torch.randn(B, T, I).double(), torch.rand(B, T) < 0.2
    read, found = [0] * B, [[] for _ in range(B)]  # type: ignore[var-annotated]
    for number in range(8):
        lengths = [min(n, T - each) for n, each in zip(torch.randint(0, 4, (B,)).tolist(), read)]
        if number == 2:  # the third stream is another one from here on
            stream.reset([2])
            resets[2, read[2]] = True
            lengths[2] = max(lengths[2], 1)
        most = max(max(lengths), 1)
        piece = torch.full((most, B, I), torch.nan).double()
        flags = torch.ones(most, B, dtype=torch.bool)
        for b, (first, length) in enumerate(zip(read, lengths)):
            piece[:length, b] = x[b, first : first + length]
            flags[:length, b] = resets[b, first : first + length]
        if number == 2:
            flags[0, 2] = False  # because the stream has begun anew already
        output = fed(stream, piece, lengths=lengths, resets=flags)
        for b, length in enumerate(lengths):
            found[b].append(output[:length, b])
            assert not output[length:, b].any()
            read[b] += length
    for b, steps in enumerate(read):
        if steps:
            expected = whole(layer, x[b, :steps, None], resets=resets[b, :steps, None])
            assert_close(torch.cat(found[b]), expected[:, 0], CUT)
    counted = [int(seqnorm.steps_since_reset(resets[b, : read[b]])) for b in range(B)]
    assert stream.steps.tolist() == [n if read[b] else 0 for b, n in enumerate(counted)]


@pytest.mark.parametrize("name", ["none", "layer", "batch", "batch_pooled"])
@pytest.mark.parametrize("cell", ["LSTM", "GRU"])
def test_one_stream_without_a_batch(name: str, cell: str) -> None:
    layer = layer_of(name, cell, num_layers=2, batch_first=True, learn_initial_state=True)
    x, resets = torch.randn(T, I).double(), torch.rand(T) < 0.3
    with torch.no_grad(), seqnorm.use_backend("reference"):
        expected, reset = layer(x)[0], layer(x, resets=resets)[0]
    stream = Stream(layer)
    parts = [stream(x[:2])]
    stream.reset([])  # none begins anew
    saved = stream.state_dict()
    parts += [stream(x[2:3]), stream(x[3:3]), stream(x[3:])]
    assert_close(torch.cat(parts), expected, CUT)
    stream.load_state_dict(saved)
    assert_close(stream(x[2:]), expected[2:], CUT)
    stream.reset(0)
    pieces = [stream(x[a:b], resets=resets[a:b]) for a, b in ((0, 1), (1, 5), (5, T))]
    assert_close(torch.cat(pieces), reset, CUT)
    assert stream.steps.tolist() == [int(seqnorm.steps_since_reset(resets))]


@pytest.mark.parametrize(("name", "cell"), DISTINCT[::2])
def test_streams_that_begin_at_different_times(name: str, cell: str) -> None:
    """Streams join and leave a batch that runs, in any order, and each has its own outputs."""
    layer = layer_of(name, cell, num_layers=2)
    x = torch.randn(4, T, I).double()
    expected = [whole(layer, one[:, None])[:, 0] for one in x]
    stream, members, read = Stream(layer, 0), [], {}  # type: ignore[var-annotated]
    for arriving, leaving in ([0, 1], []), ([2], []), ([], [1]), ([3], [0]), ([1], []), ([], [2]):
        old = stream
        before = old.steps.tolist()
        kept = [m for m in reversed(members) if m not in leaving]
        stream = stream.select([members.index(m) for m in kept])
        stream = stream.join(Stream(layer, len(arriving))) if arriving else stream
        members = kept + arriving
        read.update(dict.fromkeys(arriving, 0))
        lengths = torch.randint(0, 3, (len(members),)).tolist()
        if not members or not max(lengths):
            continue
        piece = torch.zeros(max(lengths), len(members), I).double()
        for place, (m, length) in enumerate(zip(members, lengths)):
            length = lengths[place] = min(length, T - read[m])
            piece[:length, place] = x[m, read[m] : read[m] + length]
        output = stream(piece, lengths=lengths)
        for place, (m, length) in enumerate(zip(members, lengths)):
            assert_close(
                output[:length, place], expected[m][read[m] : read[m] + length], CUT, f"{m}"
            )
            read[m] += length
        assert stream.steps.tolist() == [read[m] for m in members]
        assert old.steps.tolist() == before


@pytest.mark.parametrize(("name", "cell"), [("layer", "LSTM"), ("batch", "GRU"), ("none", "LSTM")])
def test_saved_in_the_middle(name: str, cell: str, tmp_path: Any) -> None:
    layer = layer_of(name, cell, num_layers=2)
    x = torch.randn(T, B, I).double()
    expected = whole(layer, x)
    stream = Stream(layer, B)
    assert_equal(stream.state_dict()["fresh"], torch.ones(B, dtype=torch.bool))
    stream(x[:4]).fill_(torch.nan)  # outputs share no memory with the state
    saved = stream.state_dict()
    torch.save(saved, tmp_path / "stream.pt")
    kept = {name: value.clone() for name, value in saved.items()}
    assert_close(stream(x[4:]), expected[4:], CUT)
    for name, value in kept.items():
        assert_equal(saved[name], value)
    for state in (saved, torch.load(tmp_path / "stream.pt", weights_only=True)):
        other = Stream(layer, B)
        other.load_state_dict(state)
        assert other.steps.tolist() == [4] * B
        for value in state.values():
            value.zero_()
        assert_close(other(x[4:]), expected[4:], CUT)
    other.load_state_dict(Stream(layer, B).state_dict())
    assert_close(other(x), expected, CUT)


def test_some_are_saved_before_they_begin() -> None:
    layer = layer_of("batch", "LSTM", learn_initial_state=True)
    x = torch.randn(T, 2, I).double()
    stream = Stream(layer, 2)
    stream(x[:3], lengths=[3, 0])
    other = Stream(layer, 2)
    other.load_state_dict(stream.state_dict())
    assert other.state_dict()["fresh"].tolist() == [False, True]
    piece = torch.stack([x[3:6, 0], x[:3, 1]], 1)
    assert_close(other(piece)[:, 1], whole(layer, x[:3, 1:])[:, 0], CUT)
    assert other.steps.tolist() == [6, 3]


@pytest.mark.parametrize("cell", sorted(LAYERS))
def test_chunks_and_other_options(cell: str) -> None:
    layer = layer_of("batch", cell, num_layers=2)
    x = torch.randn(T, B, I).double()
    expected = whole(layer, x)
    seqnorm.compute_in_chunks(layer, 2)
    stream = Stream(layer, B)
    assert_close(torch.cat([stream(x[:5]), stream(x[5:])]), expected, CUT)


def test_an_error_leaves_the_streams_as_they_were() -> None:
    scheme = seqnorm.preset("batch", "GRU", max_steps=4, beyond="error")
    layer = build("GRU", scheme)
    randomise(layer)
    x = torch.randn(6, 2, I).double()
    stream = Stream(layer.eval(), 2)
    first = stream(x[:3])
    with pytest.raises(IndexError, match="step 4 has no statistics of its own"):
        stream(x[3:])
    assert stream.steps.tolist() == [3, 3]
    assert_close(torch.cat([first, stream(x[3:4])]), whole(layer, x[:4]), CUT)


@pytest.mark.parametrize("batch", [None, 1, 3])
@pytest.mark.parametrize("name", ["layer", "batch"])
@pytest.mark.skipif(library.LIBRARY is None, reason="the kernels are not built")
def test_steps_take_the_short_way(
    name: str, batch: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every step of a layer is one prepared call, also after the first one and after a reset."""
    layer = layer_of(name, "LSTM", num_layers=2)
    x = torch.randn(5, *([] if batch is None else [batch]), I).double()
    expected = whole(layer, x)

    def refuse(*_: Any) -> None:
        raise AssertionError("the usual way is taken")

    for way in ("_run", "_run_any"):
        monkeypatch.setattr(layer, way, refuse)
    stream = Stream(layer, batch)
    for _ in range(2):
        assert_close(torch.cat([stream(x[t : t + 1]) for t in range(5)]), expected, CUT)
        stream.reset()
    stream(x[:2])
    stream.load_state_dict(stream.state_dict())
    assert_close(stream(x[2:3]), expected[2:3], CUT)
    if batch is not None:
        assert_close(stream(x[3:4], lengths=[1] * batch), expected[3:4], CUT)


def test_there_are_no_gradients() -> None:
    layer = layer_of("layer", "LSTM")
    x = torch.randn(3, 2, I).double().requires_grad_()
    stream = Stream(layer, 2)
    assert not stream(x).requires_grad
    assert torch.is_grad_enabled()
    with pytest.raises(ValueError, match="a piece must be"):
        stream(x[0])
    assert torch.is_grad_enabled()
    with torch.inference_mode():
        stream(x)
    assert not stream(x).requires_grad
    assert not any(part.requires_grad for part in stream.state_dict().values())


def test_what_is_printed() -> None:
    stream = Stream(layer_of("layer", "LSTM"), 2)
    stream(torch.randn(3, 2, I).double(), lengths=[3, 1])
    assert repr(stream) == "Stream(LSTM, batch=2, steps=[3, 1])"
    assert repr(Stream(layer_of("layer", "GRU"))) == "Stream(GRU, steps=[0])"
    assert stream.batch == 2
    assert parts_of(stream.state_dict()["c"])[0].shape == (1, 2, H)


def test_an_initial_state_is_read_when_a_stream_begins() -> None:
    layer = layer_of("layer", "GRU", learn_initial_state=True)
    x = torch.randn(2, 1, I).double()
    stream = Stream(layer, 1)
    before: Sequence[Tensor] = [stream(x)]
    with torch.no_grad():
        layer.h_0.add_(1.0)
    stream.reset()
    assert not torch.equal(stream(x), before[0])
    stream.reset()
    assert_close(stream(x), whole(layer, x), CUT)
