"""Gradients in every form of autograd: of some inputs, from some results, repeated, of gradients.

Axes: T steps, B sequences, I = input size, H = hidden size.
"""

from __future__ import annotations

import copy
import itertools
from typing import Any

import pytest
import torch
from beside_reference import (
    F64,
    Call,
    assert_equals_reference,
    assert_same,
    build,
    each_variant,
    needs_kernels,
    outcome,
    taken,
)
from hidden_states import as_hx, draw, parts_of
from tolerances import GRADIENTS, SUMS, VALUES, assert_close, assert_equal
from torch import Tensor

import seqnorm
from seqnorm.nn.backends.cpu import library, operators
from seqnorm.nn.backends.cpu.call import Inputs
from seqnorm.nn.backends.cpu.definition import definition

pytestmark = needs_kernels
I, H = 5, 9  # noqa: E741  the axes' letters
LENGTHS = [3, 0, 4, 6, 4]
TAKEN = taken()
# Schemes with different kernels: W_ih inside or outside, one norm of the sum, three norms, no norm.
CASES = ["LSTM None", "LSTM kiros2016", "LSTM icefall", "LSTM laurent2016"]
CASES += ["GRU None", "GRU kinds", "GRU dreamer", "GRU laurent2016"]
CASES += ["LSTM cooijmans2016", "LSTM batch sum", "GRU batch", "GRU batch ends"]
CASES += ["LiGRU kinds", "LiGRU ravanelli2018", "LiGRU batch", "RNN layer", "RNN None"]
CASES += ["IndRNN None", "IndRNN kinds", "IndRNN sum", "IndRNN batch"]
CASES += ["SLSTM None", "SLSTM layer", "SLSTM batch"]


def layer_of(name: str, **options: Any) -> Any:
    cell, norm = TAKEN[name]
    return build(cell, norm, I, H, **options)


def leaves_of(layer: Any, call: Call) -> dict[str, Tensor]:
    """Return all tensors that can need a gradient, with requires_grad=False."""
    state = {f"state {j}": part.clone() for j, part in enumerate(call.state)}
    return {"input": call.input.clone(), **state, **dict(layer.named_parameters())}


def results_of(layer: Any, leaves: dict[str, Tensor]) -> tuple[Tensor, ...]:
    state = tuple(value for name, value in leaves.items() if name.startswith("state"))
    with seqnorm.use_backend("cpu"):
        output, last = layer(leaves["input"], as_hx(state), lengths=LENGTHS)
    return output, *parts_of(last)


def require(leaves: dict[str, Tensor], needed: set[str]) -> None:
    for name, leaf in leaves.items():
        leaf.requires_grad_(name in needed)


@pytest.mark.parametrize("name", CASES)
def test_some_gradients_are_those_of_all(name: str) -> None:
    """Every combination of the input, W_ih, W_hh, the states and all else needs gradients."""
    layer = layer_of(name).eval()
    call = Call.draw(layer, LENGTHS)
    leaves = leaves_of(layer, call)
    groups = [{"input"}, {"weight_ih_l0"}, {"weight_hh_l0"}]
    groups.append({leaf for leaf in leaves if leaf.startswith("state")})
    groups.append(set(leaves) - set().union(*groups))
    everything: dict[str, Tensor] = {}
    for size in range(len(groups), 0, -1):
        for chosen in itertools.combinations(groups, size):
            needed = sorted(set().union(*chosen))
            if not needed:
                continue  # no norm and no bias
            require(leaves, set(needed))
            results = results_of(layer, leaves)
            grads = torch.autograd.grad(results, [leaves[n] for n in needed], call.cotangents)
            everything = everything or dict(zip(needed, grads))
            for leaf, grad in zip(needed, grads):
                assert_close(grad, everything[leaf], SUMS, f"{leaf} of {needed}")


@pytest.mark.parametrize("name", TAKEN)
def test_every_input_alone(name: str) -> None:
    """Each parameter, each state and the input alone need a gradient."""
    layer = layer_of(name).eval()
    call = Call.draw(layer, LENGTHS)
    leaves = leaves_of(layer, call)
    require(leaves, set(leaves))
    results = results_of(layer, leaves)
    grads = torch.autograd.grad(results, list(leaves.values()), call.cotangents)
    for leaf, expected in zip(leaves, grads):
        require(leaves, {leaf})
        pairs = list(zip(results_of(layer, leaves), call.cotangents))
        reached, cotangents = zip(*(pair for pair in pairs if pair[0].requires_grad))
        (grad,) = torch.autograd.grad(reached, leaves[leaf], cotangents)
        assert_close(grad, expected, SUMS, leaf)


