"""Norms that mix the statistics of several sets S, in shares that are learnt.

One pass over the input gives the moments of its planes, one channel of one image each. Those of
the other sets, which are unions of planes, follow from them (Luo et al. 2019, sec. 2).

Axes: N images, C channels, H and W.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from ...typed import called_as
from ..statistics.masks import most_valid, position_mask
from ..statistics.moments import Moments, moments, pooled, widen
from ..statistics.tracking import Tracking
from .batch import check_values, united
from .images import check_input, scale, valid


class _Line(NamedTuple):
    """The line ``slope * (x - centre) + height`` of every plane.

    The centre is (N, C, 1, 1), slope and height are (N, C), and no height means 0.
    """

    centre: Tensor
    slope: Tensor
    height: Tensor | None


class _Mixture(Tracking):
    """S = several sets that contain a plane, the mini-batch of one channel among them."""

    def forward(self, input: Tensor, mask: Tensor | None = None) -> Tensor:
        """Normalise the input; ``mask`` is true at valid positions, and the others become 0."""
        check_input(self, input, self.num_features, (2,))
        mask = position_mask(mask, input)
        if not self.training:
            check_values(self, input, mask)
        wide = valid(input, mask)
        planes = moments(wide, (2, 3), mask)
        if self.by_the_batch:
            batch = united(self, pooled(planes, (0,)), input, mask)
        else:
            batch = self.remembered(4)
        self._check_planes(input, mask)  # after the exchange, which all processes take part in
        centre, slope, height = self._line(planes, batch)
        if self.weight is not None:
            slope = slope * self.weight
            height = None if height is None else height * self.weight
        if self.bias is not None:
            height = self.bias if height is None else height + self.bias
        y = scale(wide - centre, slope, height, mask).to(input.dtype)
        self.track(batch)  # last, when nothing can fail any more
        return y

    if TYPE_CHECKING:

        @called_as(forward)
        def __call__(self) -> None: ...

    def _line(self, planes: Moments, batch: Moments) -> _Line:
        """Return the mixture without gain and bias, given moments (N, C, 1, 1), (1, C, 1, 1)."""
        raise NotImplementedError

    def _check_planes(self, x: Tensor, mask: Tensor | None) -> None:
        if self.training and most_valid(mask, x, (2, 3)) == 1:
            raise ValueError(
                f"{type(self).__name__} in training on planes of one valid position, got "
                f"{tuple(x.shape)}: a set of InstanceNorm, which it mixes in, has one element "
                "there, whose normalised value is always 0; use larger planes, or "
                f"BatchNorm2d({self.num_features})"
            )


class BatchInstanceNorm2d(_Mixture):
    """BatchNorm and InstanceNorm, mixed channel by channel (Nam & Kim 2018, sec. 3).

    ``y = weight * (rho * b + (1 - rho) * i) + bias`` for x (N, C, H, W), where b is x normalised
    over one channel of the mini-batch, i is x normalised over one channel of its image, and
    ``rho`` (C,) is learnt. Where rho is 0, the norm removes the style of an image, and where it is
    1, it keeps it.

    The paper restricts rho to [0, 1] by clipping the parameter after every step of the optimiser.
    A module knows no such step, so the forward pass clips rho instead, and ``rho.clamp(0, 1)`` is
    the value in use. The parameter may lie outside, by as much as one step (with momentum a few).
    There its gradient is that at the border if a step against it leads back, and 0 if not. So it
    goes no further, and no channel is stuck. Every call judges its own gradient, in every process:
    where rho lies outside, the sum over parts of a batch may differ from the gradient of the whole.
    After ``norm.rho.data.clamp_(0, 1)``, as in the paper, nothing lies outside. Exclude rho from
    weight decay, which would draw it towards InstanceNorm; the authors do so, and train rho with
    10 times the learning rate.

    Running statistics, several processes and ``mask`` are treated as by ``BatchNorm2d``. In
    inference the part b takes running statistics, and the part i those of the image. torch's
    ``convert_sync_batchnorm`` does not see this class, which does not derive from torch's
    BatchNorm; ``seqnorm.convert_sync_batchnorm`` does.

    Args:
        num_features: C; ``rho`` (C,) is initialised to 1, which is BatchNorm.
        eps, momentum, affine, track_running_stats, bias: as in ``BatchNorm2d``.

    Raises:
        ValueError: x does not have C channels; the mask does not fit x; or, in training, no plane
            of the batch has more than one valid position (``torch.compile`` does not check this
            under a mask).
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        bias: bool = True,
    ) -> None:
        args = (num_features, eps, momentum, affine, track_running_stats, device, dtype)
        super().__init__(*args, bias=bias)
        self.rho = nn.Parameter(torch.ones(self.num_features, device=device, dtype=dtype))

    def reset_parameters(self) -> None:
        """Set the gain and rho to 1, the bias to 0, and forget the running statistics."""
        super().reset_parameters()
        if hasattr(self, "rho"):  # not yet while torch's constructor runs
            nn.init.ones_(self.rho)

    def _line(self, planes: Moments, batch: Moments) -> _Line:
        """Return the mixture: rho b + (1 - rho) i, both of which are lines through a plane's x."""
        clipped = _ClippedInGraph if torch.compiler.is_compiling() else _Clipped
        rho: Tensor = clipped.apply(self.rho)  # type: ignore[no-untyped-call]  # torch's own
        rho = widen(rho)
        of_batch, of_plane = (torch.rsqrt(of.var + self.eps).flatten(1) for of in (batch, planes))
        slope = rho * of_batch + (1.0 - rho) * of_plane
        # The two lines have their zeros at different means.
        height = rho * of_batch * (planes.mean - batch.mean).flatten(1)
        return _Line(planes.mean, slope, height)


