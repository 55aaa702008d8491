"""A small convolutional classifier of small images, with a choice of norms.

Axes: N images, C channels, H, W pixels, K classes; G groups of g images in a ghost batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn import functional as F

from seqnorm.nn import BatchNorm, BatchNorm2d, GroupNorm, InstanceNorm2d
from seqnorm.nn.norms.images import check_input
from seqnorm.nn.statistics.recompute import is_recomputed
from seqnorm.typed import called_as

NORMS = ("batch", "batch_renorm", "group", "layer", "instance", "none")
# Wu & He 2018 (sec. 4.1, table 3) compare a fixed number of groups with a fixed size of groups. The
# size is fixed here, because there are few channels.
GROUP = 4
# For each layer: channels as a multiple of the width, stride, size of the kernel.
_LAYERS = ((1, 2, 5), (2, 2, 3), (2, 1, 3), (4, 2, 3), (4, 1, 3))


class GhostBatchNorm2d(BatchNorm2d):
    """BatchNorm whose set S in training is one channel of g images (Hoffer et al. 2017, alg. 1).

    The mini-batch (N, C, H, W) is treated as N / g consecutive batches of g images, each normalised
    by its own statistics. The number of images for the statistics can thus differ from the number
    for a step of the optimiser. The running statistics are updated by the mean over all groups and
    count the mini-batch once.

    Args:
        num_features: The number of channels, C.
        group_size: The number of images over which BatchNorm computes statistics in training, g;
            None for the whole batch.

    Raises:
        ValueError: In training, N is not a multiple of g.
    """

    def __init__(self, num_features: int, group_size: int) -> None:
        super().__init__(num_features)
        if group_size < 1:
            raise ValueError(f"group_size must be at least 1, got {group_size}")
        self.group_size = group_size

    def forward(self, input: Tensor, mask: Tensor | None = None) -> Tensor:
        if mask is not None:
            raise ValueError("GhostBatchNorm2d takes no mask: use BatchNorm2d")
        if not self.training or not input.numel():
            return super().forward(input)
        check_input(self, input, self.num_features, self.spatial)
        N, C, H, W = input.shape
        if N % self.group_size:
            raise ValueError(f"{N} images cannot be divided into groups of {self.group_size}")
        G = N // self.group_size
        # Each channel of each group becomes a channel, so one call normalises all groups.
        grouped = input.reshape(G, self.group_size, C, H, W).transpose(0, 1)
        tracked = self.track_running_stats and self.running_mean is not None
        running = (self.running_mean, self.running_var) if tracked else (None, None)
        held = (self.weight, self.bias, *running)
        weight, bias, mean, var = (None if tensor is None else tensor.repeat(G) for tensor in held)
        momentum = self.momentum
        if momentum is None and tracked and self.num_batches_tracked is not None:
            momentum = 1.0 / (int(self.num_batches_tracked) + 1)
        momentum = 0.0 if momentum is None else momentum
        images = grouped.reshape(self.group_size, G * C, H, W)
        y = F.batch_norm(images, mean, var, weight, bias, True, momentum, self.eps)
        if tracked and not is_recomputed():
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
            for kept, moved in zip(running, (mean, var)):
                if kept is not None and moved is not None:
                    kept.copy_(moved.reshape(G, C).mean(0))
        y = y.reshape(self.group_size, G, C, H, W).transpose(0, 1)
        return y.reshape(N, C, H, W)


class _Renormalisation(BatchNorm):
    """Batch Renormalization (Ioffe 2017) of one channel of all images, (N, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, layout="NCT", r_max=3.0, d_max=5.0)

    def forward(self, images: Tensor) -> Tensor:  # type: ignore[override]  # images, not sequences
        return super().forward(images.flatten(2)).view_as(images)


class ImageClassifier(nn.Module):
    """Five convolutions, each followed by a norm and a ReLU; mean over positions; linear head.

    Weights are initialised as in He et al. 2015 (fan-out), as Wu & He 2018 do. For images of 28 x
    28, the layers have 14 x 14, 7 x 7, 7 x 7, 4 x 4 and 4 x 4 positions.

    Args:
        in_channels: The number of channels of the images, C.
        num_classes: The number of classes, K.
        norm: The normalisation: batch, batch_renorm (Batch Renormalization with r_max = 3 and d_max
            = 5), group (groups of four channels), layer (all channels and positions of an image,
            which is GroupNorm with one group, as in Wu & He 2018), instance, or none.
        width: The number of channels of the first layer; the others have 2, 2, 4 and 4 times as
            many.
        group_size: The number of images over which BatchNorm computes statistics in training, g;
            None for the whole batch.

    Raises:
        ValueError: The norm is unknown; a group size is given without BatchNorm; the groups do not
            divide the channels.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        norm: str = "batch",
        width: int = 16,
        group_size: int | None = None,
    ) -> None:
        super().__init__()
        if norm not in NORMS:
            raise ValueError(f"norm {norm!r} is unknown: write one of {', '.join(NORMS)}")
        if group_size is not None and norm != "batch":
            raise ValueError(f"group_size is an option of norm 'batch', not of {norm!r}")
        layers: list[nn.Module] = []
        channels = in_channels
        for multiple, stride, kernel in _LAYERS:
            out = multiple * width
            convolution = nn.Conv2d(channels, out, kernel, stride, kernel // 2, bias=norm == "none")
            nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
            layers += [convolution, _norm(norm, out, group_size), nn.ReLU()]
            channels = out
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(channels, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return class logits (N, K) of ``images`` (N, C, H, W)."""
        return self.head(self.features(images).mean((2, 3)))  # type: ignore[no-any-return]

    if TYPE_CHECKING:

        @called_as(forward)
        def __call__(self) -> None: ...


def _norm(name: str, channels: int, group_size: int | None) -> nn.Module:
    if group_size is not None:
        return GhostBatchNorm2d(channels, group_size)
    if name == "batch":
        return BatchNorm2d(channels)
    if name == "batch_renorm":
        return _Renormalisation(channels)
    if name == "instance":
        return InstanceNorm2d(channels, affine=True)
    if name == "none":
        return nn.Identity()
    if name == "layer":
        return GroupNorm(1, channels)
    if channels % GROUP:
        raise ValueError(f"width must be a multiple of {GROUP}, the number of channels in a group")
    return GroupNorm(channels // GROUP, channels)
