"""Running statistics blended with those of the example itself, in inference (EvalNorm).

Axes: N examples, C channels, then positions.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .moments import Moments, widen

_NAME = "example_share"


class Blending(nn.Module):
    """A norm of the batch whose inference may blend, as ``fit_eval_norm`` explains.

    A norm that was fitted has the buffer ``example_share`` (2,), alpha and beta.
    """

    @property
    def share(self) -> Tensor | None:
        """The buffer ``example_share`` (2,), or ``None`` for inference by running statistics."""
        return self._buffers.get(_NAME)

    def set_share(self, alpha: float, beta: float, like: Tensor) -> None:
        """Blend in the shares alpha and beta, as tensors like another one."""
        made = torch.tensor([alpha, beta], dtype=like.dtype, device=like.device)
        if _NAME in self._buffers:
            self._buffers[_NAME] = made
        else:
            self.register_buffer(_NAME, made)

    def reset_parameters(self) -> None:
        """Reset gain, bias and running statistics, and forget the blend."""
        super().reset_parameters()  # type: ignore[misc]  # of the norm beside this class
        self._buffers.pop(_NAME, None)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        home = next((b for b in self.buffers() if b.is_floating_point()), None)
        if prefix + _NAME in state_dict and self.share is None and home is not None:
            self.set_share(0.0, 0.0, home)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self) -> str:
        shown = super().extra_repr()
        if self.share is None or self.share.is_meta:
            return shown
        alpha, beta = self.share.tolist()
        return f"{shown}, alpha={alpha:.4g}, beta={beta:.4g}"


def blended(own: Moments, running: Moments, share: Tensor) -> Moments:
    """Return alpha m + (1 - alpha) M and beta v + (1 - beta) V, for share = (alpha, beta).

    Args:
        own: m and v of each example.
        running: M and V, which broadcast to them.
    """
    alpha, beta = widen(share).unbind()
    mean = running.mean + alpha * (own.mean - running.mean)
    return Moments(mean, running.var + beta * (own.var - running.var), own.n)