class _Clipped(torch.autograd.Function):
    """``clamp(0, 1)`` with a gradient outside too, wherever a step against it leads inside."""

    generate_vmap_rule = True

    @staticmethod
    def forward(rho: Tensor) -> Tensor:
        return rho.clamp(0.0, 1.0)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (rho,) = ctx.saved_tensors
        outward = ((rho > 1) & (grad < 0)) | ((rho < 0) & (grad > 0))
        return grad.masked_fill(outward, 0.0)


class _ClippedInGraph(_Clipped):
    """``_Clipped`` in the form that ``torch.compile`` of older versions of torch follows."""

    @staticmethod
    def forward(ctx: Any, rho: Tensor) -> Tensor:  # type: ignore[override]  # torch's other form
        ctx.save_for_backward(rho)
        return rho.clamp(0.0, 1.0)

    setup_context = torch.autograd.Function.setup_context


class SwitchableNorm2d(_Mixture):
    """Means and variances of InstanceNorm, LayerNorm and BatchNorm, mixed (Luo et al. 2019).

    ``y = weight * (x - mean) / sqrt(var + eps) + bias`` for x (N, C, H, W) with (sec. 2)::

        mean = a_1 mean_instance + a_2 mean_layer + a_3 mean_batch    a = softmax(mean_weight)
        var = c_1 var_instance + c_2 var_layer + c_3 var_batch        c = softmax(var_weight)

    The sets are one channel of one image (instance), all channels of one image (layer) and one
    channel of the mini-batch (batch). ``mean_weight`` and ``var_weight`` (3,) are learnt, with one
    share of each set for the whole layer.

    Running statistics, several processes and ``mask`` are treated as by ``BatchNorm2d``; in
    inference they take the place of the batch's, and the other statistics are those of the image.
    The paper averages the batch's statistics over many batches after training:
    ``reestimate_statistics(model, batches, estimate="average")``. All variances are biased, as
    in the paper; the authors' code has an unbiased one of the instance. torch's
    ``convert_sync_batchnorm`` does not see this class, which does not derive from torch's
    BatchNorm; ``seqnorm.convert_sync_batchnorm`` does.

    Args:
        num_features: C; ``mean_weight`` and ``var_weight`` are initialised to 1, equal shares.
        eps, momentum, affine, track_running_stats, bias: as in ``BatchNorm2d``. (The authors'
            momentum 0.997 is 0.003 here, as in all of torch.)

    Raises:
        ValueError: as ``BatchInstanceNorm2d`` does.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        bias: bool = True,
    ) -> None:
        args = (num_features, eps, momentum, affine, track_running_stats, device, dtype)
        super().__init__(*args, bias=bias)
        # In the order of the authors' code: instance, layer, batch.
        self.mean_weight = nn.Parameter(torch.ones(3, device=device, dtype=dtype))
        self.var_weight = nn.Parameter(torch.ones(3, device=device, dtype=dtype))

    def reset_parameters(self) -> None:
        """Set the gain to 1, the bias to 0 and equal shares, and forget running statistics."""
        super().reset_parameters()
        if hasattr(self, "var_weight"):  # not yet while torch's constructor runs
            nn.init.ones_(self.mean_weight)
            nn.init.ones_(self.var_weight)

    def _line(self, planes: Moments, batch: Moments) -> _Line:
        """Return x minus the mixed mean, divided by the root of the mixed variance."""
        sets = (planes, pooled(planes, (1,)), batch)
        shares = (widen(of).softmax(0) for of in (self.mean_weight, self.var_weight))
        of_mean, of_var = (share.unbind() for share in shares)
        mean = torch.zeros_like(planes.mean)
        var = torch.zeros_like(planes.var)
        for a, c, of in zip(of_mean, of_var, sets):
            mean, var = mean + a * of.mean, var + c * of.var
        return _Line(mean, torch.rsqrt(var + self.eps).flatten(1), None)
