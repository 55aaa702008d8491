"""Without a norm the layers and cells are torch's: names, numbers, gradients, warnings, errors."""

from __future__ import annotations

import inspect
import itertools
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from tolerances import GRADIENTS, VALUES, assert_close, assert_equal
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

import seqnorm

I, H, T, B = 3, 5, 4, 3  # noqa: E741  the axes' letters
F64 = torch.float64
LENGTHS = {"sorted": [4, 3, 1], "unsorted": [1, 4, 3]}
LAYERS = {"LSTM": (nn.LSTM, seqnorm.LSTM), "GRU": (nn.GRU, seqnorm.GRU)}
CELLS = {"LSTMCell": (nn.LSTMCell, seqnorm.LSTMCell), "GRUCell": (nn.GRUCell, seqnorm.GRUCell)}
Options = dict[str, Any]


def all_options() -> Iterator[Any]:
    """Every combination of the options that change what torch computes."""
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
            label = "-".join(f"{name}={value}" for name, value in options.items())
            yield pytest.param(kind, options, id=f"{kind}-{label}")


OPTIONS = list(all_options())


def twins(kind: str, *args: Any, **options: Any) -> tuple[nn.Module, nn.Module]:
    """torch's module and ours with the same weights, loaded from torch's state dict."""
    theirs, ours = (LAYERS | CELLS)[kind]
    args = args or (I, H)
    reference = theirs(*args, dtype=F64, **options)
    module = ours(*args, dtype=F64, **options)
    module.load_state_dict(reference.state_dict())
    return reference, module


def tensors(result: Any) -> list[Tensor]:
    """All tensors of a nested result, packed sequences by their data."""
    if isinstance(result, Tensor):
        return [result]
    if isinstance(result, PackedSequence):
        return [result.data]
    return [tensor for part in result for tensor in tensors(part)]


def fresh(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=F64, generator=generator).requires_grad_()


def states(kind: str, options: Options, batch: tuple[int, ...]) -> list[Tensor]:
    entries = options.get("num_layers", 1) * (2 if options.get("bidirectional") else 1)
    sizes = [options.get("proj_size") or H, H][: 2 if kind.startswith("LSTM") else 1]
    return [fresh(entries, *batch, size, seed=10 + n) for n, size in enumerate(sizes)]


def assert_same(
    reference: nn.Module,
    module: nn.Module,
    call: Callable[[nn.Module, Tensor, list[Tensor]], Any],
    input: Tensor,
    hx: list[Tensor],
) -> None:
    """Equal results, and equal gradients of everything under random cotangents."""
    found: list[tuple[list[Tensor], list[Tensor]]] = []
    for either in (reference, module):
        either.zero_grad()
        x = input.detach().clone().requires_grad_()
        initial = [part.detach().clone().requires_grad_() for part in hx]
        results = tensors(call(either, x, initial))
        torch.autograd.backward(
            results, [fresh(*r.shape, seed=20 + n).detach() for n, r in enumerate(results)]
        )
        grads = [x.grad, *(part.grad for part in initial), *(p.grad for p in either.parameters())]
        assert all(grad is not None for grad in grads)
        found.append((results, grads))
    (expected, expected_grads), (actual, actual_grads) = found
    assert len(actual) == len(expected)
    assert len(actual_grads) == len(expected_grads)
    for a, e in zip(actual, expected):
        assert_close(a, e, VALUES)
    for a, e in zip(actual_grads, expected_grads):
        assert_close(a, e, GRADIENTS)


def as_hx(kind: str, hx: list[Tensor]) -> Any:
    if not hx:
        return None
    return tuple(hx) if kind.startswith("LSTM") else hx[0]


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
            output, final = either(packed, as_hx(kind, hx))
            assert isinstance(output, PackedSequence)
            assert output.batch_sizes.equal(packed.batch_sizes)
            assert (output.sorted_indices is None) == (packed.sorted_indices is None)
            return output, final
        return either(x, as_hx(kind, hx))

    hx = states(kind, options, batch) if given else []
    if backend is None:
        assert_same(reference, module, call, input, hx)
    else:
        with seqnorm.backend(backend):
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
            return either(x, as_hx(kind, hx), torch.tensor(lengths) if as_tensor else lengths)
        packed = pack_padded_sequence(x, lengths, first, enforce_sorted=False)
        output, final = either(packed, as_hx(kind, hx))
        return pad_packed_sequence(output, first, total_length=T)[0], final

    input = fresh(*((B, T, I) if first else (T, B, I)), seed=1)
    hx = states(kind, options, (B,)) if given else []
    assert_same(reference, module, call, input, hx)


