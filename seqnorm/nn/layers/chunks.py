"""Layers that compute some steps at a time and carry the state on.

Axes: T steps, B sequences, N packed rows, F features, I inputs, H = hidden_size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .. import backends
from ..autocast import autocast_dtype, has_autocast, is_autocast
from ..check import check_positive
from ..recurrence.direction import Direction, DirectionCall
from ..recurrence.packing import Packing, with_ended
from ..recurrence.site_norms import BatchSiteNorm
from ..recurrence.step import State
from ..recurrence.windows import refuse_window
from ..statistics.renormalization import Before, Renormalization
from .torch_contract import TorchContract

Compute = Callable[[list[DirectionCall]], list[tuple[Tensor, State]]]


class Chunks(NamedTuple):
    """Division of the steps of a layer.

    Attributes:
        steps: largest number of steps in a chunk.
        recompute: true if the backward pass computes the chunks a second time.
    """

    steps: int
    recompute: bool

    def __str__(self) -> str:
        return f"chunks of {self.steps} steps{', recomputed' if self.recompute else ''}"


def compute_in_chunks(module: nn.Module, steps: int | None, *, recompute: bool = False) -> None:
    """Make every recurrent layer in ``module`` compute at most ``steps`` time steps at once.

    The state is carried from chunk to chunk. Outputs, states, gradients and BatchNorm's statistics
    are those of the whole sequence; nothing is truncated. Working memory (normalised sums, gates)
    is needed for one chunk only, while the inputs and outputs of every layer are kept whole.

    With ``recompute``, a pass in training keeps only the state at the beginning of every chunk for
    its backward pass, which computes the chunk a second time (Chen et al. 2016, "Training Deep Nets
    with Sublinear Memory Cost", section 3, with segments of time). This takes about a third more
    time. Gradients are exact, and running statistics and their hooks see a pass once. There are no
    gradients of gradients.

    Under ``torch.compile`` layers are computed whole. From the same seed, zoneout draws other units
    than for a whole sequence.

    Args:
        module: a layer, or a network that contains layers; changed in place.
        steps: T of a chunk; ``None`` for whole sequences again.
        recompute: see above; without gradients it has no effect.

    Raises:
        ValueError: ``module`` has no recurrent layer; a norm has a window of several steps, which
            chunks would cut; or ``steps`` is below 1. In training with more steps: a norm is pooled
            over time, so a chunk does not have its statistics, or several processes share
            statistics, which they exchange for whole sequences.
        RuntimeError: in a backward pass, running statistics that the pass has read have since been
            updated.
    """
    if steps is not None:
        steps = check_positive("steps", steps)
    layers = [layer for layer in module.modules() if isinstance(layer, TorchContract)]
    if not layers:
        raise ValueError(f"there is no recurrent layer of seqnorm in {type(module).__name__}")
    for layer in layers if steps is not None else ():
        refuse_window(
            layer.norm,
            "a chunk would begin with an empty window",
            "compute the sequences whole, or leave window=None",
        )
    for layer in layers:
        layer.chunks = None if steps is None else Chunks(steps, recompute)


def in_chunks(
    chunks: Chunks, direction: Direction, rows: Tensor, packing: Packing, state: State
) -> tuple[Tensor, State]:
    """Compute a call of a backend chunk by chunk."""
    if _pools(direction):
        raise ValueError(
            'a norm pooled over time ("batch_pooled") takes the statistics of whole sequences, '
            "which a chunk does not have: train it whole, compute_in_chunks(module, None), or use "
            'norm="batch", with statistics of every step'
        )
    tensors = (rows, *state, *direction.tensors)
    if chunks.recompute and torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
        found = _Recomputed.apply(chunks, direction, packing, *tensors)  # type: ignore[no-untyped-call]  # torch's own
        return found[0], found[1:]
    outputs = []
    for here, part in packing.parts(chunks.steps):
        output, state = _one(direction, rows[here], part, state)
        outputs.append(output)
    return torch.cat(outputs), state


def in_pieces(
    compute: Compute, direction: Direction, rows: Tensor, packing: Packing, state: State
) -> tuple[Tensor, State]:
    """Compute a call whose sequences begin at different steps, piece by piece.

    Args:
        compute: the function that computes calls of the directions of a layer.
    """
    if _pools(direction):
        raise ValueError(
            "sequences that begin at different steps are computed one piece after another, and a "
            'norm pooled over time ("batch_pooled") takes the statistics of all of them: leave '
            'first_step=0, or use norm="batch", with statistics of every step'
        )
    refuse_window(
        direction.scheme,
        "sequences that begin at different steps are computed one piece after another",
        "give one first_step for all sequences, without resets, or leave window=None",
    )
    outputs = []
    for here, part, members in packing.pieces:
        given = tuple([old.index_select(0, members) for old in state])
        ((output, new),) = compute([(direction, rows[here], part, given)])
        outputs.append(output)
        state = tuple([old.index_copy(0, members, part) for old, part in zip(state, new)])
    return torch.cat(outputs), state


def _pools(direction: Direction) -> bool:
    return any(site.learns and site.norm.over_time for site in direction.norms.values())


def _one(
    direction: Direction, rows: Tensor, part: Packing, state: Sequence[Tensor]
) -> tuple[Tensor, State]:
    """Compute a chunk of all B sequences; those that ended before it keep their state."""
    call = direction, rows, part, tuple(before[: part.batch] for before in state)
    ((output, new),) = backends.run_layer([call])
    return output, with_ended(new, state)


class _Recomputed(torch.autograd.Function):
    """``in_chunks`` with a backward pass that computes every chunk a second time."""

    @staticmethod
    def forward(
        ctx: Any,
        chunks: Chunks,
        direction: Direction,
        packing: Packing,
        rows: Tensor,
        *tensors: Tensor,
    ) -> tuple[Tensor, ...]:
        states = len(direction.step.states)
        state, parameters = tensors[:states], tensors[states:]
        # The parameters and the mode of a norm may change before the backward pass.
        direction = direction.holding(parameters)
        ctx.chunks, ctx.direction, ctx.packing = chunks, direction, packing
        ctx.as_it_was = _AsItWas(direction, rows)
        outputs, starts = [], []
        for here, part in packing.parts(chunks.steps):
            starts.append(state)
            ctx.as_it_was.remember(part)
            output, state = _one(direction, rows[here], part, state)
            outputs.append(output)
        ctx.versions = _versions(direction, packing)
        ctx.save_for_backward(rows, *parameters, *(part for start in starts for part in start))
        return torch.cat(outputs), *(part.clone() for part in state)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor, *grad_state: Tensor) -> tuple[Tensor | None, ...]:
        direction, packing = ctx.direction, ctx.packing
        if torch.is_grad_enabled():
            raise RuntimeError(
                "chunks that are recomputed have no gradients of gradients: compute_in_chunks "
                "without recompute"
            )
        if ctx.versions != _versions(direction, packing):
            raise RuntimeError(
                "the running statistics that this pass had read were updated since, so it cannot "
                "be computed once more: call backward() before the next pass in training, or "
                "compute_in_chunks without recompute"
            )
        states, count = len(direction.step.states), len(direction.tensors)
        rows, *saved = ctx.saved_tensors
        starts = saved[count:]
        needed = [bool(need) for need in ctx.needs_input_grad[3:]]
        # Each place has its own leaf, as a tensor may stand in two places or have hooks.
        places = [
            tensor.detach().requires_grad_(need)
            for tensor, need in zip(saved[:count], needed[1 + states :])
        ]
        direction = direction.holding(places)
        learned = [tensor for tensor in places if tensor.requires_grad]
        grads = [torch.zeros_like(tensor) for tensor in learned]
        grad_rows = torch.zeros_like(rows) if needed[0] else None
        flowing = list(grad_state)
        parts = packing.parts(ctx.chunks.steps)
        for number in reversed(range(len(parts))):
            here, part = parts[number]
            x = rows[here].detach().requires_grad_(needed[0])
            before = starts[number * states : (number + 1) * states]
            start = [tensor.detach().requires_grad_() for tensor in before]
            with ctx.as_it_was.again(number):
                output, state = _one(direction, x, part, start)
            leaves = [*start, *learned, *([x] if needed[0] else [])]
            found = torch.autograd.grad(
                (output, *state), leaves, (grad_output[here], *flowing), materialize_grads=True
            )
            flowing = list(found[:states])
            for total, grad in zip(grads, found[states:]):
                total += grad
            if grad_rows is not None:
                grad_rows[here] = found[-1]
        of_parameters = iter(grads)
        return (
            *(None, None, None, grad_rows),
            *(grad if need else None for grad, need in zip(flowing, needed[1 : 1 + states])),
            *(next(of_parameters) if need else None for need in needed[1 + states :]),
        )


def _versions(direction: Direction, packing: Packing) -> list[int]:
    """Return how often each table that a pass reads was written."""
    found = []
    for site in direction.norms.values():
        if isinstance(site, BatchSiteNorm):
            table = site.table
            own = site.learns and min(packing.batch_sizes) >= table.min_count
            if not own or packing.first + packing.steps > table.max_steps:
                found.append(table.count._version)
    return found


class _AsItWas:
    """The state that a pass depends on beside its tensors: draws, autocast, BatchNorm's tables.

    Batch Renormalization depends on the statistics before the update by the pass itself.
    """

    def __init__(self, direction: Direction, rows: Tensor) -> None:
        self._direction = direction
        self._device = rows.device
        self._draws = direction.training and any(direction.zoneout)
        self._drawn: list[tuple[Tensor, Tensor | None]] = []
        self._corrected: list[tuple[BatchSiteNorm, Renormalization]] = []
        for site in direction.norms.values():
            if isinstance(site, BatchSiteNorm) and site.learns and site.renormalization is not None:
                self._corrected.append((site, site.renormalization))
        self._before: list[list[Before]] = []
        kind = rows.device.type
        self._autocast: dict[str, Any] = {}
        if has_autocast(kind):
            self._autocast = {"enabled": is_autocast(kind), "dtype": autocast_dtype(kind)}
            self._autocast["cache_enabled"] = torch.is_autocast_cache_enabled()

    def remember(self, part: Packing) -> None:
        """Save what the next chunk depends on: generators, and statistics of its steps."""
        end = part.first + part.steps
        found = []
        for site, one in self._corrected:
            norm = site.norm
            found.append(one.before(site.table, part.first, end, norm.eps, norm.eps_on))
        self._before.append(found)
        if self._draws:
            on_gpu = self._device.type == "cuda"
            gpu = torch.cuda.get_rng_state(self._device) if on_gpu else None
            self._drawn.append((torch.get_rng_state(), gpu))

    @contextmanager
    def again(self, number: int) -> Iterator[None]:
        """Restore the state of a chunk within the context, with gradients enabled."""
        with ExitStack() as stack:
            for site in self._direction.norms.values():
                if isinstance(site, BatchSiteNorm):
                    # A table recognises a backward pass, but not one of compiled autograd.
                    stack.enter_context(site.table.held())
            for (_, one), before in zip(self._corrected, self._before[number]):
                stack.enter_context(one.recalling(before))
            if self._draws:
                of_cpu, of_gpu = self._drawn[number]
                devices = [] if of_gpu is None else [self._device]
                stack.enter_context(torch.random.fork_rng(devices))
                torch.set_rng_state(of_cpu)
                if of_gpu is not None:
                    torch.cuda.set_rng_state(of_gpu, self._device)
            if self._autocast:
                stack.enter_context(torch.autocast(self._device.type, **self._autocast))
            stack.enter_context(torch.enable_grad())
            yield
