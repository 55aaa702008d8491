"""A layer keeps what it has gathered of its parts, and notices every exchange of one of them.

Axes: T steps, B sequences, I = input size, H = hidden size.
"""

from __future__ import annotations

import copy
import gc
import pickle
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from beside_reference import needs_kernels
from tolerances import SINGLE, assert_close, assert_equal
from torch import nn
from torch.nn.utils import prune
from torch_versions import needs_compiler

import seqnorm
from seqnorm.nn.backends.cpu import plan
from seqnorm.nn.layers.cells.lstm import LSTMStep
from seqnorm.nn.layers.cells.rnn import RNNStep
from seqnorm.nn.recurrence.step import PRESETS, STEPS
from seqnorm.nn.statistics.processes import Processes

T, B, I, H = 5, 3, 4, 8  # noqa: E741  the axes' letters
X = torch.linspace(-1.0, 1.0, T * B * I).reshape(T, B, I)


def build(norm: str | None = "layer", **options: Any) -> Any:
    """An LSTM that has been called, so that it has gathered its parts."""
    layer = seqnorm.LSTM(I, H, norm=norm, **options)
    for parameter in layer.parameters():
        nn.init.uniform_(parameter, -0.5, 0.5)
    layer(X)
    return layer


def assign(layer: Any) -> None:
    layer.load_state_dict(build().state_dict(), assign=True)


def convert_by_assignment(layer: Any) -> None:
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        layer.to(torch.float64).to(torch.float32)
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(False)


def swap_contents(layer: Any) -> None:
    for own, other in zip(layer.parameters(), build().parameters()):
        torch.utils.swap_tensors(own, other)


def exchange_a_norm(layer: Any) -> None:
    layer.norm_ih_l0 = build().norm_ih_l0


def exchange_a_gain(layer: Any) -> None:
    layer.norm_hh_l0.weight = nn.Parameter(torch.rand(4 * H))


def parametrise_a_gain(layer: Any) -> None:
    nn.utils.parametrizations.weight_norm(layer.norm_cell_l0, "weight", dim=None)
    with torch.no_grad():
        layer.norm_cell_l0.parametrizations.weight.original0.mul_(2.0)


def cut_off(layer: Any) -> None:
    prune.l1_unstructured(layer, "weight_hh_l0", amount=0.5)


def remove_a_bias(layer: Any) -> None:
    layer.bias_ih_l0 = None


def hold_back(layer: Any) -> None:
    layer.eval().zoneout = (0.5, 0.25)


def train_again(layer: Any) -> None:
    layer.eval()
    layer(X)
    layer.train()


CHANGES = [assign, convert_by_assignment, swap_contents, exchange_a_norm, exchange_a_gain]
CHANGES += [parametrise_a_gain, cut_off, remove_a_bias, hold_back, train_again]


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_counts_from_the_next_call_on(change: Callable[[Any], None]) -> None:
    layer = build()
    before = layer(X)[0].detach()
    change(layer)
    new = copy.copy(layer)  # has gathered nothing
    assert_equal(layer(X)[0], new(X)[0])
    if change not in (convert_by_assignment, train_again):
        assert not torch.equal(layer(X)[0], before)


def test_another_step() -> None:
    layer = seqnorm.RNN(I, H, norm="layer")
    layer(X)
    layer.step = RNNStep("relu")
    assert layer(X)[0].min() == 0.0


@pytest.mark.parametrize(
    "again", [copy.copy, copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))]
)
def test_a_copy_gathers_its_own_parts(again: Callable[[Any], Any]) -> None:
    layer = build()
    other = again(layer)
    assert_equal(other(X)[0], layer(X)[0])
    if again is not copy.copy:
        with torch.no_grad():
            other.weight_hh_l0.zero_()
        assert not torch.equal(other(X)[0], layer(X)[0])


def test_replicas_compute_with_their_own_tensors() -> None:
    """Exchange the parameters of a replica as ``nn.DataParallel`` does."""
    layer = build()
    before = layer(X)[0].detach()
    replicas = [module._replicate_for_data_parallel() for module in layer.modules()]
    for module, replica in zip(layer.modules(), replicas):
        for name, parameter in module._parameters.items():
            if parameter is None:
                replica._parameters[name] = None
            else:
                setattr(replica, name, parameter * 2.0)
    for (name, _), replica in zip(layer.named_children(), replicas[1:]):
        setattr(replicas[0], name, replica)
    assert not torch.equal(replicas[0](X)[0], before)
    assert_equal(layer(X)[0], before)


