"""Norms of padded sequences, each of which chooses the axes of its set S and nothing else.

They take x (N, T, C) with ``layout="NTC"``, or (N, C, T) with ``layout="NCT"``, and ``lengths``
(N,). Steps at or beyond a length are padding, which enters no statistic and becomes 0. Without
lengths every step is valid, and the results are those of torch's norms. ``layout`` is required,
for torch's classes of the same names read other axes; only ``GroupNorm`` reads x (N, C, *) by
default, as torch's does.

Axes: N sequences, T steps, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...typed import called_as
from ..check import check_floating, check_part, check_positive
from ..statistics.masks import most_valid, position_mask
from ..statistics.moments import moments, moments_of_sets, normalise, units_of_part, widen
from ..statistics.ragged import is_ragged
from .images import in_dtype_of
from .layout import Lengths, SequenceNorm, layout_by_name


class LayerNorm(SequenceNorm):
    """S = the C channels of one frame (Ba et al. 2016).

    ``y = weight * (x - mean) / sqrt(var + eps) + bias``, weight and bias (C,). Unlike
    ``torch.nn.LayerNorm``, which takes the shape of the last axes of any x, it takes sequences with
    one axis of channels, and refuses a single channel, whose output would always be 0.

    Args:
        num_channels: C.
        eps, elementwise_affine, bias: as in ``torch.nn.LayerNorm``.
        layout: "NTC" for x (N, T, C), or "NCT" for x (N, C, T).

    Raises:
        TypeError: ``layout`` is missing, or an argument is unknown.
        ValueError: C is 1.
    """

    _flags: ClassVar[dict[str, str]] = {"elementwise_affine": "weight", "bias": "bias"}

    @layout_by_name
    def __init__(
        self,
        num_channels: int,
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        layout: str,
    ) -> None:
        super().__init__(num_channels, eps, elementwise_affine, bias, layout, device, dtype)
        if self.num_channels == 1:
            raise ValueError("LayerNorm over one channel is always 0: the set has one element")

    def normalise_set(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Normalise each frame of x (N, T, C)."""
        mean, var, _ = moments(x, (2,))
        return normalise(x, mean, var, self.eps)


