"""PowerNorm of padded sequences: division by a running quadratic mean, in training too.

Axes: N sequences, T steps, C channels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..check import check_not_negative, check_number
from ..graphs import outside_of_graphs
from ..statistics.moments import moments, moved, widen
from ..statistics.recompute import is_recomputed
from .layout import SequenceNorm, layout_by_name


class PowerNorm(SequenceNorm):
    """S = all valid frames of the batches so far, each channel apart (Shen et al. 2020).

    PowerNorm (arXiv 2003.07845, section 4) replaces the batch's variance by a quadratic mean, and
    that of the batch by a running one, psi^2, whose values before this batch divide::

        xhat = x / sqrt(psi^2 + eps)            y = weight * xhat + bias
        psi^2 <- (1 - momentum) psi^2 + momentum mean(x^2)

    The running value is not differentiated. In its place the gradient has a running average nu of
    the products, with g the gradient of xhat::

        gradient of x = (g - nu xhat) / sqrt(psi^2 + eps)
        nu <- nu (1 - momentum mean(xhat^2)) + momentum mean(g xhat)

    Means are over the valid frames of the batch. This is not the derivative of y, so finite
    differences do not confirm it, on purpose. Inference computes y with the last psi^2.

    The first ``warmup`` batches are divided by their own quadratic mean, and their gradient is the
    exact one, which is that equation with mean(g xhat) of the batch for nu. psi^2 and nu are
    updated meanwhile. As in the tables of ``seqnorm.BatchNorm``, the first batches have full
    weight in psi^2: the t-th batch has the weight max(1 / t, momentum).

    The authors' code has the same forward pass and the same nu, up to a factor, and differs in
    these points. It divides the gradient by the batch's quadratic mean, where we follow the paper.
    Its warm-up has the gradient with nu. Its means in the backward pass include the padding. It
    first divides each frame by the quadratic mean of groups of its channels; for one group put
    ``RMSNorm(num_channels, elementwise_affine=False, layout=...)`` before this norm.

    The state dict has ``weight``, ``bias`` and the buffers ``running_square`` (psi^2) and
    ``running_product`` (nu), (C,) each, and ``num_batches_tracked``. A forward pass in training
    updates the first and the last one, under ``torch.no_grad()`` too. A backward pass updates nu
    if x needs a gradient. A batch without valid frames updates nothing, and nu ignores gradients
    that are not finite. nu has the scale of the loss, so with a ``GradScaler`` fix the scale
    (``growth_interval`` beyond the training) or use bfloat16, which needs none.

    There are no gradients of gradients, and training does not work inside ``torch.func``. Under
    ``torch.compile`` the training pass is a graph break. ``reestimate_statistics`` and
    ``freeze_statistics`` do not change this norm. Processes do not share its statistics;
    ``convert_sync_batchnorm`` warns of that. With its default ``broadcast_buffers=True``,
    ``DistributedDataParallel`` gives all processes those of the first before every pass.

    Args:
        num_channels: C.
        eps: added to psi^2.
        momentum: weight of a batch in psi^2 and nu, in (0, 1]; 1 - alpha of the paper.
        affine: false for no gain and no bias.
        warmup: number of batches that are divided by their own quadratic mean, from 0 on.
        layout: "NTC" for x (N, T, C), or "NCT" for x (N, C, T).

    Raises:
        TypeError: ``layout`` is missing, or an argument is unknown or has a wrong type.
        ValueError: an argument is out of range.
        RuntimeError: a training pass is repeated by ``torch.utils.checkpoint``.
    """

    running_square: Tensor
    running_product: Tensor
    num_batches_tracked: Tensor

    @layout_by_name
    def __init__(
        self,
        num_channels: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = True,
        *,
        warmup: int = 10000,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        layout: str,
    ) -> None:
        check_number("momentum", momentum)
        if not 0 < momentum <= 1:
            raise ValueError(f"momentum must lie in (0, 1], got {momentum}")
        warmup = check_not_negative("warmup", warmup)
        super().__init__(num_channels, eps, affine, True, layout, device, dtype)
        self.momentum = momentum
        self.warmup = warmup
        for name, value in (("running_square", 1.0), ("running_product", 0.0)):
            held = torch.full((self.num_channels,), value, device=device, dtype=dtype)
            self.register_buffer(name, held)
        count = torch.zeros((), dtype=torch.int64, device=device)
        self.register_buffer("num_batches_tracked", count)

    def reset_parameters(self) -> None:
        """Set the gain to 1 and the bias to 0, and forget all running statistics."""
        super().reset_parameters()
        if "running_square" in self._buffers:
            self.running_square.fill_(1.0)
            self.running_product.zero_()
            self.num_batches_tracked.zero_()

    def normalise_set(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Divide x (N, T, C) by the running quadratic mean, or by its own in the warm-up."""
        if not self.training:
            return x * torch.rsqrt(widen(self.running_square) + self.eps)
        return self._learn(x, mask)

    @outside_of_graphs
    def _learn(self, x: Tensor, mask: Tensor | None) -> Tensor:
        if is_recomputed():
            raise RuntimeError(
                "PowerNorm divides by statistics that its first pass has updated, so a checkpoint "
                "would compute something else in the backward pass: leave the norm out of "
                "torch.utils.checkpoint"
            )
        with torch.no_grad():
            _, square, n = moments(x, (0, 1), mask, centred=False)
            square = square.reshape(-1)
            # Nothing is read from a GPU, which would wait for it.
            warm = self.num_batches_tracked < self.warmup
            before = widen(self.running_square)
            psi = (torch.where(warm, square, before) + self.eps).sqrt()
            some = n.flatten()[0] > 0
            count = self.num_batches_tracked + some
            weight = (1.0 / count.clamp(min=1).to(square.dtype)).clamp(min=self.momentum)
            self.running_square.copy_(moved(before, square, torch.where(some, weight, 0.0)))
            self.num_batches_tracked.copy_(count)
        divided: Tensor = _Divide.apply(  # type: ignore[no-untyped-call]  # torch's own
            x, mask, psi, warm, self.running_product, self.momentum
        )
        return divided

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, momentum={self.momentum}, warmup={self.warmup}"


class _Divide(torch.autograd.Function):
    """x (N, T, C) / psi (C,), with the gradient of PowerNorm, which updates nu (C,)."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        mask: Tensor | None,
        psi: Tensor,
        warm: Tensor,
        nu: Tensor,
        momentum: float,
    ) -> Tensor:
        xhat = x / psi
        ctx.save_for_backward(xhat, psi, warm, mask)
        # Not saved: it changes with the backward pass of each batch.
        ctx.nu, ctx.momentum = nu, momentum
        return xhat

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        xhat, psi, warm, mask = ctx.saved_tensors
        nu = widen(ctx.nu)
        # The means of masked frames, for padding has neither values nor gradients.
        _, square, n = moments(xhat, (0, 1), mask, centred=False)
        product = (grad * xhat).sum((0, 1)) / n.flatten()[0].clamp(min=1.0)
        found = (grad - torch.where(warm, product, nu) * xhat) / psi
        step = ctx.momentum * (product - nu * square.reshape(-1))
        # A loss scale that overflows ends in a step that is skipped, and must leave no trace.
        counts = (n.flatten()[0] > 0) & step.isfinite()
        ctx.nu.copy_(nu + torch.where(counts, step, 0.0))
        return found, None, None, None, None, None
