"""Pieces, rows and saved states that no stream can take are refused, with what to write instead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from small_streams import Around, B, I, T, X, around, lstm, stream

import seqnorm
from seqnorm import Stream


def begun(batch: int | None = B) -> Stream:
    found = stream(batch)
    found(X if batch is not None else X[:, 0])
    return found


def loaded(**changes: Any) -> None:
    """Load a state with some of its tensors changed, or without those that are None."""
    state = {**begun().state_dict(), **changes}
    stream().load_state_dict({name: value for name, value in state.items() if value is not None})


def converted() -> None:
    model = lstm()
    found = Stream(model, B)
    found(X)
    model.double()
    found(X.double())


def trained_inside() -> None:
    model = Around().eval()
    model.rnn.train()
    Stream(model, B)(X)


def other_model() -> None:
    stream().join(stream())


FEW = torch.zeros(1, 1, I)

# The call, the type of its error, and parts of the message: the problem, then the remedy.
REFUSALS: dict[str, tuple[Callable[[], object], type[Exception], str]] = {
    # The piece
    "training": (
        lambda: Stream(seqnorm.LSTM(I, 4), B)(X),
        ValueError,
        r"the model is in training mode.* model\.eval\(\) first",
    ),
    "a layer in training": (
        trained_inside,
        ValueError,
        r"rnn is in training mode",
    ),
    "no tensor": (lambda: stream()([1.0]), TypeError, r"must be a Tensor, got list: pad it"),  # type: ignore[arg-type]
    "another batch": (
        lambda: stream()(torch.zeros(T, 4, I)),
        ValueError,
        r"must be \(t, 3, 2\), the next steps of 3 streams, got \(5, 4, 2\)$",
    ),
    "the batch first": (
        lambda: stream()(X.transpose(0, 1)),
        ValueError,
        r"got \(3, 5, 2\): the stream has batch_first=False",
    ),
    "the batch second": (
        lambda: stream(batch_first=True)(X),
        ValueError,
        r"must be \(3, t, 2\).*got \(5, 3, 2\): the stream has batch_first=True",
    ),
    "a batch for one": (
        lambda: stream(None)(X),
        ValueError,
        r"must be \(t, 2\), the next steps of one stream, got .* Stream\(model, batch=",
    ),
    "one for a batch": (
        lambda: stream(1)(X[:, 0]),
        ValueError,
        r"must be \(t, 1, 2\).*without an axis of the batch is Stream\(model\)",
    ),
    "another batch of a model": (
        lambda: around()(torch.zeros(T, 4, I)),
        ValueError,
        r"must be \(t, 3, \.\.\.\)",
    ),
    "dtype": (lambda: stream()(X.double()), ValueError, r"input\.to\(torch\.float32\)"),
    "dtype later": (lambda: begun()(X.double()), ValueError, r"input\.to\(torch\.float32\)"),
    "converted": (
        converted,
        RuntimeError,
        r"states of this stream are torch\.float32 .* now torch\.float64 .*load_state_dict",
    ),
    "features": (lambda: stream()(torch.zeros(T, B, 3)), RuntimeError, r"Expected 2, got 3"),
    "a state": (
        lambda: stream()(X, hx=None),
        TypeError,
        r"takes a piece, lengths and resets, got hx: the state .* its own",
    ),
    "lengths too long": (
        lambda: stream()(X, lengths=[1, 2, 6]),
        ValueError,
        r"lengths\[2\] is 6",
    ),
    "lengths of others": (lambda: stream()(X, lengths=[1, 2]), ValueError, r"shape \(3,\)"),
    "lengths of one": (
        lambda: stream(None)(X[:, 0], lengths=[1]),
        ValueError,
        r"lengths belong to a batch",
    ),
    "resets of another shape": (
        lambda: stream()(X, resets=torch.zeros(B, T, dtype=torch.bool)),
        ValueError,
        r"\(t, B\) = \(5, 3\).*write resets\.T",
    ),
    "resets of numbers": (
        lambda: stream()(X, resets=torch.zeros(T, B)),
        TypeError,
        r"write resets\.bool\(\)",
    ),
    # Streams
    "row": (lambda: stream().reset([3]), IndexError, r"no stream 3 among 3, which count from 0"),
    "row negative": (lambda: stream().reset(-1), IndexError, r"no stream -1 among 3"),
    "rows of booleans": (lambda: stream().reset([True]), ValueError, r"must have shape \(3,\)"),
    "rows of fractions": (lambda: stream().select([0.5]), TypeError, r"got torch\.float32"),  # type: ignore[list-item]
    "rows of text": (lambda: stream().reset("all"), TypeError, r"numbers of streams .* 'all'"),  # type: ignore[arg-type]
    "no batch": (lambda: stream(None).select([0]), ValueError, r"build it with batch=1"),
    "no stream": (lambda: stream().join(lstm()), TypeError, r"join takes Streams, got LSTM"),  # type: ignore[arg-type]
    "another model": (other_model, ValueError, r"must be of the same model.*Stream\(stream\.model"),
    # Saved states
    "no steps": (lambda: loaded(steps=None), KeyError, r"has 'steps' \(B,\), .* 'fresh', 'h'"),
    "no cell state": (lambda: loaded(c=None), KeyError, r"lacks 'c'"),
    "no states": (lambda: loaded(h=None, c=None), KeyError, r"lacks the states of the layers"),
    "unknown": (lambda: loaded(hh=FEW), ValueError, r"'hh' is no state of this model .*mean 'h'"),
    "other streams": (
        lambda: loaded(steps=torch.zeros(2, dtype=torch.int64)),
        ValueError,
        r"that of 2 streams, and this one has 3: build it with batch=2",
    ),
    "another layer's": (lambda: loaded(h=FEW), ValueError, r"h must be \(L, B, F\) = \(1, 3, 4\)"),
    "numbers of steps": (lambda: loaded(steps=torch.zeros(3)), TypeError, r"steps has the dtype"),
    "flags of numbers": (lambda: loaded(fresh=torch.zeros(3)), TypeError, r"fresh has the dtype"),
    "states of integers": (
        lambda: loaded(h=torch.zeros(1, 3, 4).long()),
        TypeError,
        r"h has the dtype torch\.int64",
    ),
    "no tensors": (lambda: loaded(h=[1.0]), TypeError, r"h must be a Tensor, got list"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refused(case: str) -> None:
    call, kind, message = REFUSALS[case]
    with pytest.raises(kind, match=message):
        call()


def test_a_converted_model_takes_a_state_or_begins_anew() -> None:
    found = begun()
    found.model.double()
    found.load_state_dict(found.state_dict())
    assert found(X.double()).dtype == torch.float64
    found.model.float()
    found.reset()
    assert found(X).dtype == torch.float32


def test_a_refused_piece_changes_nothing() -> None:
    found = begun()
    before = found.state_dict()
    for call in (
        lambda: found(X.double()),
        lambda: found(X, lengths=[9, 9, 9]),
        lambda: found.load_state_dict({"steps": torch.zeros(3), "fresh": torch.zeros(3)}),
        lambda: found.reset([7]),
    ):
        with pytest.raises((ValueError, TypeError, IndexError)):
            call()
    for name, value in found.state_dict().items():
        assert torch.equal(value, before[name])
