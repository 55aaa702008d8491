"""Layers and cells without a norm equal torch's: names, numbers, gradients, options."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from beside_torch import (
    CELLS,
    F64,
    LAYERS,
    B,
    H,
    I,
    Options,
    T,
    assert_same,
    fresh,
    states,
    tensors,
    twins,
)
from hidden_states import as_hx
from tolerances import VALUES, assert_close, assert_equal
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

import seqnorm

LENGTHS = {"sorted": [4, 3, 1], "unsorted": [1, 4, 3]}


def labelled(kind: str, options: Options) -> Any:
    label = "-".join(f"{name}={value}" for name, value in options.items())
    return pytest.param(kind, options, id=f"{kind}-{label}")


def all_options() -> Iterator[Any]:
    """Return every combination of the options that change torch's computation."""
    for kind in LAYERS:
        projections = (0, 2) if kind == "LSTM" else (0,)
        flags = itertools.product((1, 2), (False, True), (False, True), (True, False), projections)
        for layers, bidirectional, batch_first, bias, proj in flags:
            options = {
                "num_layers": layers,
                "bidirectional": bidirectional,
                "batch_first": batch_first,
                "bias": bias,
            }
            if proj:
                options["proj_size"] = proj
            yield labelled(kind, options)
            if kind == "RNN" and layers == 2 and bidirectional:
                yield labelled(kind, {"nonlinearity": "relu", **options})


OPTIONS = list(all_options())
CELL_OPTIONS = [*((kind, {}) for kind in CELLS), ("RNNCell", {"nonlinearity": "relu"})]


@pytest.mark.parametrize(("kind", "options"), OPTIONS)
def test_state_dict_goes_both_ways(kind: str, options: Options) -> None:
    theirs, ours = LAYERS[kind]
    reference, module = theirs(I, H, **options), ours(I, H, **options)
    before = {name: tuple(value.shape) for name, value in reference.state_dict().items()}
    after = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    assert list(before.items()) == list(after.items())
    module.load_state_dict(reference.state_dict())
    back = theirs(I, H, **options)
    back.load_state_dict(module.state_dict())
    for name, value in reference.state_dict().items():
        assert_equal(back.state_dict()[name], value, name)


@pytest.mark.parametrize("backend", [None, "reference"])
@pytest.mark.parametrize("given", [False, True], ids=["zeros", "hx"])
@pytest.mark.parametrize("form", ["batched", "unbatched", "sorted", "unsorted"])
@pytest.mark.parametrize(("kind", "options"), OPTIONS)
def test_the_same_numbers(
    kind: str, options: Options, form: str, given: bool, backend: str | None
) -> None:
    reference, module = twins(kind, **options)
    batch = () if form == "unbatched" else (B,)
    first = options["batch_first"] and form != "unbatched"
    input = fresh(*((B, T, I) if first else (T, *batch, I)), seed=1)

    def call(either: nn.Module, x: Tensor, hx: list[Tensor]) -> Any:
        if form in LENGTHS:
            packed = pack_padded_sequence(x, LENGTHS[form], first, form == "sorted")
            output, final = either(packed, as_hx(hx))
            assert isinstance(output, PackedSequence)
            assert output.batch_sizes.equal(packed.batch_sizes)
            assert (output.sorted_indices is None) == (packed.sorted_indices is None)
            return output, final
        return either(x, as_hx(hx))

    hx = states(kind, options, batch) if given else []
    if backend is None:
        assert_same(reference, module, call, input, hx)
    else:
        with seqnorm.use_backend(backend):
            assert_same(reference, module, call, input, hx)


@pytest.mark.parametrize("given", [False, True], ids=["zeros", "hx"])
@pytest.mark.parametrize("as_tensor", [False, True], ids=["list", "tensor"])
@pytest.mark.parametrize("order", LENGTHS)
@pytest.mark.parametrize(("kind", "options"), OPTIONS)
def test_lengths_are_what_packing_is(
    kind: str, options: Options, order: str, as_tensor: bool, given: bool
) -> None:
    reference, module = twins(kind, **options)
    first = options["batch_first"]
    lengths = LENGTHS[order]

    def call(either: nn.Module, x: Tensor, hx: list[Tensor]) -> Any:
        if either is module:
            return either(x, as_hx(hx), torch.tensor(lengths) if as_tensor else lengths)
        packed = pack_padded_sequence(x, lengths, first, enforce_sorted=False)
        output, final = either(packed, as_hx(hx))
        return pad_packed_sequence(output, first, total_length=T)[0], final

    input = fresh(*((B, T, I) if first else (T, B, I)), seed=1)
    hx = states(kind, options, (B,)) if given else []
    assert_same(reference, module, call, input, hx)


