"""LayerNorm and RMSNorm over the last steps of a sequence: Assorted-Time Normalization.

Axes: n rows alive at a step, N packed rows, F features, k steps of a window, s sets.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import torch
from torch import Tensor

from ..statistics.moments import Moments, affine, normalise, pooled, widen
from .scheme import NormScheme
from .site_norms import FeatureNorm, SitePass, blocks, joined, moments_of_block


class WindowNorm(FeatureNorm):
    """A norm of a row by the moments of the last steps of its sequence, see ``Norm``.

    Its parameters are those of ``FeatureNorm``.
    """

    def start(
        self, batch_sizes: Sequence[int], first: int = 0, totals: Sequence[int] | None = None
    ) -> SitePass:
        return WindowPass(self, batch_sizes)

    def forward(self, x: Tensor) -> Tensor:
        """Refuse rows without their steps."""
        raise RuntimeError("a window of steps is normalised in a pass over time: use start()")


class WindowPass(SitePass):
    """One norm over a window of steps during one pass over time.

    The rows alive at a step are the first ones of those alive before, so the sequence of a row is
    known by its number.
    """

    _site: WindowNorm

    def __init__(self, site: WindowNorm, batch_sizes: Sequence[int]) -> None:
        super().__init__(site)
        self._sizes = list(batch_sizes)
        # For each step of the window, the moments of every block of sets.
        self._known: deque[list[Moments]] = deque(maxlen=site.norm.window)

    def __call__(self, x: Tensor, t: int) -> Tensor:
        site, norm = self._site, self._site.norm
        parts = blocks(widen(x), site.sizes)
        self._known.append([moments_of_block(part, norm) for part in parts])
        done = []
        for number, part in enumerate(parts):
            mean, var = self._of_window(number, x.shape[0])
            done.append(normalise(part, mean, var, norm.eps, eps_on=norm.eps_on).flatten(-2))
        return affine(joined(done), site.weight, site.bias).to(x.dtype)

    def _of_window(self, number: int, alive: int) -> tuple[Tensor, Tensor]:
        """Return mean and variance (n, s, 1) of a block of sets over the steps of the window."""
        steps = [own[number] for own in self._known]
        means, variances = (
            torch.stack([of[:alive] for of in each])
            for each in ([own.mean for own in steps], [own.var for own in steps])
        )
        # All steps have equally many units.
        mean, var, _ = pooled(Moments(means, variances, means.new_ones(())), (0,))
        return mean[0], var[0]

    def whole(self, rows: Tensor) -> Tensor:
        done = [self(x, t) for t, x in enumerate(rows.split(self._sizes))]
        return torch.cat(done) if done else rows


def refuse_window(scheme: NormScheme | None, of_steps: str, instead: str) -> None:
    """Raise ValueError if a norm of the scheme needs earlier steps, which a caller does not have.

    Args:
        of_steps: what the caller computes, as "a cell computes one step".
        instead: what to write instead.
    """
    for site, norm in ({} if scheme is None else scheme.norms).items():
        if norm.reaches_back:
            raise ValueError(
                f"{site}=Norm({norm.kind!r}, window={norm.window}) takes the statistics of "
                f"{norm.window} steps of one call, and {of_steps}: {instead}"
            )
