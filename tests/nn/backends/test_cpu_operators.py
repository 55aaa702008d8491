"""The operators of torch.library called directly: torch's own checks, and wrong arguments.

Axes: T steps, B sequences, N packed rows, I = input size, H = hidden size.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from beside_reference import F32, F64, Call, build, needs_kernels, taken
from hidden_states import as_hx, parts_of
from operators_seen import Seen
from tolerances import GRADIENTS, assert_close, assert_equal
from torch import Tensor
from torch_versions import opcheck

import seqnorm
from seqnorm import Norm, NormScheme
from seqnorm.nn.backends.cpu import kernels, traced
from seqnorm.nn.backends.cpu.call import Inputs
from seqnorm.nn.recurrence.step import PRESETS

pytestmark = needs_kernels
I, H = 3, 5  # noqa: E741  the axes' letters
TAKEN = taken()
CONSTANT = ("stay", "before")  # inputs without a gradient: drawn units, running statistics
FIRST = traced.CALL  # arguments before the tensors: cell, scheme, zoneout, batch_sizes
NAMES = ("recurrence", "recurrence_training", "recurrence_backward")
# Norms of separate terms, of their sum, before the kernel, no norm, few and all biases, norms of
# the batch.
CASES = ["LSTM layer", "LSTM icefall", "LSTM laurent2016", "LSTM kiros2016", "LSTM None"]
CASES += ["GRU layer", "GRU dreamer", "GRU laurent2016", "GRU kinds", "GRU None"]
CASES += [
    "LSTM batch",
    "GRU batch",
    "LSTM batch_renorm",
    "LSTM zoneout",
    "LiGRU kinds",
    "LiGRU moumen2023",
    "RNN layer",
]
CASES += ["RNN None", "IndRNN layer", "IndRNN kinds", "IndRNN batch", "LSTM projected"]
# A norm over time, alone and beside norms of a row.
CASES += ["LSTM batch_pooled", "GRU batch before", "LiGRU ravanelli2018"]


def calls_of(name: str, dtype: torch.dtype = F64) -> dict[str, tuple[Any, ...]]:
    """Return the arguments of every operator in one call of a layer and its backward pass."""
    cell, norm = TAKEN[name.replace("zoneout", "layer").replace("projected", "layer")]
    zoneout = (0.3, 0.2) if "zoneout" in name else 0.0
    options = {"proj_size": 3} if "projected" in name else {}
    layer = build(cell, norm, I, H, zoneout=zoneout, **options).to(dtype)
    call = Call.draw(layer, [4, 4, 4] if "batch" in name else [4, 2, 3]).to(dtype)
    input = call.input.requires_grad_()
    with Seen() as seen, seqnorm.use_backend("cpu"):
        output, last = layer(input, as_hx(call.state), lengths=call.lengths)
        results = (output, *parts_of(last))
        torch.autograd.backward(results, list(call.cotangents))
        with torch.no_grad():
            layer(input, as_hx(call.state), lengths=call.lengths)
    found = {name: plain(args) for name, args in seen.calls}
    assert set(found) == set(NAMES)
    return found


def plain(arguments: Any) -> tuple[Any, ...]:
    return tuple(a.detach().clone() if isinstance(a, Tensor) else a for a in arguments)


def operator(name: str) -> Any:
    return getattr(torch.ops.seqnorm, name).default


def with_unused(arguments: tuple[Any, ...], which: str) -> tuple[Any, ...]:
    """Return the call with two more steps and rows, as in a graph for all lengths."""
    names = [argument.name for argument in operator(which)._schema.arguments]
    longer = list(arguments)
    longer[FIRST - 1] = F.pad(arguments[FIRST - 1], (0, 2))
    for name in ("input", "stay_h", "stay_c", "output", "kept", "grad_output"):
        place = names.index(name) if name in names else None
        if place is not None and arguments[place] is not None:
            longer[place] = F.pad(arguments[place], (0, 0, 0, 2), value=torch.nan)
    return tuple(longer)


def test_no_step_of_the_batch_is_unused() -> None:
    for which, arguments in calls_of("LSTM batch").items():
        with pytest.raises(RuntimeError, match="no step is unused"):
            operator(which)(*with_unused(arguments, which))


@pytest.mark.parametrize(
    "name",
    [
        *("LSTM layer", "LSTM laurent2016", "LSTM zoneout", "GRU layer", "GRU dreamer"),
        *("LiGRU layer", "RNN layer", "IndRNN layer", "LSTM projected", "LSTM batch_pooled"),
    ],
)
def test_unused_rows(name: str) -> None:
    """Unused rows change nothing, whatever they hold, and their results and gradients are zero."""
    for which, arguments in calls_of(name).items():
        longer = with_unused(arguments, which)
        expected, found = operator(which)(*arguments), operator(which)(*longer)
        for a, e in zip(found, expected):
            assert_equal(a[: len(e)], e, which)
            assert not a[len(e) :].any()
            assert a.dim() == 2 or a.shape == e.shape
        assert any(a.shape != e.shape for a, e in zip(found, expected))
        finite = tuple(a.nan_to_num() if isinstance(a, Tensor) else a for a in longer)
        opcheck(operator(which), finite)


@pytest.mark.parametrize(
    ("name", "dtype"), [*((name, F64) for name in CASES), *((name, F32) for name in CASES[::3])]
)
def test_they_are_as_torch_wants_them(name: str, dtype: torch.dtype) -> None:
    """Schema, fake results, derivatives and compilation pass torch's checks."""
    calls = calls_of(name, dtype)
    for which, arguments in calls.items():
        opcheck(operator(which), arguments)
    for key, tensor in zip(Inputs._fields, calls["recurrence"][FIRST:]):
        if tensor is not None and not key.startswith(CONSTANT):
            tensor.requires_grad_()
    opcheck(operator("recurrence"), calls["recurrence"])


