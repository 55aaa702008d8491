"""Tools of torch on a layer or a cell work, or raise an error that says why not.

Axes: T steps, B sequences, I = input size, H = hidden size.
"""

from __future__ import annotations

import inspect
import warnings
from typing import Any

import pytest
import torch
from beside_torch import LAYERS, B, H, I, T, twins
from tolerances import SINGLE, assert_close
from torch import Tensor, nn
from torch.ao import quantization
from torch.nn.utils import prune

import seqnorm
from seqnorm import Norm, NormScheme

OLD_WEIGHT_NORM = pytest.mark.filterwarnings("ignore:`?torch.nn.utils.weight_norm")
CLASSES = [name for kind in seqnorm.nn.layers.cells.LAYERS for name in (kind, f"{kind}Cell")]
WEIGHTS = ("_flat_weights", "_flat_weights_names", "_all_weights")
BESIDE_NORM: list[dict[str, Any]] = [
    {"norm": "layer"},
    {"norm": "batch"},
    {"norm": NormScheme(cell=Norm("layer", gain=None, bias=None), bias_hh="outside")},
    {"zoneout": 0.1},
    {"recurrent_dropout": 0.1},
]


class Holding(nn.Module):
    """A user's module with one of ours and a linear layer."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.linear = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        result = self.inner(x)
        first: Tensor = result if isinstance(result, Tensor) else result[0]
        return self.linear(first)  # type: ignore[no-any-return]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("norm", [None, "layer"])
@pytest.mark.parametrize("name", CLASSES)
def test_scripting_is_refused_in_one_sentence(name: str, norm: str | None) -> None:
    if name == "SLSTMCell" and norm:
        pytest.skip("a norm of the output is the layer's")
    module = getattr(seqnorm, name)(I, 8, norm=norm)
    says = rf"^torch\.jit\.script cannot take seqnorm\.{name}: .* use torch\.compile or torch\.exp"
    for each in (module, Holding(module), nn.ModuleList([Holding(module)])):
        with pytest.raises(NotImplementedError, match=says):
            torch.jit.script(each)


NORM_MODULES: list[nn.Module] = [
    *(getattr(seqnorm, name)(8, layout="NTC") for name in ("LayerNorm", "RMSNorm", "BatchNorm")),
    *(getattr(seqnorm, f"{kind}Norm{d}d")(8) for kind in ("Batch", "Instance") for d in (1, 2, 3)),
    seqnorm.InstanceNorm(8, layout="NTC"),
    seqnorm.GroupNorm(2, 8),
    seqnorm.LayerNorm2d(8),
    seqnorm.ConditionalInstanceNorm2d(8, 2),
    seqnorm.AdaptiveInstanceNorm2d(),
    seqnorm.BatchInstanceNorm2d(8),
    seqnorm.SwitchableNorm2d(8),
    seqnorm.ConditionalBatchNorm2d(8, 2),
    seqnorm.nn.statistics.RunningTable(8),
]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("norm", NORM_MODULES, ids=lambda norm: type(norm).__name__)
def test_scripting_of_a_norm_is_refused_in_one_sentence(norm: nn.Module) -> None:
    says = rf"^torch\.jit\.script cannot take seqnorm\.{type(norm).__name__}: .* use torch\.compile"
    for each in (norm, Holding(norm)):
        with pytest.raises(NotImplementedError, match=says):
            torch.jit.script(each)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("norm", [None, "layer", "batch"])
@pytest.mark.parametrize("kind", LAYERS)
def test_tracing_of_the_shapes_at_hand(kind: str, norm: str | None) -> None:
    model = Holding(getattr(seqnorm, kind)(I, 8, norm=norm)).eval()
    traced = torch.jit.trace(model, torch.randn(T, B, I))
    x = torch.randn(T, B, I)
    assert_close(traced(x), model(x), SINGLE)


def said_of_quantising(call: Any) -> list[warnings.WarningMessage]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [each for each in caught if "stays as it is" in str(each.message)]


@pytest.mark.parametrize("norm", [None, "rms"])
@pytest.mark.parametrize("name", CLASSES)
def test_what_is_not_quantised_is_said(name: str, norm: str | None) -> None:
    """Each module of ours gives one warning at the user's line, and the rest is quantised."""
    if name == "SLSTMCell" and norm:
        pytest.skip("a norm of the output is the layer's")
    model = Holding(getattr(seqnorm, name)(I, 8, norm=norm)).eval()
    done: list[nn.Module] = []
    (warning,) = said_of_quantising(lambda: done.append(quantization.quantize_dynamic(model)))
    assert f"seqnorm.{name} stays as it is, in floating point" in str(warning.message)
    assert ("to_torch() gives a layer that can be" in str(warning.message)) == (name in LAYERS)
    assert warning.filename == __file__
    assert type(done[0].linear) is not nn.Linear
    assert type(done[0].inner) is type(model.inner)
    x = torch.randn(B, I) if name.endswith("Cell") else torch.randn(T, B, I)
    assert done[0](x).shape == model(x).shape


