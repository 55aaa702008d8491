"""Masked norms for whole sequences: each one chooses the axes of its set S, and nothing else.

All take x (N, T, C) or, with ``layout="NCT"``, (N, C, T), and ``lengths`` (N,); steps at or beyond
a length are padding: they enter no statistic and are zero in the result. Without lengths every step
is valid, and the results are those of torch's norms.

Axes: N sequences, T steps, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Union

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .check import check_eps, check_positive, choose, warn
from .lengths import check_lengths, valid_mask
from .masks import most_valid, position_mask
from .processes import Processes, sharing, union
from .statistics import Moments, moments, normalise, widen
from .tables import RunningTable, few_rows
from .typed import called_as

LAYOUTS = ("NTC", "NCT")
Lengths = Union[Tensor, Sequence[int], None]


class SequenceNorm(nn.Module):
    """``y = weight * (x - mean) / sqrt(var + eps) + bias``, mean and variance over a set S."""

    weight: nn.Parameter | None
    bias: nn.Parameter | None

    def __init__(
        self,
        num_channels: int,
        eps: float,
        weight: bool,
        bias: bool,
        layout: str,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        check_positive("num_channels", num_channels)
        choose("layout", layout, LAYOUTS)
        check_eps(eps)
        self.num_channels = num_channels
        self.eps = eps
        self.layout = layout
        for name, wanted in (("weight", weight), ("bias", bias)):
            value = torch.empty(num_channels, device=device, dtype=dtype) if wanted else None
            self.register_parameter(name, None if value is None else nn.Parameter(value))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Gain 1, bias 0."""
        if self.weight is not None:
            nn.init.ones_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor, lengths: Lengths = None) -> Tensor:
        """Normalise x in its layout, zero in the padding.

        Raises:
            TypeError: x holds integers.
            ValueError: x is not 3-D with C channels, or lengths do not fit it.
        """
        if x.dim() != 3 or x.shape[self.layout.index("C")] != self.num_channels:
            raise ValueError(
                f"{type(self).__name__} takes {self.layout} with C = {self.num_channels}, "
                f"got {tuple(x.shape)}"
            )
        if not x.is_floating_point():
            raise TypeError(f"{type(self).__name__} takes floating-point numbers, got {x.dtype}")
        ntc = x if self.layout == "NTC" else x.transpose(1, 2)
        mask = None
        if lengths is not None:
            checked = check_lengths(lengths, ntc.shape[0], ntc.shape[1]).to(x.device)
            mask = valid_mask(checked, ntc.shape[1])[:, :, None]
        y = self._masked(ntc, mask)
        return y if self.layout == "NTC" else y.transpose(1, 2)

    if TYPE_CHECKING:

        @called_as(forward)
        def __call__(self) -> None: ...

    def _masked(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """x (N, T, C), mask (N, T, 1)."""
        # Padding may hold anything, and 0 * NaN is NaN in a backward pass too.
        wide = widen(x) if mask is None else torch.where(mask, widen(x), 0.0)
        y = self._normalise(wide, mask)
        if self.weight is not None:
            y = y * self.weight
        if self.bias is not None:
            y = y + self.bias
        if mask is not None:
            y = torch.where(mask, y, 0.0)
        return y.to(x.dtype)

    def _normalise(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """x (N, T, C), mask (N, T, 1)."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        affine = self.weight is not None
        return f"{self.num_channels}, eps={self.eps}, affine={affine}, layout={self.layout!r}"


class LayerNorm(SequenceNorm):
    """S = the C channels of one frame (Ba et al. 2016). Padding changes nothing but its own frames.

    Args:
        num_channels: C.
        eps, elementwise_affine, bias: as in ``torch.nn.LayerNorm``.
        layout: "NTC" or "NCT".
    """

    def __init__(
        self,
        num_channels: int,
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        layout: str = "NTC",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        affine = elementwise_affine
        super().__init__(num_channels, eps, affine, affine and bias, layout, device, dtype)
        if num_channels == 1:
            raise ValueError("LayerNorm over one channel is always 0: the set has one element")

    def _normalise(self, x: Tensor, mask: Tensor | None) -> Tensor:
        mean, var, _ = moments(x, (2,))
        return normalise(x, mean, var, self.eps)


class RMSNorm(SequenceNorm):
    """S = the C channels of one frame, the mean not subtracted (Zhang & Sennrich 2019).

    Args:
        num_channels: C.
        eps: added to the mean square; ``torch.nn.RMSNorm`` takes the dtype's epsilon by default.
        elementwise_affine: whether there is a gain.
        layout: "NTC" or "NCT".
    """

    def __init__(
        self,
        num_channels: int,
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        layout: str = "NTC",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(num_channels, eps, elementwise_affine, False, layout, device, dtype)

    def _normalise(self, x: Tensor, mask: Tensor | None) -> Tensor:
        mean, square, _ = moments(x, (2,), centred=False)
        return normalise(x, mean, square, self.eps)


class GroupNorm(SequenceNorm):
    """S = the valid positions and the channels of one group, of one example (Wu & He 2018).

    ``forward(x, lengths=None, mask=None)`` takes sequences in their layout, with ``lengths`` or a
    ``mask``, or images and whatever else (N, C, *) that is not 3-D, as ``torch.nn.GroupNorm`` does,
    with a ``mask``: boolean, true where x is valid, as long as x or 1 at every axis and 1 at the
    channels', or without that axis: (N, 1, H, W) or (N, H, W).

    Args:
        num_groups: groups into which the C channels are divided.
        num_channels: C.
        eps, affine: as in ``torch.nn.GroupNorm``.
        layout: "NTC" or "NCT", of sequences.

    Raises:
        ValueError: C is no multiple of ``num_groups``; x does not have C channels; lengths or mask
            do not fit it, or both are given; in training, no set of the batch has more than one
            element (under ``torch.compile`` not seen through a mask).
    """

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        layout: str = "NTC",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(num_channels, eps, affine, affine, layout, device, dtype)
        check_positive("num_groups", num_groups)
        if num_channels % num_groups:
            raise ValueError(
                f"num_channels must be divisible by num_groups, got {num_channels} and {num_groups}"
            )
        self.num_groups = num_groups

    def extra_repr(self) -> str:
        return f"{self.num_groups}, {super().extra_repr()}"

    def forward(self, x: Tensor, lengths: Lengths = None, mask: Tensor | None = None) -> Tensor:
        if lengths is not None and mask is not None:
            raise ValueError("GroupNorm takes either lengths or a mask, got both")
        if x.dim() == 3 and mask is None:
            return super().forward(x, lengths)
        if lengths is not None:
            raise ValueError(
                f"lengths are those of sequences, 3-D, got {tuple(x.shape)}; images take a mask "
                "(N, 1, H, W)"
            )
        axis = self.layout.index("C") if x.dim() == 3 else 1
        if x.dim() < 2 or x.shape[axis] != self.num_channels:
            form = self.layout if x.dim() == 3 else "(N, C, *)"
            raise ValueError(
                f"GroupNorm takes {form} with C = {self.num_channels}, got {tuple(x.shape)}"
            )
        if not x.is_floating_point():
            raise TypeError(f"GroupNorm takes floating-point numbers, got {x.dtype}")
        # Positions are the steps of a sequence, in whatever order.
        last = x.movedim(axis, -1)
        flat = (len(x), math.prod(last.shape[1:-1]), self.num_channels)
        if mask is not None:
            mask = position_mask(mask, x, axis).reshape(*flat[:2], 1)
        elif x.numel() and flat[1] * self.num_channels > self.num_groups:
            wide = widen(x)
            weight = None if self.weight is None else self.weight.to(wide.dtype)
            bias = None if self.bias is None else self.bias.to(wide.dtype)
            return F.group_norm(wide, self.num_groups, weight, bias, self.eps).to(x.dtype)
        y = self._masked(last.reshape(flat), mask)
        return y.reshape(last.shape).movedim(-1, axis)

    if TYPE_CHECKING:

        @called_as(forward)
        def __call__(self) -> None: ...

    def _normalise(self, x: Tensor, mask: Tensor | None) -> Tensor:
        per_step = self.num_channels // self.num_groups
        if self.training and most_valid(mask, x, (1,)) * per_step == 1:
            raise ValueError(
                "GroupNorm in training on one valid position and one channel in a group: every set "
                "has one element, whose normalised value is always 0; use fewer groups"
            )
        grouped = x.unflatten(2, (self.num_groups, -1))
        mean, var, _ = moments(grouped, (1, 3), None if mask is None else mask[..., None])
        return normalise(grouped, mean, var, self.eps).flatten(2)


class InstanceNorm(SequenceNorm):
    """S = the valid steps of one channel of one sequence (Ulyanov et al. 2016).

    Args:
        num_channels: C.
        eps, affine: as in ``torch.nn.InstanceNorm1d`` without running statistics.
        layout: "NTC" or "NCT".

    A sequence of one valid step is normalised to 0, for its set has one element.

    Raises:
        ValueError: in training, when no sequence of the batch has more than one valid step.
    """

    def __init__(
        self,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = False,
        layout: str = "NTC",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(num_channels, eps, affine, affine, layout, device, dtype)

    def _normalise(self, x: Tensor, mask: Tensor | None) -> Tensor:
        if self.training and most_valid(mask, x, (1,)) == 1:
            raise ValueError(
                "InstanceNorm in training on sequences of one valid step: every set has one "
                "element, whose normalised value is always 0; use LayerNorm, or longer sequences"
            )
        mean, var, _ = moments(x, (1,), mask)
        return normalise(x, mean, var, self.eps)


class BatchNorm(SequenceNorm):
    """S spans the mini-batch (Ioffe & Szegedy 2015), so inference needs running statistics.

    With ``max_steps=None`` S = all valid frames of batch and time. With a number, S = the valid
    rows of one time step, and every step has statistics of its own; sequences need not be sorted.
    In training a set with at least ``min_count`` elements is normalised by its own moments, every
    other set, and all of them in inference, by the ``table`` (see ``RunningTable`` for its rules;
    the first batches count fully there, unlike in ``torch.nn.BatchNorm1d``).

    Args:
        num_channels: C.
        eps, affine: as in ``torch.nn.BatchNorm1d``.
        max_steps: None, or the number of steps with statistics of their own.
        momentum, min_count, beyond: of the table.
        layout: "NTC" or "NCT".
    """

    def __init__(
        self,
        num_channels: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        max_steps: int | None = None,
        min_count: int = 2,
        beyond: str = "last",
        layout: str = "NTC",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(num_channels, eps, affine, affine, layout, device, dtype)
        self.per_step = max_steps is not None
        steps = 1 if max_steps is None else max_steps
        self.table = RunningTable(num_channels, steps, momentum, min_count, beyond, device, dtype)
        self._least = min_count
        self._warned = False

    def _normalise(self, x: Tensor, mask: Tensor | None) -> Tensor:
        steps = x.shape[1] if self.per_step else 1
        if not self.training:
            mean, var = self.table.read(steps)  # (T, C) or (1, C)
            return normalise(x, mean, var, self.eps)
        own = moments(x, (0,) if self.per_step else (0, 1), mask)
        processes = sharing(self.table.processes, self.training)
        if processes is not None:
            own = self._together(own, processes)
            steps = own.mean.shape[1]
        rows = own.n.expand(1, steps, self.num_channels)[0, :, 0].to(torch.int64)
        means, variances = (part.reshape(steps, self.num_channels) for part in (own.mean, own.var))
        if not self._warned and rows.numel() and 0 < (most := int(rows.max())) < self._least:
            self._warned = True
            warn(few_rows(most, self._least))
        self.table.update(means.detach(), variances.detach(), rows)
        mean, var = self.table.read(steps, training=True)
        known = torch.arange(steps, device=x.device) < self.table.max_steps
        enough = ((rows >= self._least) & known)[:, None]
        mean, var = torch.where(enough, means, mean), torch.where(enough, variances, var)
        if processes is not None and self.per_step:  # another one may have had more steps
            mean, var = mean[: x.shape[1]], var[: x.shape[1]]
        return normalise(x, mean, var, self.eps)

    def _together(self, own: Moments, processes: Processes) -> Moments:
        """The moments of all processes, of as many steps as the longest batch has."""
        n = own.n.expand(own.mean.shape)[..., :1]
        if self.per_step:
            more = processes.most(n.shape[1], n.device) - n.shape[1]
            own = Moments(*(F.pad(part, (0, 0, 0, more)) for part in (own.mean, own.var, n)))
        else:
            own = own._replace(n=n)
        return union(own, processes)
