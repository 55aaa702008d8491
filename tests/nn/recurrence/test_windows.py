"""Assorted-Time Normalization: statistics of the last steps of a sequence.

Axes: T steps, B sequences, I = input size, H = hidden size.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from comparing import LENGTHS, SHAPES, Case, H, I, T, build, compare, randomise
from hidden_states import parts_of
from tolerances import VALUES, assert_close, assert_equal
from torch import Tensor, nn
from torch_versions import needs_compiler

import seqnorm
from seqnorm import Norm, NormScheme
from seqnorm.models import LanguageModel
from seqnorm.nn.layers.cells import LAYERS
from seqnorm.nn.statistics_sets import StatisticsSet

F64 = torch.float64
LAYER = Norm("layer")


def schemes(cell: str, window: int) -> dict[str, NormScheme]:
    one = Norm("layer", window=window)
    rms = Norm("rms", window=window, part=0.4)
    found = {"frame, input, output": NormScheme(frame=rms, input=one, output=one)}
    if cell == "SLSTM":
        return {"output": NormScheme(output=Norm("layer", sets="heads", window=window))}
    if cell in ("LSTM", "GRU", "RNN"):
        apart = Norm("layer", sets="separate", window=window, eps_on="std", eps=0.1)
        found["separate"] = NormScheme(input=apart, hidden=apart)
        found["beside others"] = NormScheme(input=LAYER, hidden=rms, frame=Norm("batch"))
        found["sum"] = NormScheme(sum=one, bias_ih="inside")
    if cell == "GRU":
        of_gates = Norm("rms", sets=("rz", "n"), window=window)
        found["gates"] = NormScheme(input=of_gates, hidden=of_gates)
        found["candidate"] = NormScheme(
            sum=Norm("layer", sets=("rz", "n"), window=window), bias_ih="inside"
        )
    if cell == "LSTM":
        found["cell"] = NormScheme(cell=one)
        found["cell, fed back"] = NormScheme(cell=one, cell_state="normalised")
    return found


CASES = [
    (cell, name, window) for cell in LAYERS for window in (1, 2, 3, 9) for name in schemes(cell, 2)
]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("cell", "name", "window"), CASES)
def test_layers_equal_the_oracle(cell: str, name: str, window: int, training: bool) -> None:
    scheme = schemes(cell, window)[name]
    layer = build(cell, scheme)
    randomise(layer)
    compare(layer.train(training), scheme, Case.draw(layer))


@pytest.mark.parametrize("resets", [False, True])
@pytest.mark.parametrize("states", ["none", "random"])
@pytest.mark.parametrize("shape", ["bidirectional", "two_layers", "all"])
def test_forms_of_layers(shape: str, states: str, resets: bool) -> None:
    scheme = seqnorm.preset("layer", "LSTM", window=3)
    layer = build("LSTM", scheme, **SHAPES[shape])
    randomise(layer)
    case = Case.draw(layer, states)
    if resets:
        case.resets = torch.rand(T, len(LENGTHS)) < 0.3
    compare(layer, scheme, case)


@pytest.mark.parametrize("cell", ["LSTM", "GRU"])
def test_a_window_begins_anew_with_a_reset_and_with_a_call(cell: str) -> None:
    layer = build(cell, seqnorm.preset("layer", cell, window=4))
    randomise(layer)
    x = torch.randn(6, 2, I, dtype=F64)
    resets = torch.zeros(6, 2, dtype=torch.bool)
    resets[3] = True
    whole, _ = layer(x, resets=resets)
    first, state = layer(x[:3])
    second, _ = layer(x[3:])
    assert_close(whole, torch.cat([first, second]), VALUES)
    carried, _ = layer(x[3:], state)
    at_once, _ = layer(x)
    assert_close(at_once[:3], first, VALUES)
    assert not torch.allclose(at_once[3:], carried)


def test_poisoned_padding_changes_nothing() -> None:
    layer = build("LSTM", seqnorm.preset("layer", "LSTM", window=3), bidirectional=True)
    randomise(layer)
    clean = torch.zeros(T, len(LENGTHS), I, dtype=F64)
    for b, n in enumerate(LENGTHS):
        clean[:n, b] = torch.randn(n, I, dtype=F64)
    found = []
    for poison in (0.0, math.nan, math.inf, 1e6):
        x = clean.clone()
        for b, n in enumerate(LENGTHS):
            x[n:, b] = poison
        x.requires_grad_()
        output, last = layer(x, lengths=LENGTHS)
        loss = output.square().sum() + sum(part.square().sum() for part in parts_of(last))
        gradients = torch.autograd.grad(loss, [x, *layer.parameters()])
        found.append([output, *parts_of(last), *gradients])
    for other in found[1:]:
        for one, two in zip(found[0], other):
            assert_equal(one, two)


def test_a_window_of_one_step_is_the_norm_of_a_row() -> None:
    plain = build("LSTM", seqnorm.preset("layer", "LSTM"))
    randomise(plain)
    layer = build("LSTM", seqnorm.preset("layer", "LSTM", window=1))
    layer.load_state_dict(plain.state_dict())
    x = torch.randn(T, 2, I, dtype=F64)
    assert_equal(layer(x)[0], plain(x)[0])
    assert seqnorm.explain(layer, x).backends == seqnorm.explain(plain, x).backends
    cell = seqnorm.LSTMCell(I, H, norm=seqnorm.preset("layer", "LSTM", window=1))
    assert cell(torch.randn(2, I))[0].shape == (2, H)


def test_sets_of_one_unit_have_several_steps() -> None:
    scheme = NormScheme(cell=Norm("layer", window=3))
    layer = build("LSTM", scheme, hidden=1)
    randomise(layer)
    compare(layer, scheme, Case.draw(layer))
    with pytest.raises(ValueError, match="set of one unit"):
        build("LSTM", NormScheme(cell=LAYER), hidden=1)


def test_half_precision_and_empty_batches() -> None:
    scheme = seqnorm.preset("layer", "LSTM", window=3)
    layer = seqnorm.LSTM(I, H, norm=scheme, dtype=torch.bfloat16)
    x = torch.randn(5, 2, I, dtype=torch.bfloat16)
    assert layer(x)[0].dtype == torch.bfloat16
    for shape in ((0, 2, I), (5, 0, I)):
        output, _ = layer(torch.randn(shape, dtype=torch.bfloat16))
        assert output.shape == (*shape[:2], H)
        output.sum().backward()


@needs_compiler
@pytest.mark.filterwarnings("ignore::UserWarning")  # of torch, at a graph break
def test_compiled() -> None:
    torch.compiler.reset()
    layer = build("LSTM", seqnorm.preset("layer", "LSTM", window=3))
    randomise(layer)
    x = torch.randn(T, len(LENGTHS), I, dtype=F64)
    whole = torch.compile(layer, backend="aot_eager", fullgraph=True)
    assert_close(whole(x)[0], layer(x)[0], VALUES)
    compiled = torch.compile(layer, backend="aot_eager")
    assert_close(compiled(x, lengths=LENGTHS)[0], layer(x, lengths=LENGTHS)[0], VALUES)


def test_fields_and_texts() -> None:
    scheme = seqnorm.preset("layer", "GRU", window=8)
    assert all(norm.window == 8 for norm in scheme.norms.values())
    assert NormScheme.from_text(scheme.text) == scheme
    layer = seqnorm.GRU(I, H, norm=scheme)
    assert "preset('layer', 'GRU', window=8)" in repr(layer)
    assert "window=8" in repr(layer.norm_hh_l0)
    assert copy.deepcopy(layer).norm == scheme
    assert layer.state_dict().keys() == seqnorm.GRU(I, H, norm="layer").state_dict().keys()
    with pytest.raises(RuntimeError, match="in a pass over time"):
        layer.norm_hh_l0(torch.randn(2, 3 * H))


@pytest.mark.parametrize(
    ("window", "error", "message"),
    [
        (0, ValueError, "window must be greater than zero, got 0"),
        (2.0, TypeError, "window should be of type int"),
        (True, TypeError, "window should be of type int"),
    ],
)
def test_wrong_windows(window: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Norm("layer", window=window)


@pytest.mark.parametrize("kind", ["batch", "batch_pooled", "dynamic_tanh"])
def test_other_kinds_have_no_window(kind: str) -> None:
    with pytest.raises(ValueError, match="window is the number of steps in the set and belongs to"):
        Norm(kind, window=2)


def test_parts_of_a_sequence_are_refused() -> None:
    scheme = NormScheme(hidden=Norm("rms", window=4))
    says = r"hidden=Norm\('rms', window=4\) takes the statistics of 4 steps of one call, and "
    for make in (seqnorm.LSTMCell, seqnorm.GRUCell):
        with pytest.raises(ValueError, match=says + r"a cell computes one step.* use the layer"):
            make(I, H, norm=scheme)
    layer = seqnorm.LSTM(I, H, norm=scheme)
    with pytest.raises(ValueError, match=says + "a chunk would begin with an empty window"):
        seqnorm.compute_in_chunks(nn.Sequential(layer), 2)
    seqnorm.compute_in_chunks(layer, None)
    assert layer.chunks is None
    with pytest.raises(ValueError, match=says + "the parts of a sequence"):
        layer.one_direction(0, torch.randn(3, 2, I), None, torch.tensor([3, 2]), 0)
    mixed = NormScheme(frame=Norm("batch"), hidden=Norm("rms", window=4))
    layer = seqnorm.LSTM(I, H, norm=mixed)
    hx = tuple(torch.zeros(1, 2, H) for _ in range(2))
    with pytest.raises(ValueError, match=says + "sequences that begin at different steps"):
        layer(torch.randn(4, 2, I), hx, first_step=torch.tensor([0, 2]))
    model = LanguageModel(7, norm="rms", norm_options={"window": 4})
    with pytest.raises(ValueError, match="4 steps of one call, and a text is drawn by calls"):
        model.eval().generate([1, 2], 3, generator=torch.Generator())


def test_the_kernels_say_that_they_have_none_for_it() -> None:
    x = torch.randn(4, 2, I)
    plain = seqnorm.explain(seqnorm.LSTM(I, H, norm="layer"), x)
    for scheme in (
        seqnorm.preset("layer", "LSTM", window=2),
        NormScheme(frame=Norm("layer", window=2), hidden=LAYER),
        NormScheme(input=Norm("rms", window=2), hidden=LAYER),
        NormScheme(output=Norm("layer", window=2)),
    ):
        layer = seqnorm.LSTM(I, H, norm=scheme)
        said = seqnorm.explain(layer, x)
        assert said.backends == {"_l0": "reference"}
        if plain.backends == {"_l0": "cpu"}:
            reason = "it has no kernel for statistics of earlier steps (window)"
            assert said.reasons["_l0"]["cpu"] == reason
        with torch.no_grad():
            inferred = layer.eval()(x)[0]
        assert_close(inferred, layer.train()(x)[0], VALUES)


def seen_by(layer: Any, x: Tensor, place: tuple[int, int, int], lengths: list[int]) -> Tensor:
    jacobian = torch.autograd.functional.jacobian(lambda x: layer(x, lengths=lengths)[0][place], x)
    return jacobian != 0


@pytest.mark.usefixtures("forgotten_steps")
def test_the_set() -> None:
    """S reaches back and stays in one sequence: without a recurrence, an output shows it."""

    class Copying(seqnorm.Step):
        """h_t = W_ih x_t, whatever came before."""

        gates = "h"
        biases = ()

        def step(
            self, x: Tensor, h: Tensor, state: Any, norm: Any, scheme: Any, **own: Any
        ) -> tuple[Tensor, ...]:
            return (x + 0 * h,)

    scheme = NormScheme(frame=Norm("layer", window=3))
    layer = seqnorm.RecurrentLayer(Copying(), 4, 4, norm=scheme, dtype=F64)
    with torch.no_grad():
        layer.weight_ih_l0.copy_(torch.eye(4))
    of = seqnorm.statistics_set(layer)["frame"]
    lengths = [5, 3]
    x = torch.randn(5, 2, 4, dtype=F64)
    for place in ((0, 0, 1), (1, 1, 3), (2, 1, 0), (4, 0, 2)):
        mask = of.mask(x.shape, place, lengths)
        assert torch.equal(mask, seen_by(layer, x, place, lengths))
        assert int(mask.sum()) == 4 * min(3, place[0] + 1)


def test_the_set_in_words_and_as_a_picture() -> None:
    sets = seqnorm.statistics_set(
        seqnorm.LSTM(I, H, norm=seqnorm.preset("layer", "LSTM", window=3))
    )
    of = sets["hidden"]
    assert of.words == (
        "all units of the gates i, f, g and o, one sequence, "
        "one time step and the 2 steps before it"
    )
    assert "Stays inside one sequence" in str(of)
    assert "At the beginning of a sequence there are fewer steps." in str(of)
    assert (
        "the step before it"
        in seqnorm.statistics_set(seqnorm.LSTM(I, H, norm=seqnorm.preset("rms", "LSTM", window=2)))[
            "hidden"
        ].words
    )
    for svg in (of.svg(), sets.svg()):
        assert "give the dot&#x27;s mean and variance" in svg
        assert "other elements" in svg
        assert "share" not in svg
    # Three of five steps of eight units, or of those that are drawn, are dark.
    rows = StatisticsSet("S", ("T", "B", "F"), ("F",), window=3).svg(channels=4)
    assert rows.count('fill="#0072b2" stroke="#ffffff"') == 12


def test_windows_of_a_set_need_a_time_axis() -> None:
    for axes, spans in ((("N", "C", "H", "W"), ("C",)), (("N", "T", "C"), ("T", "C"))):
        with pytest.raises(ValueError, match="window=2 counts steps of a time axis"):
            StatisticsSet("S", axes, spans, window=2)
    with pytest.raises(ValueError, match="an empty S has no spans, groups, window"):
        StatisticsSet("S", ("N", "T", "C"), (), window=2, empty=True, centred=False)
