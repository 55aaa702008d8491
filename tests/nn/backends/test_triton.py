"""The kernels in Triton, interpreted, compared with the float64 oracle and with the definition.

A program that computes all steps of some rows and one that computes a single step are two ways
through the same kernels, and each is compared. On a GPU the former takes float32 alone.

Axes: T steps, B sequences, I = input size, H = hidden size.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from beside_reference import SCHEMES, Call, assert_same, outcome
from beside_reference import build as build_other
from comparing import DISTINCT, SHAPES, Case, build, compare, randomise, scheme_of
from tolerances import GRADIENTS, SINGLE, assert_close, assert_equal
from torch import Tensor
from triton_here import needs_triton, scheme_inside

import seqnorm

pytestmark = needs_triton
CELLS = ("LSTM", "GRU", "RNN", "LiGRU")
# Most tests need one cell of each kernel, and that of the LiGRU is that of the RNN.
KERNELS = ("LSTM", "GRU", pytest.param("RNN", marks=pytest.mark.whole), "LiGRU")
NONLINEAR = {"RNN": "relu", "LiGRU": "tanh"}  # not the default of each cell
WAYS = ("loop", "step")
TAKEN = [(name, cell) for name, cell in DISTINCT if cell in CELLS and "renorm" not in name]
OWN = [(cell, name) for cell in CELLS for name in (*SCHEMES[cell], "batch sum and both biases")]
BIASES = seqnorm.NormScheme(sum=seqnorm.Norm("batch"), bias_ih="inside", bias_hh="inside")
FORMS = [form for form in SHAPES if form not in ("projected", "all")]


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Choose how programs go through the steps. Norms of the batch always take single steps."""
    from seqnorm.nn.backends.triton import layout, passes

    chosen = {"loop": layout.of_loop, "step": layout.of_step}[request.param]

    def tiles_of(call: Any, inputs: Any) -> layout.Tiles:
        return (layout.of_batch if call.own(inputs) else chosen)(*inputs.h_0.shape)

    monkeypatch.setattr(passes, "tiles_of", tiles_of)
    return request.param


def check(layer: Any, scheme: Any, case: Case, zoneout: tuple[float, ...] = ()) -> None:
    compare(layer, scheme, case, zoneout, backends=["triton"])


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize(("name", "cell"), TAKEN)
def test_against_oracle(name: str, cell: str, mode: str, way: str) -> None:
    scheme = scheme_of(name, cell)
    layer = build(cell, scheme, bidirectional=True)
    randomise(layer)
    check(layer.train(mode == "train"), scheme, Case.draw(layer))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["none", "layer", "batch"])
@pytest.mark.parametrize("cell", CELLS)
def test_forms_of_layers(cell: str, name: str, form: str, way: str) -> None:
    scheme = scheme_inside(name, cell)
    layer = build(cell, scheme, **SHAPES[form])
    randomise(layer)
    check(layer, scheme, Case.draw(layer))


@pytest.mark.parametrize("states", ["none", "zero"])
@pytest.mark.parametrize("name", ["layer", "batch"])
@pytest.mark.parametrize("cell", KERNELS)
def test_at_initial_values(cell: str, name: str, states: str, way: str) -> None:
    scheme = scheme_inside(name, cell)
    layer = build(cell, scheme)
    check(layer, scheme, Case.draw(layer, states))


@pytest.mark.parametrize("name", ["layer", "batch"])
@pytest.mark.parametrize("cell", KERNELS)
def test_equal_lengths(cell: str, name: str, way: str) -> None:
    scheme = scheme_inside(name, cell)
    layer = build(cell, scheme, num_layers=2, bidirectional=True)
    randomise(layer)
    check(layer, scheme, Case.draw(layer, lengths=(4, 4, 4), steps=6))


@pytest.mark.parametrize("name", ["none", "layer", "batch"])
@pytest.mark.parametrize("cell", CELLS)
def test_resets_and_first_steps(cell: str, name: str, way: str) -> None:
    scheme = scheme_inside(name, cell)
    layer = build(cell, scheme)
    randomise(layer)
    case = Case.draw(layer)
    case.resets = torch.rand(case.input.shape[:2]) < 0.4
    case.first_step = (2, 0, 1, 3, 0) if name == "batch" else None
    check(layer, scheme, case)


@pytest.mark.parametrize("name", ["none", "layer", "fastrnns", "batch"])
def test_zoneout_of_the_lstm(name: str, way: str) -> None:
    scheme = scheme_inside(name, "LSTM")
    for zoneout in ((0.3, 0.3), (0.0, 0.8), (1.0, 0.2)):
        layer = build("LSTM", scheme, zoneout=zoneout).eval()
        randomise(layer)
        check(layer, scheme, Case.draw(layer), zoneout)


@pytest.mark.parametrize("name", ["none", "layer", "batch"])
@pytest.mark.parametrize("cell", CELLS[1:])
def test_zoneout_of_the_others(cell: str, name: str, way: str) -> None:
    scheme = scheme_inside(name, cell)
    for zoneout in (0.3, 1.0):
        layer = build(cell, scheme, zoneout=zoneout).eval()
        randomise(layer)
        check(layer, scheme, Case.draw(layer), (zoneout,))