@pytest.mark.parametrize("given", [False, True], ids=["zeros", "hx"])
@pytest.mark.parametrize("batch", [(), (B,)], ids=["unbatched", "batched"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", CELLS)
def test_cells_give_the_same_numbers(
    kind: str, bias: bool, batch: tuple[int, ...], given: bool
) -> None:
    reference, module = twins(kind, bias=bias)
    assert list(module.state_dict()) == list(reference.state_dict())
    hx = [part[0] for part in states(kind, {}, batch)] if given else []
    assert_same(
        reference, module, lambda m, x, s: m(x, as_hx(kind, s)), fresh(*batch, I, seed=1), hx
    )


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
    with seqnorm.backend("reference"):
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
        expected = [p for p in base if kind == "LSTM" or p.name != "proj_size"]
        found = inspect.signature(ours).parameters.values()
        shared = [p for p in found if p.kind is not p.KEYWORD_ONLY]
        assert [(p.name, p.default) for p in shared] == [(p.name, p.default) for p in expected]
        beyond = {p.name: p.default for p in found if p.kind is p.KEYWORD_ONLY}
        assert beyond == {"norm": None, "zoneout": 0.0, "recurrent_dropout": 0.0}
    for theirs, ours in CELLS.values():
        expected = inspect.signature(theirs).parameters.values()
        found = inspect.signature(ours).parameters.values()
        shared = [p for p in found if p.kind is not p.KEYWORD_ONLY]
        assert [(p.name, p.default) for p in shared] == [(p.name, p.default) for p in expected]
        assert [(p.name, p.default) for p in found if p.kind is p.KEYWORD_ONLY] == [("norm", None)]


def test_forward_takes_what_torchs_takes() -> None:
    for theirs, ours in (LAYERS | CELLS).values():
        expected = list(inspect.signature(theirs.forward).parameters)
        found = list(inspect.signature(ours.forward).parameters)
        assert found == [*expected, "step" if ours.__name__.endswith("Cell") else "lengths"]


@pytest.mark.parametrize("kind", LAYERS)
def test_dropout_on_one_layer_warns(kind: str) -> None:
    for cls in LAYERS[kind]:
        with pytest.warns(UserWarning, match=r"num_layers.*dropout=0\.5") as caught:
            cls(I, H, dropout=0.5)
        assert len(caught) == 1
    assert caught[0].filename == __file__, "the warning points at the line that built the layer"


X = torch.zeros(T, B, I)
H0 = torch.zeros(1, B, H)
PACKED = pack_padded_sequence(X, [4, 3, 1])
WRONG: dict[str, Callable[[Any, Callable[..., Any]], object]] = {
    "input_size float": lambda cls, hx: cls(3.0, H),
    "input_size zero": lambda cls, hx: cls(0, H),
    "input_size negative": lambda cls, hx: cls(-1, H),
    "hidden_size float": lambda cls, hx: cls(I, 5.0),
    "hidden_size str": lambda cls, hx: cls(I, "5"),
    "hidden_size zero": lambda cls, hx: cls(I, 0),
    "num_layers zero": lambda cls, hx: cls(I, H, 0),
    "num_layers float": lambda cls, hx: cls(I, H, 2.0),
    "bias int": lambda cls, hx: cls(I, H, bias=1),
    "batch_first int": lambda cls, hx: cls(I, H, batch_first=1),
    "dropout large": lambda cls, hx: cls(I, H, 2, dropout=1.5),
    "dropout negative": lambda cls, hx: cls(I, H, 2, dropout=-0.1),
    "dropout bool": lambda cls, hx: cls(I, H, 2, dropout=True),
    "dropout str": lambda cls, hx: cls(I, H, 2, dropout="much"),
    "unknown option": lambda cls, hx: cls(I, H, nonlinearity="relu"),
    "input 1-D": lambda cls, hx: cls(I, H)(X[0, 0]),
    "input 4-D": lambda cls, hx: cls(I, H)(X[None]),
    "input double": lambda cls, hx: cls(I, H)(X.double()),
    "input int": lambda cls, hx: cls(I, H)(X.long()),
    "input wide": lambda cls, hx: cls(I + 1, H)(X),
    "input list": lambda cls, hx: cls(I, H)([[0.0]]),
    "packed wide": lambda cls, hx: cls(I + 1, H)(PACKED),
    "hx 2-D": lambda cls, hx: cls(I, H)(X, hx(H0[:, 0])),
    "hx 3-D unbatched": lambda cls, hx: cls(I, H)(X[:, 0], hx(H0)),
    "hx other batch": lambda cls, hx: cls(I, H)(X, hx(H0[:, :2])),
    "hx other layers": lambda cls, hx: cls(I, H, 2)(X, hx(H0)),
    "hx other size": lambda cls, hx: cls(I, H)(X, hx(H0[..., :4])),
    "hx double": lambda cls, hx: cls(I, H)(X, hx(H0.double())),
    "hx packed other batch": lambda cls, hx: cls(I, H)(PACKED, hx(H0[:, :2])),
    "hx batch_first": lambda cls, hx: cls(I, H, batch_first=True)(X, hx(H0)),
}


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.parametrize("kind", LAYERS)
def test_wrong_arguments_raise_what_torch_raises(kind: str, case: str) -> None:
    def hx(part: Tensor) -> Any:
        return (part, part) if kind == "LSTM" else part

    raised = []
    for cls in LAYERS[kind]:
        with pytest.raises(Exception) as error:  # noqa: PT011  the types are compared below
            WRONG[case](cls, hx)
        raised.append(error.type)
    assert raised[1] is raised[0], f"torch raises {raised[0]}, seqnorm {raised[1]}"


WRONG_CELL: dict[str, Callable[[Any, Callable[..., Any]], object]] = {
    "hidden_size float": lambda cls, hx: cls(I, 5.0),
    "input 0-D": lambda cls, hx: cls(I, H)(X[0, 0, 0]),
    "input 3-D": lambda cls, hx: cls(I, H)(X),
    "input wide": lambda cls, hx: cls(I + 1, H)(X[0]),
    "input wide unbatched": lambda cls, hx: cls(I + 1, H)(X[0, 0]),
    "input double": lambda cls, hx: cls(I, H)(X[0].double()),
    "hx 3-D": lambda cls, hx: cls(I, H)(X[0], hx(H0)),
    "hx 1-D for a batch": lambda cls, hx: cls(I, H)(X[0], hx(H0[0, 0])),
    "hx 2-D unbatched": lambda cls, hx: cls(I, H)(X[0, 0], hx(H0[0])),
    "hx (1, H) unbatched": lambda cls, hx: cls(I, H)(X[0, 0], hx(H0[0, :1])),
    "hx other batch": lambda cls, hx: cls(I, H)(X[0], hx(H0[0, :2])),
    "hx other size": lambda cls, hx: cls(I, H)(X[0], hx(H0[0, :, :4])),
}


@pytest.mark.parametrize("case", WRONG_CELL)
@pytest.mark.parametrize("kind", CELLS)
def test_wrong_cell_arguments_raise_what_torch_raises(kind: str, case: str) -> None:
    def hx(part: Tensor) -> Any:
        return (part, part) if kind == "LSTMCell" else part

    raised = []
    for cls in CELLS[kind]:
        with pytest.raises(Exception) as error:  # noqa: PT011  the types are compared below
            WRONG_CELL[case](cls, hx)
        raised.append(error.type)
    assert raised[1] is raised[0], f"torch raises {raised[0]}, seqnorm {raised[1]}"


@pytest.mark.parametrize("kind", LAYERS)
def test_packed_input_of_another_dtype(kind: str) -> None:
    """torch's LSTM checks a packed input only beside hx; ours says the same of every form."""
    with pytest.raises(ValueError, match=r"RNN input dtype .*float32.* does not match weight"):
        LAYERS[kind][1](I, H, dtype=F64)(PACKED)


def test_projection_sizes_raise_what_torch_raises() -> None:
    for size in (-1, H, H + 1):
        for cls in (nn.LSTM, seqnorm.LSTM):
            with pytest.raises(ValueError, match="proj_size"):
                cls(I, H, proj_size=size)
    # torch's GRU takes any keyword and refuses this one by a ValueError; ours has no such keyword.
    with pytest.raises(TypeError, match="proj_size"):
        seqnorm.GRU(I, H, proj_size=2)


@pytest.mark.parametrize(("kind", "options"), OPTIONS)
def test_repr_and_attributes_are_torchs(kind: str, options: Options) -> None:
    reference, module = twins(kind, **options)
    assert repr(module) == repr(reference)
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


PAIRS: list[tuple[str, str]] = [
    (name, cell) for name, cells in seqnorm.PRESETS.items() for cell in cells
]
# Presets with a bias inside a norm, where torch's vector has another meaning than outside.
INSIDE = [("kiros2016", "LSTM"), ("kiros2016", "GRU"), ("icefall", "LSTM"), ("icefall", "GRU")]


@pytest.mark.parametrize(("name", "kind"), PAIRS)
def test_from_torch_takes_the_matrices(name: str, kind: str) -> None:
    extra = {"proj_size": 2} if kind == "LSTM" else {}
    theirs, ours = LAYERS[kind]
    reference = theirs(I, H, 2, bidirectional=True, batch_first=True, dtype=F64, **extra).eval()
    layer = ours.from_torch(reference, norm=name)
    assert layer.norm == seqnorm.preset(name, kind)
    assert not layer.training
    assert layer.batch_first
    assert layer.train().training
    writes = layer.norm.update == "write"
    for key, value in reference.state_dict().items():
        if key.startswith("weight"):
            expected = value.clone()
            if writes:
                expected[H : 2 * H] *= -1  # z takes the candidate
            assert_equal(layer.state_dict()[key], expected, key)


@pytest.mark.parametrize(("name", "kind"), [pair for pair in PAIRS if pair not in INSIDE])
def test_from_torch_places_the_biases(name: str, kind: str) -> None:
    """With zero matrices every norm of a term passes its bias alone, and the gates are torch's."""
    theirs, ours = LAYERS[kind]
    reference = theirs(I, H, dtype=F64)
    with torch.no_grad():
        reference.weight_ih_l0.zero_()
        reference.weight_hh_l0.zero_()
        if name == "dreamer":  # r * (W h + b), one norm over the sum: torch's r * b_hn is b_n here
            reference.bias_ih_l0[2 * H :].zero_()
    layer = ours.from_torch(reference, norm=name).eval()
    x, (h0, *c0) = fresh(1, B, I, seed=1), states(kind, {}, (B,))
    if kind == "GRU":
        assert_close(layer(x, h0)[1], reference(x, h0)[1], VALUES)
        return
    _, (h, c) = layer(x, (h0, *c0))
    _, (h_torch, c_torch) = reference(x, (h0, *c0))
    if layer.norm.cell_state == "normalised":
        c_torch = layer.norm_cell_l0(c_torch)
    assert_close(c, c_torch, VALUES)
    if layer.norm.cell is None:
        assert_close(h, h_torch, VALUES)


@pytest.mark.parametrize(("name", "kind"), INSIDE)
def test_from_torch_keeps_both_vectors_of_a_bias_inside(name: str, kind: str) -> None:
    theirs, ours = LAYERS[kind]
    reference = theirs(I, H, dtype=F64)
    layer = ours.from_torch(reference, norm=name)
    assert_equal(layer.bias_ih_l0, reference.bias_ih_l0)
    second = layer.bias_hh_l0 if layer.bias_hh_l0 is not None else layer.norm_hh_l0.bias
    assert_equal(second, reference.bias_hh_l0)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", LAYERS)
def test_from_torch_and_back_without_a_norm(kind: str, bias: bool) -> None:
    extra = {"proj_size": 2} if kind == "LSTM" else {}
    options = {"bidirectional": True, "batch_first": True, "dropout": 0.5, "bias": bias, **extra}
    theirs, ours = LAYERS[kind]
    reference = theirs(I, H, 2, dtype=F64, **options).eval()
    layer = ours.from_torch(reference)
    back = layer.to_torch()
    assert type(back) is theirs
    assert repr(back) == repr(reference) == repr(layer)
    assert not back.training
    x = fresh(B, T, I, seed=1)
    for a, b, c in zip(tensors(layer(x)), tensors(reference(x)), tensors(back(x))):
        assert_close(a, b, VALUES)
        assert_equal(c, b)
    with torch.no_grad():
        back.weight_ih_l0.zero_()
    assert bool(layer.weight_ih_l0.any()), "to_torch copies"
    assert bool(reference.weight_ih_l0.any()), "from_torch copies"


@pytest.mark.parametrize(
    ("what", "value"), [("norm", "layer"), ("zoneout", 0.1), ("recurrent_dropout", 0.1)]
)
def test_to_torch_refuses_what_torch_lacks(what: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"torch\.nn\.LSTM has no {what}"):
        seqnorm.LSTM(I, H, **{what: value}).to_torch()


def test_from_torch_refuses_biases_without_a_place() -> None:
    scheme = seqnorm.NormScheme(input=seqnorm.Norm("layer", bias=None), bias_ih=None)
    with pytest.raises(ValueError, match=r'bias_ih="outside"'):
        seqnorm.LSTM.from_torch(nn.LSTM(I, H), norm=scheme)
    without = seqnorm.LSTM.from_torch(nn.LSTM(I, H, bias=False), norm=scheme)
    assert without.bias_ih_l0 is None


@pytest.mark.parametrize(("ours", "theirs"), [(seqnorm.LSTM, nn.GRU), (seqnorm.GRU, nn.LSTM)])
def test_from_torch_names_the_layer_it_takes(ours: Any, theirs: Any) -> None:
    with pytest.raises(TypeError, match=rf"{ours.__name__}.*{theirs.__name__}"):
        ours.from_torch(theirs(I, H))


@pytest.mark.parametrize("norm", [None, "layer", "batch"])
@pytest.mark.parametrize("kind", LAYERS)
def test_weights_are_read_at_every_call(kind: str, norm: str | None) -> None:
    """weight_norm and its like replace a parameter by what they compute from others."""
    layer = LAYERS[kind][1](I, H, dtype=F64, norm=norm).eval()
    x = fresh(T, B, I, seed=1)
    before = layer(x)[0]
    parametrizations.weight_norm(layer, "weight_hh_l0")
    assert_close(layer(x)[0], before, VALUES, "weight_norm starts as the identity")

    class Flip(nn.Module):  # not a factor, to which a norm would be blind
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
    """An empty batch is answered as torch does; empty time, which torch refuses, is empty too."""
    reference, module = twins(kind, num_layers=2, bidirectional=True)
    x = torch.zeros(T, 0, I, dtype=F64)
    for a, e in zip(tensors(module(x)), tensors(reference(x))):
        assert a.shape == e.shape
    with pytest.raises(RuntimeError, match="sequence length"):
        reference(torch.zeros(0, B, I, dtype=F64))
    hx = states(kind, {"num_layers": 2, "bidirectional": True}, (B,))
    output, final = module(torch.zeros(0, B, I, dtype=F64), as_hx(kind, hx))
    assert output.shape == (0, B, 2 * H)
    for a, e in zip(tensors(final), hx):
        assert_equal(a, e.detach(), "no step leaves the initial state")


def test_no_warning_in_ordinary_use() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _, ours in LAYERS.values():
            ours(I, H, 2, dropout=0.5)(X)
            ours(I, H, norm="batch")(X)
