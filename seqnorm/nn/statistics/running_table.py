"""Running statistics of every time step in one table, which inference uses instead of the batch.

Axes: S = max_steps, T steps of this batch, F features.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ..check import check_table, choose, have_values, refuse_scripting, warn
from .moments import HALF, Moments, merge, unbiased, widen
from .processes import Processes
from .recompute import is_recomputed

ESTIMATES = ("population", "average")
# Default count of adopted statistics: so large that the momentum decides, as in torch.
ADOPTED = 1_000_000


def few_rows(rows: int, min_count: int) -> str:
    """Return the warning for a training batch with too few rows for any statistics."""
    return (
        f"BatchNorm in training on {rows} row(s), min_count={min_count}: they are normalised by "
        "running statistics and update none; a norm over the units of one example (LayerNorm, "
        "RMSNorm) needs no batch"
    )


class RunningTable(nn.Module):
    """Running mean, running variance and count of rows for each of ``max_steps`` time steps.

    In training, a step with at least ``min_count`` rows is normalised by its own moments, which
    then update that step of the table. Every other step updates nothing and is read from the table
    after the steps before it, and so are all steps in inference. A step that training has never
    updated, or that lies beyond the table, is read from the last updated step before it. The table
    starts with mean 0 and variance 1, and no gradient flows through it.

    An update moves a step by ``max(momentum, n / count)`` towards the batch, where n is the number
    of its rows and ``count`` includes them. The average is cumulative at first, so that it forgets
    the initial (0, 1) at once, and exponential later; with ``momentum=None`` it stays cumulative.
    The variance is unbiased, as in ``torch.nn.BatchNorm1d``.

    Buffers: ``running_mean`` (S, F), ``running_var`` (S, F), ``count`` (S,) int64. They stay at
    least float32 when the module is cast to half precision. A state dict with another number of
    steps is cut or grown on loading, with a warning if that drops statistics.

    A pass inside a backward pass, such as the second one of ``torch.utils.checkpoint``, updates
    nothing. (A compiled module that is checkpointed as a whole, or ``use_reentrant=True`` under
    compiled autograd, updates twice: apply the checkpoint inside the compiled module.)

    Take over statistics from elsewhere with ``adopt``, which sets the count. If they are copied
    into the buffers or loaded without a count, they are not read, and inference warns.
    ``torch.optim.swa_utils.update_bn`` and Lightning's ``StochasticWeightAveraging`` silently skip
    tables, which are not BatchNorm modules of ``torch.nn``; ``seqnorm.update_bn`` includes them.
    With ``processes``, which ``convert_sync_batchnorm`` sets, moments and rows are those of all.

    Args:
        features: F.
        max_steps: S.
        momentum: weight of a new batch, 0 < momentum <= 1, or ``None``.
        min_count: rows that a step needs for statistics of its own, at least 2.
        beyond: "last" as above. "error" refuses a step without statistics of its own in inference,
            and a step beyond the table in training too. (A graph of ``torch.compile`` or
            ``torch.export`` cannot read the count: there use "last" in inference.)
    """

    running_mean: Tensor
    running_var: Tensor
    count: Tensor
    processes: Processes | None = None
    __prepare_scriptable__ = refuse_scripting
    # Identities and versions of the buffers at the last search for statistics without a count.
    _looked: tuple[int, ...] = ()
    # Means, variances and counts that `estimating` gathers, and its rule.
    _estimate: tuple[Tensor, Tensor, Tensor, str] | None = None
    _held = False

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
        self.max_steps, self.min_count = check_table(max_steps, momentum, min_count, beyond)
        self.features = features
        self.momentum = momentum
        self.beyond = beyond
        self._hooks: OrderedDict[int, Callable[..., None]] = OrderedDict()
        mean = widen(torch.zeros(self.max_steps, features, device=device, dtype=dtype))
        count = torch.zeros(self.max_steps, device=device, dtype=torch.int64)
        self.register_buffer("running_mean", mean)
        self.register_buffer("running_var", torch.ones_like(mean))
        self.register_buffer("count", count)

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
        """Replace the contents of the table with statistics from elsewhere.

        Args:
            mean, var: (F,) for every step, or (S', F) for the first S' steps, S' <= S; later steps
                are read from the last of them. The variance is unbiased, as torch's
                ``running_var``.
            count: rows that the statistics rest on, one number or (S',); a step with 0 has none.
                The next update moves a step by ``max(momentum, n / (count + n))`` towards a batch
                of n rows, so that after a small count training soon replaces what was adopted.
                ``None`` means a million: the momentum decides, as in ``torch.nn.BatchNorm1d``.

        Raises:
            ValueError: a shape does not fit the table; a number is not finite; ``var`` or ``count``
                is negative; or ``count`` is missing with ``momentum=None``, which weighs by it
                alone. The table is then unchanged.
            TypeError: ``mean`` or ``var`` are not numbers, or ``count`` is not whole numbers.
        """
        like = self.running_mean
        given = {"mean": _as_numbers("mean", mean, like), "var": _as_numbers("var", var, like)}
        steps = len(given["mean"]) if given["mean"].dim() == 2 else self.max_steps
        for name, value in given.items():
            if value.shape not in ((self.features,), (steps, self.features)):
                raise ValueError(
                    f"{name} must be ({self.features},) or, for the first S' steps, (S', "
                    f"{self.features}), with the same S' for both, got {tuple(value.shape)}"
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
            raise TypeError(f"count must be whole numbers, got {rows.dtype}")
        if rows.shape not in ((), (steps,)) or bool((rows < 0).any()):
            raise ValueError(
                f"count must be one number or ({steps},) of them, none negative, got "
                f"{tuple(rows.shape)} {rows.tolist()}"
            )
        self.reset()
        self.count[:steps] = rows
        known = (self.count[:steps] > 0)[:, None]
        for buffer, value in zip((self.running_mean, self.running_var), given.values()):
            buffer[:steps] = torch.where(known, value, buffer[:steps])

    def uncounted(self) -> Tensor:
        """Return a boolean tensor (S,), true at steps that hold statistics with a count of 0."""
        initial = (self.running_mean == 0).all(1) & (self.running_var == 1).all(1)
        return (self.count == 0) & ~initial

    def _look(self) -> None:
        """Warn of statistics without a count, which are not read, once after each change."""
        if torch.compiler.is_compiling() or self.beyond == "error":  # which refuses such steps
            return
        if self.is_looked_at or not have_values(tuple(self._buffers.values())):
            return
        self._looked = self._identity
        found = self.uncounted().nonzero().flatten().tolist()
        if not found:
            return
        instead = "all steps are normalised by those of step 0"
        if self.max_steps == 1:
            instead = "they are read all the same, but the first batch in training replaces them"
        elif bool((self.count > 0).any()):
            instead = "these steps are normalised by those of the last step before with a count"
        warn(
            f"a RunningTable holds statistics of {len(found)} of {self.max_steps} steps (the first "
            f"is step {found[0]}) with a count of 0, as after copying or loading them without a "
            f"count, and does not trust them: {instead}. Take over statistics of "
            "another model by table.adopt(mean, var), which sets the count; "
            "print(seqnorm.report(model)) names the tables"
        )

    @property
    def _identity(self) -> tuple[int, ...]:
        """Identities and versions of the buffers."""
        buffers = self._buffers.values()  # faster than by their names
        versions: list[int] = []
        for buffer in buffers:
            # A tensor made in inference mode counts no changes, and asking for them is slow.
            versions.append(-1 if buffer.is_inference() else buffer._version)  # type: ignore[union-attr]  # none is None
        return *map(id, buffers), *versions

    @property
    def is_looked_at(self) -> bool:
        """True if the buffers are unchanged since the last search for uncounted statistics."""
        return self._looked == self._identity

    def check(self, steps: int, first: int = 0, training: bool = False) -> None:
        """Check T = ``steps`` steps first, first + 1, ... against ``beyond="error"``.

        Raises:
            IndexError: a step has no statistics of its own or, in training, lies beyond the table.
        """
        if self.beyond != "error":
            return
        missing = max(first, self.max_steps)
        if not training:
            unseen = (self.count[first : first + steps] == 0).nonzero()
            missing = first + int(unseen[0]) if len(unseen) else missing
        if missing < first + steps:
            raise IndexError(
                f"step {missing} has no statistics of its own (table of {self.max_steps} steps, "
                f"{int((self.count > 0).sum())} of them seen in training): train on sequences that "
                "long with a larger max_steps, or read such steps from the last trusted one with "
                'beyond="last"; take over statistics of another model by table.adopt(mean, var)'
            )

    def sources(self, steps: int, first: int = 0, training: bool = False) -> Tensor:
        """Return the rows (T,) of the table that hold for the steps first, first + 1, ...

        Raises:
            IndexError: as ``check`` does.
        """
        self.check(steps, first, training)
        own = torch.arange(self.max_steps, device=self.count.device)
        trusted = torch.where(self.count > 0, own, -1).cummax(0).values
        wanted = torch.arange(first, first + steps, device=self.count.device)
        return trusted[wanted.clamp(max=self.max_steps - 1)].clamp(min=0)

    def read(self, steps: int, first: int = 0, training: bool = False) -> tuple[Tensor, Tensor]:
        """Return the mean and the variance (T, F) for the steps first, first + 1, ...

        Raises:
            IndexError: as ``check`` does.
        """
        if not training:
            self._look()
        sources = self.sources(steps, first, training)
        # Indexing copies, so that a later update cannot disturb an autograd graph.
        return self.running_mean[sources], self.running_var[sources]

    @torch.no_grad()
    def update(
        self, mean: Tensor, var: Tensor, rows: Tensor, first: int = 0, *, enough: bool = False
    ) -> None:
        """Update the steps first, first + 1, ... with the moments of a batch.

        Inside a backward pass nothing is updated, and no hook is called.

        Args:
            mean, var: (K, F), the variance biased; steps beyond the table are ignored.
            rows: (T,) rows of each step, K <= T. Steps with fewer than ``min_count`` rows are
                skipped; at the end they may lack moments.
            enough: True if each step with moments is known to have ``min_count`` rows. This saves
                the test.
        """
        if is_recomputed():
            return
        for hook in self._hooks.values():
            hook(self, mean, var, rows, first)
        if self._held:
            return
        running = (self.running_mean, self.running_var, self.count, "running")
        means, variances, count, rule = running if self._estimate is None else self._estimate
        steps = max(0, min(len(mean), self.max_steps - first))
        here = slice(first, first + steps)
        old_mean, old_var = means[here], variances[here]
        dtype = old_mean.dtype
        mean, var, rows = mean[:steps].to(dtype), var[:steps].to(dtype), rows[:steps]
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
        if not enough:
            # With too few rows these may be infinite or NaN, and NaN times 0 is NaN.
            counted = (rows >= self.min_count)[:, None]
            weight, mean, var = (torch.where(counted, of, 0.0) for of in (weight, mean, var))
            rows = torch.where(counted[:, 0], rows, 0)
        stays = 1.0 - weight
        for old, new in ((old_mean, mean), (old_var, var)):
            old.mul_(stays).addcmul_(new, weight)  # ``moved``, in place
        count[here].add_(rows)

    def register_update_hook(self, hook: Callable[..., None]) -> RemovableHandle:
        """Register ``hook(table, mean, var, rows, first)``, to be called before every update.

        It is called in every training pass, even one that updates nothing, with the arguments of
        ``update``. It must change neither them nor the table.
        """
        handle = RemovableHandle(self._hooks)
        self._hooks[handle.id] = hook
        return handle

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep the table unchanged by updates inside this context."""
        before, self._held = self._held, True
        try:
            yield
        finally:
            self._held = before

    @contextmanager
    def estimating(self, estimate: str) -> Iterator[None]:
        """Gather the updates inside this context, which replace the table's contents at its end.

        "population" gives the moments of all rows seen, as if they were one batch; "average" gives
        the row-weighted average of the batches' means and variances (Cooijmans et al. 2017,
        sec. 3). Until the end, and after an exception, the table is unchanged.
        """
        choose("estimate", estimate, ESTIMATES)
        mean, var = torch.zeros_like(self.running_mean), torch.ones_like(self.running_var)
        count = torch.zeros_like(self.count)
        self._estimate = (mean, var, count, estimate)
        try:
            yield
        finally:
            self._estimate = None
        with torch.no_grad():
            self.running_mean.copy_(mean)
            self.running_var.copy_(var)
            self.count.copy_(count)

    def extra_repr(self) -> str:
        return (
            f"{self.features}, max_steps={self.max_steps}, momentum={self.momentum}, "
            f"min_count={self.min_count}, beyond={self.beyond!r}"
        )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> RunningTable:
        for name, buffer in list(self._buffers.items()):
            assert buffer is not None
            moved = fn(buffer)
            if moved.dtype in HALF:  # keep the precision: an average in half loses small steps
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


def _as_numbers(name: str, value: Any, like: Tensor) -> Tensor:
    """Return the value as a tensor with the dtype and the device of another; raise TypeError."""
    try:
        return torch.as_tensor(value, dtype=like.dtype, device=like.device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{name} must be numbers, got {value!r}") from error
