"""Streams that cannot be right are refused, with what to write instead.

Axes: T steps, B streams, I = input size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

import seqnorm
from seqnorm import Norm, NormScheme, Stream

T, B, I = 5, 3, 2  # noqa: E741  the axes' letters
X = torch.zeros(T, B, I)


class Around(nn.Module):
    """A layer with another module before it, and a function of both."""

    def __init__(self, before: nn.Module | None = None, run: Any = None, **options: Any) -> None:
        super().__init__()
        self.before = nn.Identity() if before is None else before
        self.rnn = seqnorm.GRU(I, 4, **options)
        self.run = run

    def forward(self, x: Tensor) -> Any:
        """Map (T, B, I) to (T, B, 4)."""
        return self.rnn(self.before(x))[0] if self.run is None else self.run(self.rnn, x)


def lstm(**options: Any) -> seqnorm.LSTM:
    return seqnorm.LSTM(I, 4, **options).eval()


def stream(batch: int | None = B, **options: Any) -> Stream:
    return Stream(lstm(**options), batch)


def begun(batch: int | None = B) -> Stream:
    found = stream(batch)
    found(X if batch is not None else X[:, 0])
    return found


def around(*given: Any, **options: Any) -> Stream:
    return Stream(Around(*given, **options).eval(), B)


def loaded(**changes: Any) -> None:
    """Load a state with some of its tensors changed, or without those that are None."""
    state = {**begun().state_dict(), **changes}
    stream().load_state_dict({name: value for name, value in state.items() if value is not None})


def once(rnn: Any, x: Tensor) -> Tensor:
    """Call a layer only for pieces of one step."""
    output: Tensor = rnn(x)[0] if len(x) == 1 else x.new_zeros(len(x), B, 4)
    return output


def lame(rnn: Any, x: Tensor) -> Tensor:
    """Fail for pieces of one step."""
    output: Tensor = rnn(x if len(x) > 1 else x[..., :1])[0]
    return output


def packed(rnn: Any, x: Tensor) -> Tensor:
    output: Tensor = rnn(pack_padded_sequence(x, torch.tensor([T] * B)))[0]
    return output


def with_gradients(rnn: Any, x: Tensor) -> Tensor:
    with torch.enable_grad():
        output: Tensor = rnn(x)[0]
    return output


def in_two(first: int, second: int) -> None:
    model = around(run=once)
    model(X[:first])
    model(X[:second])


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


def compiled_inside() -> None:
    model = Around().eval()
    model.before.compile(backend="eager")
    Stream(model, B)
    model.rnn.compile(backend="eager")
    Stream(model, B)


def other_model() -> None:
    stream().join(stream())


WINDOW = NormScheme(hidden=Norm("layer", window=3))
FEW = torch.zeros(1, 1, I)

# The call, the type of its error, and parts of the message: the problem, then the remedy.
REFUSALS: dict[str, tuple[Callable[[], object], type[Exception], str]] = {
    # The model
    "no module": (lambda: Stream(3), TypeError, r"a torch\.nn\.Module, got int"),  # type: ignore[arg-type]
    "no layer": (lambda: Stream(nn.Linear(2, 2)), ValueError, r"no recurrent layer .* in Linear"),
    "bidirectional": (
        lambda: stream(bidirectional=True),
        ValueError,
        r"the model is a LSTM and bidirectional: .* end of a sequence.*bidirectional=False",
    ),
    "bidirectional inside": (
        lambda: around(bidirectional=True),
        ValueError,
        r"^rnn is a GRU and bidirectional",
    ),
    "window": (
        lambda: stream(norm=WINDOW),
        ValueError,
        r"window=3\).* the model is a LSTM, whose pieces .* empty window: .*window=None",
    ),
    "torch's layer": (
        lambda: around(nn.LSTM(I, I)),
        ValueError,
        r"before is a LSTM of torch, .* begin anew .*convert_rnn\(model, norm=None\)",
    ),
    "torch's cell": (lambda: around(nn.GRUCell(I, I)), ValueError, r"a GRUCell of torch"),
    "a cell": (lambda: Stream(seqnorm.GRUCell(I, 4)), ValueError, r"use the layer of the same"),
    "a cell without a layer": (
        lambda: around(seqnorm.DreamerGRUCell(I, 8)),
        ValueError,
        r"before is a DreamerGRUCell: .* call the cell itself for every frame",
    ),
    "compiled": (
        lambda: Stream(torch.compile(lstm(), backend="eager")),  # type: ignore[arg-type]  # torch's hint
        ValueError,
        r"the model is compiled, .* leave the recurrent layers out of torch\.compile",
    ),
    "compiled in place": (compiled_inside, ValueError, r"^rnn is compiled"),
    "in parallel": (
        lambda: Stream(nn.DataParallel(lstm())),
        ValueError,
        r"give DataParallel's own model\.module",
    ),
    "convolution": (
        lambda: around(nn.Conv1d(I, I, 3)),
        ValueError,
        r"before is a Conv1d, whose kernel .*several steps.*example=x",
    ),
    "pooling": (lambda: around(nn.MaxPool1d(2)), ValueError, r"pool several steps"),
    "attention": (
        lambda: around(nn.TransformerEncoderLayer(I, 1)),
        ValueError,
        r"before\.self_attn is a MultiheadAttention, which may attend",
    ),
    "torch's instance norm": (
        lambda: around(nn.InstanceNorm1d(I)),
        ValueError,
        r"statistics may be those of several steps",
    ),
    "group norm": (lambda: around(nn.GroupNorm(1, I)), ValueError, r"is a GroupNorm, whose stat"),
    "our instance norm": (
        lambda: around(seqnorm.InstanceNorm(I, layout="NTC")),
        ValueError,
        r"statistics may be those of several steps",
    ),
    "norm of every step": (
        lambda: around(seqnorm.BatchNorm(I, max_steps=9, layout="NTC")),
        ValueError,
        r"count from the beginning of each piece",
    ),
    "no running statistics": (
        lambda: around(nn.BatchNorm1d(I, track_running_stats=False)),
        ValueError,
        r"those of a piece are taken",
    ),
    "two orders": (
        lambda: Stream(nn.ModuleList([lstm(), lstm(batch_first=True)]), B),
        ValueError,
        r"batch_first=True and False: say .*Stream\(model, batch_first=",
    ),
    "another order": (
        lambda: Stream(lstm(), B, batch_first=True),
        ValueError,
        r"the layer has batch_first=False: leave batch_first=None",
    ),
    "no order": (
        lambda: Stream(Around().eval(), B, batch_first=1),  # type: ignore[arg-type]
        TypeError,
        r"batch_first should be of type bool",
    ),
    "batch negative": (lambda: stream(-1), ValueError, r"batch must not be negative, got -1"),
    "batch text": (lambda: stream("3"), TypeError, r"batch should be of type int, got: str"),  # type: ignore[arg-type]
    "example of one step": (
        lambda: Stream(lstm(), B, example=X[:1]),
        ValueError,
        r"two steps or more, got \(1, 3, 2\)",
    ),
    "example is no tensor": (
        lambda: Stream(lstm(), B, example=[1]),  # type: ignore[arg-type]
        ValueError,
        r"a Tensor with two steps or more, got list",
    ),
    "example without outputs": (
        lambda: Stream(Around(run=lambda rnn, x: {"y": rnn(x)[0]}).eval(), B, example=X),
        ValueError,
        r"can be compared if the model returns a Tensor",
    ),
    "example fails": (
        lambda: Stream(Around(run=lame).eval(), B, example=X),
        ValueError,
        r"the model cannot compute step 0 by itself: .*Expected 2, got 1",
    ),
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
    # A model's use of a piece
    "called twice": (
        lambda: around(run=lambda rnn, x: rnn(rnn(x)[0][..., :2])[0])(X),
        RuntimeError,
        r"rnn is called a second time for one piece.*a layer of its own",
    ),
    "called by steps": (
        lambda: around(run=lambda rnn, x: [rnn(one) for one in x])(X),
        ValueError,
        r"rnn must be given the 5 steps of 3 streams, \(t, B, \.\) = \(5, 3, 2\), and is given",
    ),
    "fewer steps": (
        lambda: around(run=lambda rnn, x: rnn(x[::2])[0])(X),
        ValueError,
        r"is given \(3, 3, 2\): a model of a stream has one step for each step",
    ),
    "left out": (lambda: in_two(1, 2), RuntimeError, r"rnn was not called for this piece"),
    "called late": (
        lambda: in_two(2, 1),
        RuntimeError,
        r"rnn was not called for this piece.*each of its recurrent layers for every piece",
    ),
    "with gradients": (
        lambda: around(run=with_gradients)(X),
        RuntimeError,
        r"not called for this piece, or in another thread or with gradients enabled",
    ),
    "resets of the model": (
        lambda: around(run=lambda rnn, x: rnn(x, resets=x[..., 0] > 0)[0], norm="batch")(X),
        ValueError,
        r"rnn is given resets by the model.*stream\(x, resets=resets\)",
    ),
    "packed with resets": (
        lambda: around(run=packed)(X, resets=torch.zeros(T, B, dtype=torch.bool)),
        ValueError,
        r"rnn is given a PackedSequence.*give it the padded piece, and lengths",
    ),
    "resets to a state of the model": (
        lambda: around(run=lambda rnn, x: rnn(x, torch.ones(1, B, 4))[0])(
            X, resets=torch.zeros(T, B, dtype=torch.bool)
        ),
        ValueError,
        r"rnn is given its first state by the model.*stream\.reset\(rows\) between pieces",
    ),
    "pooled": (
        lambda: around(run=lambda rnn, x: rnn(x)[0].mean(0))(X),
        ValueError,
        r"returns \(3, 4\) for a piece \(5, 3, 2\), and .* an output for each step",
    ),
    "rows": (
        lambda: around(run=lambda rnn, x: rnn(x.flatten(0, 1), cu_seqlens=[0, T * B])[0])(X),
        ValueError,
        r"rnn is given sequences without padding.*pad it, and give lengths",
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


def test_what_is_not_refused() -> None:
    """Modules that compute each step by itself are taken without an example."""
    for module in (
        nn.Conv1d(I, I, 1),
        nn.BatchNorm1d(I),
        nn.LayerNorm(I),
        seqnorm.LayerNorm(I, layout="NTC"),
        seqnorm.BatchNorm(I, layout="NTC"),
        nn.Dropout(),
    ):
        around(module)
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
