"""Models whose streams cannot be right are refused, with what to write instead.

A model is refused before its first piece, or at a piece that it does not use as streams need it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from small_streams import Around, B, I, T, X, around, lstm, stream
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

import seqnorm
from seqnorm import Norm, NormScheme, Stream


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


def compiled_inside() -> None:
    model = Around().eval()
    model.before.compile(backend="eager")
    Stream(model, B)
    model.rnn.compile(backend="eager")
    Stream(model, B)


WINDOW = NormScheme(hidden=Norm("layer", window=3))

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
