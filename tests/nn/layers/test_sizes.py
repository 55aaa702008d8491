"""Sizes are integers of Python, numpy or torch; a cell without units behaves as torch's.

Axes: B sequences, I = input size, H = hidden size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from beside_torch import CELLS, F64, B, H, assert_same, fresh, twins
from hidden_states import as_hx
from torch import nn

import seqnorm
from seqnorm import Norm, NormScheme, preset
from seqnorm.nn.layers.cells import LAYERS

numpy: Any = pytest.importorskip("numpy")
INTEGERS: dict[str, Callable[[int], Any]] = {
    "int64": numpy.int64,
    "int32": numpy.int32,
    "uint8": numpy.uint8,
    "array": numpy.array,
    "tensor": torch.tensor,
    "int32 tensor": lambda size: torch.tensor(size, dtype=torch.int32),
}
# Values that are not integers, and their names in the error.
NO_INTEGERS = {
    "bool": True,
    "float": 4.0,
    "str": "4",
    "NoneType": None,
    "Tensor": torch.tensor(True),
    r"tensor\(4\.\)": torch.tensor(4.0),
    r"Tensor$": torch.tensor([4]),
    "ndarray": numpy.array([4]),
    "float64": numpy.float64(4),
    "bool_?": numpy.bool_(True),
}
CLASSES = [name for kind in LAYERS for name in (kind, f"{kind}Cell")]


@pytest.mark.parametrize("of", INTEGERS)
@pytest.mark.parametrize("name", CLASSES)
def test_sizes_are_any_integers(name: str, of: str) -> None:
    make, cls = INTEGERS[of], getattr(seqnorm, name)
    options = {} if name.endswith("Cell") else {"num_layers": 2}
    options |= {"num_heads": 2} if name.startswith("SLSTM") else {}
    options |= {"proj_size": 3} if name == "LSTM" else {}
    given = {key: make(value) for key, value in options.items()}
    torch.manual_seed(1)
    expected = cls(3, 8, norm="batch", **options)
    torch.manual_seed(1)
    module = cls(make(3), make(8), norm="batch", **given)
    assert repr(module) == repr(expected)
    for key in ("input_size", "hidden_size", *options):
        assert type(getattr(module, key)) is int, key
    for (key, value), other in zip(module.state_dict().items(), expected.state_dict().values()):
        assert torch.equal(value, other), key


@pytest.mark.parametrize("says", NO_INTEGERS)
@pytest.mark.parametrize("name", CLASSES)
def test_what_is_no_integer_is_no_size(name: str, says: str) -> None:
    cls, size = getattr(seqnorm, name), NO_INTEGERS[says]
    for place, arguments in (("input_size", (size, 8)), ("hidden_size", (3, size))):
        with pytest.raises(TypeError, match=rf"{place} should be of type int, got: {says}"):
            cls(*arguments)
    options = [] if name.endswith("Cell") else ["num_layers"]
    options += ["num_heads"] if name.startswith("SLSTM") else []
    options += ["proj_size"] if name == "LSTM" else []
    for option in options:
        with pytest.raises(TypeError, match=rf"{option} should be of type int, got: {says}"):
            cls(3, 8, **{option: size})


@pytest.mark.parametrize("of", INTEGERS)
def test_options_of_norms_and_calls_are_any_integers(of: str) -> None:
    make = INTEGERS[of]
    norm = Norm("batch", max_steps=make(9), min_count=make(3))
    assert norm == Norm("batch", max_steps=9, min_count=3)
    assert {type(norm.max_steps), type(norm.min_count)} == {int}
    assert Norm("layer", sets=make(2)) == Norm("layer", sets=2)
    scheme = preset("batch", "LSTM", max_steps=make(9))
    assert NormScheme.from_text(scheme.text) == scheme == preset("batch", "LSTM", max_steps=9)
    assert isinstance(hash(scheme), int)
    table = seqnorm.nn.statistics.RunningTable(4, max_steps=make(9), min_count=make(3))
    assert (table.max_steps, table.min_count) == (9, 3)
    x = torch.randn(5, 4, 3)
    layer, cell = seqnorm.GRU(3, 8, norm=scheme_of("GRU")), seqnorm.GRUCell(3, 8, norm="batch")
    layer(x, first_step=make(2))
    cell(x[0], first_step=make(1))
    assert layer.report().rows["norm_ih_l0.table"][:8] == (0, 0, 4, 4, 4, 4, 4, 0)
    assert cell.report().rows["norm_ih.table"][:3] == (0, 4, 0)
    seqnorm.compute_in_chunks(layer, make(2))
    assert layer.chunks.steps == 2


NORMS: dict[str, Callable[[Callable[[int], Any]], Any]] = {
    "layer": lambda make: seqnorm.LayerNorm(make(4), layout="NTC"),
    "rms": lambda make: seqnorm.RMSNorm(make(4), layout="NTC"),
    "instance": lambda make: seqnorm.InstanceNorm(make(4), affine=True, layout="NTC"),
    "batch": lambda make: seqnorm.BatchNorm(make(4), min_count=make(3), layout="NTC"),
    "group": lambda make: seqnorm.GroupNorm(make(2), make(4)),
    "batch of images": lambda make: seqnorm.BatchNorm2d(make(4)),
    "instance of images": lambda make: seqnorm.InstanceNorm2d(make(4), affine=True),
    "layer of images": lambda make: seqnorm.LayerNorm2d(make(4)),
    "of a style": lambda make: seqnorm.ConditionalInstanceNorm2d(make(4), make(3)),
    "of a class": lambda make: seqnorm.ConditionalBatchNorm2d(make(4), make(3)),
    "batch and instance": lambda make: seqnorm.BatchInstanceNorm2d(make(4)),
    "switchable": lambda make: seqnorm.SwitchableNorm2d(make(4)),
}


@pytest.mark.parametrize("of", INTEGERS)
@pytest.mark.parametrize("norm", NORMS)
def test_sizes_of_norms_are_any_integers(norm: str, of: str) -> None:
    """They are stored as Python integers, which a serialised module should hold."""
    module, expected = NORMS[norm](INTEGERS[of]), NORMS[norm](int)
    assert repr(module) == repr(expected)
    for key, value in vars(expected).items():
        if type(value) is int:
            assert type(getattr(module, key)) is int, key


def scheme_of(kind: str) -> NormScheme:
    return preset("batch", kind, max_steps=20)


@pytest.mark.parametrize("sizes", [(0, 4), (3, 0), (0, 0)], ids=str)
@pytest.mark.parametrize("batch", [(), (B,)], ids=["unbatched", "batched"])
@pytest.mark.parametrize("given", [False, True], ids=["zeros", "hx"])
@pytest.mark.parametrize("kind", CELLS)
def test_an_empty_cell_is_torchs(
    kind: str, given: bool, batch: tuple[int, ...], sizes: tuple[int, int]
) -> None:
    reference, module = twins(kind, *sizes)
    assert repr(module) == repr(reference)
    x = fresh(*batch, sizes[0], seed=1)
    states = [fresh(*batch, sizes[1], seed=2 + n) for n in range(2 if kind == "LSTMCell" else 1)]
    hx = states if given else []
    assert_same(reference, module, lambda m, x, s: m(x, as_hx(s)), x, hx)


@pytest.mark.parametrize("kind", CELLS)
def test_an_empty_cell_refuses_what_torchs_does(kind: str) -> None:
    for cls in CELLS[kind]:
        state = torch.zeros(B, 1)
        with pytest.raises(RuntimeError, match="hidden0 has inconsistent hidden_size: got 1, expe"):
            cls(3, 0)(torch.zeros(B, 3), (state, state) if kind == "LSTMCell" else state)
        with pytest.raises(RuntimeError, match=r"inconsistent input_size: got 1,? expected 0"):
            cls(0, H)(torch.zeros(B, 1))


@pytest.mark.parametrize("kind", [kind for kind in LAYERS if not hasattr(nn, kind)])
def test_empty_cells_that_torch_has_not(kind: str) -> None:
    cls = getattr(seqnorm, f"{kind}Cell")
    cell = cls(0, 4, dtype=F64)
    result = cell(torch.zeros(B, 0, dtype=F64))
    first = result if isinstance(result, torch.Tensor) else result[0]
    assert first.shape == (B, 4)
    if kind == "SLSTM":
        with pytest.raises(ValueError, match="hidden_size must be greater than zero, got 0"):
            cls(3, 0)
    else:
        assert cls(3, 0)(torch.zeros(B, 3)).shape == (B, 0)


@pytest.mark.parametrize("norm", ["layer", "rms", "batch"])
@pytest.mark.parametrize("sizes", [(0, 4), (3, 0)], ids=str)
@pytest.mark.parametrize("kind", [f"{kind}Cell" for kind in LAYERS if kind != "SLSTM"])
def test_a_norm_needs_units(kind: str, sizes: tuple[int, int], norm: str) -> None:
    with pytest.raises(ValueError, match=r"a norm needs units, .*: use norm=None"):
        getattr(seqnorm, kind)(*sizes, norm=norm)


@pytest.mark.parametrize("name", CLASSES)
def test_sizes_are_not_negative(name: str) -> None:
    for sizes in ((-1, 8), (3, -8)):
        with pytest.raises(ValueError, match=r"_size must (not be negative|be greater than zero)"):
            getattr(seqnorm, name)(*sizes)
    if not name.endswith("Cell"):
        for sizes in ((0, 8), (3, 0)):
            with pytest.raises(ValueError, match=r"_size must be greater than zero, got 0"):
                getattr(seqnorm, name)(*sizes)


@pytest.mark.parametrize("kind", LAYERS)
def test_flags_are_any_bools(kind: str) -> None:
    options = {"num_heads": 2} if kind == "SLSTM" else {}
    flags = {"bias": False, "batch_first": True, "bidirectional": True}
    expected = LAYERS[kind](3, 8, **flags, **options)
    given = {name: numpy.bool_(flag) for name, flag in flags.items()}
    layer = LAYERS[kind](3, 8, **given, **options)
    assert repr(layer) == repr(expected)
    for name in flags:
        assert type(getattr(layer, name)) is bool, name
        with pytest.raises(TypeError, match=f"{name} should be of type bool, got: int64"):
            LAYERS[kind](3, 8, **options, **{name: numpy.int64(1)})
