"""InstanceNorm whose gain and bias come from a style: learnt, or computed from another image.

They replace the mean and the variance of each channel of an image by those of a style.

Axes: N images, C channels, H and W; S styles.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ...typed import called_as
from ..check import check_eps, check_positive, have_values, refuse_scripting
from ..statistics.masks import position_mask
from ..statistics.moments import moments
from .conditional import of_each_image
from .images import check_input
from .instance import check_planes, instance_norm


class ConditionalInstanceNorm2d(nn.Module):
    """InstanceNorm with a gain and a bias for every style (Dumoulin, Shlens & Kudlur 2017).

    ``y = weight[s] * (x - mean) / sqrt(var + eps) + bias[s]`` (sec. 2.2, eq. 5), with the mean and
    the variance of one channel of one image and the style s of that image. The styles share
    everything else in a network.

    ``forward(x, style, mask=None)`` takes x (N, C, H, W) and ``style``: (N,) the number of each
    image's style, or (N, S) floating-point weights of a sum of the styles' gains and biases, as
    the paper blends styles. Weights are used unchanged: their sum need not be 1, they may be
    negative, and zeros give 0. ``mask`` and planes with one valid position are treated as in
    ``InstanceNorm2d``.

    Args:
        num_features: C.
        num_styles: S; ``weight`` and ``bias`` are (S, C), initialised to 1 and 0.
        eps: added to the variance.

    Raises:
        ValueError: x does not have C channels; the style or the mask does not fit x; or, in
            training, no plane of the batch has more than one valid position.
        TypeError: the style holds neither whole nor floating-point numbers.
        IndexError: there is no such style.
    """

    __prepare_scriptable__ = refuse_scripting

    def __init__(
        self,
        num_features: int,
        num_styles: int,
        eps: float = 1e-5,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.num_features = check_positive("num_features", num_features)
        self.num_styles = check_positive("num_styles", num_styles)
        check_eps(eps)
        self.eps = eps
        shape = (self.num_styles, self.num_features)
        self.weight = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set the gain of every style to 1 and its bias to 0."""
        nn.init.ones_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor, style: Tensor, mask: Tensor | None = None) -> Tensor:
        """Normalise x, with the gain and the bias of the style of each image."""
        check_input(self, x, self.num_features, (2,))
        mask = position_mask(mask, x)
        check_planes(self, x, mask)
        weight, bias = of_each_image(self.weight, self.bias, style, len(x), "style")
        return instance_norm(x, weight, bias, self.eps, mask)

    if TYPE_CHECKING:

        @called_as(forward)
        def __call__(self) -> None: ...

    def extra_repr(self) -> str:
        return f"{self.num_features}, num_styles={self.num_styles}, eps={self.eps}"


def style_statistics(
    features: Tensor, mask: Tensor | None = None, eps: float = 1e-5
) -> tuple[Tensor, Tensor]:
    """Compute the gain ``sqrt(var + eps)`` and the bias ``mean`` of ``AdaptiveInstanceNorm2d``.

    Use it to store the statistics of a style or to mix those of several. AdaIN is linear in them,
    so this mixes its results, as Huang & Belongie 2017 interpolate styles.

    Args:
        features: (N, C, H, W), features of the style.
        mask: boolean, (N, 1, H, W) or (N, H, W), true where the features are valid.
        eps: the eps of the norm that uses the statistics.

    Returns:
        Gain (N, C) and bias (N, C), in float32 at least.

    Raises:
        ValueError: the features are not 4-D; the mask does not fit them; eps is not positive; or a
            style has no valid position (``torch.compile`` does not check this).
        TypeError: the features are not floating-point numbers.
    """
    if not torch.compiler.is_compiling():  # eps may be a symbol there
        check_eps(eps)
    if features.dim() != 4:
        raise ValueError(f"features of a style must be (N, C, H, W), got {tuple(features.shape)}")
    if not features.is_floating_point():
        raise TypeError(f"features of a style must be floating-point numbers, got {features.dtype}")
    mean, var, n = moments(features, (2, 3), position_mask(mask, features))
    if len(features) and have_values((n,)) and bool((n == 0).any()):
        raise ValueError("a style without a valid position has no statistics")
    return (var + eps).sqrt().flatten(1), mean.flatten(1)


class AdaptiveInstanceNorm2d(nn.Module):
    """AdaIN: InstanceNorm whose gain and bias are the deviation and the mean of another image.

    ``y = sigma(style) * (x - mu(x)) / sigma(x) + mu(style)`` (Huang & Belongie 2017, eq. 8), where
    mu is the mean and ``sigma = sqrt(var + eps)`` over the valid positions of one channel of one
    image (eq. 5 and 6), for x and the style alike. A style applied to itself changes nothing. There
    are no parameters.

    ``forward(x, style=None, *, weight=None, bias=None, mask=None, style_mask=None)`` takes x
    (N, C, H, W) and either ``style`` or ``weight`` and ``bias``. ``style`` holds features
    (N, C, H', W'), or (1, C, H', W') for all images, and ``style_mask`` is true where they are
    valid. ``weight`` and ``bias`` are (N, C) or (1, C), from ``style_statistics`` or a network.
    ``mask`` is that of ``InstanceNorm2d``.

    Args:
        eps: added to the variance.

    Raises:
        ValueError: neither or both of ``style`` and ``weight`` with ``bias`` are given; shapes do
            not fit x; a style has no valid position; or, in training, no plane of x or no plane of
            the style has more than one valid position.
    """

    __prepare_scriptable__ = refuse_scripting

    def __init__(self, eps: float = 1e-5) -> None:
        super().__init__()
        check_eps(eps)
        self.eps = eps

    def forward(
        self,
        x: Tensor,
        style: Tensor | None = None,
        *,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        mask: Tensor | None = None,
        style_mask: Tensor | None = None,
    ) -> Tensor:
        """Normalise x, with the gain and the bias of ``style``, or those that are given."""
        check_input(self, x, None, (2,))
        N, C = x.shape[:2]
        mask = position_mask(mask, x)
        check_planes(self, x, mask)
        if style is not None and weight is None and bias is None:
            weight, bias = style_statistics(style, style_mask, self.eps)
            check_planes(self, style, position_mask(style_mask, style), "styles")
        elif style is not None or weight is None or bias is None or style_mask is not None:
            known = {"style": style, "weight": weight, "bias": bias, "style_mask": style_mask}
            given = ", ".join(name for name, value in known.items() if value is not None)
            raise ValueError(
                "AdaptiveInstanceNorm2d takes either a style (with its style_mask), or weight and "
                f"bias, got {given or 'neither'}"
            )
        for name, tensor in (("weight", weight), ("bias", bias)):
            rows = N if len(tensor) != 1 else 1
            if tensor.shape != (rows, C):
                what = f"{name} must be" if style is None else "features of a style must have N, C"
                raise ValueError(
                    f"{what} ({N}, {C}) or (1, {C}) for x {tuple(x.shape)}, "
                    f"got {tuple(tensor.shape)}"
                )
        return instance_norm(x, weight.expand(N, C), bias.expand(N, C), self.eps, mask)

    if TYPE_CHECKING:

        @called_as(forward)
        def __call__(self) -> None: ...

    def extra_repr(self) -> str:
        return f"eps={self.eps}"
