"""Statistics of several processes, as if their batches were one.

Each process computes the moments of its own rows, gathers (count, mean, variance) of all processes
and merges them in the same order, so that all hold bitwise equal numbers. A process without rows
takes part with a count of 0.

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
        group: a process group; ``None`` for all processes that exist at the time of a call.
    """

    def __init__(self, group: dist.ProcessGroup | None = None) -> None:
        self.group = group

    def __deepcopy__(self, memo: dict[int, Any]) -> Processes:
        return self  # a group cannot be copied

    @property
    def several(self) -> bool:
        """True if there are other processes to share with."""
        return dist.is_available() and dist.is_initialized() and dist.get_world_size(self.group) > 1

    def gather(self, values: Tensor) -> Tensor:
        """Stack the tensors of all processes, which have one shape and dtype, to (W, *)."""
        values = values.contiguous()
        found = [torch.empty_like(values) for _ in range(dist.get_world_size(self.group))]
        dist.all_gather(found, values, group=self.group)
        return torch.stack(found)

    def most(self, number: int, device: torch.device) -> int:
        """Return the largest of the processes' numbers."""
        return int(self.gather(torch.tensor([number], device=device)).max())

    def sizes(self, own: int, first: int | None, device: torch.device) -> list[int]:
        """Return the sizes of a batch in all processes.

        Args:
            own: the size in this process.
            first: the number of the first step; ``None`` if sequences begin at different steps.
            device: device of the tensors that are exchanged.

        Raises:
            ValueError: the first steps differ, in all processes.
        """
        numbers = torch.tensor([own, -1 if first is None else first], device=device)
        found: list[list[int]] = self.gather(numbers).tolist()
        begins = {number for size, number in found if size}
        if len(begins) > 1 or -1 in begins:
            raise ValueError(
                "several processes share statistics of every step, which are exchanged for rows of "
                "the same step, and here sequences go on at different steps: begin them anew in "
                "all processes (hx=None, first_step=0), or train by the statistics of each "
                "process, revert_sync_batchnorm(module)"
            )
        return [size for size, _ in found]

    def rows(self, own: Sequence[int], first: int | None, device: torch.device) -> list[int]:
        """Return the rows of each step in all processes together, to the longest batch's end.

        Args:
            own: (T,) rows of this process; T may differ between processes.
            first: the number of the first step; ``None`` if sequences begin at different steps.
            device: device of the tensors that are exchanged.

        Raises:
            ValueError: the first steps differ, in all processes.
        """
        steps = max(self.sizes(len(own), first, device))
        padded = torch.tensor([*own, *[0] * (steps - len(own))], dtype=torch.int64, device=device)
        together: list[int] = self.gather(padded).sum(0).tolist()
        return together


def sharing(processes: Processes | None, training: bool) -> Processes | None:
    """Return the processes with which a norm shares now: only in training, if there are others."""
    return processes if processes is not None and training and processes.several else None


def the_same(found: Iterable[Processes]) -> Processes | None:
    """Return the processes with which all norms of a layer share, or ``None``.

    Raises:
        ValueError: the norms have different process groups.
    """
    distinct = list({id(processes.group): processes for processes in found}.values())
    if len(distinct) > 1:
        raise ValueError(
            "the norms of one recurrent layer share statistics with different process groups: "
            "convert the layer as a whole, convert_sync_batchnorm(layer, process_group)"
        )
    return distinct[0] if distinct else None


def union(own: Moments, processes: Processes) -> Moments:
    """Merge the moments of the sets of all processes (Chan, Golub & LeVeque 1979, eq. 2.1).

    With n_r, m_r, v_r of process r and N = sum_r n_r::

        mean = sum_r n_r m_r / N        var = sum_r n_r (v_r + (m_r - mean)^2) / N

    There is one exchange in each direction. Gradients are those of the sum of the losses of all
    processes, as with ``torch.nn.SyncBatchNorm``; ``DistributedDataParallel`` averages them to the
    gradients of the mean loss.

    Args:
        own: the moments in this process; ``n`` broadcasts to the mean, and the shapes of all three
            are the same in every process.
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
        # Deviations are from the mean of the process with most rows: equal means merge exactly.
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
        # The gradient of `spread` by `merged` is 0, for deviations from a mean add up to 0.
        mean, n, merged, total = ctx.saved_tensors
        sums: Tensor = _Sum.apply(torch.stack(grads[:2]), ctx.processes)  # type: ignore[no-untyped-call]  # torch's own
        of_mean, of_var = sums
        part = n / total.clamp(min=1.0)
        return part * (of_mean + 2.0 * of_var * (mean - merged)), part * of_var, None, None


class _Sum(torch.autograd.Function):
    """Sum over all processes; its gradient is the sum of their gradients."""

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
