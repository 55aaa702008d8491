"""Base class of the norms of padded sequences: layout, lengths, gain and bias.

Axes: N sequences, T steps, C channels.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, Union, cast

import torch
from torch import Tensor, nn

from ...typed import called_as
from ..check import (
    check_eps,
    check_flag,
    check_floating,
    check_positive,
    check_untracked,
    choose,
    nearest,
    refuse_scripting,
)
from ..statistics.masks import check_lengths, valid_mask
from ..statistics.moments import affine, widen
from ..statistics.ragged import is_ragged, like, ragged
from .images import valid

LAYOUTS = ("NTC", "NCT")
Lengths = Union[Tensor, Sequence[int], None]
Init = TypeVar("Init", bound=Callable[..., None])
# Arguments of torch's norms that have another name here, or do not exist.
_OF_TORCH = {
    "normalized_shape": ", which is the number of channels, write num_channels",
    "num_features": ", which is the number of channels, write num_channels",
    "track_running_stats": (
        ": the set S decides if there are running statistics; BatchNorm alone has them, and always"
    ),
}


def layout_by_name(init: Init) -> Init:
    """Wrap an ``__init__`` to explain a missing layout or an unknown argument."""
    known = inspect.signature(init).parameters

    @functools.wraps(init)
    def checked(self: nn.Module, *args: Any, **options: Any) -> None:
        name = type(self).__name__
        for option in options:
            if option not in known:
                hint = _OF_TORCH.get(option) or nearest(option, known)
                raise TypeError(f"{name} has no argument {option!r}{hint}")
        check_untracked(options.get("track_running_stats", False))
        if "layout" not in options:
            raise TypeError(
                f"{name} needs to know which axis holds the channels: write {name}(..., "
                'layout="NTC") for x (N, T, C), or layout="NCT" for x (N, C, T)'
            )
        init(self, *args, **options)

    return cast(Init, checked)


class SequenceNorm(nn.Module):
    """``y = weight * (x - mean) / sqrt(var + eps) + bias``, mean and variance over a set S."""

    weight: nn.Parameter | None
    bias: nn.Parameter | None
    eps: Any
    __prepare_scriptable__ = refuse_scripting

    def __init__(
        self,
        num_channels: int,
        eps: float,
        affine: bool,
        bias: bool,
        layout: str,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        choose("layout", layout, LAYOUTS)
        check_eps(eps)
        check_flag("affine", affine)
        check_flag("bias", bias)
        self.num_channels = check_positive("num_channels", num_channels)
        self.eps = eps
        self.layout = layout
        for name, wanted in (("weight", affine), ("bias", affine and bias)):
            value = torch.empty(self.num_channels, device=device, dtype=dtype) if wanted else None
            self.register_parameter(name, None if value is None else nn.Parameter(value))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set the gain to 1 and the bias to 0."""
        if self.weight is not None:
            nn.init.ones_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(
        self,
        x: Tensor,
        lengths: Lengths = None,
        *,
        cu_seqlens: Tensor | Sequence[int] | None = None,
    ) -> Tensor:
        """Normalise x in its layout; the padding becomes 0.

        Args:
            x: (N, T, C) or (N, C, T); or, without padding, the rows (R, C) of all sequences one
                after another with ``cu_seqlens``, or a nested tensor (N, j, C), layout jagged.
            lengths: (N,) valid steps of padded sequences.
            cu_seqlens: (N + 1,) the row at which each sequence begins, and R.

        Raises:
            TypeError: x does not hold floating-point numbers, or ``lengths`` are not integers.
            ValueError: x is not 3-D with C channels, or ``lengths`` or ``cu_seqlens`` do not fit.
        """
        if is_ragged(x, cu_seqlens):
            return self._rows(x, lengths, cu_seqlens)
        if x.dim() != 3 or x.shape[self.layout.index("C")] != self.num_channels:
            other = "NCT" if self.layout == "NTC" else "NTC"
            fits = x.dim() == 3 and x.shape[other.index("C")] == self.num_channels
            hint = f': should that be {other}, build the norm with layout="{other}"' if fits else ""
            raise ValueError(
                f"{type(self).__name__} takes {self.layout} with C = {self.num_channels}, "
                f"got {tuple(x.shape)}{hint}"
            )
        check_floating(type(self).__name__, x)
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

    def _rows(self, x: Tensor, lengths: Any, cu_seqlens: Any) -> Tensor:
        """Normalise a batch without padding."""
        name = type(self).__name__
        found = ragged(name, x, lengths, cu_seqlens)
        check_floating(name, x)
        if found.values.shape[1] != self.num_channels:
            raise ValueError(
                f"{name} takes rows of C = {self.num_channels} channels, got "
                f"{tuple(found.values.shape)}"
            )
        sequence, step = (place.to(x.device) for place in found.places())
        index = found.starts.to(x.device)[sequence] + step
        every = len(index) == len(found.values)  # else some rows belong to no sequence
        wide = widen(found.values if every else found.values.index_select(0, index))
        y = self.normalise_rows(wide, sequence, step, len(found.lengths))
        y = affine(y, self.weight, self.bias).to(x.dtype)
        if not every:
            y = torch.zeros_like(found.values).index_copy(0, index, y)
        return like(x, y)

    def normalise_rows(self, x: Tensor, sequence: Tensor, step: Tensor, batch: int) -> Tensor:
        """Normalise rows x (R, C) of a batch without padding, without gain and bias.

        Args:
            sequence, step: (R,) the number of each row's sequence, and of its step there.
            batch: number of sequences.
        """
        # All rows are valid, so they may be the steps of one sequence if S has one row or all.
        return self.normalise_set(x[None], None)[0]

    def _masked(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Normalise x (N, T, C) under a mask (N, T, 1)."""
        y = affine(self.normalise_set(valid(x, mask), mask), self.weight, self.bias)
        return (y if mask is None else torch.where(mask, y, 0.0)).to(x.dtype)

    def normalise_set(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Normalise x (N, T, C) under a mask (N, T, 1), without gain and bias."""
        raise NotImplementedError

    # Arguments in the repr, each with the parameter that exists if it is true.
    _flags: ClassVar[dict[str, str]] = {"affine": "weight"}

    def extra_repr(self) -> str:
        flags = [f"{flag}={getattr(self, p) is not None}" for flag, p in self._flags.items()]
        return ", ".join(
            [f"{self.num_channels}, eps={self.eps}", *flags, f"layout={self.layout!r}"]
        )
