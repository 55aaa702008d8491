"""``quantize_``: int8 and scales, the error that they make, and what a quantised model refuses.

The kernels for int8 are tested in ``tests/nn/backends/test_cpu_int8.py``.

Axes: T steps, B sequences, R rows of a matrix, K numbers in a row.
"""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import pytest
import torch
from hidden_states import parts_of
from tolerances import VALUES, assert_close, assert_equal
from torch import Tensor, nn
from torch_versions import needs_compiler

import seqnorm
from seqnorm.nn.layers.cells import LAYERS

F32, F64 = torch.float32, torch.float64
DEEP = {"num_layers": 2, "bidirectional": True}
# Rounding of the other factor to 16 bits, relative to that of the weights to 8 bits.
OF_INPUT = 0.01


class Tagger(nn.Module):
    """A model with modules that stay as they are."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 6)
        self.lstm = seqnorm.LSTM(6, 40, norm="layer", **DEEP)
        self.cell = seqnorm.GRUCell(80, 8)
        self.linear = nn.Linear(8, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        output, _ = self.lstm(self.embedding(tokens))
        return self.linear(self.cell(output[-1]))  # type: ignore[no-any-return]  # a tensor


def saved(value: Any) -> io.BytesIO:
    file = io.BytesIO()
    torch.save(value, file)
    file.seek(0)
    return file


def by_rows(weight: Tensor) -> tuple[list[list[int]], list[float]]:
    """Return the whole numbers and scales of a matrix, one number at a time."""
    numbers, scales = [], []
    for row in weight.tolist():
        scale = max(abs(number) for number in row) / 127
        scales.append(scale)
        numbers.append([round(number / scale) if scale else 0 for number in row])
    return numbers, scales


def test_numbers_and_scales() -> None:
    layer = seqnorm.LSTM(9, 12, proj_size=5, dtype=F64)
    with torch.no_grad():
        layer.weight_hh_l0[3] = 0.0
        layer.weight_ih_l0[2] *= 1e-300
    expected = {name: by_rows(value) for name, value in layer.named_parameters() if value.dim() > 1}
    assert set(expected) == {"weight_ih_l0", "weight_hh_l0", "weight_hr_l0"}
    state = seqnorm.quantize_(layer).state_dict()
    for name, (numbers, scales) in expected.items():
        assert state[name].dtype == torch.int8
        assert state[name].tolist() == numbers
        assert_equal(state[name + "_scale"], torch.tensor(scales, dtype=F64))


def test_a_subnormal_row() -> None:
    layer = seqnorm.RNN(3, 1)
    with torch.no_grad():
        layer.weight_ih_l0.copy_(torch.tensor([[1e-44, -1e-44, 0.0]]))
    assert seqnorm.quantize_(layer).weight_ih_l0.abs().max() <= 127


def test_numbers_of_bfloat16_are_the_nearest() -> None:
    layer = seqnorm.GRU(200, 64, dtype=torch.bfloat16)
    exact = layer.weight_ih_l0.detach().double()
    seqnorm.quantize_(layer)
    scale = layer.weight_ih_l0_scale.double()[:, None]
    error = (layer.weight_ih_l0.double() * scale - exact).abs() / scale
    assert float(error.max()) <= 0.5


@pytest.mark.parametrize("dtype", [F32, torch.bfloat16])
def test_a_stream_is_saved_and_goes_on(dtype: torch.dtype) -> None:
    layer = seqnorm.quantize_(seqnorm.LSTM(6, 40, norm="layer", dtype=dtype)).eval()
    x = torch.randn(7, 2, 6, dtype=dtype)
    stream, later = (seqnorm.Stream(layer, batch=2) for _ in range(2))
    stream(x[:4])
    later.load_state_dict(torch.load(saved(stream.state_dict()), weights_only=True))
    assert later.state_dict()["h"].dtype == dtype
    assert_equal(later(x[4:]), stream(x[4:]))


def test_the_error_of_a_stream_is_its_own() -> None:
    """The states have not the dtype of the int8, which is no reason for an error."""
    stream = seqnorm.Stream(seqnorm.quantize_(seqnorm.GRU(6, 8)).eval(), batch=2)
    stream(torch.randn(3, 2, 6))
    with pytest.raises(RuntimeError, match="Expected 6, got 5"):
        stream(torch.randn(3, 2, 5))


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_the_error_of_a_product(backend: str) -> None:
    """Half a scale times the sum of |x|, and no less in the worst case by much."""
    if seqnorm.available_backends()[backend].startswith("absent"):
        pytest.skip("this machine has no kernels")
    layer = seqnorm.RNN(50, 30, nonlinearity="relu", bias=False, dtype=F64).eval()
    with torch.no_grad():
        layer.weight_hh_l0.zero_()
    x = torch.randn(1, 8, 50, dtype=F64)
    exact = x[0] @ layer.weight_ih_l0.detach().T
    seqnorm.quantize_(layer)
    with torch.no_grad(), seqnorm.use_backend(backend):
        found = layer(x)[0][0]
    bound = x[0].abs().sum(1, keepdim=True) * layer.weight_ih_l0_scale / 2 * (1 + OF_INPUT)
    error = (found - exact.clamp(min=0)).abs()
    assert bool((error <= bound).all())
    assert float(error.max()) > 0.05 * float(bound.max())


@pytest.mark.parametrize("cell", LAYERS)
def test_a_cell_and_its_layer_are_the_same(cell: str) -> None:
    options = {"norm": None} if cell == "SLSTM" else {"norm": "layer"}
    layer = seqnorm.quantize_(LAYERS[cell](5, 8, dtype=F64, **options)).eval()
    single = getattr(seqnorm, f"{cell}Cell")(5, 8, dtype=F64, **options).eval()
    names = {key.replace("_l0", ""): value for key, value in layer.state_dict().items()}
    seqnorm.quantize_(single).load_state_dict(names)
    x = torch.randn(3, 4, 5, dtype=F64)
    with seqnorm.use_backend("reference"), torch.no_grad():
        state = None
        for t in range(3):
            state = single(x[t], state)
        for part, expected in zip(parts_of(state), parts_of(layer(x)[1])):
            assert_close(part, expected[0], VALUES)


def test_what_is_quantised() -> None:
    model = Tagger().eval()
    before = copy.deepcopy(model)
    assert seqnorm.quantize_(model) is model
    kinds = {name: value.dtype for name, value in model.state_dict().items()}
    of_int8 = {name for name, dtype in kinds.items() if dtype == torch.int8}
    matrices = [
        f"lstm.weight_{kind}_l{k}{end}"
        for kind in ("ih", "hh")
        for k in (0, 1)
        for end in ("", "_reverse")
    ]
    assert of_int8 == {*matrices, "cell.weight_ih", "cell.weight_hh"}
    for name, value in before.state_dict().items():
        if name not in of_int8:
            assert_equal(model.state_dict()[name], value)
    assert not [name for name, _ in model.named_parameters() if name in of_int8]
    tokens = torch.randint(20, (7, 3))
    with torch.no_grad():
        assert_close(model(tokens), before(tokens), 0.1)


def test_the_vector_of_an_indrnn_and_a_matrix_without_inputs_stay() -> None:
    indrnn = seqnorm.quantize_(seqnorm.IndRNN(3, 5))
    assert (indrnn.weight_ih_l0.dtype, indrnn.weight_hh_l0.dtype) == (torch.int8, F32)
    empty = seqnorm.quantize_(seqnorm.LSTMCell(0, 5)).eval()
    assert (empty.weight_ih.dtype, empty.weight_hh.dtype) == (F32, torch.int8)
    x, state = torch.zeros(3, 0), (torch.randn(3, 5), torch.randn(3, 5))
    with torch.no_grad():
        found = empty(x, state)[0]
        with seqnorm.use_backend("reference"):
            assert_close(found, empty(x, state)[0], 1e-3)


def test_saved_and_loaded() -> None:
    model = Tagger().eval()
    large = len(saved(seqnorm.LSTM(256, 256, norm="layer").state_dict()).getvalue())
    small = seqnorm.quantize_(seqnorm.LSTM(256, 256, norm="layer"))
    assert len(saved(small.state_dict()).getvalue()) < 0.28 * large
    seqnorm.quantize_(model)
    tokens = torch.randint(20, (7, 3))
    with torch.no_grad():
        expected = model(tokens)
    other = seqnorm.quantize_(Tagger()).eval()
    other.load_state_dict(torch.load(saved(model.state_dict()), weights_only=True))
    whole = torch.load(saved(model), weights_only=False)
    for copied in (other, whole, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        with torch.no_grad():
            assert_equal(copied(tokens), expected)
        with pytest.raises(RuntimeError, match="only computes in inference"):
            copied.train()(tokens)
        copied.eval()
    other.load_state_dict(seqnorm.quantize_(Tagger()).state_dict())  # a later call notices it
    with torch.no_grad():
        assert bool((other(tokens) != expected).any())


def test_state_dicts_of_the_other_kind() -> None:
    plain, quantised = seqnorm.LSTM(3, 4), seqnorm.quantize_(seqnorm.LSTM(3, 4))
    before = copy.deepcopy(plain.state_dict()), copy.deepcopy(quantised.state_dict())
    for strict in (True, False):
        with pytest.raises(RuntimeError, match=r"weight_ih_l0 is int8 there .* call that on this"):
            plain.load_state_dict(quantised.state_dict(), strict=strict)
        with pytest.raises(RuntimeError, match=r"float32 there and int8 here.*before seqnorm"):
            quantised.load_state_dict(seqnorm.LSTM(3, 4).state_dict(), strict=strict)
    for module, state in zip((plain, quantised), before):
        for name, value in module.state_dict().items():
            assert_equal(value, state[name])


def test_training_is_refused() -> None:
    layer = seqnorm.quantize_(seqnorm.LSTM(3, 4, norm="layer", num_layers=2))
    x = torch.randn(5, 2, 3)
    for recording in (True, False):
        with torch.set_grad_enabled(recording):
            with pytest.raises(RuntimeError, match=r"this LSTM has weights of int8.*model.eval()"):
                layer(x)
            with pytest.raises(RuntimeError, match="weights of int8"):
                layer.one_direction(0, x, None, torch.tensor([5, 2]), 0)
            with pytest.raises(RuntimeError, match="this GRUCell has weights of int8"):
                seqnorm.quantize_(seqnorm.GRUCell(3, 4))(x[0])
    with torch.no_grad():
        layer.eval()(x[:1])  # a prepared call, whose mode changes afterwards
        with pytest.raises(RuntimeError, match="weights of int8"):
            layer.train()(x[:1])
    with pytest.raises(RuntimeError, match="floating point"):
        layer.weight_hh_l0.requires_grad_()
    with pytest.raises(RuntimeError, match="cannot be drawn anew"):
        layer.reset_parameters()
    with pytest.raises(ValueError, match=r"no weights of int8: call to_torch\(\) before"):
        seqnorm.quantize_(seqnorm.LSTM(3, 4)).to_torch()
    with pytest.raises(ValueError, match="int8"):
        seqnorm.to_weights(seqnorm.quantize_(seqnorm.LSTM(3, 4)), "torch")


def test_gradients_of_everything_else() -> None:
    """They are those of a layer with the matrices that int8 stands for."""
    layer = seqnorm.LSTM(5, 6, norm="layer", dtype=F64, **DEEP)
    quantised = seqnorm.quantize_(copy.deepcopy(layer)).eval()
    state = quantised.state_dict()
    floats = {
        name: state[name] * state[name + "_scale"][:, None]
        if name + "_scale" in state
        else state[name]
        for name in layer.state_dict()
    }
    layer.load_state_dict(floats)
    found = []
    for module in (layer.eval(), quantised):
        torch.manual_seed(1)
        x = torch.randn(4, 3, 5, dtype=F64, requires_grad=True)
        output, _ = module(x)
        output.square().sum().backward()
        gains = {name: p.grad for name, p in module.named_parameters() if name.startswith("norm")}
        found.append({"output": output, "input": x.grad, **gains})
    for name, expected in found[0].items():
        assert_close(found[1][name], expected, VALUES, name)


@pytest.mark.parametrize("dtype", [F64, torch.bfloat16])
def test_other_dtypes(dtype: torch.dtype) -> None:
    """A model that is converted before or afterwards."""
    layer = seqnorm.GRU(5, 16, norm="layer")
    after = seqnorm.quantize_(copy.deepcopy(layer)).to(dtype).eval()
    before = seqnorm.quantize_(layer.to(dtype)).eval()
    x = torch.randn(3, 2, 5, dtype=dtype)
    with torch.no_grad():
        found = [module(x)[0] for module in (after, before)]
    assert [each.dtype for each in found] == [dtype, dtype]
    assert_close(found[0].double(), found[1].double(), 0.05)
    with pytest.raises(ValueError, match=f"does not match weight dtype .{dtype}"):
        after(x.float())


def test_learned_states_and_unequal_lengths() -> None:
    options: dict[str, Any] = {"norm": "layer", "learn_initial_state": True, "zoneout": 0.1}
    layer = seqnorm.quantize_(
        seqnorm.LSTM(5, 6, recurrent_dropout=0.2, dtype=F64, **options)
    ).eval()
    seqnorm.compute_in_chunks(layer, 2)
    x = torch.randn(7, 3, 5, dtype=F64)
    with torch.no_grad():
        found = layer(x, lengths=[7, 0, 3])[0]
        with seqnorm.use_backend("reference"):
            assert_close(found, layer(x, lengths=[7, 0, 3])[0], 1e-3)


@needs_compiler
def test_compiled() -> None:
    model = seqnorm.quantize_(seqnorm.LSTM(5, 6, norm="layer")).eval()
    x = torch.randn(3, 2, 5)
    with torch.no_grad():
        found = torch.compile(model, backend="eager", fullgraph=True)(x)[0]
        with seqnorm.use_backend("reference"):
            assert_close(found, model(x)[0], 1e-6)


def test_errors() -> None:
    with pytest.raises(TypeError, match="takes a module, got str"):
        seqnorm.quantize_("model")  # type: ignore[type-var]
    with pytest.raises(ValueError, match=r"Sequential has no recurrent layer.*convert_rnn"):
        seqnorm.quantize_(nn.Sequential(nn.LSTM(3, 4), seqnorm.LayerNorm(4, layout="NTC")))
    spoiled = seqnorm.LSTM(3, 4)
    with torch.no_grad():
        spoiled.weight_hh_l0[1, 1] = float("nan")
    parametrised = seqnorm.weight_standardisation(seqnorm.LSTM(3, 4))
    for wrong, reason in (
        (seqnorm.quantize_(seqnorm.GRU(3, 4)), "1 is quantised already"),
        (spoiled, "weight_hh_l0 of 1 has values that are NaN"),
        (parametrised, "weights of 1 are parametrised.*remove_parametrizations"),
    ):
        model = nn.Sequential(seqnorm.LSTM(3, 4), wrong)
        with pytest.raises(ValueError, match=reason):
            seqnorm.quantize_(model)
        assert model[0].weight_hh_l0.dtype == F32


def test_a_shared_layer_is_quantised_once() -> None:
    layer = seqnorm.LSTM(3, 4)
    seqnorm.quantize_(nn.ModuleList([layer, layer]))
    assert layer.weight_hh_l0.dtype == torch.int8
