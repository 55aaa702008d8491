"""Checks of steps that users define."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence

from . import nn

Oracle = Callable[..., tuple[Tensor, ...]]
_POISONS = (float("nan"), float("inf"), 1e6)
_I, _T, _LENGTHS = 2, 4, (4, 1, 3)
_F64 = torch.float64


def check_step(
    step: nn.Step, oracle: Oracle | None = None, *, hidden_size: int = 3, seed: int = 0
) -> list[str]:
    """Check that a step supports everything that ``RecurrentLayer`` offers.

    The checks need no second definition of the step. They run in float64, without a norm and with
    every preset of the step, "layer", "rms", "batch" and "batch_pooled" among them:

    - first and second derivatives against finite differences;
    - ragged sequences against each sequence by itself, or packed where norms span the batch;
    - NaN, infinity and 1e6 in the padding, which must change nothing;
    - chunks of time, kept and recomputed, against the whole sequence;
    - resets inside sequences against the segments as sequences;
    - the backward direction against the forward one on reversed sequences;
    - a cell, step by step, against the layer;
    - a copy and a loaded state dict against the original.

    Args:
        step: the step to check.
        oracle: ``oracle(x, h, state, **parameters)``, the definition for a single row in plain
            loops: x (G * H,) and h (G * H,) are the finished terms, and state and the returned next
            state are tuples of parts (H,). Values without a norm are compared with it.
        hidden_size: H, which the heads of a step have to divide.
        seed: seed of the random numbers; the state of the global generator is restored.

    Returns:
        A line for each check.

    Raises:
        AssertionError: a check failed; the message names the check and the norm.
    """
    done: list[str] = []
    with torch.random.fork_rng(devices=[]), nn.use_backend("reference"):
        torch.manual_seed(seed)
        if oracle is not None:
            _values(_Case(step, None, hidden_size), oracle)
            done.append("values against the oracle")
        for norm in (None, *step.presets):
            case = _Case(step, norm, hidden_size)
            for check in _CHECKS:
                named = f"{(check.__doc__ or '').rstrip('.').lower()}, norm={norm!r}"
                try:
                    check(case)
                except Exception as error:  # of the step, of gradcheck, of a comparison
                    raise AssertionError(f"{step.name}: {named}: {error}") from error
                done.append(named)
    return done


@dataclass
class _Case:
    """A step with one of its presets."""

    step: nn.Step
    norm: str | None
    hidden: int

    @property
    def norms(self) -> dict[str, nn.Norm]:
        return {} if self.norm is None else self.step.presets[self.norm].norms

    @property
    def over_time(self) -> bool:
        return any(norm.over_time for norm in self.norms.values())

    def layer(self, **options: Any) -> Any:
        layer = nn.RecurrentLayer(self.step, _I, self.hidden, norm=self.norm, dtype=_F64, **options)
        for parameter in layer.parameters():
            torch.nn.init.uniform_(parameter, -0.7, 0.7)
        return layer

    def states(self, *shape: int) -> tuple[Tensor, ...]:
        return tuple(torch.rand(*shape, self.hidden, dtype=_F64) - 0.5 for _ in self.step.states)


def _form(parts: tuple[Tensor, ...]) -> Any:
    """Return the state in the form of ``hx``."""
    return parts[0] if len(parts) == 1 else parts


def _parts(state: Any) -> tuple[Tensor, ...]:
    return (state,) if isinstance(state, Tensor) else tuple(state)


def _same(actual: Any, expected: Any, named: str = "") -> None:
    say = named.__add__
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9, msg=say)


def _values(case: _Case, oracle: Oracle) -> None:
    step = case.step
    rows, width = 3, len(step.gates) * case.hidden
    letters = {"H": case.hidden, "I": _I, "G": len(step.gates)}
    x, h = torch.randn(rows, width, dtype=_F64), torch.randn(rows, width, dtype=_F64)
    state = case.states(rows)
    own = {
        name: torch.randn([letters[s] if isinstance(s, str) else s for s in shape], dtype=_F64)
        for name, shape in step.parameters.items()
    }
    new = step.step(x, h, state, lambda site, z: z, None, **own)
    for row in range(rows):
        expected = oracle(x[row], h[row], tuple(part[row] for part in state), **own)
        sizes = len(new), len(expected)
        assert set(sizes) == {len(state)}, f"{step.name}: step and oracle return {sizes} parts"
        for part, one, other in zip(step.states, new, expected):
            named = f"{step.name}: {part} is not the oracle's: "
            _same(one[row], torch.as_tensor(other, dtype=_F64), named)


def _outcome(layer: Any, x: Tensor, state: Any = None, **options: Any) -> list[Tensor]:
    """Return output, final state, gradients and running statistics of one call in training."""
    layer = copy.deepcopy(layer).train()
    x = x.clone().requires_grad_()
    output, final = layer(x, state, **options)
    results = [output, *_parts(final)]
    cotangents = torch.linspace(-1.0, 1.0, 7, dtype=_F64)
    total = sum((r.flatten() * cotangents.repeat(r.numel())[: r.numel()]).sum() for r in results)
    leaves = [x, *layer.parameters()]
    found = torch.autograd.grad(total, leaves, allow_unused=True, materialize_grads=True)
    return [*(r.detach() for r in results), *found, *layer.buffers()]


def _derivatives(case: _Case) -> None:
    """First and second derivatives."""
    layer = case.layer()
    if any(norm.r_max is not None for norm in case.norms.values()):
        # The corrections of Batch Renormalization are constants, which differences would see.
        nn.set_renormalization(layer, 1.0, 0.0)
    names = [name for name, _ in layer.named_parameters()]
    x = torch.randn(2, 2, _I, dtype=_F64, requires_grad=True)
    state = tuple(part.requires_grad_() for part in case.states(1, 2))

    def call(x: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
        parts, values = others[: len(state)], others[len(state) :]
        arguments = (x, _form(parts))
        output, final = torch.func.functional_call(layer, dict(zip(names, values)), arguments)
        return output, *_parts(final)

    inputs = (x, *state, *layer.parameters())
    torch.autograd.gradcheck(call, inputs)
    torch.autograd.gradgradcheck(call, inputs, fast_mode=True)


def _ragged(case: _Case) -> None:
    """Ragged sequences."""
    layer = case.layer(num_layers=2)
    x = torch.randn(_T, len(_LENGTHS), _I, dtype=_F64)
    output, final = copy.deepcopy(layer)(x, lengths=_LENGTHS)
    if any(norm.over_batch for norm in case.norms.values()):
        packed = pack_padded_sequence(x, torch.tensor(_LENGTHS), enforce_sorted=False)
        rows, state = copy.deepcopy(layer)(packed)
        padded, _ = torch.nn.utils.rnn.pad_packed_sequence(rows)
        _same(output, padded)
        _same(_parts(final), _parts(state))
        return
    for row, length in enumerate(_LENGTHS):
        alone, state = layer(x[:length, row : row + 1])
        _same(output[:length, row], alone[:, 0])
        _same([part[:, row] for part in _parts(final)], [part[:, 0] for part in _parts(state)])


def _poison(case: _Case) -> None:
    """Poisoned padding."""
    layer = case.layer()
    x = torch.randn(_T, len(_LENGTHS), _I, dtype=_F64)
    padding = torch.arange(_T)[:, None] >= torch.tensor(_LENGTHS)
    x[padding] = 0.0
    expected = _outcome(layer, x, lengths=_LENGTHS)
    for poison in _POISONS:
        x[padding] = poison
        _same(_outcome(layer, x, lengths=_LENGTHS), expected)


def _chunks(case: _Case) -> None:
    """Chunks of time."""
    if case.over_time:
        return  # a chunk does not have its statistics
    layer = case.layer()
    x = torch.randn(_T, len(_LENGTHS), _I, dtype=_F64)
    expected = _outcome(layer, x, lengths=_LENGTHS)
    for recompute in (False, True):
        nn.compute_in_chunks(layer, 2, recompute=recompute)
        _same(_outcome(layer, x, lengths=_LENGTHS), expected)


def _resets(case: _Case) -> None:
    """Resets."""
    layer = case.layer(num_layers=2)
    x = torch.randn(_T, 2, _I, dtype=_F64)
    resets = torch.zeros(_T, 2, dtype=torch.bool)
    resets[2, 0] = resets[1, 1] = True
    output, final = copy.deepcopy(layer)(x, resets=resets)
    segments = [x[:2, 0], x[2:, 0], x[:1, 1], x[1:, 1]]
    padded = torch.nn.utils.rnn.pad_sequence(segments)
    apart, last = layer(padded, lengths=[len(segment) for segment in segments])
    for row, number in enumerate((0, 2)):
        parts = [apart[: len(segments[k]), k] for k in (number, number + 1)]
        _same(output[:, row], torch.cat(parts))
    _same(list(_parts(final)), [part[:, [1, 3]] for part in _parts(last)])


def _directions(case: _Case) -> None:
    """Both directions."""
    both = case.layer(bidirectional=True)
    back = case.layer()
    ending = "_l0_reverse"
    back.load_state_dict(
        {k.replace(ending, "_l0"): v for k, v in both.state_dict().items() if ending in k}
    )
    x = torch.randn(_T, 2, _I, dtype=_F64)
    output, final = both(x)
    reverse, last = back(x.flip(0))
    _same(output[..., case.hidden :], reverse.flip(0))
    _same([part[1] for part in _parts(final)], [part[0] for part in _parts(last)])


def _stepped(case: _Case) -> None:
    """A cell, step by step."""
    if "output" in case.norms:
        return  # which a cell does not have
    layer = case.layer().train(not case.over_time)
    cell = nn.RecurrentCell(case.step, _I, case.hidden, norm=case.norm, dtype=_F64).train(
        layer.training
    )
    cell.load_state_dict({k.replace("_l0", ""): v for k, v in layer.state_dict().items()})
    x, state = torch.randn(_T, 2, _I, dtype=_F64), case.states(2)
    output, final = layer(x, _form(tuple(part[None] for part in state)))
    for t in range(_T):
        state = _parts(cell(x[t], _form(state), first_step=t))
        _same(output[t], state[0])
    _same(_parts(final), tuple(part[None] for part in state))


def _saved(case: _Case) -> None:
    """A copy and a loaded state dict."""
    layer, twin = case.layer(), case.layer()
    twin.load_state_dict(layer.state_dict())
    x = torch.randn(_T, 2, _I, dtype=_F64)
    expected = _outcome(layer, x)
    _same(_outcome(twin, x), expected)
    _same(_outcome(copy.deepcopy(layer), x), expected)


_CHECKS = (_derivatives, _ragged, _poison, _chunks, _resets, _directions, _stepped, _saved)