@pytest.mark.parametrize("given", [False, True], ids=["zeros", "hx"])
@pytest.mark.parametrize("batch", [(), (B,)], ids=["unbatched", "batched"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("kind", "options"), CELL_OPTIONS)
def test_cells_give_the_same_numbers(
    kind: str, options: Options, bias: bool, batch: tuple[int, ...], given: bool
) -> None:
    reference, module = twins(kind, bias=bias, **options)
    assert list(module.state_dict()) == list(reference.state_dict())
    hx = [part[0] for part in states(kind, {}, batch)] if given else []
    assert_same(reference, module, lambda m, x, s: m(x, as_hx(s)), fresh(*batch, I, seed=1), hx)


@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True, "bias": False}])
@pytest.mark.parametrize("kind", LAYERS)
def test_seed_draws_the_same_parameters(kind: str, options: Options) -> None:
    drawn = []
    for cls in LAYERS[kind]:
        torch.manual_seed(3)
        drawn.append(cls(I, H, **options).state_dict())
    for name, value in drawn[0].items():
        assert_equal(drawn[1][name], value, name)


def test_seed_draws_the_same_parameters_with_projections() -> None:
    torch.manual_seed(3)
    reference = nn.LSTM(I, H, proj_size=2).state_dict()
    torch.manual_seed(3)
    module = seqnorm.LSTM(I, H, proj_size=2).state_dict()
    for name, value in reference.items():
        assert_equal(module[name], value, name)


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize(("dropout", "training"), [(1.0, True), (1.0, False), (0.5, False)])
def test_dropout_between_layers(kind: str, dropout: float, training: bool) -> None:
    reference, module = twins(kind, num_layers=3, dropout=dropout, bidirectional=True)
    reference.train(training)
    module.train(training)
    input = fresh(T, B, I, seed=1)
    assert_same(reference, module, lambda m, x, _: m(x), input, [])
    with seqnorm.use_backend("reference"):
        assert_same(reference, module, lambda m, x, _: m(x), input, [])


@pytest.mark.parametrize("kind", LAYERS)
def test_dropout_spares_the_last_layer_and_the_states(kind: str) -> None:
    _, module = twins(kind, num_layers=2, dropout=0.5)
    input = fresh(T, 50, I, seed=1)
    first, second = module(input), module(input)
    for result in (*tensors(first), *tensors(second)):
        assert bool((result != 0).all())
    (h, h_again), (output, again) = (
        (tensors(first)[1], tensors(second)[1]),
        (first[0], second[0]),
    )
    assert_close(h[0], h_again[0], VALUES, "the first layer sees no dropout")
    assert not torch.allclose(output, again)


def test_constructors_take_what_torchs_take() -> None:
    base = list(inspect.signature(nn.RNNBase).parameters.values())[1:]  # without mode
    for kind, (_, ours) in LAYERS.items():
        expected = [(p.name, p.default) for p in base if kind == "LSTM" or p.name != "proj_size"]
        if kind == "RNN":
            expected.insert(3, ("nonlinearity", "tanh"))
        found = inspect.signature(ours).parameters.values()
        shared = [(p.name, p.default) for p in found if p.kind is not p.KEYWORD_ONLY]
        assert shared == expected
        beyond = {p.name: p.default for p in found if p.kind is p.KEYWORD_ONLY}
        own = {"norm": None, "zoneout": 0.0, "recurrent_dropout": 0.0}
        own |= {} if kind == "RNN" else {"heads": 1}
        assert beyond == own | {"learn_initial_state": False}
    for kind, (theirs, ours) in CELLS.items():
        expected = inspect.signature(theirs).parameters.values()
        found = inspect.signature(ours).parameters.values()
        shared = [p for p in found if p.kind is not p.KEYWORD_ONLY]
        assert [(p.name, p.default) for p in shared] == [(p.name, p.default) for p in expected]
        beyond = {p.name: p.default for p in found if p.kind is p.KEYWORD_ONLY}
        heads = {} if kind.startswith("RNN") else {"heads": 1}
        assert beyond == {"norm": None, "learn_initial_state": False, **heads}


def test_arguments_mean_the_same_by_their_place() -> None:
    for arguments in ((2, "relu", False, True, 0.5, True), (1, "relu"), (3,)):
        found = [vars(cls(I, H, *arguments)) for cls in LAYERS["RNN"]]
        for name in ("num_layers", "nonlinearity", "bias", "batch_first", "dropout"):
            assert found[1][name] == found[0][name], name
        assert found[1]["bidirectional"] == found[0]["bidirectional"]
    for cls in CELLS["RNNCell"]:
        assert cls(I, H, False, "relu").nonlinearity == "relu"


def test_forward_takes_what_torchs_takes() -> None:
    for theirs, ours in (LAYERS | CELLS).values():
        expected = list(inspect.signature(theirs.forward).parameters)
        found = list(inspect.signature(ours.forward).parameters)
        more = ["first_step", "resets"]
        if not ours.__name__.endswith("Cell"):
            more = ["lengths", *more, "cu_seqlens"]
        assert found == [*expected, *more]


