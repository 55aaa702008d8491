"""Comparison of a layer with the oracle: the same call by both, and all its results.

Axes: T steps, B sequences, I = input size, H = hidden size.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import hidden_states
import oracles
import torch
from hidden_states import as_hx, parts_of
from tolerances import GRADIENTS, VALUES, assert_close
from torch import Tensor

import seqnorm
from seqnorm import PRESETS, NormScheme
from seqnorm.nn.backends import BACKENDS
from seqnorm.nn.layers.cells import LAYERS
from seqnorm.nn.recurrence.step import STEPS

I, H = 3, 4  # noqa: E741 (the axis's letter)
# One row at the last step, two at the two steps before, an empty sequence, and padding at the end.
LENGTHS = (5, 0, 3, 6, 3)
T = 7
SHAPES: dict[str, dict[str, Any]] = {
    "one": {},
    "bidirectional": {"bidirectional": True},
    "two_layers": {"num_layers": 2},
    "projected": {"proj_size": 2},
    "all": {"num_layers": 2, "bidirectional": True, "proj_size": 3},
}
# Sizes of the layers. Four heads with one unit each would be sets of one element.
NONLINEARITY = {"RNN": "tanh", "IndRNN": "tanh", "LiGRU": "relu"}
HEADS = {"SLSTM": 2}
PUBLISHED = [(name, cell) for name, cells in PRESETS.items() for cell in cells]
EVERY = [*(("none", cell) for cell in STEPS), *PUBLISHED]
# Every scheme once: presets with a second name for a scheme of the same cell are left out.
DISTINCT = [
    (name, cell)
    for j, (name, cell) in enumerate(EVERY)
    if name == "none"
    or PRESETS[name][cell] not in [PRESETS[n][c] for n, c in EVERY[:j] if n != "none" and c == cell]
]
BATCHED = [
    (name, cell)
    for name, cell in DISTINCT
    if name != "none" and any(norm.over_batch for norm in PRESETS[name][cell].norms.values())
]

# The kernels for GPUs have tests of their own, because they are interpreted slowly.
EVERYWHERE = [name for name in BACKENDS if name != "triton"]


def scheme_of(name: str, cell: str) -> NormScheme | None:
    return None if name == "none" else seqnorm.preset(name, cell)


def build(cell: str, scheme: NormScheme | None, hidden: int = H, **options: Any) -> Any:
    """Build a layer, and check that it has its options."""
    if cell in HEADS:
        options = {"num_heads": HEADS[cell]} | options
    layer = LAYERS[cell](I, hidden, dtype=torch.float64, norm=scheme, **options)
    assert getattr(layer, "num_heads", None) == options.get("num_heads")
    wanted = options.get("nonlinearity", NONLINEARITY.get(cell))
    assert getattr(layer, "nonlinearity", None) == wanted
    return layer


def randomise(layer: torch.nn.Module) -> None:
    """Move every parameter and statistic away from its initial value.

    Steps 0 to 3 of a table count as seen; the values of later steps must not be read.
    """
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            if name.startswith("norm") and name.endswith("weight"):
                parameter.uniform_(0.5, 1.5)
            else:
                parameter.normal_(0.0, 0.6)
        for module in layer.modules():
            if isinstance(module, seqnorm.nn.statistics.RunningTable):
                module.running_mean.normal_(0.0, 0.5)
                module.running_var.uniform_(0.3, 2.0)
                module.count[:4] = torch.tensor([9, 7, 7, 3])[: len(module.count)]
    uncounted_is_meant()


def perturbed_layer() -> seqnorm.LSTM:
    """Return a layer without any parameter at 0 or 1, which could hide an error."""
    layer = seqnorm.LSTM(3, 5, norm="layer")
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return layer


def uncounted_is_meant() -> None:
    """Ignore, for the rest of a test, the warning of statistics without a count."""
    warnings.filterwarnings("ignore", "a RunningTable holds statistics")


@dataclass
class Case:
    """Arguments of one call: padded input, lengths, initial states, resets, first steps."""

    input: Tensor
    lengths: Sequence[int]
    states: tuple[Tensor, ...] | None
    resets: Tensor | None = None
    first_step: Sequence[int] | None = None

    @classmethod
    def draw(
        cls, layer: Any, states: str = "random", lengths: Sequence[int] = LENGTHS, steps: int = T
    ) -> Case:
        count = layer.num_layers * (2 if layer.bidirectional else 1)
        kind, shape = type(layer).__name__, (count, len(lengths), layer.hidden_size)
        drawn = None
        if states != "none":
            draw = {"random": hidden_states.draw, "zero": hidden_states.zeros}[states]
            drawn = draw(kind, *shape)
            if layer.proj_size:
                drawn = (drawn[0][..., : layer.proj_size], *drawn[1:])
        return cls(torch.randn(steps, len(lengths), I).double(), lengths, drawn)


@dataclass
class Result:
    """Results of one call: output and states, gradients by name, the state dict afterwards."""

    values: tuple[Tensor, ...]
    gradients: dict[str, Tensor]
    state_dict: dict[str, Tensor]


def gradients_of(
    values: Sequence[Tensor], cotangents: Sequence[Tensor], leaves: dict[str, Tensor]
) -> dict[str, Tensor]:
    loss = sum((cotangent * value).sum() for cotangent, value in zip(cotangents, values))
    found = torch.autograd.grad(loss, list(leaves.values()), materialize_grads=True)
    return dict(zip(leaves, found))


def copy_of(values: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in values.items()}


def by_layer(layer: Any, case: Case, cotangents: Sequence[Tensor], backend: str | None) -> Result:
    """Make the call as a user does, including its update of the statistics."""
    input = case.input.detach().clone().requires_grad_()
    leaves = {"input": input}
    hx = None
    if case.states is not None:
        states = tuple(state.detach().clone().requires_grad_() for state in case.states)
        leaves |= {f"state {j}": state for j, state in enumerate(states)}
        hx = as_hx(states)
    options: dict[str, Any] = {} if case.resets is None else {"resets": case.resets}
    if case.first_step is not None:
        options["first_step"] = torch.tensor(case.first_step)
    with nullcontext() if backend is None else seqnorm.use_backend(backend):
        output, last = layer(input, hx, lengths=case.lengths, **options)
    values = (output, *parts_of(last))
    found = gradients_of(values, cotangents, dict(layer.named_parameters()) | leaves)
    return Result(values, found, copy_of(layer.state_dict()))


def by_oracle(
    layer: Any,
    scheme: NormScheme | None,
    case: Case,
    cotangents: Sequence[Tensor],
    zoneout: Sequence[float],
) -> Result:
    parameters = copy_of(layer.state_dict())
    leaves = {name: parameters[name].requires_grad_() for name, _ in layer.named_parameters()}
    leaves["input"] = case.input.detach().clone().requires_grad_()
    states = case.states
    own: list[Tensor] = []
    if layer.learn_initial_state:  # parts that are not learned begin with zeros
        of_h = leaves["h_0"]
        zeros = of_h.detach().new_zeros(len(of_h), layer.hidden_size)
        own = [leaves.get(f"{letter}_0", zeros) for letter in layer.step.states]
    if states is None:
        states = Case.draw(layer, "zero", case.lengths).states
        assert states is not None
        states = tuple(learned[:, None] + zero for learned, zero in zip(own, states)) or states
    else:
        states = tuple(state.detach().clone().requires_grad_() for state in states)
        leaves |= {f"state {j}": state for j, state in enumerate(states)}
    flags = [] if case.resets is None else case.resets.T.tolist()
    answer = oracles.layers(
        type(layer).__name__,
        scheme,
        parameters,
        [[leaves["input"][t, b] for t in range(n)] for b, n in enumerate(case.lengths)],
        states,
        hidden=layer.hidden_size,
        num_layers=layer.num_layers,
        directions=2 if layer.bidirectional else 1,
        training=layer.training,
        zoneout=zoneout,
        nonlinearity=getattr(layer, "nonlinearity", ""),
        heads=getattr(layer, "num_heads", layer.step.heads),
        resets=None if case.resets is None else [r[:n] for r, n in zip(flags, case.lengths)],
        first=case.first_step,
        own=own,
    )
    output = torch.zeros_like(cotangents[0])
    for b, rows in enumerate(answer.outputs):
        for t, row in enumerate(rows):
            output[t, b] = row
    values = (output, *answer.states)
    after = copy_of(parameters)
    for prefix, table in answer.tables.items():
        after[prefix + "running_mean"] = torch.stack(table.mean)
        after[prefix + "running_var"] = torch.stack(table.var)
        after[prefix + "count"] = torch.tensor(table.count)
    return Result(values, gradients_of(values, cotangents, leaves), after)


def compare(
    layer: Any,
    scheme: NormScheme | None,
    case: Case,
    zoneout: Sequence[float] = (),
    values: float = VALUES,
    backends: Sequence[str | None] = (None, *EVERYWHERE),
) -> None:
    """Compare one call of the layer, in its mode and on every backend, with the oracle.

    Args:
        values: tolerance of outputs, states and statistics.
        backends: their names, ``None`` for the layer's own choice.
    """
    directions = 2 if layer.bidirectional else 1
    letters = STEPS[type(layer).__name__].states
    sizes = [layer.hidden_size] * len(letters)
    sizes[0] = layer.proj_size or sizes[0]
    B = len(case.lengths)
    cotangents = [torch.randn(len(case.input), B, directions * sizes[0]).double()]
    cotangents += [torch.randn(layer.num_layers * directions, B, n).double() for n in sizes]
    right = by_oracle(layer, scheme, case, cotangents, zoneout)
    before = copy_of(layer.state_dict())
    for backend in backends:
        layer.load_state_dict(before)
        try:
            ours = by_layer(layer, case, cotangents, backend)
        except RuntimeError as error:
            optional = backend in EVERYWHERE and backend != "reference"
            refused = optional and "does not take" in str(error)
            if not refused:
                raise
            continue
        assert len(ours.values) == len(right.values) == 1 + len(letters)
        for what, actual, expected in zip(["output", *letters], ours.values, right.values):
            assert_close(actual, expected, values, f"{backend}, {what}")
        for b, length in enumerate(case.lengths):
            assert not ours.values[0][length:, b].any(), f"{backend}, output in the padding"
        assert ours.gradients.keys() == right.gradients.keys()
        for name, expected in right.gradients.items():
            assert_close(
                ours.gradients[name], expected, GRADIENTS, f"{backend}, gradient of {name}"
            )
        assert ours.state_dict.keys() == right.state_dict.keys()
        for name, expected in right.state_dict.items():
            tolerance = values if "running" in name else 0.0
            assert_close(ours.state_dict[name], expected, tolerance, f"{backend}, {name}")