@pytest.mark.parametrize("name", CASES)
def test_from_some_results(name: str) -> None:
    """Cotangents of the output, h_n and c_n come alone and in pairs; the others are absent."""
    layer = layer_of(name)
    call = Call.draw(layer, LENGTHS)
    count = len(call.cotangents)
    for size in range(1, count + 1):
        for chosen in itertools.combinations(range(count), size):
            found = []
            for backend in ("reference", "cpu"):
                leaves = leaves_of(layer, call)
                require(leaves, set(leaves))
                state = tuple(leaves[f"state {j}"] for j in range(len(call.state)))
                with seqnorm.use_backend(backend):
                    output, last = layer(leaves["input"], as_hx(state), lengths=LENGTHS)
                results = (output, *parts_of(last))
                outputs = [results[k] for k in chosen]
                cotangents = [call.cotangents[k] for k in chosen]
                options = {"materialize_grads": True}
                found.append(
                    torch.autograd.grad(outputs, list(leaves.values()), cotangents, **options)
                )
            for leaf, expected, actual in zip(leaves, *found):
                assert_close(actual, expected, GRADIENTS, f"{leaf} from {chosen}")


def strided(value: Tensor, form: str) -> Tensor:
    """Return the same numbers with other strides."""
    if form == "transposed":
        return value.transpose(0, -1).contiguous().transpose(0, -1)
    if form == "every other":
        return torch.stack([value, value.new_full(value.shape, torch.nan)], -1)[..., 0]
    return torch.cat([value.new_full((3, *value.shape[1:]), torch.nan), value])[3:]


@pytest.mark.parametrize("form", ["transposed", "every other", "inside"])
@pytest.mark.parametrize("name", CASES)
def test_memory_of_any_form(name: str, form: str) -> None:
    """Input, states, weights and cotangents may have strides or be slices of larger memory."""
    layer = layer_of(name)
    call = Call.draw(layer, [6, 6, 6])
    expected = outcome(layer, call)
    for parameter in layer.parameters():
        parameter.data = strided(parameter.data, form)
    call.input = strided(call.input, form)
    call.state = tuple(strided(part, form) for part in call.state)
    call.cotangents = tuple(strided(part, form) for part in call.cotangents)
    assert_same(outcome(layer, call), expected, form)


@pytest.mark.parametrize("name", CASES)
def test_expanded_gradients(name: str) -> None:
    """Gradients from ``sum()`` are one number with stride 0, or one row for all."""
    layer = layer_of(name)
    call = Call.draw(layer, None)
    row = torch.randn(H, dtype=F64)
    one = torch.tensor(0.7, dtype=F64)
    call.cotangents = tuple(
        (one if j % 2 else row).expand(part.shape) for j, part in enumerate(call.cotangents)
    )
    expected = outcome(layer, call, "reference")
    assert_same(outcome(layer, call), expected)
    call.cotangents = tuple(part.contiguous() for part in call.cotangents)
    assert_same(outcome(layer, call), expected)


def test_expanded_inputs() -> None:
    """The rows of the input, or of W_hh, are the same memory with stride 0."""
    for cell in library.STEPS:
        layer = build(cell, "layer", I, H)
        call = Call.draw(layer, None)
        call.input = call.input[:, :1].expand(call.input.shape)
        call.state = tuple(part[:, :1].expand(part.shape) for part in call.state)
        assert_equals_reference(layer, call)


@pytest.mark.parametrize("name", TAKEN)
def test_backward_twice(name: str) -> None:
    """A backward pass changes neither the saved tensors nor the cotangents."""
    layer = layer_of(name).eval()
    call = Call.draw(layer, LENGTHS)
    before = [part.clone() for part in call.cotangents]
    leaves = leaves_of(layer, call)
    require(leaves, set(leaves))
    results = results_of(layer, leaves)
    kept = [part.detach().clone() for part in results]
    first = torch.autograd.grad(results, list(leaves.values()), call.cotangents, retain_graph=True)
    results_of(layer, leaves)  # another call in between
    second = torch.autograd.grad(results, list(leaves.values()), call.cotangents)
    for leaf, a, b in zip(leaves, first, second):
        assert_equal(a, b, leaf)
    for a, b in zip((*call.cotangents, *results), (*before, *kept)):
        assert_equal(a.detach(), b)
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        torch.autograd.grad(results, list(leaves.values()), call.cotangents)