@pytest.mark.parametrize(("kind", "options"), OPTIONS)
def test_repr_and_attributes_are_torchs(kind: str, options: Options) -> None:
    reference, module = twins(kind, **options)
    shown = repr(module)
    if kind == "RNN":  # torch's own does not show the name
        relu = options.get("nonlinearity", "tanh") == "relu"
        assert (", nonlinearity=relu" in shown) == relu
        shown = shown.replace(", nonlinearity=relu", "")
        assert module.nonlinearity == reference.nonlinearity
    assert shown == repr(reference)
    names = ("input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout")
    for name in (*names, "bidirectional", "proj_size"):
        assert getattr(module, name) == getattr(reference, name), name
    for ours, theirs in zip(module.all_weights, reference.all_weights):
        assert [tuple(weight.shape) for weight in ours] == [tuple(w.shape) for w in theirs]
        for a, e in zip(ours, theirs):
            assert_equal(a, e)
    assert len(module.all_weights) == len(reference.all_weights)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    assert module.flatten_parameters() is None
    for name, value in module.state_dict().items():
        assert_equal(value, before[name], name)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("kind", "options"), CELL_OPTIONS)
def test_repr_of_a_cell_is_torchs(kind: str, options: Options, bias: bool) -> None:
    reference, module = twins(kind, bias=bias, **options)
    assert repr(module) == repr(reference)


def test_repr_shows_what_goes_beyond_torch() -> None:
    layer = seqnorm.LSTM(
        I, H, 2, dropout=0.5, norm="batch", zoneout=(0.1, 0.2), recurrent_dropout=0.3
    )
    shown = repr(layer)
    for part in ("num_layers=2", "dropout=0.5", "recurrent_dropout=0.3", "0.1", "0.2"):
        assert part in shown, part
    for part in ("norm_ih_l0", "norm_hh_l1", "norm_cell_l0", "max_steps=512", "kind='batch'"):
        assert part in shown, part
    assert repr(seqnorm.LSTMCell(I, H, bias=False)) == "LSTMCell(3, 5, bias=False)"
    assert "norm_hh" in repr(seqnorm.GRUCell(I, H, norm="layer"))


@pytest.mark.parametrize("norm", [None, "layer", "batch"])
@pytest.mark.parametrize("kind", LAYERS)
def test_weights_are_read_at_every_call(kind: str, norm: str | None) -> None:
    """weight_norm and similar tools replace a parameter by one computed from others."""
    layer = LAYERS[kind][1](I, H, dtype=F64, norm=norm).eval()
    x = fresh(T, B, I, seed=1)
    before = layer(x)[0]
    parametrizations.weight_norm(layer, "weight_hh_l0")
    assert_close(layer(x)[0], before, VALUES, "weight_norm starts as the identity")

    class Flip(nn.Module):  # a factor would not change the result of a norm
        def forward(self, weight: Tensor) -> Tensor:
            return weight.flip(0)

    parametrize.register_parametrization(layer, "weight_ih_l0", Flip())
    twin = LAYERS[kind][1](I, H, dtype=F64, norm=norm).eval()
    names = set(twin.state_dict())
    kept = {name: value for name, value in layer.state_dict().items() if name in names}
    weights = {"weight_hh_l0": layer.weight_hh_l0, "weight_ih_l0": layer.weight_ih_l0}
    twin.load_state_dict(kept | weights)
    changed = layer(x)[0]
    assert_close(changed, twin(x)[0], VALUES)
    assert (changed - before).abs().max() > 1e-3
    changed.sum().backward()
    for name, parameter in layer.named_parameters():
        assert parameter.grad is not None, name


def test_replaced_parameters_are_used() -> None:
    reference, module = twins("LSTM")
    for either in (reference, module):
        generator = torch.Generator().manual_seed(5)
        new = torch.randn(4 * H, H, dtype=F64, generator=generator)
        either.weight_hh_l0 = nn.Parameter(new)
    assert_same(reference, module, lambda m, x, _: m(x), fresh(T, B, I, seed=1), [])


@pytest.mark.parametrize("kind", LAYERS)
def test_sizes_that_torch_takes_are_taken(kind: str) -> None:
    """An empty batch gives the same as torch; without steps, which torch refuses, it is empty."""
    reference, module = twins(kind, num_layers=2, bidirectional=True)
    x = torch.zeros(T, 0, I, dtype=F64)
    for a, e in zip(tensors(module(x)), tensors(reference(x))):
        assert a.shape == e.shape
    with pytest.raises(RuntimeError, match="sequence length"):
        reference(torch.zeros(0, B, I, dtype=F64))
    hx = states(kind, {"num_layers": 2, "bidirectional": True}, (B,))
    output, final = module(torch.zeros(0, B, I, dtype=F64), as_hx(hx))
    assert output.shape == (0, B, 2 * H)
    for a, e in zip(tensors(final), hx):
        assert_equal(a, e.detach(), "no step leaves the initial state")