def test_calls_in_several_threads() -> None:
    layer = build()
    expected, found = layer(X)[0], []

    def call(number: int) -> None:
        for count in range(100):
            if number == 0:
                layer.train(count % 2 == 0)
            found.append(layer(X)[0])

    threads = [threading.Thread(target=call, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 400
    for output in found:
        assert_equal(output, expected)


def flatten(layer: Any) -> None:
    """Exchange a parameter for a tensor that is no parameter, as sharding and pruning do."""
    weight = layer.weight_hh_l0.detach().clone()
    del layer.weight_hh_l0
    layer.weight_hh_l0 = weight


@pytest.mark.parametrize("change", [assign, flatten])
def test_parameters_that_were_exchanged_are_freed(change: Callable[[Any], None]) -> None:
    layer = build()
    weight = weakref.ref(layer.weight_hh_l0)
    change(layer)
    layer(X)
    gc.collect()
    assert weight() is None


@needs_compiler
def test_a_graph_is_not_bound_to_what_is_gathered() -> None:
    torch._dynamo.reset()
    layer = copy.deepcopy(build())  # has gathered nothing
    graphs = 0

    def count(module: torch.fx.GraphModule, _: Any) -> Callable[..., Any]:
        nonlocal graphs
        graphs += 1
        return module.forward

    compiled = torch.compile(layer, backend=count)
    for _ in range(3):
        expected = compiled(X)[0]
        assert_close(layer(X)[0], expected, SINGLE)
        layer.load_state_dict(copy.deepcopy(layer.state_dict()), assign=True)
    assert graphs == 1


@needs_kernels
def test_a_plan_is_made_once_for_dropped_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = build(recurrent_dropout=0.5)
    monkeypatch.setattr(plan, "make_plan", None)
    for _ in range(3):
        layer(X)


@pytest.fixture
def halved() -> Iterator[seqnorm.Step]:
    """A step that derives from the LSTM's, known to one test alone."""

    class HalvedStep(LSTMStep):
        def step(self, *args: Any, **options: Any) -> Any:
            h, c = super().step(*args, **options)
            return 0.5 * h, c

    yield HalvedStep()
    del STEPS["Halved"]
    for schemes in PRESETS.values():
        schemes.pop("Halved", None)


@pytest.mark.parametrize("norm", [None, "layer"])
def test_a_step_that_derives_from_another_computes_itself(
    halved: seqnorm.Step, norm: str | None
) -> None:
    layer = seqnorm.RecurrentLayer(halved, I, H, norm=norm)
    assert layer.mode == "Halved"
    plain = seqnorm.LSTM(I, H, norm=norm)
    plain.load_state_dict(layer.state_dict())
    assert_close(layer(X[:1])[0], 0.5 * plain(X[:1])[0], SINGLE)
    with pytest.raises(RuntimeError, match="a step that torch does not have, Halved"):
        _ = layer._flat_weights


def test_statistics_that_are_shared_are_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = seqnorm.convert_sync_batchnorm(build("batch"))
    monkeypatch.setattr(Processes, "several", True)
    reasons = seqnorm.explain(layer, X).reasons["_l0"]
    assert "several share theirs" in str(reasons["cpu"])
    assert "share" not in str(seqnorm.explain(layer.eval(), X))


def test_first_steps_of_other_sequences_are_refused() -> None:
    numbers = torch.tensor([0, 1])
    with pytest.raises(ValueError, match=r"first_step must be an integer or have shape \(3,\)"):
        build()(X, first_step=numbers)


@pytest.mark.parametrize("kind", [seqnorm.RecurrentLayer, seqnorm.RecurrentCell])
def test_an_option_of_the_norm_of_a_step_of_ones_own(kind: Any) -> None:
    with pytest.raises(TypeError, match=r'norm=seqnorm.preset\("layer", "RNN", eps=0.01\)$'):
        kind(RNNStep(), I, H, eps=0.01)
    with pytest.raises(TypeError, match=r'norm=seqnorm.preset\("batch", "RNN", momentum=0.2\)$'):
        kind(step=RNNStep(), input_size=I, hidden_size=H, momentum=0.2)


def test_the_mode_of_a_step_names_its_nonlinearity() -> None:
    assert seqnorm.RecurrentLayer(RNNStep("relu"), I, H).mode == "RNN_RELU"
    assert seqnorm.RNN(I, H).mode == torch.nn.RNN(I, H).mode == "RNN_TANH"
