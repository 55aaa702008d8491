"""Gains and biases chosen for each image, and BatchNorm with those of the image's class.

Axes: N images, C channels, H and W; K classes (of a norm of styles S).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ...typed import called_as
from ..check import check_positive, have_values
from ..statistics.masks import position_mask
from ..statistics.moments import moments, widen
from ..statistics.tracking import Tracking
from .batch import check_values, united
from .images import check_input, scale, valid


class ConditionalBatchNorm2d(Tracking):
    """BatchNorm with a gain and a bias for every class, as in class-conditional GANs.

    ``y = weight[k] * (x - mean) / sqrt(var + eps) + bias[k]``, with the mean and the variance of
    one channel of the mini-batch, whatever the classes in it, and the class k of the image. De
    Vries et al. 2017 (sec. 3.2) compute gain and bias from a condition, and the generator of
    Miyato & Koyama 2018 (cGANs with projection discriminator) holds those of each class, as here.

    ``forward(x, label, mask=None)`` takes x (N, C, H, W) and ``label``: (N,) the number of each
    image's class, or (N, K) floating-point weights of a sum of the classes' gains and biases, used
    unchanged, as by ``ConditionalInstanceNorm2d``. Without a mask and with equal gains and biases
    it equals ``BatchNorm2d``. ``mask``, running statistics, several processes and single values
    are treated as there. torch's ``convert_sync_batchnorm`` does not see this class, which does
    not derive from torch's BatchNorm; ``seqnorm.convert_sync_batchnorm`` does.

    Args:
        num_features: C.
        num_classes: K; ``weight`` and ``bias`` are (K, C), initialised to 1 and 0.
        eps, momentum, track_running_stats: as in ``torch.nn.BatchNorm2d``.

    Raises:
        ValueError: x does not have C channels; the label or the mask does not fit x; or a
            mini-batch with one valid position would be normalised by its own statistics.
        TypeError: the label holds neither whole nor floating-point numbers.
        IndexError: there is no such class.
    """

    def __init__(
        self,
        num_features: int,
        num_classes: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        track_running_stats: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        num_classes = check_positive("num_classes", num_classes)
        super().__init__(num_features, eps, momentum, False, track_running_stats, device, dtype)
        self.num_classes = num_classes
        shape = (num_classes, self.num_features)
        self.weight = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        self.affine = True
        self.reset_parameters()

    def forward(self, x: Tensor, label: Tensor, mask: Tensor | None = None) -> Tensor:
        """Normalise x, with the gain and the bias of the class of each image."""
        check_input(self, x, self.num_features, (2,))
        mask = position_mask(mask, x)
        check_values(self, x, mask)
        weight, bias = of_each_image(self.weight, self.bias, label, len(x), "label")
        wide = valid(x, mask)
        if self.by_the_batch:
            batch = united(self, moments(wide, (0, 2, 3), mask), x, mask)
        else:
            batch = self.remembered(4)
        slope = weight * torch.rsqrt(batch.var + self.eps).flatten(1)  # one product with x, not two
        y = scale(wide - batch.mean, slope, bias, mask).to(x.dtype)
        self.track(batch)  # last, when nothing can fail any more
        return y

    if TYPE_CHECKING:

        @called_as(forward)
        def __call__(self) -> None: ...

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, num_classes={self.num_classes}, eps={self.eps}, "
            f"momentum={self.momentum}, track_running_stats={self.track_running_stats}"
        )


# The plural of what an image has one of.
PLURALS = {"style": "styles", "label": "classes"}


def of_each_image(
    weight: Tensor, bias: Tensor, chosen: Tensor, images: int, what: str
) -> tuple[Tensor, Tensor]:
    """Return the gain and the bias (N, C) of each image.

    Args:
        weight, bias: (K, C), those of all styles or classes.
        chosen: (N,) whole numbers, or (N, K) floating-point weights of a sum of the rows.
        images: N.
        what: name of the argument ``chosen``, "style" or "label".

    Raises:
        ValueError, TypeError, IndexError: ``chosen`` does not fit, is no such tensor, or has
            numbers without a row.
    """
    K, of_all = len(weight), PLURALS[what]
    tensor = isinstance(chosen, Tensor)
    if not tensor or chosen.dtype == torch.bool or chosen.dtype.is_complex:
        one = "style" if what == "style" else "class"
        raise TypeError(
            f"{what} must be a Tensor of whole numbers (a {one} per image) or of floating-point "
            f"weights of the {of_all}, got {chosen.dtype if tensor else repr(chosen)}"
        )
    if chosen.shape != ((images, K) if chosen.is_floating_point() else (images,)):
        raise ValueError(
            f"{what} for {images} images must be ({images},) whole numbers or ({images}, {K}) "
            f"floating-point weights, got {tuple(chosen.shape)} {chosen.dtype}"
        )
    if chosen.is_floating_point():
        # Not by a matrix product, which autocast rounds to half precision.
        mixture = widen(chosen)[:, :, None]
        return (mixture * weight).sum(1), (mixture * bias).sum(1)
    index = chosen.long()
    if have_values((index,)) and bool(((index < 0) | (index >= K)).any()):
        raise IndexError(f"{of_all} are numbered 0 to {K - 1}, got {index.tolist()}")
    return weight[index], bias[index]
