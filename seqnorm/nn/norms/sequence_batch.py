"""BatchNorm of padded sequences, per step or pooled, with running statistics.

Axes: N sequences, T steps, C channels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..check import check_renormalization, have_values, warn
from ..statistics.blending import Blending, blended
from ..statistics.moments import Moments, moments, moments_of_sets, normalise
from ..statistics.processes import Processes, sharing, union
from ..statistics.renormalization import Renormalization
from ..statistics.running_table import RunningTable, few_rows
from .layout import SequenceNorm, layout_by_name


class BatchNorm(Blending, SequenceNorm):
    """S spans the mini-batch (Ioffe & Szegedy 2015), so inference needs running statistics.

    ``y = weight * (x - mean) / sqrt(var + eps) + bias``, weight and bias (C,). With
    ``max_steps=None``, S = all valid frames of the batch. With a number, S = the valid rows of one
    time step, and every step has statistics of its own; sequences need not be sorted.

    In training a set with at least ``min_count`` elements is normalised by its own moments. Every
    other set, and every set in inference, is normalised by the ``table``, whose rules stand at
    ``RunningTable``: unlike in ``torch.nn.BatchNorm1d``, the first batches have full weight, and
    ``torch.optim.swa_utils.update_bn`` skips the table (``seqnorm.update_bn`` does not).

    With ``r_max`` and ``d_max``, Batch Renormalization (Ioffe 2017) corrects a set's own moments
    towards those of the table, see ``Norm``. ``fit_eval_norm`` changes the inference of a norm
    without ``max_steps``.

    Args:
        num_channels: C.
        eps, affine: as in ``torch.nn.BatchNorm1d``.
        max_steps: None, or the number of steps with statistics of their own.
        momentum, min_count, beyond: as in ``RunningTable``.
        r_max, d_max: limits of Batch Renormalization, or None for plain BatchNorm.
        layout: "NTC" for x (N, T, C), or "NCT" for x (N, C, T).

    Raises:
        TypeError: ``layout`` is missing, or an argument is unknown.
        ValueError: an argument is out of range.
    """

    # True if ``freeze_statistics`` keeps the running statistics.
    frozen = False

    @layout_by_name
    def __init__(
        self,
        num_channels: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        *,
        max_steps: int | None = None,
        min_count: int = 2,
        beyond: str = "last",
        r_max: float | None = None,
        d_max: float | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        layout: str,
    ) -> None:
        super().__init__(num_channels, eps, affine, True, layout, device, dtype)
        self.per_step = max_steps is not None
        steps = 1 if max_steps is None else max_steps
        self.table = RunningTable(
            self.num_channels, steps, momentum, min_count, beyond, device, dtype
        )
        self.renormalization: Renormalization | None = None
        if check_renormalization(r_max, d_max):
            assert r_max is not None
            assert d_max is not None
            self.renormalization = Renormalization(r_max, d_max, device, dtype)
        self._warned = False

    def normalise_set(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Normalise each channel over the mini-batch, and update the table in training."""
        steps = x.shape[1] if self.per_step else 1
        if not self.training or self.frozen:
            mean, var = self.table.read(steps)  # (T, C) or (1, C)
            if self.share is not None:
                own = moments(x, (1,), mask)
                mean, var, _ = blended(own, Moments(mean, var, own.n), self.share)
            return normalise(x, mean, var, self.eps)
        own = moments(x, (0,) if self.per_step else (0, 1), mask)
        processes = sharing(self.table.processes, True)
        if processes is not None:
            own = self._together(own, processes)
        found = self._statistics(own, x)
        if processes is not None and self.per_step:  # another process may have had more steps
            found = [part[: x.shape[1]] for part in found]
        return self._by(x, *found)

    def normalise_rows(self, x: Tensor, sequence: Tensor, step: Tensor, batch: int) -> Tensor:
        if not self.per_step:
            if self.share is None or (self.training and not self.frozen):
                return super().normalise_rows(x, sequence, step, batch)
            own = moments_of_sets(x, sequence, batch)
            mean, var, _ = blended(own, Moments(*self.table.read(1), own.n), self.share)
            return self._by(x, mean.index_select(0, sequence), var.index_select(0, sequence))
        steps = int(step.max()) + 1 if len(step) else 0
        if self.training and not self.frozen:
            own = Moments(*(part[None] for part in moments_of_sets(x, step, steps)))
            processes = sharing(self.table.processes, True)
            if processes is not None:
                own = self._together(own, processes)
            found = self._statistics(own, x)
        else:
            found = list(self.table.read(steps))
        return self._by(x, *[part.index_select(0, step) for part in found])

    def _statistics(self, own: Moments, x: Tensor) -> list[Tensor]:
        """Update the table by moments (1, T, C), and return mean and variance (T, C) for x.

        With Batch Renormalization, r and d (T, C) follow.
        """
        steps = own.mean.shape[1]
        self.table.check(steps, training=True)
        rows = own.n.expand(1, steps, self.num_channels)[0, :, 0].to(torch.int64)
        means, variances = (part.reshape(steps, self.num_channels) for part in (own.mean, own.var))
        if not self._warned and rows.numel() and have_values((rows,)):
            most = int(rows.max())
            if 0 < most < self.table.min_count:
                self._warned = True
                warn(few_rows(most, self.table.min_count))
        correction = self._correction(means, variances)
        self.table.update(means.detach(), variances.detach(), rows)
        mean, var = self.table.read(steps, training=True)
        known = torch.arange(steps, device=x.device) < self.table.max_steps
        enough = ((rows >= self.table.min_count) & known)[:, None]
        found = [torch.where(enough, means, mean), torch.where(enough, variances, var)]
        if correction is not None:
            r, d = correction
            found += [torch.where(enough, r, 1.0), torch.where(enough, d, 0.0)]
        return found

    def _by(self, x: Tensor, mean: Tensor, var: Tensor, *correction: Tensor) -> Tensor:
        """Normalise x by mean and variance, and correct it by r and d if they are given."""
        y = normalise(x, mean, var, self.eps)
        if correction:
            r, d = correction
            y = y * r + d
        return y

    def _correction(self, mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor] | None:
        """Return r and d (T, C) for moments (T, C), 1 and 0 at steps beyond the table."""
        if self.renormalization is None:
            return None
        steps = len(mean)
        inside = min(steps, self.table.max_steps)
        before = self.renormalization.before(self.table, 0, inside, self.eps)
        r, d = self.renormalization.correction(mean[:inside], var[:inside], before, self.eps)
        more = steps - inside
        return F.pad(r, (0, 0, 0, more), value=1.0), F.pad(d, (0, 0, 0, more))

    def extra_repr(self) -> str:
        return super().extra_repr() + ", frozen" * self.frozen

    def _together(self, own: Moments, processes: Processes) -> Moments:
        """Return the moments of all processes, with the steps of the longest batch."""
        n = own.n.expand(own.mean.shape)[..., :1]
        more = processes.most(n.shape[1], n.device) - n.shape[1] if self.per_step else 0
        padded = (F.pad(part, (0, 0, 0, more)) for part in (own.mean, own.var, n))
        return union(Moments(*padded), processes)
