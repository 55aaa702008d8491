"""Dynamic Tanh and Derf inside the recurrence, against the oracle and by their own properties."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from comparing import HEADS, SHAPES, Case, H, I, build, compare, randomise
from tolerances import GRADIENTS, VALUES, assert_close, assert_equal
from torch.nn.utils.parametrize import register_parametrization
from torch_versions import needs_compiler

import seqnorm
from seqnorm import Norm, NormScheme
from seqnorm.nn.layers.cells import LAYERS

F64 = torch.float64
KINDS = ("dynamic_tanh", "dynamic_erf")
kinds = pytest.mark.parametrize("kind", KINDS)
LAYER, BATCH, POOLED = Norm("layer"), Norm("batch", gain=0.3), Norm("batch_pooled")


def schemes(kind: str, cell: str) -> dict[str, NormScheme]:
    one = Norm(kind, alpha=0.8)
    found = {
        "input": NormScheme(input=one),
        "frame and output": NormScheme(frame=one, output=Norm(kind, bias=None)),
        "input before LayerNorm": NormScheme(input=one, frame=LAYER),
    }
    if cell == "SLSTM":
        return {"frame and output": found["frame and output"]}
    if cell in ("IndRNN", "LiGRU"):
        return found
    found |= {
        "input, hidden": NormScheme(input=one, hidden=Norm(kind, gain="uniform", bias=0.1)),
        "no gain": NormScheme(
            input=Norm(kind, gain=None, bias=None), hidden=LAYER, bias_hh="inside"
        ),
        "sum": NormScheme(sum=one, bias_ih="inside"),
        "input beside BatchNorm": NormScheme(input=one, hidden=BATCH),
        "hidden beside BatchNorm": NormScheme(input=POOLED, hidden=one),
    }
    if cell == "LSTM":
        found["cell"] = NormScheme(input=LAYER, hidden=LAYER, cell=one)
        found["cell, fed back"] = NormScheme(cell=one, cell_state="normalised")
    return found


CASES = [
    (cell, name, kind) for cell in LAYERS for name in schemes(KINDS[0], cell) for kind in KINDS
]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("cell", "name", "kind"), CASES)
def test_layers_equal_the_oracle(cell: str, name: str, kind: str, training: bool) -> None:
    scheme = schemes(kind, cell)[name]
    layer = build(cell, scheme)
    randomise(layer)
    compare(layer.train(training), scheme, Case.draw(layer))


@kinds
@pytest.mark.parametrize("shape", ["bidirectional", "two_layers", "all"])
def test_forms_of_layers(kind: str, shape: str) -> None:
    scheme = schemes(kind, "LSTM")["input, hidden"]
    layer = build("LSTM", scheme, **SHAPES[shape])
    randomise(layer)
    compare(layer, scheme, Case.draw(layer))


@kinds
def test_parameters_and_their_initial_values(kind: str) -> None:
    norm = Norm(
        kind, gain=0.9, bias=0.2, alpha=0.7, **({"shift": 0.3} if kind[8:] == "erf" else {})
    )
    layer = LAYERS["LSTM"](I, H, norm=NormScheme(hidden=norm))
    expected = {"weight": (4 * H, 0.9), "bias": (4 * H, 0.2), "alpha": (1, 0.7)}
    if kind == "dynamic_erf":
        expected["shift"] = (1, 0.3)
    site = layer.norm_hh_l0
    found = dict(site.named_parameters())
    assert found.keys() == expected.keys()
    for name, (size, value) in expected.items():
        assert_equal(found[name].detach(), torch.full((size,), value), name)
    for parameter in layer.parameters():
        parameter.data += 1.0
    layer.reset_parameters()
    for name, (size, value) in expected.items():
        assert_equal(found[name].detach(), torch.full((size,), value), name)
    assert not list(site.buffers())
    assert f"kind='{kind}'" in repr(layer)
    assert "alpha=0.7" in repr(layer)


@kinds
def test_defaults_are_those_of_the_publications(kind: str) -> None:
    site = LAYERS["GRU"](I, H, norm=NormScheme(hidden=Norm(kind))).norm_hh_l0
    assert_equal(site.alpha.detach(), torch.tensor([0.5]))
    if kind == "dynamic_erf":
        assert_equal(site.shift.detach(), torch.zeros(1))
    else:
        assert site.shift is None
    assert_equal(site.weight.detach(), torch.ones(3 * H))


@kinds
@pytest.mark.parametrize("parametrised", [(), ("alpha",), ("weight", "alpha")])
@pytest.mark.parametrize("recompute", [True, False])
def test_chunks(kind: str, recompute: bool, parametrised: tuple[str, ...]) -> None:
    """All parameters of the norm, alpha too, get their gradients when chunks are recomputed."""
    layer = build("LSTM", NormScheme(input=Norm(kind), hidden=Norm(kind), cell=LAYER))
    randomise(layer)
    for name in parametrised:
        register_parametrization(layer.norm_hh_l0, name, torch.nn.Softplus())
    if parametrised:
        register_parametrization(layer.norm_cell_l0, "weight", torch.nn.Softplus())
    other = copy.deepcopy(layer)
    seqnorm.compute_in_chunks(other, 3, recompute=recompute)
    x = torch.randn(8, 2, I, dtype=F64)
    cotangent = torch.randn(8, 2, H, dtype=F64)
    for each in (layer, other):
        each(x)[0].backward(cotangent)
    for (name, expected), found in zip(layer.named_parameters(), other.parameters()):
        assert expected.grad is not None, name
        assert found.grad is not None, name
        assert_close(found.grad, expected.grad, GRADIENTS, name)


@kinds
def test_a_changed_alpha_counts_from_the_next_call_on(kind: str) -> None:
    layer = build("LSTM", NormScheme(hidden=Norm(kind), output=Norm(kind)))
    x = torch.randn(5, 2, I, dtype=F64)
    with torch.no_grad():
        before = layer(x)[0]
        for change in ("exchanged", "parametrised"):
            if change == "exchanged":
                layer.norm_hh_l0.alpha = torch.nn.Parameter(torch.tensor([1.7], dtype=F64))
            else:
                register_parametrization(layer.norm_output_l0, "alpha", torch.nn.Softplus())
            after = layer(x)[0]
            assert not torch.equal(after, before)
            assert_equal(copy.copy(layer)(x)[0], after)
            before = after


@kinds
def test_a_cell_equals_its_layer(kind: str) -> None:
    scheme = NormScheme(input=Norm(kind), hidden=Norm(kind, alpha=1.5))
    layer = build("GRU", scheme)
    randomise(layer)
    cell = seqnorm.GRUCell(I, H, norm=scheme, dtype=F64)
    cell.load_state_dict({k.replace("_l0", ""): v for k, v in layer.state_dict().items()})
    x, h = torch.randn(5, 2, I, dtype=F64), torch.zeros(2, H, dtype=F64)
    outputs = []
    for frame in x:
        h = cell(frame, h)
        outputs.append(h)
    assert_close(torch.stack(outputs), layer(x)[0], VALUES)


@kinds
def test_the_kernels_say_that_they_have_none_for_it(kind: str) -> None:
    x = torch.randn(4, 2, I)
    inside = {
        "hidden": NormScheme(hidden=Norm(kind)),
        "sum": NormScheme(sum=Norm(kind), bias_ih=None),
        "cell": NormScheme(cell=Norm(kind)),
        "beside BatchNorm": NormScheme(hidden=Norm("batch"), cell=Norm(kind)),
    }
    for scheme in inside.values():
        said = seqnorm.explain(LAYERS["LSTM"](I, H, norm=scheme), x)
        assert said.backends == {"_l0": "reference"}
        if "there are no kernels" not in (said.reasons["_l0"]["cpu"] or ""):
            assert said.reasons["_l0"]["cpu"] == f"it has no kernel for the norm {kind!r}"


@kinds
def test_outside_of_the_recurrence_the_kernels_stay(kind: str) -> None:
    plain = seqnorm.explain(LAYERS["LSTM"](I, H, norm="layer"), torch.randn(4, 2, I))
    scheme = NormScheme(frame=Norm(kind), input=Norm(kind), hidden=LAYER, output=Norm(kind))
    said = seqnorm.explain(LAYERS["LSTM"](I, H, norm=scheme), torch.randn(4, 2, I))
    assert said.backends == plain.backends


@kinds
def test_half_precision(kind: str) -> None:
    layer = LAYERS["LSTM"](I, H, norm=NormScheme(input=Norm(kind), hidden=Norm(kind)))
    x = torch.randn(5, 2, I)
    expected = layer(x)[0]
    half = copy.deepcopy(layer).to(torch.bfloat16)
    output = half(x.bfloat16())[0]
    assert output.dtype == torch.bfloat16
    assert_close(output.float(), expected, 0.03)


@needs_compiler
@kinds
def test_compiled(kind: str) -> None:
    torch.compiler.reset()
    layer = build("LSTM", NormScheme(input=Norm(kind), hidden=Norm(kind)))
    randomise(layer)
    twin = copy.deepcopy(layer)
    x, cotangent = torch.randn(5, 2, I, dtype=F64), torch.randn(5, 2, H, dtype=F64)
    expected = layer(x)[0]
    expected.backward(cotangent)
    found = torch.compile(twin, backend="aot_eager", fullgraph=True)(x)[0]
    found.backward(cotangent)
    assert_close(found, expected, VALUES)
    for (name, a), e in zip(twin.named_parameters(), layer.parameters()):
        assert a.grad is not None, name
        assert e.grad is not None, name
        assert_close(a.grad, e.grad, GRADIENTS, name)


@kinds
def test_text_and_state_dicts(kind: str) -> None:
    scheme = NormScheme(input=Norm(kind, alpha=0.3), hidden=Norm(kind, gain=None))
    assert NormScheme.from_text(scheme.text) == scheme
    layer = build("RNN", scheme)
    randomise(layer)
    other = build("RNN", scheme)
    other.load_state_dict(layer.state_dict())
    x = torch.randn(4, 2, I, dtype=F64)
    assert_equal(other(x)[0], layer(x)[0])


def test_replace_changes_only_the_norms_that_have_a_field() -> None:
    mixed = NormScheme(input=Norm("dynamic_erf"), hidden=LAYER)
    changed = mixed.replace(eps=1e-3, alpha=0.9, shift=0.1, gain=0.5)
    assert changed.input == Norm("dynamic_erf", alpha=0.9, shift=0.1, gain=0.5)
    assert changed.hidden == Norm("layer", eps=1e-3, gain=0.5)
    for options in ({"shift": 0.1}, {"eps": 1e-3}, {"eps_on": "std"}):
        with pytest.raises(ValueError, match=f"{next(iter(options))}: no norm of this scheme"):
            NormScheme(hidden=Norm("dynamic_tanh")).replace(**options)
    scheme = seqnorm.preset("layer", "LSTM", kind="dynamic_tanh", alpha=0.8)
    assert scheme.norms == dict.fromkeys(scheme.norms, Norm("dynamic_tanh", alpha=0.8))
    with pytest.raises(ValueError, match="alpha: no norm of this scheme has this field"):
        seqnorm.preset("layer", "LSTM", alpha=0.4)


@pytest.mark.parametrize(
    ("kind", "options", "error", "message"),
    [
        ("dynamic_tanh", {"sets": "separate"}, ValueError, "its set is empty"),
        ("dynamic_erf", {"sets": 4}, ValueError, "its set is empty"),
        ("dynamic_tanh", {"eps": 1e-3}, ValueError, "eps is added to a variance and belongs to"),
        ("dynamic_erf", {"eps_on": "std"}, ValueError, "eps_on is the place of eps"),
        ("dynamic_tanh", {"shift": 0.1}, ValueError, "belongs to 'dynamic_erf', not to 'dynamic_t"),
        ("layer", {"alpha": 0.1}, ValueError, "alpha multiplies x before tanh or erf"),
        ("dynamic_tanh", {"momentum": 0.2}, ValueError, r"momentum belongs .* as its set is empty"),
        ("dynamic_tanh", {"alpha": "big"}, TypeError, "alpha should be a number"),
        ("dynamic_erf", {"shift": float("inf")}, ValueError, "shift must be finite"),
        ("dynamic_tanhh", {}, ValueError, "did you mean 'dynamic_tanh'"),
    ],
)
def test_refusals(kind: str, options: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        Norm(kind, **options)


def test_heads_are_no_sets_either() -> None:
    with pytest.raises(ValueError, match="its set is empty"):
        LAYERS["SLSTM"](
            I, H, num_heads=HEADS["SLSTM"], norm=NormScheme(output=Norm("dynamic_erf", "heads"))
        )


@kinds
@pytest.mark.parametrize("poison", [float("nan"), float("inf"), 1e6])
def test_padding_changes_nothing(kind: str, poison: float) -> None:
    norm = Norm(kind)
    layer = build("LSTM", NormScheme(frame=norm, input=norm, hidden=norm, cell=norm, output=norm))
    randomise(layer)
    lengths = [5, 0, 2]
    padding = torch.arange(6)[:, None] >= torch.tensor(lengths)
    found = []
    for value in (0.0, poison):
        x = torch.randn(6, 3, I, generator=torch.Generator().manual_seed(1), dtype=F64)
        x[padding] = value
        x.requires_grad_()
        output, (h, c) = layer(x, lengths=lengths)
        leaves = [x, *layer.parameters()]
        grads = torch.autograd.grad(output.sum() + (h * c).sum(), leaves)
        found.append((output, h, c, *grads))
    for clean, poisoned in zip(*found):
        assert_equal(poisoned, clean)
