"""A step written outside of the library has all features of the others.

Axes: T steps, B sequences, I = input size, H = hidden size.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

import pytest
import torch
from hidden_states import of_layer
from tolerances import VALUES, assert_close
from torch import Tensor

import seqnorm
from seqnorm import Norm, NormScheme, RecurrentCell, RecurrentLayer
from seqnorm.nn.backends import explain
from seqnorm.nn.recurrence import step as registry
from seqnorm.nn.recurrence.packing import Packing

I, H, T, B = 3, 4, 5, 4  # noqa: E741  the axes' letters
F64 = torch.float64
LENGTHS = [5, 2, 0, 4]


pytestmark = pytest.mark.usefixtures("forgotten_steps")


@pytest.fixture
def step() -> seqnorm.Step:
    """h = h + sigmoid(l) (tanh(a) - h), gates a and l."""

    class LeakyStep(seqnorm.Step):
        gates = "al"
        biases = ("bias_ih",)
        presets: ClassVar[dict[str, NormScheme]] = {
            "layer": NormScheme(sum=Norm("layer"), bias_ih=None),
            "of_its_own": NormScheme(output=Norm("layer")),
        }

        def step(self, x: Tensor, h: Tensor, state: Any, norm: Any, scheme: Any) -> Any:
            a, leak = norm("sum", x + h).chunk(2, -1)
            return (state[0] + leak.sigmoid() * (a.tanh() - state[0]),)

    return LeakyStep()


def by_hand(layer: Any, x: Tensor, h: Tensor) -> Tensor:
    a, leak = (x @ layer.weight_ih_l0.T + layer.bias_ih_l0 + h @ layer.weight_hh_l0.T).chunk(2, -1)
    return h + leak.sigmoid() * (a.tanh() - h)


def test_it_is_computed(step: Any) -> None:
    layer = RecurrentLayer(step, I, H, dtype=F64)
    assert dict(layer.named_parameters()).keys() == {"weight_ih_l0", "weight_hh_l0", "bias_ih_l0"}
    x = torch.randn(T, B, I, dtype=F64)
    output, last = layer(x, lengths=LENGTHS)
    for b, length in enumerate(LENGTHS):
        h = torch.zeros(H, dtype=F64)
        for t in range(length):
            h = by_hand(layer, x[t, b], h)
            assert_close(output[t, b], h, VALUES)
        assert_close(last[0, b], h, VALUES)
        assert not output[length:, b].any()


def test_two_layers_in_both_directions(step: Any) -> None:
    layer = RecurrentLayer(step, I, H, num_layers=2, bidirectional=True, norm="layer", dtype=F64)
    x = torch.randn(T, B, I, dtype=F64)
    padded = torch.full((T, B, I), torch.nan, dtype=F64)
    for b, length in enumerate(LENGTHS):
        padded[:length, b] = x[:length, b]
    output, last = layer(padded, lengths=LENGTHS)
    assert last.shape == (4, B, H)
    for b, length in enumerate(LENGTHS):
        alone, state = layer(x[:length, b : b + 1])
        assert_close(output[:length, b], alone[:, 0], VALUES)
        assert_close(last[:, b], state[:, 0], VALUES)


def test_its_presets_are_found(step: Any) -> None:
    assert seqnorm.preset("of_its_own", "Leaky") == NormScheme(output=Norm("layer"))
    layer = RecurrentLayer(step, I, H, norm="layer")
    assert layer.norm == seqnorm.preset("layer", "Leaky")
    assert repr(layer).startswith("RecurrentLayer(\n  Leaky, 3, 4, norm='layer'\n")
    with pytest.raises(ValueError, match=r"for Leaky, not for LSTM"):
        seqnorm.LSTM(I, H, norm="of_its_own")
    known = r"not for Leaky; for Leaky there are layer, rms, batch, batch_pooled, of_its_own"
    with pytest.raises(ValueError, match=known):
        RecurrentLayer(step, I, H, norm="haste")
    with pytest.raises(ValueError, match=r"use the layer \(seqnorm\.RecurrentLayer\)"):
        RecurrentCell(step, I, H, norm="of_its_own")
    with pytest.raises(ValueError, match=r"a Leaky has no cell state"):
        RecurrentLayer(step, I, H, norm=NormScheme(cell=Norm("layer")))


def test_the_plain_names_have_presets(step: Any) -> None:
    for name, sites in (("rms", {"input", "hidden"}), ("batch_pooled", {"input"})):
        assert set(seqnorm.preset(name, "Leaky").norms) == sites


def test_torch_is_said_to_have_none(step: Any) -> None:
    packing = Packing.of_equal_lengths(B, T, torch.device("cpu"))
    layer, rows = RecurrentLayer(step, I, H, dtype=F64), torch.zeros(B * T, I, dtype=F64)
    reasons = explain(layer.directions()[0], rows, packing, of_layer(layer, B))
    assert reasons["aten"] == "torch has no Leaky of its own"
    assert reasons["cpu"] == "it has no kernel for the Leaky"
    assert reasons["reference"] is None


@pytest.mark.parametrize("norm", [None, "layer", "batch"])
def test_stepping_it_is_the_layer(step: Any, norm: str | None) -> None:
    layer = RecurrentLayer(step, I, H, norm=norm, dtype=F64)
    cell = RecurrentCell(step, I, H, norm=norm, dtype=F64)
    cell.load_state_dict({k.replace("_l0", ""): v for k, v in layer.state_dict().items()})
    x = torch.randn(T, B, I, dtype=F64)
    h = None
    expected = layer(x)[0]
    for t in range(T):
        h = cell(x[t], h, first_step=t)
        assert_close(h, expected[t], VALUES)
    assert list(cell.report().rows.values()) == list(layer.report().rows.values())


def test_its_zoneout_and_its_statistics(step: Any) -> None:
    layer = RecurrentLayer(step, I, H, norm="batch", zoneout=1.0, dtype=F64)
    x = torch.randn(T, B, I, dtype=F64)
    assert not layer(x)[0].any(), "a unit that is always held back stays at 0"
    assert layer.report().rows["norm_ih_l0.table"][: T + 1] == (B,) * T + (0,)
    assert seqnorm.reestimate_statistics(layer, [x]) == 1


def test_parameters_of_its_own() -> None:
    """They have the declared shapes, are drawn as all others, learn, and are saved."""

    class ScaledStep(seqnorm.Step):
        gates = "a"
        parameters: ClassVar[dict[str, tuple[str | int, ...]]] = {
            "scale": ("H",),
            "mix": (2, "I"),
            "gates": ("G",),
        }

        def step(self, x: Any, h: Any, state: Any, norm: Any, scheme: Any, **own: Any) -> Any:
            assert own.keys() == {"scale", "mix", "gates"}
            return ((x + h + own["scale"] * state[0] + own["mix"].sum() + own["gates"]).tanh(),)

    layer = RecurrentLayer(ScaledStep(), I, H, 2, bidirectional=True, dtype=F64)
    assert layer.scale_l1_reverse.shape == (H,)
    assert layer.mix_l0.shape == (2, I)
    assert layer.mix_l1.shape == (2, 2 * H)
    assert layer.gates_l0.shape == (1,)
    assert 0 < float(layer.scale_l0.detach().abs().max()) <= H**-0.5
    x = torch.randn(T, B, I, dtype=F64)
    output, _ = layer(x, lengths=LENGTHS)
    output.sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in layer.parameters())
    before = output.detach()
    seqnorm.compute_in_chunks(layer, 2, recompute=True)
    assert_close(layer(x, lengths=LENGTHS)[0], before, VALUES)
    twin = RecurrentLayer(ScaledStep(), I, H, 2, bidirectional=True, dtype=F64)
    twin.load_state_dict(layer.state_dict())
    assert_close(twin(x, lengths=LENGTHS)[0], before, VALUES)


def test_a_name_that_is_taken() -> None:
    with pytest.raises(ValueError, match=re.escape('another name, as name = "MyLSTM"')):
        type("LSTMStep", (seqnorm.Step,), {"gates": "a"})


def test_a_later_step_takes_the_place_of_one_of_the_same_name(step: Any) -> None:
    """As in a notebook that runs a cell again; a layer keeps the presets of its own step."""
    type("LeakyStep", (seqnorm.Step,), {"gates": "abc"})
    assert registry.STEPS["Leaky"].gates == "abc"
    with pytest.raises(ValueError, match="not for Leaky"):
        seqnorm.preset("haste", "Leaky")
    assert "of_its_own" not in registry.STEPS["Leaky"].presets
    assert RecurrentLayer(step, I, H, norm="of_its_own").norm.output is not None


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"gates": "aa"}, "gates of X must be different letters"),
        ({"gates": ""}, "gates of X must be different letters"),
        ({"states": ""}, "states of X must be different letters"),
        ({"zoned": "q"}, "zoned of X may be of 'h', got 'q'"),
        ({"biases": ("bias",)}, "biases of X may be of 'bias_ih', 'bias_hh'"),
        ({"fields": ("celll",)}, "fields of X may be of 'cell', 'cell_state', 'update'"),
        ({"parameters": {"weight_hr": ("H",)}}, "cannot have a parameter of the name 'weight_hr'"),
        ({"parameters": {"norm_ih": ("H",)}}, "cannot have a parameter of the name 'norm_ih'"),
        ({"parameters": {"w": 3}}, "must be a tuple of numbers and of the letters"),
        ({"parameters": {"w": ("Q",)}}, "must be a tuple of numbers and of the letters"),
        ({"parameters": {"w": (0,)}}, "must be a tuple of numbers and of the letters"),
    ],
)
def test_a_declaration_that_no_layer_could_have(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        type("XStep", (seqnorm.Step,), {"gates": "a", **wrong})
    assert "X" not in registry.STEPS


@pytest.mark.parametrize(
    ("returned", "error", "says"),
    [
        (lambda h: h, TypeError, r"must return a tuple of 1 tensors .*, got Tensor"),
        (lambda h: (h, h), ValueError, r"tuple of 1 tensors \(n, H\), one for each of h, got 2"),
        (lambda h: (h[:, :2],), ValueError, r"got a tensor \(4, 2\) for H = 4"),
    ],
)
def test_a_step_that_returns_no_state(returned: Any, error: type[Exception], says: str) -> None:
    body = {"gates": "a", "step": lambda self, x, h, *others: returned(x + h)}
    odd: Any = type("OddStep", (seqnorm.Step,), body)
    for module in (RecurrentLayer(odd(), I, H), RecurrentCell(odd(), I, H)):
        x = torch.randn(B, I) if isinstance(module, RecurrentCell) else torch.randn(1, B, I)
        with pytest.raises(error, match=says):
            module(x)


def test_a_norm_that_the_step_never_applies() -> None:
    body = {"gates": "a", "step": lambda self, x, h, *others: ((x + h).tanh(),)}
    plain: Any = type("PlainStep", (seqnorm.Step,), body)
    scheme = NormScheme(sum=Norm("layer"), bias_ih=None)
    with pytest.raises(ValueError, match=r"never calls norm\('sum', \.\.\.\)"):
        RecurrentLayer(plain(), I, H, norm=scheme)(torch.randn(T, B, I))
    with pytest.raises(ValueError, match="leave sum=None in the scheme"):
        RecurrentCell(plain(), I, H, norm=scheme)(torch.randn(B, I))
    body = {"gates": "a", "step": lambda self, x, h, s, norm, scheme: (norm("summ", x + h),)}
    typo: Any = type("TypoStep", (seqnorm.Step,), body)
    with pytest.raises(ValueError, match="normalises at 'sum', 'candidate', 'cell', not 'summ'"):
        RecurrentLayer(typo(), I, H)(torch.randn(T, B, I))


def test_a_projection_needs_a_step_that_can_have_one(step: Any) -> None:
    with pytest.raises(ValueError, match="a Leaky has no projection"):
        RecurrentLayer(step, I, H, proj_size=2)


def test_an_option_of_the_norm_in_a_class_of_ones_own(step: Any) -> None:
    class Mine(RecurrentLayer):
        def __init__(self, size: int, *, norm: Any = None) -> None:
            super().__init__(step, size, H, norm=norm)

    with pytest.raises(TypeError, match=r"norm=scheme\.replace\(eps=0\.001\)"):
        Mine(I, eps=1e-3)  # type: ignore[call-arg]  # the mistake


def test_what_is_no_step() -> None:
    leaky = type("OtherStep", (seqnorm.Step,), {"gates": "a"})
    with pytest.raises(TypeError, match=r"an instance of a step: write OtherStep\(\)"):
        RecurrentLayer(leaky, I, H)  # type: ignore[arg-type]  # the mistake
    with pytest.raises(TypeError, match=r"must be a seqnorm\.Step, got int"):
        RecurrentCell(I, H, 3)  # type: ignore[arg-type]  # the mistake
    with pytest.raises(NotImplementedError, match="OtherStep has no method step"):
        RecurrentLayer(leaky(), I, H)(torch.zeros(T, B, I))
