"""Dynamic Tanh and Derf, the norms without statistics, of sequences, images and other tensors.

Axes: N examples, C channels, then positions: T of sequences, H, W of images, and so on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ...typed import called_as
from ..check import (
    check_flag,
    check_floating,
    check_number,
    check_positive,
    choose,
    refuse_scripting,
)
from ..recurrence.dynamic import squash
from ..statistics.masks import check_lengths, position_mask, valid_mask
from .images import in_dtype_of, valid
from .layout import LAYOUTS, Lengths, layout_by_name


class Dynamic(nn.Module):
    """A function of each element by itself, with a gain and a bias for each channel."""

    weight: nn.Parameter | None
    bias: nn.Parameter | None
    alpha: nn.Parameter
    shift: nn.Parameter | None
    __prepare_scriptable__ = refuse_scripting

    def __init__(
        self,
        num_channels: int,
        initial: tuple[float, float | None],
        elementwise_affine: bool,
        bias: bool,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
        layout: str,
    ) -> None:
        super().__init__()
        choose("layout", layout, LAYOUTS)
        check_flag("elementwise_affine", elementwise_affine)
        check_flag("bias", bias)
        self.num_channels = check_positive("num_channels", num_channels)
        self.layout = layout
        for name, value in zip(("alpha", "shift"), initial):
            if value is not None:
                check_number(name, value)
        self._initial = initial
        sizes = {
            "alpha": 1,
            "shift": 0 if initial[1] is None else 1,
            "weight": self.num_channels if elementwise_affine else 0,
            "bias": self.num_channels if elementwise_affine and bias else 0,
        }
        for name, size in sizes.items():
            made = nn.Parameter(torch.empty(size, device=device, dtype=dtype)) if size else None
            self.register_parameter(name, made)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set alpha and the shift to their initial values, the gain to 1 and the bias to 0."""
        alpha, shift = self._initial
        values = ((self.alpha, alpha), (self.shift, shift), (self.weight, 1.0), (self.bias, 0.0))
        for parameter, value in values:
            if parameter is not None and value is not None:
                nn.init.constant_(parameter, value)

    def forward(self, x: Tensor, lengths: Lengths = None, mask: Tensor | None = None) -> Tensor:
        """Compute x of any shape in its layout; the padding becomes 0.

        Args:
            x: (N, ..., C) with ``layout="NTC"``, or (N, C, ...) with ``layout="NCT"``.
            lengths: (N,) lengths of sequences, for x with three axes.
            mask: boolean, true where x is valid; it broadcasts to x with length 1 at the channels'
                axis, or without that axis.

        Raises:
            TypeError: x does not hold floating-point numbers, or ``lengths`` or ``mask`` has a
                wrong dtype.
            ValueError: x does not have C channels at their axis; ``lengths`` or ``mask`` does not
                fit x, or both are given.
        """
        axis = x.dim() - 1 if self.layout == "NTC" else 1
        if x.dim() < 2 or x.shape[axis] != self.num_channels:
            form, other = "(N, *, C)", "NCT"
            if self.layout == "NCT":
                form, other = "(N, C, *)", "NTC"
            fits = x.dim() > 2 and x.shape[1 if other == "NCT" else -1] == self.num_channels
            hint = f': for this order of axes write layout="{other}"' if fits else ""
            raise ValueError(
                f'{type(self).__name__} with layout="{self.layout}" takes {form} with C = '
                f"{self.num_channels}, got {tuple(x.shape)}{hint}"
            )
        check_floating(type(self).__name__, x)
        if lengths is not None:
            mask = self._of_lengths(x, lengths, mask)
        mask = position_mask(mask, x, axis)
        wide = valid(x, mask)
        alpha, shift, weight, bias = (
            in_dtype_of(wide, parameter)
            for parameter in (self.alpha, self.shift, self.weight, self.bias)
        )
        assert alpha is not None
        y = squash(wide, alpha, shift)
        of_channels = [-1] + [1] * (x.dim() - 1 - axis)
        if weight is not None:
            y = y * weight.reshape(of_channels)
        if bias is not None:
            y = y + bias.reshape(of_channels)
        return (y if mask is None else torch.where(mask, y, 0.0)).to(x.dtype)

    if TYPE_CHECKING:

        @called_as(forward)
        def __call__(self) -> None: ...

    def _of_lengths(self, x: Tensor, lengths: Lengths, mask: Tensor | None) -> Tensor:
        """Return the mask (N, T) of the valid steps of sequences."""
        name = type(self).__name__
        if mask is not None:
            raise ValueError(f"{name} takes either lengths or a mask, got both")
        if x.dim() != 3:
            raise ValueError(
                f"lengths are for sequences, 3-D, got {tuple(x.shape)}; images take a mask"
            )
        assert lengths is not None
        steps = x.shape[self.layout.index("T")]
        return valid_mask(check_lengths(lengths, x.shape[0], steps).to(x.device), steps)

    def extra_repr(self) -> str:
        alpha, shift = self._initial
        shown = [str(self.num_channels), f"alpha={alpha}"]
        shown += [] if shift is None else [f"shift={shift}"]
        shown += [f"elementwise_affine={self.weight is not None}", f"bias={self.bias is not None}"]
        return ", ".join([*shown, f"layout={self.layout!r}"])


class DynamicTanh(Dynamic):
    """S is empty: no statistics, and no element depends on another (Zhu et al. 2025).

    ``y = weight * tanh(alpha * x) + bias`` ("Transformers without Normalization", arXiv 2503.10622)
    with one learned number ``alpha`` (1,), and weight and bias (C,). It takes x (N, T, C), or any
    (N, ..., C), with ``layout="NTC"``; and (N, C, T) or any (N, C, ...), such as images, with
    ``layout="NCT"``. The state dict has the names of the authors' code. Half precision is computed
    in float32.

    Args:
        num_channels: C.
        alpha: the initial value; the authors choose others for large language models.
        elementwise_affine, bias: as in ``torch.nn.LayerNorm``.
        layout: "NTC" for channels at the last axis, or "NCT" for channels at the second one.

    Raises:
        TypeError: ``layout`` is missing, or an argument is unknown or of a wrong type.
        ValueError: an argument is out of range.
    """

    @layout_by_name
    def __init__(
        self,
        num_channels: int,
        alpha: float = 0.5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        layout: str,
    ) -> None:
        initial = (alpha, None)
        super().__init__(num_channels, initial, elementwise_affine, bias, device, dtype, layout)


class DynamicErf(Dynamic):
    """S is empty: no statistics, and no element depends on another (Chen et al. 2025).

    ``y = weight * erf(alpha * x + shift) + bias``, which the authors call Derf ("Stronger
    Normalization-Free Transformers", arXiv 2512.10938, eq. 10), with learned numbers ``alpha`` (1,)
    and ``shift`` (1,), and weight and bias (C,). Shapes, layouts and names are those of
    ``DynamicTanh``.

    Args:
        num_channels: C.
        alpha, shift: their initial values.
        elementwise_affine, bias: as in ``torch.nn.LayerNorm``.
        layout: "NTC" for channels at the last axis, or "NCT" for channels at the second one.

    Raises:
        TypeError: ``layout`` is missing, or an argument is unknown or of a wrong type.
        ValueError: an argument is out of range.
    """

    @layout_by_name
    def __init__(
        self,
        num_channels: int,
        alpha: float = 0.5,
        shift: float = 0.0,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        layout: str,
    ) -> None:
        initial = (alpha, shift)
        super().__init__(num_channels, initial, elementwise_affine, bias, device, dtype, layout)