# Finite differences see r and d of Batch Renormalization, which are constants for gradients.
@pytest.mark.parametrize("name", [name for name in CASES if "renorm" not in name])
def test_gradients_of_every_order(name: str) -> None:
    """Gradients of the operator equal finite differences, also with unused rows."""
    call = calls_of(name)["recurrence"]
    if name in ("LSTM layer", "GRU kinds"):
        longer = with_unused(call, "recurrence")
        call = tuple(a.nan_to_num() if isinstance(a, Tensor) else a for a in longer)
    first, tensors = call[:FIRST], Inputs(*call[FIRST:])
    given = [
        t.requires_grad_()
        for key, t in tensors._asdict().items()
        if t is not None and not key.startswith(CONSTANT)
    ]

    def results(*given: Tensor) -> tuple[Tensor, ...]:
        rest = iter(given)
        inputs = (
            t if t is None or key.startswith(CONSTANT) else next(rest)
            for key, t in tensors._asdict().items()
        )
        output, h_n, c_n, *_ = torch.ops.seqnorm.recurrence(*first, *inputs)
        return (output, h_n, c_n) if first[0] == "LSTM" else (output, h_n)

    assert torch.autograd.gradcheck(results, given, atol=1e-5)
    if name in (
        *("LSTM layer", "GRU dreamer", "LiGRU kinds", "RNN layer", "IndRNN kinds"),
        "LSTM projected",
    ):
        assert torch.autograd.gradgradcheck(results, given, atol=1e-4)


def test_no_result_shares_memory() -> None:
    """No result shares memory with an argument, another result or later calls."""
    for name in CASES:
        for which, arguments in calls_of(name).items():
            results = operator(which)(*arguments)
            own = [r.untyped_storage().data_ptr() for r in results if r.numel()]
            given = [a.untyped_storage().data_ptr() for a in arguments if isinstance(a, Tensor)]
            assert len({*own, *given}) == len(own) + len(set(given)), f"{which}, {name}"
            before = [r.clone() for r in results]
            calls_of(name)
            assert all(r.equal(b) for r, b in zip(results, before)), f"{which}, {name}"


@pytest.mark.parametrize("name", ["LSTM layer", "GRU layer", "LiGRU layer", "IndRNN layer"])
def test_arguments_stay_as_they_are(name: str) -> None:
    for which, arguments in calls_of(name).items():
        before = plain(arguments)
        operator(which)(*arguments)
        for a, b in zip(arguments, before):
            assert a.equal(b) if isinstance(a, Tensor) else a == b, which


def changed(arguments: tuple[Any, ...], **values: Any) -> tuple[Any, ...]:
    """Return the arguments of a call with some of them replaced."""
    names = ("cell", "scheme", "zoneout", "batch_sizes", *Inputs._fields)
    named = dict(zip(names, arguments)) | values
    return (*named.values(), *arguments[len(names) :])


@pytest.mark.parametrize("which", NAMES)
@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [
        ("batch_sizes", [3, 3, 2, 2], "together be at most the 9 rows"),
        ("batch_sizes", [4, 3, 1, 1], "never grow from B = 3 on"),
        ("batch_sizes", [3, 2, 3, 1], "never grow from B = 3 on"),
        ("batch_sizes", [3, 0, 3, 3], "never grow from B = 3 on"),
        ("batch_sizes", [3, 3, 3, -1], "never grow from B = 3 on"),
        ("input", (9, 4), "weight_ih must be (20, 4), got (20, 3)"),
        ("weight_ih", (15, 3), "weight_ih must be (20, 3), got (15, 3)"),
        ("weight_hh", (20, 6), "weight_hh must be (20, 5), got (20, 6)"),
        ("h_0", (3, 4), "weight_ih must be (16, 3), got (20, 3)"),
        ("c_0", (2, 5), "c_0 must be (3, 5), got (2, 5)"),
        ("c_0", None, "the states of LSTM are h, c"),
        ("gain_h", (5,), "gain_h must be (20,), got (5,)"),
        ("gain_c", (20,), "gain_c must be (5,), got (20,)"),
        ("bias_0", (19,), "bias_0 must be (20,), got (19,)"),
        ("columns_c", (4, 2, 20), "columns_c must be (4, 2, 5), got (4, 2, 20)"),
        ("stay_h", (4, 5), "stay_h must be (9, 5), got (4, 5)"),
        ("zoneout", [0.1], "the states of LSTM are h, c"),
        ("scheme", NormScheme(bias_ih="outside", bias_hh="inside").text, "before its norm"),
    ],
)
def test_wrong_arguments(which: str, argument: str, value: Any, message: str) -> None:
    """They raise errors, because anybody may call the operators and the kernels check no sizes."""
    if isinstance(value, tuple):
        value = torch.zeros(value, dtype=F64)
    elif argument == "batch_sizes":
        value = torch.tensor(value)
    arguments = changed(calls_of("LSTM layer")[which], **{argument: value})
    with pytest.raises(RuntimeError, match=re.escape(message)):
        operator(which)(*arguments)