@pytest.mark.parametrize("name", ["none", "layer", "batch"])
@pytest.mark.parametrize("cell", NONLINEAR)
def test_the_other_nonlinearity(cell: str, name: str, way: str) -> None:
    scheme = scheme_inside(name, cell)
    layer = build(cell, scheme, bidirectional=True, nonlinearity=NONLINEAR[cell])
    randomise(layer)
    check(layer, scheme, Case.draw(layer))


@pytest.mark.parametrize("cell", NONLINEAR)
def test_a_nonlinearity_set_later(cell: str, way: str) -> None:
    layer = build_other(cell, scheme_inside("layer", cell), 3, 5)
    call = Call.draw(layer, [4, 2, 3])
    for nonlinearity in ("tanh", "relu", "tanh"):
        layer.step.nonlinearity = nonlinearity
        assert_same(outcome(layer, call, "triton"), outcome(layer, call, "reference"))


@pytest.mark.parametrize("cell", NONLINEAR)
def test_relu_at_zero_and_of_nan(cell: str, way: str) -> None:
    """The derivative at 0 is 0, and NaN stays NaN, as in torch."""
    layer = getattr(seqnorm, cell)(1, 5, nonlinearity="relu", dtype=torch.float64)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
        layer.weight_ih_l0[:5] = 1.0
    # One sequence each, so that a NaN reaches no other.
    x = torch.tensor([-1.0, 0.0, 2.0, torch.nan]).double().requires_grad_()
    found = []
    for backend in ("triton", "reference"):
        with seqnorm.use_backend(backend):
            output = layer(x[None, :, None])[0][0]
        found.append((output.detach(), torch.autograd.grad(output.sum(), x)[0]))
    for actual, expected in zip(*found):
        assert_equal(actual[:3], expected[:3])
    values, gradients = found[0]
    assert values[3].isnan().all()
    assert gradients[:3].gt(0).tolist() == [False, False, True]


@pytest.mark.parametrize("cell", KERNELS)
def test_drawn_zoneout(cell: str, way: str) -> None:
    layer = build_other(cell, scheme_inside("layer", cell), 3, 8, zoneout=0.4)
    call = Call.draw(layer, [4, 0, 6, 1])
    assert_same(outcome(layer, call, "triton"), outcome(layer, call, "reference"))


@pytest.mark.parametrize(("cell", "name"), OWN)
def test_other_schemes(cell: str, name: str, way: str) -> None:
    """Sites, sets, gains and biases that no preset has, with more rows and units than a tile."""
    layer = build_other(cell, SCHEMES[cell].get(name, BIASES), 3, 19)
    call = Call.draw(layer, [4, 0, 5, 1, *[3] * 15])
    assert_same(outcome(layer, call, "triton"), outcome(layer, call, "reference"))


@pytest.mark.parametrize("poison", [float("nan"), float("inf"), 1e6])
@pytest.mark.parametrize("name", ["layer", "batch"])
def test_padding_is_not_read(name: str, poison: float, way: str) -> None:
    layer = build_other("LSTM", name, 3, 5)
    call = Call.draw(layer, [4, 2, 0, 3])
    expected = outcome(layer, call, "triton")
    for b, length in enumerate(call.lengths or ()):
        call.input[length:, b] = poison
    for what, value in outcome(layer, call, "triton").items():
        assert_equal(value, expected[what], what)


