"""``weight_standardisation``, against rows standardised one by one in float64.

The layer itself is compared with the oracle of the recurrence, whose weights the loops below make.

Axes: R rows of a weight, K numbers in a row.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import oracles
import pytest
import torch
from comparing import NONLINEARITY, Case, H, I, Result, build, by_layer, copy_of, gradients_of
from tolerances import GRADIENTS, VALUES, assert_close, assert_equal
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch_versions import needs_compiler

import seqnorm
from seqnorm.nn.layers.cells import LAYERS

F64 = torch.float64
CELLS = ("LSTM", "GRU", "RNN", "LiGRU", "SLSTM")


def rows_standardised(v: Tensor, gain: Tensor | None, eps: float) -> Tensor:
    """Standardise each row of v (R, ...) by itself."""
    rows = []
    for r in range(len(v)):
        numbers = v[r].reshape(-1)
        mean = sum(numbers) / len(numbers)
        var = sum((number - mean) ** 2 for number in numbers) / len(numbers)
        row = torch.stack([(number - mean) / (var + eps) ** 0.5 for number in numbers])
        rows.append((row if gain is None else row * gain[r]).reshape(v[r].shape))
    return torch.stack(rows)


def by_oracle(
    kind: str, layer: Any, scheme: Any, case: Case, cotangents: Sequence[Tensor], eps: float
) -> Result:
    """Make the call of ``layer`` by the oracle of ``kind``, from the parameters before them."""
    state = copy_of(layer.state_dict())
    leaves = {name: state[name].requires_grad_() for name, _ in layer.named_parameters()}
    computed = dict(state)
    for name in layer.parametrizations:
        before = f"parametrizations.{name}."
        gain = leaves.get(before + "0.gain")
        computed[name] = rows_standardised(leaves[before + "original"], gain, eps)
    leaves["input"] = case.input.detach().clone().requires_grad_()
    assert case.states is not None
    states = tuple(part.detach().clone().requires_grad_() for part in case.states)
    leaves |= {f"state {j}": part for j, part in enumerate(states)}
    answer = oracles.layers(
        kind,
        scheme,
        computed,
        [[leaves["input"][t, b] for t in range(n)] for b, n in enumerate(case.lengths)],
        states,
        hidden=layer.hidden_size,
        num_layers=layer.num_layers,
        directions=2 if layer.bidirectional else 1,
        training=layer.training,
        nonlinearity=NONLINEARITY.get(kind, ""),
        heads=getattr(layer, "num_heads", 0),
    )
    output = torch.zeros_like(cotangents[0])
    for b, rows in enumerate(answer.outputs):
        for t, row in enumerate(rows):
            output[t, b] = row
    values = (output, *answer.states)
    return Result(values, gradients_of(values, cotangents, leaves), {})


@pytest.mark.parametrize("gain", [None, 0.3, "unit"])
@pytest.mark.parametrize("norm", [None, "layer", "rms"])
@pytest.mark.parametrize("kind", CELLS)
def test_layers_equal_the_oracle(kind: str, norm: str | None, gain: Any) -> None:
    scheme = None if norm is None else seqnorm.preset(norm, kind)
    hidden = 6 if kind == "SLSTM" else H  # three units in a head
    layer = build(kind, scheme, hidden, num_layers=2, bidirectional=True)
    for parameter in layer.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    case = Case.draw(layer)
    seqnorm.weight_standardisation(layer, eps=1e-3, gain=gain)
    assert len(layer.parametrizations) == 8, "W_ih and W_hh of two layers and directions"
    for name, parameter in layer.named_parameters():
        if name.endswith("gain"):
            width = layer.get_parameter(name.replace("0.gain", "original")).shape[1]
            wanted = torch.full_like(parameter, 0.3 if gain == 0.3 else width**-0.5)
            assert_close(parameter.detach(), wanted, VALUES, name)
            parameter.data += 0.1 * torch.randn_like(parameter)
    cotangents = [torch.randn(len(case.input), len(case.lengths), 2 * hidden, dtype=F64)]
    assert case.states is not None
    cotangents += [torch.randn_like(part) for part in case.states]
    right = by_oracle(kind, layer, scheme, case, cotangents, 1e-3)
    for backend in (None, "reference"):
        ours = by_layer(layer, case, cotangents, backend)
        assert len(ours.values) == len(right.values)
        for actual, expected in zip(ours.values, right.values):
            assert_close(actual, expected, VALUES, str(backend))
        assert ours.gradients.keys() == right.gradients.keys()
        for name, expected in right.gradients.items():
            assert_close(ours.gradients[name], expected, GRADIENTS, f"{backend}, {name}")


@pytest.mark.parametrize("norm", [None, "layer", "batch"])
def test_the_kernels_stay(norm: str | None) -> None:
    layer = seqnorm.LSTM(I, H, norm=norm, bidirectional=True)
    x, lengths = torch.randn(6, 3, I), [6, 2, 4]
    before = seqnorm.explain(layer, x, lengths)
    if "cpu" not in before.backends.values():
        pytest.skip("there are no kernels here")
    seqnorm.weight_standardisation(layer)
    assert seqnorm.explain(layer, x, lengths) == before
    with seqnorm.use_backend("cpu"):
        layer(x, lengths=lengths)[0].sum().backward()
    for name, parameter in layer.named_parameters():
        assert parameter.grad is not None, name


@pytest.mark.parametrize("norm", [None, "layer"])
def test_a_cell_equals_its_layer(norm: str | None) -> None:
    layer = seqnorm.GRU(I, H, norm=norm, dtype=F64)
    cell = seqnorm.GRUCell(I, H, norm=norm, dtype=F64)
    cell.load_state_dict({k.replace("_l0", ""): v for k, v in layer.state_dict().items()})
    for module in (layer, cell):
        seqnorm.weight_standardisation(module, gain="unit")
    x = torch.randn(5, 2, I, dtype=F64)
    h, outputs = torch.zeros(2, H, dtype=F64), []
    with parametrize.cached():
        for frame in x:
            h = cell(frame, h)
            outputs.append(h)
    assert_close(torch.stack(outputs), layer(x)[0], VALUES)


@pytest.mark.parametrize("gain", [None, 0.5])
@pytest.mark.parametrize("module", [nn.Conv2d(3, 4, (2, 3), dtype=F64), nn.Linear(3, 4, dtype=F64)])
def test_other_modules(module: nn.Module, gain: float | None) -> None:
    module = copy.deepcopy(module)
    before = module.get_parameter("weight").detach().clone().requires_grad_()
    seqnorm.weight_standardisation(module, "weight", eps=1e-4, gain=gain)
    weight: Any = module.weight
    cotangent = torch.randn_like(weight)
    given = None if gain is None else torch.full((4,), gain, dtype=F64)
    expected = rows_standardised(before, given, 1e-4)
    assert_close(weight, expected, VALUES)
    (wanted,) = torch.autograd.grad(expected, before, cotangent)
    original = module.get_parameter("parametrizations.weight.original")
    (found,) = torch.autograd.grad(weight, original, cotangent)
    assert_close(found, wanted, GRADIENTS)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("weight_hh_l1", {"weight_hh_l1"}),
        ("weight_hh", {f"weight_hh_l{k}{end}" for k in (0, 1) for end in ("", "_reverse")}),
        (["weight_ih_l0", "weight_ih_l0_reverse"], {"weight_ih_l0", "weight_ih_l0_reverse"}),
        (("weight_hh_l1", "weight_hh_l1"), {"weight_hh_l1"}),
    ],
)
def test_names(names: Any, expected: set[str]) -> None:
    layer = seqnorm.LSTM(I, H, num_layers=2, bidirectional=True)
    assert seqnorm.weight_standardisation(layer, names) is layer
    assert set(layer.parametrizations) == expected


def test_a_later_call_adds_names() -> None:
    layer = seqnorm.weight_standardisation(seqnorm.LSTM(I, H), "weight_ih")
    seqnorm.weight_standardisation(layer, "weight_hh")
    assert set(layer.parametrizations) == {"weight_ih_l0", "weight_hh_l0"}


def test_the_name_of_the_layer_stays_in_the_words_of_its_sets() -> None:
    layer = seqnorm.weight_standardisation(seqnorm.LSTM(I, H, norm="layer"))
    assert str(seqnorm.statistics_set(layer)) == str(
        seqnorm.statistics_set(seqnorm.LSTM(I, H, norm="layer"))
    )


@pytest.mark.parametrize("gain", [None, "unit"])
def test_state_dicts_copies_and_removal(gain: str | None) -> None:
    layer = seqnorm.LSTM(I, H, norm="layer", dtype=F64)
    before = copy_of(dict(layer.named_parameters()))
    seqnorm.weight_standardisation(layer, gain=gain)
    own = {"original"} | ({"0.gain"} if gain else set())
    added = {f"parametrizations.weight_{w}_l0.{key}" for w in ("ih", "hh") for key in own}
    assert set(layer.state_dict()) == set(before) - {"weight_ih_l0", "weight_hh_l0"} | added
    for parameter in layer.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    x = torch.randn(4, 2, I, dtype=F64)
    expected = layer(x)[0]
    assert_equal(copy.deepcopy(layer)(x)[0], expected)
    other = seqnorm.weight_standardisation(seqnorm.LSTM(I, H, norm="layer", dtype=F64), gain=gain)
    other.load_state_dict(layer.state_dict())
    assert_equal(other(x)[0], expected)
    for name in ("weight_ih_l0", "weight_hh_l0"):
        parametrize.remove_parametrizations(layer, name)
    assert type(layer) is seqnorm.LSTM
    assert set(layer.state_dict()) == set(before)
    assert isinstance(layer.weight_hh_l0, nn.Parameter)
    assert_close(layer(x)[0], expected, VALUES)
    parametrize.remove_parametrizations(other, "weight_hh_l0", leave_parametrized=False)
    original = "parametrizations.weight_hh_l0.original"
    other_again = seqnorm.weight_standardisation(other, "weight_hh", gain=gain)
    assert original in other_again.state_dict()


def test_the_precision_of_a_layer_can_change() -> None:
    layer = seqnorm.weight_standardisation(seqnorm.LSTM(I, H, norm="layer"), gain="unit")
    x = torch.randn(4, 2, I)
    single = layer(x)[0]
    doubled = copy.deepcopy(layer).double()
    assert_close(doubled(x.double())[0].float(), single, 1e-5)
    half = copy.deepcopy(layer).to(torch.bfloat16)
    assert half.weight_hh_l0.dtype == torch.bfloat16
    assert {p.dtype for p in half.parameters()} == {torch.bfloat16}
    assert_close(half(x.bfloat16())[0].float(), single, 0.05)
    # Statistics of a row are taken in float32: these squares are beyond half precision.
    wide = nn.Linear(4, 2).half()
    wide.weight.data[:] = torch.tensor([-4e4, 4e4, -4e4, 4e4])
    seqnorm.weight_standardisation(wide, "weight")
    assert_equal(wide.weight.detach(), torch.tensor([[-1.0, 1, -1, 1]] * 2).half())


@needs_compiler
@pytest.mark.parametrize("norm", [None, "layer"])
def test_compiled(norm: str | None) -> None:
    torch.compiler.reset()
    layer = seqnorm.weight_standardisation(seqnorm.LSTM(I, H, norm=norm, dtype=F64), gain="unit")
    twin = copy.deepcopy(layer)
    x = torch.randn(5, 3, I, dtype=F64)
    cotangent = torch.randn(5, 3, H, dtype=F64)
    expected = layer(x)[0]
    expected.backward(cotangent)
    found = torch.compile(twin, backend="aot_eager")(x)[0]
    found.backward(cotangent)
    assert_close(found, expected, VALUES)
    for (name, a), e in zip(twin.named_parameters(), layer.parameters()):
        assert a.grad is not None, name
        assert e.grad is not None, name
        assert_close(a.grad, e.grad, GRADIENTS, name)


def test_other_options_of_a_layer() -> None:
    """Chunks, weight drop and zoneout compute with the standardised weight."""
    layer = seqnorm.LSTM(I, H, norm="layer", zoneout=0.2, recurrent_dropout=0.3, dtype=F64)
    seqnorm.weight_standardisation(layer, gain="unit")
    x = torch.randn(9, 2, I, dtype=F64)
    plain = seqnorm.LSTM(I, H, norm="layer", zoneout=0.2, recurrent_dropout=0.3, dtype=F64)
    weights = {name: getattr(layer, name) for name in ("weight_ih_l0", "weight_hh_l0")}
    kept = {k: v for k, v in layer.state_dict().items() if not k.startswith("param")}
    plain.load_state_dict(kept | weights)
    found = []
    for chunks in (None, 4):
        for each in (layer, plain):
            if chunks is not None:
                seqnorm.compute_in_chunks(each, chunks, recompute=True)
            torch.manual_seed(0)
            output = each(x)[0]
            output.sum().backward()
            found.append(output)
    assert_close(found[0], found[1], VALUES)
    assert_close(found[2], found[3], VALUES)
    grads = [each.bias_ih_l0.grad for each in (layer, plain)]
    assert grads[0] is not None
    assert grads[1] is not None
    assert_close(grads[0], grads[1], GRADIENTS)


def test_a_row_of_equal_numbers_becomes_zero() -> None:
    layer = nn.Linear(3, 2, dtype=F64)
    layer.weight.data.fill_(0.7)
    seqnorm.weight_standardisation(layer, "weight")
    layer.weight.sum().backward()
    assert layer.weight.abs().max() < 1e-10
    grad = layer.get_parameter("parametrizations.weight.original").grad
    assert grad is not None
    assert bool(grad.isfinite().all())


def indrnn() -> nn.Module:
    return LAYERS["IndRNN"](I, H)


@pytest.mark.parametrize(
    ("make", "options", "kind", "message"),
    [
        (indrnn, {}, ValueError, r"weight_hh_l0 is a vector \(4,\).*names=\(\"weight_ih\",\)"),
        (lambda: seqnorm.LSTM(1, H), {}, ValueError, r"row of weight_ih_l0 \(16, 1\) is too short"),
        (lambda: seqnorm.LSTM(2, H), {}, ValueError, "two become 1 and -1; leave it out"),
        (lambda: seqnorm.LSTM(I, H), {"names": "weight_xh"}, ValueError, "did you mean 'weight_"),
        (
            lambda: nn.Sequential(seqnorm.LSTM(I, H)),
            {},
            ValueError,
            r"Sequential has no parameter 'weight_ih' of its own: give .*get_submodule\('0'\)",
        ),
        (
            lambda: nn.Sequential(nn.Linear(I, H)),
            {"names": "weight"},
            ValueError,
            r"give the part that has it, model\.get_submodule\('0'\); it has no parameters",
        ),
        (lambda: seqnorm.LSTM(I, H), {"names": ()}, TypeError, r"\(\"weight_hh\",\), got \(\)"),
        (lambda: seqnorm.LSTM(I, H), {"names": (1,)}, TypeError, "names of parameters"),
        (lambda: seqnorm.LSTM(I, H), {"names": "bias_ih"}, ValueError, "bias_ih_l0 is a vector"),
        (lambda: seqnorm.LSTM(I, H), {"eps": 0.0}, ValueError, "eps must be > 0"),
        (lambda: seqnorm.LSTM(I, H), {"gain": "ones"}, ValueError, "gain must be one of 'unit'"),
        (lambda: seqnorm.LSTM(I, H), {"gain": math.nan}, ValueError, "gain must be finite"),
        (lambda: seqnorm.LSTM(I, H), {"gain": [1.0]}, TypeError, "gain should be a number"),
        (
            lambda: seqnorm.weight_standardisation(seqnorm.LSTM(I, H), "weight_hh"),
            {},
            ValueError,
            "weight_hh_l0 is standardised already",
        ),
    ],
)
def test_refusals_change_nothing(make: Any, options: Any, kind: Any, message: str) -> None:
    module = make()
    before = set(module.state_dict())
    with pytest.raises(kind, match=message):
        seqnorm.weight_standardisation(module, **options)
    assert set(module.state_dict()) == before