@pytest.mark.parametrize("which", NAMES)
@pytest.mark.parametrize(
    ("name", "argument", "shape", "message"),
    [
        ("LSTM projected", "weight_hr", (3, 4), "weight_hr must be (3, 5), got (3, 4)"),
        ("LSTM projected", "weight_hr", (2, 5), "weight_hr must be (3, 5), got (2, 5)"),
        ("LSTM projected", "weight_hh", (20, 5), "weight_hh must be (20, 3), got (20, 5)"),
        ("LSTM projected", "h_0", (3, 5), "weight_hh must be (20, 5), got (20, 3)"),
        ("LSTM projected", "c_0", (3, 3), "c_0 must be (3, 5), got (3, 3)"),
        ("LSTM projected", "stay_h", (9, 5), "stay_h must be (9, 3), got (9, 5)"),
        ("GRU layer", "weight_hr", (5, 5), "a GRU has no projection weight_hr"),
    ],
)
def test_wrong_projections(
    which: str, name: str, argument: str, shape: tuple[int, ...], message: str
) -> None:
    given = {argument: torch.zeros(shape, dtype=F64)}
    with pytest.raises(RuntimeError, match=re.escape(message)):
        operator(which)(*changed(calls_of(name)[which], **given))


@pytest.mark.parametrize("name", CASES)
def test_where_there_are_no_kernels(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The definition computes a graph from another machine, forward and backward."""
    arguments = calls_of(name)["recurrence"]
    if name in ("LSTM kiros2016", "GRU kinds"):
        arguments = with_unused(arguments, "recurrence")
    constant = [key.startswith(CONSTANT) for key in Inputs._fields]
    leaves = [
        t.requires_grad_()
        for t, fixed in zip(arguments[FIRST:], constant)
        if t is not None and not fixed
    ]
    found = []
    for there in (True, False):
        monkeypatch.setattr(kernels, "exists", lambda there=there: there)
        with torch.no_grad():
            values = torch.ops.seqnorm.recurrence(*arguments)
        results = torch.ops.seqnorm.recurrence(*arguments)
        loss = sum(result.square().sum() for result in results if result.requires_grad)
        found.append((*values, *results, *torch.autograd.grad(loss, leaves)))
    for a, e in zip(*found):
        assert_close(a, e, GRADIENTS)


def test_a_call_without_steps() -> None:
    """A graph of any length may make such a call: state and gradient are unchanged."""
    arguments = calls_of("LSTM layer")["recurrence"]
    for rows in (0, 2):
        sizes = torch.zeros(rows, dtype=torch.int64)
        none = changed(arguments, batch_sizes=sizes, input=torch.ones(rows, I, dtype=F64))
        named = dict(zip(Inputs._fields, none[FIRST:]))
        leaves = [t.requires_grad_() for t in named.values() if t is not None]
        output, h_n, c_n, *_ = torch.ops.seqnorm.recurrence(*none)
        assert output.shape == (rows, H)
        assert not output.any()
        assert h_n.equal(named["h_0"])
        assert c_n.equal(named["c_0"])
        grads = torch.autograd.grad([output.sum() + h_n.sum() + 2 * c_n.sum()], leaves)
        of_states = {id(named["h_0"]): 1.0, id(named["c_0"]): 2.0}
        for leaf, grad in zip(leaves, grads):
            assert_equal(grad, torch.full_like(leaf, of_states.get(id(leaf), 0.0)))


def test_a_scheme_as_text() -> None:
    """Every scheme can be restored from its text."""
    schemes = [scheme for cells in PRESETS.values() for scheme in cells.values()]
    schemes += [norm for _, norm in TAKEN.values() if isinstance(norm, NormScheme)]
    assert len(schemes) > 40
    schemes += [
        NormScheme(hidden=Norm(gain=number)) for number in (Fraction(1, 8), np.float32(0.5))
    ]
    for scheme in schemes:
        assert NormScheme.from_text(scheme.text) == scheme
    assert len({scheme.text for scheme in schemes}) == len(set(schemes))
