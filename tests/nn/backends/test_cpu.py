"""The kernels equal the definition for every norm, size, precision, instruction set and
number of threads.

Axes: T steps, B sequences, I = input size, H = hidden size.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from beside_reference import (
    SCHEMES,
    Call,
    assert_equals_reference,
    assert_same,
    assert_single,
    build,
    each_variant,
    needs_kernels,
    outcome,
    ragged,
    taken,
)
from hidden_states import as_hx, parts_of
from tolerances import VALUES, assert_close, assert_equal

import seqnorm
from seqnorm import Norm, NormScheme
from seqnorm.nn.backends.cpu import kernels, library

pytestmark = needs_kernels
TAKEN = taken()
# Sizes around the widths of vectors and panels, which are 2 to 32 reals.
SIZES = [1, 3, 4, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 130]
BATCHES = [1, 2, 3, 5, 6, 7, 8, 9, 13, 17]
Threads = Callable[[int], None]


def test_what_the_kernels_take() -> None:
    """The kernels take all schemes above and all presets."""
    presets = {name for name in TAKEN if name.split(" ", 1)[1] not in SCHEMES[name.split()[0]]}
    assert presets == {
        *("LSTM None", "LSTM layer", "LSTM rms", "LSTM batch_pooled", "LSTM ba2016"),
        *("LSTM ba2016_draw", "LSTM kiros2016", "LSTM fastrnns", "LSTM nemo", "LSTM haste"),
        *("LSTM tfa", "LSTM tf_contrib", "LSTM icefall", "LSTM di_engine", "LSTM nemo_batch"),
        "LSTM returnn",
        *("LSTM laurent2016", "GRU None", "GRU layer", "GRU rms", "GRU batch_pooled", "GRU ba2016"),
        *(
            "GRU kiros2016",
            "GRU haste",
            "GRU icefall",
            "GRU dreamer",
            "GRU laurent2016",
            "GRU nemo_batch",
        ),
        *(
            "LSTM kiros_torch",
            "LSTM batch",
            "LSTM batch_renorm",
            "LSTM cooijmans2016",
            "LSTM cooijmans2016_sequencewise",
        ),
        *("LSTM jihunchoi", "GRU batch", "GRU batch_renorm", "LiGRU None", "LiGRU layer"),
        *("LiGRU rms", "LiGRU batch"),
        *("LiGRU batch_pooled", "LiGRU ravanelli2018", "LiGRU moumen2023", "RNN None", "RNN layer"),
        *("RNN rms", "RNN batch", "RNN batch_pooled", "RNN ba2016", "RNN tfa", "RNN laurent2016"),
        *("RNN nemo_batch", "IndRNN None", "IndRNN layer", "IndRNN rms", "IndRNN batch"),
        *("IndRNN batch_pooled", "IndRNN haste", "SLSTM None", "SLSTM layer", "SLSTM rms"),
        *("SLSTM batch", "SLSTM batch_pooled", "SLSTM xlstm"),
    }
    assert len(TAKEN) - len(presets) == sum(map(len, SCHEMES.values()))


@pytest.mark.parametrize("name", TAKEN)
def test_every_norm(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One layer, and two layers in both directions, in training and in inference."""
    cell, norm = TAKEN[name]
    for options in ({}, {"num_layers": 2, "bidirectional": True}):
        # An sLSTM of 18 units has three heads.
        layer = build(cell, norm, 5, 18 if cell == "SLSTM" else 17, **options)
        call = Call.draw(layer, [3, 0, 7, 5, 7, 2, 0, 7])
        layer(call.input, lengths=call.lengths)  # update the statistics that inference reads
        for training in (True, False):
            layer.train(training)
            expected = outcome(layer, call, "reference")
            for variant in each_variant(monkeypatch):
                assert_same(outcome(layer, call), expected, variant)
                assert_single(layer, call, expected, variant)


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("norm", [None, "layer", "batch", "batch_pooled"])
@pytest.mark.parametrize("cell", library.STEPS)
def test_many_rows(
    cell: str, norm: str | None, number: int, threads: Threads, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gradients of matrices are sums over several blocks of 256 rows or more."""
    threads(number)
    monkeypatch.setattr(kernels, "LEAST_WORK", 1)
    layer = build(cell, norm, 7, 20)
    assert_equals_reference(layer, Call.draw(layer, [30] * 20 + [17] * 9 + [3]))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("cell", library.STEPS)
def test_without_a_bias(cell: str, bias: bool) -> None:
    for norm in (None, "rms", SCHEMES[cell]["hidden alone"]):
        layer = build(cell, norm, 4, 6, bias=bias)
        assert_equals_reference(layer, Call.draw(layer, [2, 4, 1]))


def norms_for(cell: str, hidden: int) -> list[NormScheme]:
    """Return a norm of both terms and one of their sum, without sets of few units."""
    kind = "rms" if hidden == 1 else "layer"
    each = Norm(kind, "separate" if hidden > 4 else "joint")
    if cell == "GRU":
        apart = NormScheme(input=each, hidden=each, bias_ih="both", bias_hh="outside")
        candidate = NormScheme(sum=Norm(kind, ("rz", "n")), bias_ih=None, update="write")
        return [apart, NormScheme(sum=Norm("layer"), bias_ih=None, update="write"), candidate]
    if cell != "LSTM":
        apart = NormScheme(input=each, hidden=each, bias_ih="both", bias_hh="outside")
        return [apart, NormScheme(sum=Norm("rms"), bias_ih="inside")]
    state = Norm("rms" if hidden <= 4 else "layer", eps=0.1)
    return [
        NormScheme(input=each, hidden=each, cell=state, cell_state="normalised", bias_ih="both"),
        NormScheme(sum=Norm("rms"), cell=state, bias_ih="inside"),
    ]


@pytest.mark.parametrize("hidden", SIZES)
@pytest.mark.parametrize("cell", library.STEPS)
def test_sizes(cell: str, hidden: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every H is tested, with each I, B and T in some of the tests."""
    number = SIZES.index(hidden)
    for half, norm in enumerate(norms_for(cell, hidden)):
        size = SIZES[(5 * number + 8 * half) % len(SIZES)]
        B, T = BATCHES[(number + 5 * half) % len(BATCHES)], 1 + (number + 3 * half) % 7
        layer = build(cell, norm, size, hidden)
        call = Call.draw(layer, ragged(B, T))
        expected = outcome(layer, call, "reference")
        for variant in each_variant(monkeypatch):
            what = f"I = {size}, B = {B}, {call.lengths}, {variant}"
            assert_same(outcome(layer, call), expected, what)
            assert_single(layer, call, expected, what)


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("cell", library.STEPS)
def test_batches(cell: str, batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every number of rows, in full and in incomplete panels."""
    layer = build(cell, norms_for(cell, 130)[0], 66, 130)
    call = Call.draw(layer, None, batch, 3)
    expected = outcome(layer, call, "reference")
    for variant in each_variant(monkeypatch):
        assert_same(outcome(layer, call), expected, variant)
        assert_single(layer, call, expected, variant)


@pytest.mark.parametrize("cell", library.STEPS)
def test_more_than_a_block(cell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes above a block of the products.

    Blocks have 48 rows for products with the weights, and 256 rows, 240 units of gates (6 or 8 at
    a time) and 512 inputs for gradients of the weights.
    """
    layer = build(cell, norms_for(cell, 130)[0], 530, 83)
    call = Call.draw(layer, [9] * 27 + [8, 7, 0, 5, 3, 1])
    assert sum(call.lengths or ()) > 256
    expected = outcome(layer, call, "reference")
    for variant in each_variant(monkeypatch):
        assert_same(outcome(layer, call), expected, variant)


@pytest.mark.parametrize("number", [1, 2, 3, 5])
@pytest.mark.parametrize("cell", library.STEPS)
def test_threads(cell: str, number: int, threads: Threads, monkeypatch: pytest.MonkeyPatch) -> None:
    """More threads than rows, than panels of units, and than both.

    When sequences end, threads that divided the rows divide the units instead; the gradients do the
    reverse.
    """
    threads(number)
    for hidden, lengths in (
        (3, [2, 3, 1]),
        (37, [4, 5, 1, 5, 0, 3, 5]),
        (130, [3, 2]),
        (161, [3, 1, 2, 2, 3, 2, 2, 3, 1, 1, 2, 2, 1, 1, 1, 1, 1, 0, 1, 1, 1, 1]),
        (7, [4] * 12 + [3] * 9 + [2] * 20 + [1] * 5),
    ):
        for norm in norms_for(cell, hidden):
            layer = build(cell, norm, 5, hidden)
            call = Call.draw(layer, lengths)
            expected = outcome(layer, call, "reference")
            for variant in each_variant(monkeypatch):
                what = f"H = {hidden}, {variant}"
                assert_same(outcome(layer, call), expected, what)
            assert_single(layer, call, expected, what)
            layer.requires_grad_(False)
            with seqnorm.use_backend("cpu"):
                output, _ = layer(call.input, as_hx(call.state), call.lengths)
            assert_close(output, expected["output"], VALUES, f"without gradients, {what}")


@pytest.mark.parametrize("cell", library.STEPS)
def test_the_same_every_time(cell: str, threads: Threads) -> None:
    """Threads add in a fixed order, so no bit depends on their timing."""
    threads(3)
    layer = build(cell, norms_for(cell, 130)[0], 9, 130)
    call = Call.draw(layer, [4, 2, 4, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1])
    first = outcome(layer, call)
    for _ in range(5):
        for name, value in outcome(layer, call).items():
            assert_equal(value, first[name], name)


@pytest.mark.parametrize("name", TAKEN)
def test_without_gradients_the_numbers_are_the_same(name: str) -> None:
    cell, norm = TAKEN[name]
    layer = build(cell, norm, 5, 17)
    call = Call.draw(
        layer, [3, 0, 6, 6, 1, 6, 2, 5, 6, 4, 3, 6]
    )  # W_ih x computed at each step, then at once
    expected = outcome(layer, call)
    layer.requires_grad_(False)
    with seqnorm.use_backend("cpu"):
        output, last = layer(call.input, as_hx(call.state), call.lengths)
    for found, which in zip((output, *parts_of(last)), ("output", "h_n", "c_n")):
        assert not found.requires_grad
        assert_equal(found, expected[which], which)


@dataclass
class Told:
    """A call of the library: variant, precision, arguments and the rest."""

    name: str
    variant: int
    wide: int
    passes: list[Any]
    others: tuple[int, ...]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Told]:
    """Record every call of the library."""
    seen: list[Told] = []
    real = kernels.LIBRARY

    def spy(name: str) -> Callable[..., Any]:
        def call(variant: int, wide: int, pointer: Any, *others: Any) -> Any:
            one = name == "seqnorm_sizes"
            passes = [pointer._obj] if one else [each.contents for each in pointer]
            seen.append(Told(name, variant, wide, passes, others))
            return getattr(real, name)(variant, wide, pointer, *others)

        return call

    names = ("seqnorm_sizes", "seqnorm_forward", "seqnorm_backward")
    monkeypatch.setattr(kernels, "LIBRARY", SimpleNamespace(**{n: spy(n) for n in names}))
    return seen


@pytest.mark.parametrize("cell", library.STEPS)
def test_what_needs_no_gradient_keeps_nothing(cell: str, told: list[Told]) -> None:
    """Frozen layers, calls under no_grad and in inference mode keep nothing."""
    layer = build(cell, "layer", 3, 17)
    x = torch.randn(4, 2, 3, dtype=torch.float64)
    frozen = copy.deepcopy(layer).requires_grad_(False)
    for inside, one, keeps in (
        (nullcontext(), layer, 1),
        (nullcontext(), frozen, 0),
        (torch.no_grad(), layer, 0),
        (torch.inference_mode(), layer, 0),
    ):
        told.clear()
        with inside:
            one(x, lengths=[4, 4])  # without lengths, inference is a prepared call
        assert [call.name for call in told] == ["seqnorm_sizes", "seqnorm_forward"]
        assert [one.keep for call in told for one in call.passes] == [keeps] * 2, inside


def test_what_a_call_is_told(
    monkeypatch: pytest.MonkeyPatch, threads: Threads, told: list[Told]
) -> None:
    """A call gets the chosen instruction set, and every thread if each has enough work."""
    threads(3)
    for least, expected in ((1, 3), (2 * 4 * 17 * 17, 2), (4 * 4 * 17 * 17 + 1, 1)):
        told.clear()
        monkeypatch.setattr(kernels, "LEAST_WORK", least)
        layer = build("LSTM", "layer", 3, 17)
        outcome(layer, Call.draw(layer, [2, 1, 2, 2, 0]))
        names = [call.name for call in told]
        sizes = "seqnorm_sizes"
        assert names == [sizes, "seqnorm_forward", sizes, "seqnorm_backward"]
        for call in told:
            assert call.variant == library.VARIANTS[library.CHOSEN]
            assert call.wide == 1
            assert call.passes[0].threads == expected
            assert call.name == sizes or call.others == (1, expected)


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_directions_run_at_the_same_time(
    norm: str, monkeypatch: pytest.MonkeyPatch, threads: Threads, told: list[Told]
) -> None:
    """Each direction has a share of the threads; with norms of the batch they are sequential."""
    monkeypatch.setattr(kernels, "LEAST_WORK", 1)
    for number, share in ((1, 1), (2, 1), (3, 2), (4, 2)):
        threads(number)
        told.clear()
        layer = build("LSTM", norm, 3, 17, bidirectional=True)
        outcome(layer, Call.draw(layer, [4, 4, 4]))
        passes = [call for call in told if call.name != "seqnorm_sizes"]
        if norm == "batch":
            assert [call.others for call in passes] == [(1, number)] * 4
        else:
            assert [call.others for call in passes] == [(2, number)] * 2
            assert {one.threads for call in passes for one in call.passes} == {share}