def test_gradients_accumulate() -> None:
    for name in CASES:
        layer = layer_of(name).eval()
        x = torch.randn(4, 3, I, dtype=F64)
        for _ in range(2):
            layer(x)[0].square().sum().backward()
        twice = {n: p.grad.clone() for n, p in layer.named_parameters() if p.grad is not None}
        layer.zero_grad()
        layer(x)[0].square().sum().backward()
        for leaf, parameter in layer.named_parameters():
            assert_close(twice[leaf], 2 * parameter.grad, SUMS, leaf)


def test_a_changed_weight_is_refused() -> None:
    """Saved tensors are checked for changes, as in torch."""
    layer = build("LSTM", "layer", I, H)
    for change in ("weight_hh_l0", "norm_ih_l0.weight", "bias_ih_l0"):
        output, _ = layer(torch.randn(3, 2, I, dtype=F64))
        with torch.no_grad():
            layer.get_parameter(change).mul_(2.0)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            output.sum().backward()


@pytest.mark.parametrize("name", CASES)
def test_finite_differences(name: str) -> None:
    """First derivatives equal differences of the kernels' own results."""
    cell, norm = TAKEN[name]
    layer = build(cell, norm, 2, 3).eval()
    names = [leaf for leaf, _ in layer.named_parameters()]
    state = tuple(part.requires_grad_() for part in draw(cell, 1, 3, 3))
    x = torch.randn(2, 3, 2, dtype=F64, requires_grad=True)

    def function(x: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
        state, parameters = others[: len(others) - len(names)], others[-len(names) :]
        arguments = (x, as_hx(state), [2, 1, 2])
        output, last = torch.func.functional_call(layer, dict(zip(names, parameters)), arguments)
        return output, *parts_of(last)

    with seqnorm.use_backend("cpu"):
        assert torch.autograd.gradcheck(function, (x, *state, *layer.parameters()), atol=1e-4)


@pytest.mark.parametrize("name", CASES)
def test_gradients_of_gradients(name: str) -> None:
    """Second derivatives by the definition equal differences of the kernels' gradients."""
    cell, norm = TAKEN[name]
    layer = build(cell, norm, 2, 3).eval()
    state = tuple(part.requires_grad_() for part in draw(cell, 1, 2, 3))
    x = torch.randn(2, 2, 2, dtype=F64, requires_grad=True)

    def function(x: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        output, last = layer(x, as_hx(state), [2, 1])
        return output, *parts_of(last)

    with seqnorm.use_backend("cpu"):
        assert torch.autograd.gradgradcheck(function, (x, *state), atol=1e-4)


@pytest.mark.parametrize("name", TAKEN)
def test_a_penalty_on_gradients(name: str) -> None:
    """The loss is the norm of the gradients of the input and of every parameter."""
    layer = layer_of(name).eval()
    call = Call.draw(layer, LENGTHS)
    found = []
    for backend in ("reference", "cpu"):
        x = call.input.clone().requires_grad_()
        with seqnorm.use_backend(backend):
            output, _ = layer(x, lengths=LENGTHS)
        leaves = {"input": x, **dict(layer.named_parameters())}
        (grad,) = torch.autograd.grad(output.sin().sum(), x, create_graph=True)
        loss = grad.square().sum() + output.square().sum()
        options = {"materialize_grads": True}
        found.append(torch.autograd.grad(loss, list(leaves.values()), **options))
    for leaf, expected, actual in zip(leaves, *found):
        assert_close(actual, expected, GRADIENTS, leaf)


@pytest.mark.parametrize("name", CASES)
def test_a_penalty_on_gradients_through_a_carried_state(name: str) -> None:
    """The second call begins with the state of the first, which depends on the same weights."""
    layer = layer_of(name).eval()
    call = Call.draw(layer, LENGTHS)
    found = []
    for backend in ("reference", "cpu"):
        with seqnorm.use_backend(backend):
            output, last = layer(call.input, as_hx(call.state), lengths=LENGTHS)
            again, _ = layer(output[:3, :, :I], last)
        leaves = list(layer.parameters())
        loss = again.sin().sum() + output.square().sum()
        grads = torch.autograd.grad(loss, leaves, create_graph=True)
        penalty = sum(grad.square().sum() for grad in grads)
        found.append((*grads, *torch.autograd.grad(penalty, leaves)))
    names = [leaf for leaf, _ in layer.named_parameters()]
    for leaf, expected, actual in zip((*names, *names), *found):
        assert_close(actual.detach(), expected.detach(), GRADIENTS, leaf)


@pytest.mark.parametrize("twice", [False, True])
@pytest.mark.parametrize("cell", library.STEPS)
def test_a_frozen_direction_beside_another(cell: str, twice: bool) -> None:
    """The results of the frozen direction depend on no trained parameter."""
    layer = build(cell, "layer", I, H, bidirectional=True)
    for leaf, parameter in layer.named_parameters():
        parameter.requires_grad_("reverse" not in leaf)
    call = Call.draw(layer, LENGTHS)
    leaves = [parameter for parameter in layer.parameters() if parameter.requires_grad]
    found = []
    for backend in ("reference", "cpu"):
        with seqnorm.use_backend(backend):
            output, _ = layer(call.input, lengths=call.lengths)
        grads = torch.autograd.grad(output.sin().sum(), leaves, create_graph=twice)
        if twice:
            grads += torch.autograd.grad(sum(grad.square().sum() for grad in grads), leaves)
        found.append(grads)
    for expected, actual in zip(*found):
        assert_close(actual.detach(), expected.detach(), GRADIENTS)


@pytest.mark.parametrize("name", TAKEN)
def test_the_operators_definition(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator's own definition equals the layer's for every plan."""
    layer = layer_of(name, num_layers=2, bidirectional=True)
    call = Call.draw(layer, LENGTHS)
    expected = outcome(layer, call, "reference")
    seen = []

    def apply(_: Any, pairs: Any, *tensors: Tensor | None) -> tuple[Tensor, ...]:
        calls = [one for one, _ in pairs]
        seen.extend(calls)
        size = len(Inputs._fields)
        assert len(tensors) == size * len(calls)
        inputs = [Inputs(*tensors[k * size : (k + 1) * size]) for k in range(len(calls))]
        return tuple(itertools.chain(*map(definition, calls, inputs)))

    monkeypatch.setattr(operators.Recurrence, "apply", apply)
    assert_same(outcome(layer, call), expected)
    # Norms of the batch that begin to read their tables at different steps cut a direction into
    # calls.
    assert sum(len(one.sizes) for one in seen) == 4 * max(LENGTHS)


@pytest.mark.parametrize("name", CASES)
def test_a_copy_of_a_trained_layer(name: str) -> None:
    """A call leaves nothing on the layer that a copy would share or could not copy."""
    layer = layer_of(name)
    call = Call.draw(layer, LENGTHS)
    optimizer = torch.optim.SGD(layer.parameters(), 0.1)
    for _ in range(3):
        output, _ = layer(call.input, lengths=LENGTHS)
        output.square().sum().backward()
        optimizer.step()
    twin = copy.deepcopy(layer)
    expected = outcome(layer, call)
    for leaf, value in outcome(twin, call).items():
        assert_equal(value, expected[leaf], leaf)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.mul_(1.1)
    changed = outcome(twin, call)
    assert not changed["output"].equal(expected["output"])
    for leaf, value in outcome(layer, call).items():
        assert_equal(value, expected[leaf], leaf)


@pytest.mark.parametrize("cell", library.STEPS)
def test_batch_first_packed_and_unbatched(cell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All forms of an input have the same results."""
    layer = build(cell, "layer", I, H)
    x = torch.randn(6, 3, I, dtype=F64)
    twin = build(cell, "layer", I, H, batch_first=True)
    twin.load_state_dict(layer.state_dict())
    packed = torch.nn.utils.rnn.pack_padded_sequence(x, [6, 4, 1])
    for _ in each_variant(monkeypatch):
        with seqnorm.use_backend("cpu"):
            expected = layer(x, lengths=[6, 4, 1])[0]
            first = twin(x.transpose(0, 1), lengths=[6, 4, 1])[0].transpose(0, 1)
            assert_close(first, expected, VALUES)
            out, _ = torch.nn.utils.rnn.pad_packed_sequence(layer(packed)[0])
            assert_close(out, expected, VALUES)
            assert_close(layer(x[:, 0])[0], expected[:, 0], VALUES)