@pytest.mark.parametrize("cell", KERNELS)
def test_inference_keeps_nothing(cell: str, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from seqnorm.nn.backends.triton import passes

    kept = []
    real = passes.Forward.run
    monkeypatch.setattr(passes.Forward, "run", lambda self: (real(self), kept.append(self.kept))[0])
    layer = build_other(cell, scheme_inside("layer", cell), 3, 5).eval()
    x = torch.randn(4, 2, 3).double()
    with seqnorm.use_backend("triton"), torch.no_grad():
        layer(x)
    assert kept == [None]


@pytest.mark.parametrize("name", ["none", "layer", "batch"])
@pytest.mark.parametrize("cell", KERNELS)
def test_a_second_backward_pass(cell: str, name: str, way: str) -> None:
    """The kept values are still there, and a second derivative is that of the definition."""
    layer = build_other(cell, scheme_inside(name, cell), 3, 5)
    x = torch.randn(4, 3, 3).double().requires_grad_()
    found = []
    for backend in ("triton", "reference"):
        layer.load_state_dict(layer.state_dict())
        with seqnorm.use_backend(backend):
            output = layer(x, lengths=[4, 2, 3])[0]
        weights = torch.linspace(-1.0, 1.0, output.numel()).double().view_as(output)
        value = (output * weights).sum()
        (first,) = torch.autograd.grad(value, x, retain_graph=True)
        (again,) = torch.autograd.grad(value, x, retain_graph=True)
        assert_equal(again, first)
        (once,) = torch.autograd.grad(value, x, create_graph=True)
        assert_close(once.detach(), first, GRADIENTS)
        found.append([first, *torch.autograd.grad(once.square().sum(), list(layer.parameters()))])
    for actual, expected in zip(*found):
        assert_close(actual, expected, GRADIENTS)


@pytest.mark.parametrize("cell", KERNELS)
def test_gradients_do_not_share_memory(cell: str, way: str) -> None:
    """Otherwise a second backward pass would add to both of two parameters."""
    norm = seqnorm.Norm("layer")
    scheme = seqnorm.NormScheme(input=norm, hidden=norm, bias_ih="outside", bias_hh="outside")
    layer = build_other(cell, scheme, 3, 5)
    x = torch.randn(4, 2, 3).double()
    found = []
    for backend in ("triton", "reference"):
        layer.zero_grad()
        for _ in range(2):
            with seqnorm.use_backend(backend):
                layer(x)[0].sum().backward()
        torch.nn.utils.clip_grad_norm_(layer.parameters(), 0.1)
        found.append([parameter.grad for parameter in layer.parameters()])
    for actual, expected in zip(*found):
        assert_close(actual, expected, GRADIENTS)


@pytest.mark.parametrize("cell", KERNELS)
def test_equal_calls_have_equal_results(cell: str, way: str) -> None:
    """Sums over rows have one order, so that a run can be repeated bit by bit."""
    layer = build_other(cell, scheme_inside("layer", cell), 3, 5)
    call = Call.draw(layer, [3] * 40)
    first, second = (outcome(layer, call, "triton") for _ in range(2))
    for what, value in first.items():
        assert_equal(second[what], value, what)


# The interpreter multiplies matrices of bfloat16 wrongly, and a program of one step does not do it.
HALF = [
    pytest.param(way, dtype, id=f"{way}-{str(dtype)[6:]}")
    for way in WAYS
    for dtype in (torch.bfloat16, torch.float16)
    if (way, dtype) != ("loop", torch.bfloat16)
]


def distance(actual: Tensor, expected: Tensor) -> float:
    """Return the largest difference, relative to the largest value."""
    scale = max(1.0, expected.abs().max().item())
    return (actual.double() - expected.double()).abs().max().item() / scale


@pytest.mark.parametrize(("way", "dtype"), HALF, indirect=["way"])
@pytest.mark.parametrize("name", ["none", "layer", "batch"])
@pytest.mark.parametrize("cell", CELLS)
def test_half_precision(cell: str, name: str, way: str, dtype: torch.dtype) -> None:
    """The results are about as close to float64 as those of the definition in half precision.

    A program of one step gets the product with W_hh in half precision, too.
    """
    layer = build_other(cell, scheme_inside(name, cell), 3, 5)
    call = Call.draw(layer, [4, 2, 3, 4, 4, 4])
    expected = outcome(layer, call, "reference")
    layer, call = layer.to(dtype), call.to(dtype)
    actual, other = outcome(layer, call, "triton"), outcome(layer, call, "reference")
    worst = max(distance(other[what], value) for what, value in expected.items())
    for what, value in expected.items():
        assert distance(actual[what], value) <= 8 * worst, what


@pytest.mark.parametrize(("way", "dtype"), HALF, indirect=["way"])
@pytest.mark.parametrize("cell", KERNELS)
def test_autocast(cell: str, way: str, dtype: torch.dtype) -> None:
    """The products have their operands in half precision, and the state stays in float32."""
    layer = build_other(cell, scheme_inside("layer", cell), 3, 5).float()
    x = torch.randn(4, 2, 3, requires_grad=True)

    def results(backend: str, enabled: bool) -> list[Tensor]:
        with seqnorm.use_backend(backend), torch.autocast("cpu", dtype, enabled=enabled):
            output, _ = layer(x)
        assert output.dtype == torch.float32
        return [output, *torch.autograd.grad(output.sum(), [x, *layer.parameters()])]

    exact, other = results("reference", False), results("reference", True)
    worst = max(map(distance, other, exact))
    assert worst > 0
    for actual, expected in zip(results("triton", True), exact):
        assert 0 < distance(actual, expected) <= 2 * worst


def test_values_are_close_in_float32(way: str) -> None:
    layer = build_other("LSTM", "layer", 3, 24)
    call = Call.draw(layer, [6, 2, 3, 4])
    expected = outcome(layer, call, "reference")
    actual = outcome(layer.float(), call.to(torch.float32), "triton")
    for what, value in expected.items():
        assert_close(actual[what], value, SINGLE, what)


@pytest.mark.parametrize("cell", KERNELS)
def test_of_one_sequence_and_of_one_step(cell: str, way: str) -> None:
    scheme = scheme_inside("layer", cell)
    layer = build(cell, scheme)
    randomise(layer)
    check(layer, scheme, Case.draw(layer, lengths=(5,), steps=5))
    check(layer, scheme, Case.draw(layer, lengths=(1, 1, 1), steps=1))
