"""Streams of models that contain recurrent layers.

Axes: T steps, B streams, I = input size, F features.
"""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
from comparing import I, build, randomise, scheme_of
from hidden_states import parts_of
from language_models import V, model_of
from tolerances import CUT, assert_close
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import seqnorm
from seqnorm import Stream
from seqnorm.nn.layers.cells import LAYERS
from seqnorm.nn.layers.stream_calls import RUNNING

T, B = 9, 3


class Tagger(nn.Module):
    """Linear, a recurrent layer, Linear, a second layer with the other order of axes, Linear."""

    def __init__(self, cell: str, name: str, **options: Any) -> None:
        super().__init__()
        self.before = nn.Linear(5, I).double()
        self.rnn = build(cell, scheme_of(name, cell), batch_first=True, **options)
        self.between = nn.Sequential(nn.Linear(4, I), nn.LayerNorm(I), nn.Dropout()).double()
        self.second = build(cell, scheme_of(name, cell), num_layers=2, **options)
        self.after = nn.Linear(4, 2).double()
        for layer in (self.rnn, self.second):
            randomise(layer)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, T, 5) to (B, T, 2), with a connection around the layers."""
        y, _ = self.rnn(self.before(x))
        z, _ = self.second(self.between(y).transpose(0, 1))
        output: Tensor = self.after(z.transpose(0, 1) + y)
        return output


def whole(model: nn.Module, *arguments: Any, **options: Any) -> Any:
    with torch.no_grad(), seqnorm.use_backend("reference"):
        return model(*arguments, **options)


@pytest.mark.parametrize("cell", sorted(LAYERS))
@pytest.mark.parametrize("name", ["none", "layer", "batch", "batch_pooled"])
def test_pieces_are_the_whole(cell: str, name: str) -> None:
    model = Tagger(cell, name, learn_initial_state=True)
    x = torch.randn(B, T, 5).double()
    expected = whole(model, x)
    drawn = torch.randint(0, T + 1, (5,)).sort().values.tolist()
    for bounds in (list(range(T + 1)), [0, *drawn, T]):
        stream = Stream(model, B, batch_first=True)
        found = [stream(x[:, a:b]) for a, b in zip(bounds, bounds[1:])]
        assert_close(torch.cat(found, 1), expected, CUT, f"{bounds}")
        assert stream.steps.tolist() == [T] * B


@pytest.mark.parametrize("name", ["none", "layer", "batch"])
def test_ragged_pieces_with_resets(name: str) -> None:
    """The padding is NaN, and so are its outputs, but no valid output and no state is."""
    model = Tagger("LSTM", name)
    stream = Stream(model, B, batch_first=True)
    x, resets = torch.randn(B, T, 5).double(), torch.rand(B, T) < 0.3
    read, found = [0] * B, [[] for _ in range(B)]  # type: ignore[var-annotated]
    while min(read) < T:
        lengths = [min(n, T - each) for n, each in zip(torch.randint(0, 4, (B,)).tolist(), read)]
        piece = torch.full((B, max(1, *lengths), 5), torch.nan).double()
        flags = torch.ones(piece.shape[:2], dtype=torch.bool)
        for b, (first, n) in enumerate(zip(read, lengths)):
            piece[b, :n], flags[b, :n] = x[b, first : first + n], resets[b, first : first + n]
        output = stream(piece, lengths=torch.tensor(lengths), resets=flags)
        for b, n in enumerate(lengths):
            found[b].append(output[b, :n])
            read[b] += n
    expected = torch.stack([torch.cat(parts) for parts in found])
    # The whole, as one piece that a stream of the definition reads.
    with seqnorm.use_backend("reference"):
        right = Stream(model, B, batch_first=True)(x, resets=resets)
    assert_close(expected, right, CUT)
    for b in range(B):  # and every episode by itself
        bounds = [0, *[t for t in range(1, T) if resets[b, t]], T]
        parts = [whole(model, x[b : b + 1, i:j])[0] for i, j in zip(bounds, bounds[1:])]
        assert_close(expected[b], torch.cat(parts), CUT)


def test_saved_reset_selected_and_joined(tmp_path: Any) -> None:
    model = Tagger("GRU", "batch")
    x = torch.randn(B, T, 5).double()
    expected = whole(model, x)
    stream = Stream(model, B, batch_first=True)
    stream(x[:, :4])
    saved = stream.state_dict()
    assert sorted(saved) == ["fresh", "rnn.h", "second.h", "steps"]
    assert saved["second.h"].shape == (2, B, 4)
    torch.save(saved, tmp_path / "stream.pt")
    other = Stream(model, B, batch_first=True)
    other.load_state_dict(torch.load(tmp_path / "stream.pt", weights_only=True))
    assert_close(other(x[:, 4:]), expected[:, 4:], CUT)
    stream.reset(torch.tensor([False, True, False]))
    both = stream.select([2, 1]).join(Stream(model, 1, batch_first=True))
    piece = torch.stack([x[2, 4:7], x[1, :3], x[0, :3]])
    right = torch.stack([expected[2, 4:7], expected[1, :3], expected[0, :3]])
    assert_close(both(piece), right, CUT)
    assert both.steps.tolist() == [7, 3, 3]


@pytest.mark.parametrize("cell", sorted(name.lower() for name in LAYERS))
@pytest.mark.parametrize("norm", [None, "layer", "batch"])
def test_language_model(cell: str, norm: str | None) -> None:
    """Token by token and with lengths, whatever the tokens in the padding."""
    model = model_of(cell=cell, norm=norm).eval()
    tokens = torch.randint(1, V, (B, T))
    expected, states = whole(model, tokens)
    stream = Stream(model, B, example=tokens)
    found = []
    for a, b in ((0, 1), (1, 2), (2, 5), (5, T)):
        logits, after = stream(tokens[:, a:b])
        found.append(logits)
    finite = expected.isfinite()
    assert_close(torch.cat(found, 1)[finite], expected[finite], CUT)
    for one, other in zip(after, states):
        for part, right in zip(one, other):
            assert_close(part, right, CUT)
    stream.reset()
    poisoned = tokens.clone()
    poisoned[1, 2:] = -7
    stream(poisoned[:, :4], lengths=[4, 2, 4])
    piece = torch.stack([tokens[0, 4:7], tokens[1, 2:5], tokens[2, 4:7]])
    right = torch.stack([expected[0, 4:7], expected[1, 2:5], expected[2, 4:7]])
    logits, _ = stream(piece)
    assert_close(logits[..., 1:], right[..., 1:], CUT)
    resets = torch.zeros(B, 2, dtype=torch.bool)
    resets[0, 0] = resets[1, 1] = True
    logits, _ = stream(tokens[:, :2], resets=resets)
    assert_close(logits[0, :, 1:], expected[0, :2, 1:], CUT)
    assert stream.steps.tolist() == [2, 1, 9]


class Conditioned(nn.Module):
    """A layer that begins with a state which the model computes, from packed sequences."""

    def __init__(self, packs: bool) -> None:
        super().__init__()
        self.packs = packs
        self.rnn = build("LSTM", scheme_of("batch", "LSTM"), batch_first=True)
        randomise(self.rnn)
        self.start = nn.Parameter(torch.randn(2, 1, 1, 4).double())

    def forward(self, x: Tensor, scale: float, lengths: Tensor | None = None) -> Tensor:
        """Map (B, T, I) to (B, T, 4)."""
        h, c = scale * self.start.expand(-1, -1, len(x), -1)
        if not self.packs:
            output: Tensor = self.rnn(x, (h, c))[0]
            return output
        assert lengths is not None
        packed = pack_padded_sequence(x, lengths, True, enforce_sorted=False)
        output, _ = pad_packed_sequence(self.rnn(packed, (h, c))[0], True, total_length=x.shape[1])
        return output


@pytest.mark.parametrize("packs", [False, True])
def test_a_state_of_the_model_is_where_streams_begin(packs: bool) -> None:
    model = Conditioned(packs).eval()
    x = torch.randn(B, T, I).double()
    every = torch.full((B,), T)
    expected = whole(model, x, 0.5, every)
    stream = Stream(model, B)
    found = [stream(x[:, :3], 0.5, lengths=[3] * B), stream(x[:, 3:], scale=0.5, lengths=[6] * B)]
    assert_close(torch.cat(found, 1), expected, CUT)
    stream.reset()
    stream(x[:, :2], 0.5, lengths=[2, 1, 2])
    stream.reset(2)
    piece = torch.stack([x[0, 2:5], x[1, 1:4], x[2, :3]])
    right = torch.stack([expected[0, 2:5], expected[1, 1:4], expected[2, :3]])
    assert_close(stream(piece, 0.5, lengths=[3] * B), right, CUT)


def test_without_a_batch() -> None:
    model = nn.Sequential(nn.Linear(2, I).double(), First("GRU"), nn.Linear(4, 2).double()).eval()
    x = torch.randn(T, 2).double()
    stream = Stream(model)
    found = [stream(x[:2])]
    stream.load_state_dict(stream.state_dict())
    found += [stream(x[2:3]), stream(x[3:])]
    assert_close(torch.cat(found), whole(model, x), CUT)


class First(nn.Module):
    """The outputs of a layer, without its state."""

    def __init__(self, cell: str, name: str = "batch") -> None:
        super().__init__()
        self.rnn = build(cell, scheme_of(name, cell))
        randomise(self.rnn)

    def forward(self, x: Tensor) -> Tensor:
        """Map (T, B, I) to (T, B, 4)."""
        output: Tensor = self.rnn(x)[0]
        return output


def test_hooks_of_the_user() -> None:
    """They see and change what the model sees, and the stream keeps the state before that."""
    model = First("LSTM").eval()
    seen: list[int] = []

    def watch(layer: Any, args: Any, output: Any) -> Any:
        seen.append(len(output[0]))
        return 2 * output[0], [torch.zeros_like(part) for part in parts_of(output[1])]

    x = torch.randn(4, B, I).double()
    expected = 2 * whole(model, x)
    model.rnn.register_forward_hook(watch)
    stream = Stream(model, B)
    assert_close(torch.cat([stream(x[:3]), stream(x[3:])]), expected, CUT)
    assert seen == [3, 1]


def test_a_model_that_streams_itself() -> None:
    """A stream inside of a streamed model has layers of its own."""
    inner = First("GRU").eval()
    for batch_first in (False, True):  # both ways in which a stream calls a layer
        within = Stream(inner.rnn if batch_first else inner, B)
        around = First("LSTM")

        def run(
            module: Any, args: tuple[Tensor], output: Tensor, within: Stream = within
        ) -> Tensor:
            return output + within(args[0], lengths=[len(args[0])] * B)

        x = torch.randn(5, B, I).double()
        expected = whole(around.eval(), x) + whole(inner, x)
        around.register_forward_hook(run)
        stream = Stream(around, B)
        assert_close(torch.cat([stream(x[:2]), stream(x[2:])]), expected, CUT)
        assert not RUNNING


def test_other_threads_and_calls_of_the_same_model() -> None:
    model = First("LSTM").eval()
    x = torch.randn(60, B, I).double()
    expected = whole(model, x)
    found: dict[int, Tensor] = {}

    def work(number: int) -> None:
        stream = Stream(model, B)
        parts = [stream(x[t : t + 1]) for t in range(len(x))]
        found[number] = torch.cat(parts)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        assert_close(whole(model, x[:5]), expected[:5], CUT)
    for thread in threads:
        thread.join()
    for number in range(3):
        assert_close(found[number], expected, CUT)


class Folded(nn.Module):
    """A convolution over features, which takes every step by itself, and one over steps."""

    def __init__(self, causal: bool) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 1, 3, padding=1).double()
        self.over_steps = not causal
        self.rnn = First("GRU", "layer")

    def forward(self, x: Tensor) -> Tensor:
        """Map (T, B, I) to (T, B, 4)."""
        rows = x.permute(1, 2, 0).reshape(-1, 1, len(x)) if self.over_steps else x.reshape(-1, 1, I)
        y = self.conv(rows)
        if self.over_steps:
            y = y.reshape(x.shape[1], I, len(x)).permute(2, 0, 1)
        output: Tensor = self.rnn(y.reshape(x.shape))
        return output


def test_an_example_shows_if_steps_are_computed_apart() -> None:
    x = torch.randn(5, 2, I).double()
    model = Folded(True).eval()
    with pytest.raises(ValueError, match="conv is a Conv1d, whose kernel may span several steps"):
        Stream(model, B)
    stream = Stream(model, 2, example=x[:, :1])
    assert stream.steps.tolist() == [0, 0]
    assert_close(torch.cat([stream(x[:2]), stream(x[2:])]), whole(model, x), CUT)
    model = Folded(False).eval()
    with pytest.raises(ValueError, match="those of the whole, first at step 0: a part of it reads"):
        Stream(model, B, example=x)