class RMSNorm(SequenceNorm):
    """S = the C channels of one frame, without subtracting the mean (Zhang & Sennrich 2019).

    ``y = weight * x / sqrt(mean(x^2) + eps)``, weight (C,). Unlike ``torch.nn.RMSNorm``, which
    takes the shape of the last axes of any x, it takes sequences with one axis of channels. With
    ``part`` p, the mean is over the first ceil(p C) channels only: the pRMSNorm of the paper, which
    takes p = 0.0625. (The authors' code rounds down.)

    Args:
        num_channels: C.
        eps: added to the mean square; ``None`` for the epsilon of the dtype (of float32 if x is in
            half precision), as in ``torch.nn.RMSNorm``.
        elementwise_affine: if true, there is a gain.
        layout: "NTC" for x (N, T, C), or "NCT" for x (N, C, T).
        part: p, or ``None`` for the mean over all channels.

    Raises:
        TypeError: ``layout`` is missing, or an argument is unknown.
        ValueError: an argument is out of range.
    """

    _flags: ClassVar[dict[str, str]] = {"elementwise_affine": "weight"}

    @layout_by_name
    def __init__(
        self,
        num_channels: int,
        eps: float | None = None,
        elementwise_affine: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        layout: str,
        part: float | None = None,
    ) -> None:
        check_part(part)
        known = 1.0 if eps is None else eps
        super().__init__(num_channels, known, elementwise_affine, False, layout, device, dtype)
        self.eps = eps
        self.part = part

    def normalise_set(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Divide each frame of x (N, T, C) by its root mean square."""
        seen = x if self.part is None else x[..., : units_of_part(self.part, self.num_channels)]
        mean, square, _ = moments(seen, (2,), centred=False)
        eps = torch.finfo(x.dtype).eps if self.eps is None else self.eps
        return normalise(x, mean, square, eps)

    def extra_repr(self) -> str:
        shown = super().extra_repr()
        return shown if self.part is None else f"{shown}, part={self.part}"


class GroupNorm(SequenceNorm):
    """S = the valid positions and the channels of one group, of one example (Wu & He 2018).

    ``y = weight * (x - mean) / sqrt(var + eps) + bias``, weight and bias (C,).
    ``forward(x, lengths=None, mask=None)`` takes x ``(N, C, *)`` as ``torch.nn.GroupNorm`` does:
    features, sequences and signals, images, volumes. With ``layout="NTC"`` it takes only sequences
    (N, T, C). Sequences may have ``lengths``. Any x may have a boolean ``mask``, true where x is
    valid, that broadcasts to x with length 1 at the channels' axis or without that axis, such as
    (N, 1, H, W) or (N, H, W).

    Arguments, results and state dicts are those of torch's class, but half precision is normalised
    in float32. In training, batches in which every set has one element, whose output would always
    be 0, are refused (torch refuses a batch of one such example, in inference too).

    Args:
        num_groups: number of groups into which the C channels are divided.
        num_channels: C.
        eps, affine, bias: as in ``torch.nn.GroupNorm``.
        layout: "NCT" for x ``(N, C, *)``, or "NTC" for x (N, T, C).

    Raises:
        ValueError: C is not a multiple of ``num_groups``; x does not have C channels; ``lengths``
            or ``mask`` does not fit x, or both are given; or, in training, no set of the batch has
            more than one element (``torch.compile`` does not check this under a mask).
    """

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        bias: bool = True,
        layout: str = "NCT",
    ) -> None:
        super().__init__(num_channels, eps, affine, bias, layout, device, dtype)
        num_groups = check_positive("num_groups", num_groups)
        if self.num_channels % num_groups:
            raise ValueError(
                f"num_channels must be divisible by num_groups, got {num_channels} and {num_groups}"
            )
        self.num_groups = num_groups
        self.affine = affine

    def extra_repr(self) -> str:
        # Arguments differ between torch's versions.
        shown = nn.GroupNorm.extra_repr(cast(nn.GroupNorm, self))
        return shown if self.layout == "NCT" else f"{shown}, layout={self.layout!r}"

    def forward(
        self,
        x: Tensor,
        lengths: Lengths = None,
        mask: Tensor | None = None,
        *,
        cu_seqlens: Tensor | Sequence[int] | None = None,
    ) -> Tensor:
        """Normalise x; the padding becomes 0."""
        if is_ragged(x, cu_seqlens):
            if mask is not None:
                raise ValueError("a batch without padding has no mask: leave mask=None")
            return self._rows(x, lengths, cu_seqlens)
        if lengths is not None:
            if mask is not None:
                raise ValueError("GroupNorm takes either lengths or a mask, got both")
            if x.dim() == 3:
                return super().forward(x, lengths)
            raise ValueError(
                f"lengths are for sequences, 3-D, got {tuple(x.shape)}; images take a mask "
                "(N, 1, H, W)"
            )
        of_frames = self.layout == "NTC"
        axis = 2 if of_frames else 1
        if (x.dim() != 3 if of_frames else x.dim() < 2) or x.shape[axis] != self.num_channels:
            form = 'layout="NTC" takes (N, T, C)' if of_frames else "takes (N, C, *)"
            swapped = not of_frames and x.dim() == 3 and x.shape[2] == self.num_channels
            hint = ': should that be (N, T, C), build it with layout="NTC"' if swapped else ""
            raise ValueError(
                f"GroupNorm {form} with C = {self.num_channels}, got {tuple(x.shape)}{hint}"
            )
        check_floating("GroupNorm", x)
        if mask is None and x.numel() and math.prod(x.shape[1:]) > self.num_groups:
            wide = widen(x.transpose(1, 2) if of_frames else x)
            weight, bias = in_dtype_of(wide, self.weight), in_dtype_of(wide, self.bias)
            y = F.group_norm(wide, self.num_groups, weight, bias, self.eps)
            return (y.transpose(1, 2) if of_frames else y).to(x.dtype)
        # All positions become the steps of a sequence.
        last = x.movedim(axis, -1)
        N, T, C = x.shape[0], math.prod(last.shape[1:-1]), self.num_channels
        valid = position_mask(mask, x, axis)
        y = self._masked(last.reshape(N, T, C), None if valid is None else valid.reshape(N, T, 1))
        return y.reshape(last.shape).movedim(-1, axis)

    if TYPE_CHECKING:

        @called_as(forward)
        def __call__(self) -> None: ...

    def normalise_set(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Normalise each group of channels of each example x (T, C)."""
        per_step = self.num_channels // self.num_groups
        if self.training and most_valid(mask, x, (1,)) * per_step == 1:
            raise ValueError(
                "GroupNorm in training on one valid position and one channel in a group: every set "
                "has one element, whose normalised value is always 0; use fewer groups"
            )
        grouped = x.unflatten(2, (self.num_groups, -1))
        mean, var, _ = moments(grouped, (1, 3), None if mask is None else mask[..., None])
        return normalise(grouped, mean, var, self.eps).flatten(2)

    def normalise_rows(self, x: Tensor, sequence: Tensor, step: Tensor, batch: int) -> Tensor:
        size = self.num_channels // self.num_groups
        if self.training and size == 1:
            _refuse_single(self, sequence, batch)
        grouped = x.unflatten(1, (self.num_groups, size))
        mean, var, _ = moments_of_sets(grouped, sequence, batch)
        mean, var = (part.index_select(0, sequence)[..., None] for part in (mean, var))
        y: Tensor = normalise(grouped, mean, var, self.eps)
        return y.flatten(1)


class InstanceNorm(SequenceNorm):
    """S = the valid steps of one channel of one sequence (Ulyanov et al. 2016).

    ``y = weight * (x - mean) / sqrt(var + eps) + bias``, weight and bias (C,). The output of a
    sequence with one valid step is 0, for its sets have one element.

    Args:
        num_channels: C.
        eps, affine: as in ``torch.nn.InstanceNorm1d``.
        track_running_stats: must be False, for S does not contain the batch.
        layout: "NTC" for x (N, T, C), or "NCT" for x (N, C, T).

    Raises:
        ValueError: ``track_running_stats`` is true; or, in training, no sequence of the batch has
            more than one valid step.
        TypeError: ``layout`` is missing, or an argument is unknown.
    """

    @layout_by_name
    def __init__(
        self,
        num_channels: int,
        eps: float = 1e-5,
        *,
        affine: bool = False,
        track_running_stats: bool = False,  # refused before the layout is asked for
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        layout: str,
    ) -> None:
        super().__init__(num_channels, eps, affine, True, layout, device, dtype)

    def normalise_set(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Normalise each channel of each sequence x (T, C)."""
        if self.training and most_valid(mask, x, (1,)) == 1:
            raise ValueError(
                "InstanceNorm in training on sequences of one valid step: every set has one "
                "element, whose normalised value is always 0; use LayerNorm, or longer sequences"
            )
        mean, var, _ = moments(x, (1,), mask)
        return normalise(x, mean, var, self.eps)

    def normalise_rows(self, x: Tensor, sequence: Tensor, step: Tensor, batch: int) -> Tensor:
        if self.training:
            _refuse_single(self, sequence, batch)
        mean, var, _ = moments_of_sets(x, sequence, batch)
        mean, var = mean.index_select(0, sequence), var.index_select(0, sequence)
        return normalise(x, mean, var, self.eps)


def _refuse_single(norm: SequenceNorm, sequence: Tensor, batch: int) -> None:
    """Raise ValueError if the longest of the sequences of a batch has one row."""
    if len(sequence) and int(torch.bincount(sequence, minlength=batch).max()) == 1:
        raise ValueError(
            f"{type(norm).__name__} in training on sequences of one row: every set has one "
            "element, whose normalised value is always 0; use LayerNorm, or longer sequences"
        )
