"""Statistics of several processes as if their batches were one.

Each process takes the moments of its own rows; they gather (count, mean, variance) of all and merge
them, each by itself and in the same order, so all hold the same numbers, bit for bit. A process
without rows takes part with a count of 0.

Axes: W processes in the order of their ranks, T steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from .moments import Moments


class Processes:
    """The processes of ``torch.distributed`` that share the statistics of their batches.

    Args:
        group: a process group; ``None`` for all processes there are when they are asked.
    """

    def __init__(self, group: dist.ProcessGroup | None = None) -> None:
        self.group = group

    def __deepcopy__(self, memo: dict[int, Any]) -> Processes:
        return self  # a group cannot be copied

    @property
    def several(self) -> bool:
        """Whether there are others to share with."""
        return dist.is_available() and dist.is_initialized() and dist.get_world_size(self.group) > 1

    def gather(self, values: Tensor) -> Tensor:
        """(W, *) what all processes hold in a tensor of this shape and dtype."""
        values = values.contiguous()
        found = [torch.empty_like(values) for _ in range(dist.get_world_size(self.group))]
        dist.all_gather(found, values, group=self.group)
        return torch.stack(found)

    def most(self, number: int, device: torch.device) -> int:
        """The largest number that one of them says."""
        return int(self.gather(torch.tensor([number], device=device)).max())

    def rows(self, own: Sequence[int], device: torch.device) -> list[int]:
        """Rows of every step in all of them together, to the last step of the longest batch.

        Args:
            own: (T,) rows of this process; T may differ.
            device: of the tensors that they exchange.
        """
        steps = self.most(len(own), device)
        padded = torch.tensor([*own, *[0] * (steps - len(own))], dtype=torch.int64, device=device)
        together: list[int] = self.gather(padded).sum(0).tolist()
        return together


def sharing(processes: Processes | None, training: bool) -> Processes | None:
    """Those with whom a norm shares statistics now: in training alone, and if there are others."""
    return processes if processes is not None and training and processes.several else None


def the_same(found: Iterable[Processes]) -> Processes | None:
    """The processes that the norms of one layer share with; ``None`` if none do.

    Raises:
        ValueError: they are not the same for all.
    """
    distinct = list({id(processes.group): processes for processes in found}.values())
    if len(distinct) > 1:
        raise ValueError(
            "the norms of one recurrent layer share statistics with different process groups: "
            "convert the layer as a whole, convert_sync_batchnorm(layer, process_group)"
        )
    return distinct[0] if distinct else None


def union(own: Moments, processes: Processes) -> Moments:
    """Moments of the union of the sets of all processes (Chan, Golub & LeVeque 1979, eq. 2.1).

    With n_r, m_r, v_r of process r and N = sum_r n_r::

        mean = sum_r n_r m_r / N        var = sum_r n_r (v_r + (m_r - mean)^2) / N

    One exchange in each direction. Gradients are those of the sum of the losses of all processes,
    as of ``torch.nn.SyncBatchNorm``; ``DistributedDataParallel``, which averages the gradients of
    parameters, makes of it the gradient of the mean of the losses.

    Args:
        own: the moments in this process; ``n`` broadcasts to the mean, and all three have the same
            shapes everywhere.
    """
    found: tuple[Tensor, ...] = _Union.apply(*own, processes)  # type: ignore[no-untyped-call]  # torch's own
    return Moments(*found)


class _Union(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, mean: Tensor, var: Tensor, n: Tensor, processes: Processes
    ) -> tuple[Tensor, Tensor, Tensor]:
        found = processes.gather(torch.cat([n.flatten(), mean.flatten(), var.flatten()]))
        of_n, of_mean, of_var = found.split([n.numel(), mean.numel(), var.numel()], 1)
        counts = of_n.reshape(len(found), *n.shape)
        means, variances = (part.reshape(len(found), *mean.shape) for part in (of_mean, of_var))
        total = counts.sum(0)
        parts = counts / total.clamp(min=1.0)
        # About the mean of whoever has most rows, so that equal means give exactly that mean.
        most = counts.argmax(0, keepdim=True).expand(1, *mean.shape)
        about = means.gather(0, most)
        merged = about[0] + (parts * (means - about)).sum(0)
        spread = (parts * (variances + (means - merged).square())).sum(0)
        ctx.save_for_backward(mean, n, merged, total)
        ctx.processes = processes
        ctx.mark_non_differentiable(total)
        return merged, spread, total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        # That of merged in the spread is 0: deviations from a mean add up to 0.
        mean, n, merged, total = ctx.saved_tensors
        sums: Tensor = _Sum.apply(torch.stack(grads[:2]), ctx.processes)  # type: ignore[no-untyped-call]  # torch's own
        of_mean, of_var = sums
        part = n / total.clamp(min=1.0)
        return part * (of_mean + 2.0 * of_var * (mean - merged)), part * of_var, None, None


class _Sum(torch.autograd.Function):
    """The sum over all processes, whose gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, processes: Processes) -> Tensor:
        ctx.processes = processes
        total = x.clone()
        dist.all_reduce(total, group=processes.group)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        total: Tensor = _Sum.apply(grads[0], ctx.processes)  # type: ignore[no-untyped-call]  # torch's own
        return total, None