def test_static_quantisation_says_it_too() -> None:
    model = Holding(seqnorm.GRU(I, 8, norm="layer")).eval()
    model.qconfig = quantization.default_qconfig
    steps = lambda: quantization.convert(quantization.prepare(model))  # noqa: E731
    assert len(said_of_quantising(steps)) == 1
    assert not hasattr(seqnorm.GRU(I, 8), "qconfig")


def test_a_layer_that_went_back_is_quantised() -> None:
    model = Holding(seqnorm.LSTM(I, 8)).eval()
    model.inner = model.inner.to_torch()
    done: list[nn.Module] = []
    assert not said_of_quantising(lambda: done.append(quantization.quantize_dynamic(model)))
    assert "quantized" in type(done[0].inner).__module__


@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True, "bias": False}])
@pytest.mark.parametrize("kind", LAYERS)
def test_weights_are_listed_as_torchs(kind: str, options: dict[str, Any]) -> None:
    reference, module = twins(kind, **options)
    assert list(module._flat_weights_names) == reference._flat_weights_names
    assert [list(names) for names in module._all_weights] == reference._all_weights
    assert len(module._flat_weights) == len(reference._flat_weights)
    for name, weight in zip(module._flat_weights_names, module._flat_weights):
        assert weight is getattr(module, name)
    assert module.mode == reference.mode
    x, batch_sizes = torch.zeros(T, B, I, dtype=torch.float64), None
    shape = module.get_expected_hidden_size(x, batch_sizes)
    assert shape == reference.get_expected_hidden_size(x, batch_sizes)
    hx: Any = torch.zeros(shape)
    hx = (hx, hx) if kind == "LSTM" else hx
    for either in (reference, module):
        either.check_forward_args(x, hx, batch_sizes)
        with pytest.raises(RuntimeError, match="must be equal to input_size"):
            either.check_forward_args(x[..., :2], hx, batch_sizes)
        with pytest.raises(RuntimeError, match=r"Expected hidden.* size"):
            either.check_forward_args(x[:, :2], hx, batch_sizes)
        assert either.permute_hidden(hx, None) is hx


def test_modes_and_projections_are_named_as_torchs() -> None:
    for nonlinearity in ("tanh", "relu"):
        assert seqnorm.RNN(I, H, nonlinearity=nonlinearity).mode == f"RNN_{nonlinearity.upper()}"
    projected, reference = seqnorm.LSTM(I, H, proj_size=2), nn.LSTM(I, H, proj_size=2)
    assert list(projected._flat_weights_names) == reference._flat_weights_names
    x = torch.zeros(T, B, I)
    assert projected.get_expected_cell_size(x, None) == reference.get_expected_cell_size(x, None)


@pytest.mark.parametrize("name", WEIGHTS)
@pytest.mark.parametrize("options", BESIDE_NORM, ids=lambda options: next(iter(options)))
def test_weights_that_are_not_all_are_not_listed_for_computing(
    options: dict[str, Any], name: str
) -> None:
    layer = seqnorm.LSTM(I, H, **options)
    says = rf"^{name} is for code that computes .* this layer has {next(iter(options))}, which"
    with pytest.raises(RuntimeError, match=says):
        getattr(layer, name)
    assert name not in dir(layer)
    assert dict(inspect.getmembers(layer))["all_weights"] == layer.all_weights
    with pytest.raises(RuntimeError, match="a step that torch does not have, LiGRU"):
        getattr(seqnorm.LiGRU(I, H), name)


def test_lists_of_weights_are_not_to_be_written_to() -> None:
    layer = seqnorm.LSTM(I, H)
    with pytest.raises(TypeError):
        layer._flat_weights[0] = nn.Parameter(torch.zeros(4 * H, I))  # type: ignore[index]
    with pytest.raises(AttributeError):
        layer._flat_weights = []  # type: ignore[misc]


def parameters_among(weights: Any) -> int:
    return sum(isinstance(weight, nn.Parameter) for weight in weights)


@OLD_WEIGHT_NORM
@pytest.mark.parametrize("name", ["weight_ih_l0", "weight_hr_l0"])
def test_weight_norm_comes_and_goes(name: str) -> None:
    """PyTorch's own test of ``torch.nn.utils.weight_norm`` on a recurrent layer."""
    layer = seqnorm.LSTM(32, 32, proj_size=16)
    nn.utils.weight_norm(layer, name=name)
    assert parameters_among(layer._flat_weights) == 4
    nn.utils.remove_weight_norm(layer, name=name)
    assert parameters_among(layer._flat_weights) == 5
    names = dict(layer.named_parameters())
    assert name in names
    assert name in layer._parameters
    assert not {f"{name}_v", f"{name}_g"} & (set(names) | set(layer._parameters))


def test_pruning_comes_and_goes() -> None:
    """PyTorch's own test of ``torch.nn.utils.prune`` on a recurrent layer."""
    layer = seqnorm.LSTM(32, 32)
    prune.l1_unstructured(layer, "weight_ih_l0", 0.5)
    assert parameters_among(layer._flat_weights) == 3
    prune.remove(layer, "weight_ih_l0")
    assert parameters_among(layer._flat_weights) == 4
    assert "weight_ih_l0" in dict(layer.named_parameters())
    assert "weight_ih_l0_orig" not in dict(layer.named_parameters())
    assert int((layer.weight_ih_l0 == 0).sum()) == 2 * 32 * 32
