"""Running statistics of every time step, in one table: what inference uses in the batch's place.

Axes: S = max_steps, T steps of this batch, F features.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ..check import as_numbers, check_table, choose, have_values, refuse_scripting, warn
from .moments import HALF, Moments, merge, unbiased
from .processes import Processes
from .recompute import is_recomputed

ESTIMATES = ("population", "average")
# Rows that adopted statistics count for if nothing is said: so many that a batch moves them by the
# momentum, as it would move torch's running statistics.
ADOPTED = 1_000_000


class _Estimate(NamedTuple):
    """What a table holds, gathered beside it."""

    mean: Tensor
    var: Tensor
    rows: Tensor
    rule: str


def few_rows(rows: int, min_count: int) -> str:
    """What to warn of when a training batch has too few rows for any statistics."""
    return (
        f"BatchNorm in training on {rows} row(s), min_count={min_count}: they are normalised by "
        "running statistics and update none; a norm over the units of one example (LayerNorm, "
        "RMSNorm) needs no batch"
    )


class RunningTable(nn.Module):
    """Running mean, running variance and the count of rows seen, for each of ``max_steps`` steps.

    A step is *trustworthy* once training has updated it. A step that is not, or that lies beyond
    the table, is read from the last trustworthy step before it; before any training the table holds
    mean 0 and variance 1. An update never touches another step, and a step with fewer than
    ``min_count`` rows updates nothing.

    In training a step of the table with at least ``min_count`` rows is normalised by their own
    moments, which then enter the table. Every other step, one beyond the table too, is read from
    the table, as all steps are in inference; the steps before it have entered by then. No gradient
    flows through the table.

    An update moves a step by ``max(momentum, n / count)`` towards the batch (n rows now, count rows
    with them): a cumulative average at first, so that a late step seen three times rests on those
    three and not on its initial (0, 1), an exponential one after. ``momentum=None`` stays
    cumulative. The variance enters unbiased, as in ``torch.nn.BatchNorm1d``.

    Buffers: ``running_mean`` (S, F), ``running_var`` (S, F), ``count`` (S,) int64. They stay at
    least float32 when the module is cast to half precision. A state dict with another number of
    steps is cut or grown on loading (cutting steps that hold statistics warns).

    A pass that runs inside a backward pass, as one that ``torch.utils.checkpoint`` computes once
    more, updates nothing, for its batch has entered before. (A module that was compiled and is
    checkpointed as a whole takes it in twice, for its graph cannot tell: checkpoint inside of what
    is compiled. So does a checkpoint with ``use_reentrant=True`` under compiled autograd.)

    Statistics from elsewhere come in by ``adopt``, which sets the count. Copied into the buffers by
    hand, or loaded without a count, they are not trustworthy, and inference warns of them.

    A table is no BatchNorm of ``torch.nn``: ``torch.optim.swa_utils.update_bn`` and Lightning's
    ``StochasticWeightAveraging`` pass it over and say nothing; ``seqnorm.update_bn`` does not.

    With ``processes`` (``convert_sync_batchnorm`` sets it) the moments and the rows of a step are
    those of all of them.

    Args:
        features: F.
        max_steps: S.
        momentum: weight of a new batch, 0 < momentum <= 1, or ``None``.
        min_count: rows that a step needs for statistics of its own, at least 2.
        beyond: "last" as above; "error" refuses, in inference, a step without statistics of its
            own, and in training too a step beyond the table. (A graph of ``torch.compile`` or
            ``torch.export`` cannot look at the count: there use "last" in inference.)
    """

    running_mean: Tensor
    running_var: Tensor
    count: Tensor
    processes: Processes | None = None
    __prepare_scriptable__ = refuse_scripting
    # The buffers and their versions when they were last looked at for statistics without a count.
    _looked: tuple[int, ...] = ()

    def __init__(
        self,
        features: int,
        max_steps: int = 512,
        momentum: float | None = 0.1,
        min_count: int = 2,
        beyond: str = "last",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        max_steps, min_count = check_table(max_steps, momentum, min_count, beyond)
        self.features = features
        self.max_steps = max_steps
        self.momentum = momentum
        self.min_count = min_count
        self.beyond = beyond
        self._estimate: _Estimate | None = None
        self._held = False
        self._hooks: OrderedDict[int, Callable[..., None]] = OrderedDict()
        dtype = dtype if dtype is not None else torch.get_default_dtype()
        if dtype in HALF:
            dtype = torch.float32
        shape = (max_steps, features)
        self.register_buffer("running_mean", torch.zeros(shape, device=device, dtype=dtype))
        self.register_buffer("running_var", torch.ones(shape, device=device, dtype=dtype))
        self.register_buffer("count", torch.zeros(max_steps, device=device, dtype=torch.int64))

    def reset(self) -> None:
        """Forget every step: mean 0, variance 1, count 0."""
        self.running_mean.zero_()
        self.running_var.fill_(1.0)
        self.count.zero_()

    @torch.no_grad()
    def adopt(
        self,
        mean: Tensor | Sequence[Any],
        var: Tensor | Sequence[Any],
        count: Tensor | Sequence[int] | int | None = None,
    ) -> None:
        """Take over statistics from elsewhere in the place of all that the table holds.

        Args:
            mean, var: (F,) for every step, or (S', F) for the first S' steps, S' <= S; later steps
                have none and are read from the last. The variance is the unbiased one, as torch's
                ``running_var`` is.
            count: rows that the statistics rest on, one number or (S',); a step with 0 has none.
                The next updates move a step by ``max(momentum, n / (count + n))`` towards a batch
                of n rows: with a small count training soon replaces what was adopted. ``None``
                stands for a million, so that the momentum decides, as in ``torch.nn.BatchNorm1d``.

        Raises:
            ValueError: a shape does not fit the table, a number is not finite or, of ``var`` and
                ``count``, negative; no count where ``momentum=None`` weighs by it alone. The table
                is then as it was.
            TypeError: mean or var are no numbers, or the count is not of whole numbers.
        """
        like = self.running_mean
        pair = [as_numbers(name, value, like) for name, value in (("mean", mean), ("var", var))]
        steps = pair[0].shape[0] if pair[0].dim() == 2 else self.max_steps
        for name, value in zip(("mean", "var"), pair):
            if value.shape not in ((self.features,), (steps, self.features)):
                raise ValueError(
                    f"{name} must be ({self.features},) or, for the first S' steps, (S', "
                    f"{self.features}), of both the same S', got {tuple(value.shape)}"
                )
            if not bool(value.isfinite().all()) or (name == "var" and bool((value < 0).any())):
                raise ValueError(f"{name} must be finite{' and not negative' * (name == 'var')}")
        if steps > self.max_steps:
            raise ValueError(
                f"there are statistics of {steps} steps, and the table has {self.max_steps}: build "
                f"it with max_steps={steps}, or adopt the first {self.max_steps}"
            )
        if count is None and self.momentum is None:
            raise ValueError(
                "momentum=None weighs every later batch against the rows before it: say how many "
                "rows these statistics rest on, count=..."
            )
        rows = torch.as_tensor(ADOPTED if count is None else count, device=like.device)
        if rows.is_floating_point() or rows.is_complex() or rows.dtype == torch.bool:
            raise TypeError(f"count must be of whole numbers, got {rows.dtype}")
        if rows.shape not in ((), (steps,)) or bool((rows < 0).any()):
            raise ValueError(
                f"count must be one number or ({steps},) of them, none negative, got "
                f"{tuple(rows.shape)} {rows.tolist()}"
            )
        self.reset()
        self.count[:steps] = rows
        known = (self.count[:steps] > 0)[:, None]
        for buffer, value in zip((self.running_mean, self.running_var), pair):
            buffer[:steps] = torch.where(known, value, buffer[:steps])

    def uncounted(self) -> Tensor:
        """(S,) boolean, true for steps that hold statistics, but have a count of 0."""
        initial = (self.running_mean == 0).all(1) & (self.running_var == 1).all(1)
        return (self.count == 0) & ~initial

    def _look(self) -> None:
        """Warn of statistics that are not read for want of a count, once after each change."""
        if torch.compiler.is_compiling() or self.beyond == "error":  # which refuses such steps
            return
        buffers = mean, var, count = tuple(self._buffers.values())
        try:
            now = (id(mean), id(var), id(count), mean._version, var._version, count._version)  # type: ignore[union-attr]  # none is None
        except RuntimeError:  # a tensor made in inference mode counts no changes
            now = (id(mean), id(var), id(count), -1, -1, -1)
        if now == self._looked or not have_values(buffers):
            return
        self._looked = now
        found = self.uncounted().nonzero().flatten().tolist()
        if not found:
            return
        if self.max_steps == 1:
            instead = "they are read all the same, but the first batch in training replaces them"
        elif bool((self.count > 0).any()):
            instead = "these steps are normalised by those of the last step before with a count"
        else:
            instead = "all steps are normalised by those of step 0"
        warn(
            f"a RunningTable holds statistics of {len(found)} of {self.max_steps} steps (the first "
            f"is step {found[0]}) with a count of 0, as after copying them in or loading them "
            f"without a count, and does not trust them: {instead}. Statistics of another model "
            "come in by table.adopt(mean, var), which sets the count; print(seqnorm.report(model)) "
            "names the tables"
        )

    def check(self, steps: int, first: int = 0, training: bool = False) -> None:
        """Refuse steps first, first + 1, ... that ``beyond="error"`` allows no other to stand for.

        Raises:
            IndexError: a step has no statistics of its own, or, in training, lies beyond the table.
        """
        if self.beyond != "error":
            return
        end, missing = first + steps, max(first, self.max_steps)
        if not training and first < self.max_steps:
            unseen = (self.count[first : min(end, self.max_steps)] == 0).nonzero()
            missing = first + int(unseen[0]) if len(unseen) else missing
        if missing < end:
            raise IndexError(
                f"step {missing} has no statistics of its own (table of {self.max_steps} steps, "
                f"{int((self.count > 0).sum())} of them seen in training): train on sequences that "
                "long with a larger max_steps, or allow the last trusted step to stand in with "
                'beyond="last"; statistics of another model come in by table.adopt(mean, var)'
            )

    def sources(self, steps: int, first: int = 0, training: bool = False) -> Tensor:
        """(T,) row of the table that speaks for each of the steps first, first + 1, ...

        Raises:
            IndexError: as ``check`` does.
        """
        self.check(steps, first, training)
        own = torch.arange(self.max_steps, device=self.count.device)
        trusted = torch.where(self.count > 0, own, -1).cummax(0).values
        wanted = torch.arange(first, first + steps, device=self.count.device)
        return trusted[wanted.clamp(max=self.max_steps - 1)].clamp(min=0)

    def read(self, steps: int, first: int = 0, training: bool = False) -> tuple[Tensor, Tensor]:
        """Mean and variance (T, F) that stand for the steps first, first + 1, ...

        Raises:
            IndexError: as ``check`` does.
        """
        if not training:
            self._look()
        sources = self.sources(steps, first, training)
        # Indexing copies, so a later update cannot disturb a graph that holds what was read.
        return self.running_mean[sources], self.running_var[sources]

    @torch.no_grad()
    def update(self, mean: Tensor, var: Tensor, rows: Tensor, first: int = 0) -> None:
        """Take in the moments of a batch for the steps first, first + 1, ...

        Inside a backward pass nothing is taken in, and no hook is told.

        Args:
            mean, var: (K, F), the variance biased; steps beyond the table are ignored.
            rows: (T,) rows that each step has, K <= T; a step with fewer than ``min_count`` is
                passed over, and at the end may be without moments.
        """
        if is_recomputed():
            return
        for hook in self._hooks.values():
            hook(self, mean, var, rows, first)
        if self._held:
            return
        means, variances, count, rule = self.running_mean, self.running_var, self.count, "running"
        if self._estimate is not None:
            means, variances, count, rule = self._estimate
        steps = max(0, min(len(mean), self.max_steps - first))
        here = slice(first, first + steps)
        old_mean, old_var = means[here], variances[here]
        dtype = old_mean.dtype
        mean, var, rows = mean[:steps].to(dtype), var[:steps].to(dtype), rows[:steps]
        enough = (rows >= self.min_count)[:, None]
        n, before = rows[:, None].to(dtype), count[here, None].to(dtype)
        if rule == "population":
            biased = old_var * (before - 1.0).clamp(min=0.0) / before.clamp(min=1.0)
            union = merge(Moments(old_mean, biased, before), Moments(mean, var, n))
            weight = torch.ones_like(n)
            mean, var = union.mean, unbiased(union.var, union.n)
        else:
            weight = n / (before + n)
            if self.momentum is not None and rule == "running":
                weight = weight.clamp(min=self.momentum)
            var = var * (n / (n - 1.0))
        # Of too few rows all this may be infinite or NaN, and times 0 it is NaN.
        weight = torch.where(enough, weight, 0.0)
        stays = 1.0 - weight
        for old, new in ((old_mean, mean), (old_var, var)):
            old.mul_(stays).addcmul_(torch.where(enough, new, 0.0), weight)  # ``moved``, in place
        count[here].add_(torch.where(enough[:, 0], rows, 0))

    def register_update_hook(self, hook: Callable[..., None]) -> RemovableHandle:
        """Have ``hook(table, mean, var, rows, first)`` called before every update.

        It is told of every pass in training, also of one that updates nothing, with the arguments
        of ``update``; the table is as it was before. It must change none of them.
        """
        handle = RemovableHandle(self._hooks)
        self._hooks[handle.id] = hook
        return handle

    @contextmanager
    def held(self) -> Iterator[None]:
        """Within, updates change nothing: whatever is read from the table stays as it was."""
        before, self._held = self._held, True
        try:
            yield
        finally:
            self._held = before

    @contextmanager
    def estimating(self, estimate: str) -> Iterator[None]:
        """Within, updates gather apart, every row weighing alike; at the end the table holds them.

        "population" holds the moments of all rows seen, as if they were one batch; "average" the
        row-weighted average of the batches' means and variances (Cooijmans et al. 2017, sec. 3).
        Until the end the table is read as it was, and an exception leaves it so.
        """
        choose("estimate", estimate, ESTIMATES)
        means, variances = torch.zeros_like(self.running_mean), torch.ones_like(self.running_var)
        gathered = _Estimate(means, variances, torch.zeros_like(self.count), estimate)
        self._estimate = gathered
        try:
            yield
        finally:
            self._estimate = None
        with torch.no_grad():
            self.running_mean.copy_(gathered.mean)
            self.running_var.copy_(gathered.var)
            self.count.copy_(gathered.rows)

    def extra_repr(self) -> str:
        return (
            f"{self.features}, max_steps={self.max_steps}, momentum={self.momentum}, "
            f"min_count={self.min_count}, beyond={self.beyond!r}"
        )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> RunningTable:
        for name, buffer in list(self._buffers.items()):
            assert buffer is not None
            moved = fn(buffer)
            if moved.dtype in HALF:  # keep the precision: an average in half forgets small steps
                moved = buffer.to(device=moved.device)
            self._buffers[name] = moved
        return self

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        initial = {"running_mean": 0.0, "running_var": 1.0, "count": 0}
        loaded = {name: state_dict.get(prefix + name) for name in initial}
        counts = loaded["count"]
        if counts is not None and counts.dim() == 1 and len(counts) != self.max_steps:
            if bool((counts[self.max_steps :] > 0).any()):
                warnings.warn(
                    f"{prefix}count holds statistics of {int((counts > 0).sum())} steps, this "
                    f"table has max_steps={self.max_steps}: the later ones are dropped",
                    stacklevel=2,
                )
            state_dict = dict(state_dict)
            for name, value in loaded.items():
                if value is not None and len(value) == len(counts):
                    grown = value.new_full((self.max_steps, *value.shape[1:]), initial[name])
                    kept = min(len(value), self.max_steps)
                    grown[:kept] = value[:kept]
                    state_dict[prefix + name] = grown
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
