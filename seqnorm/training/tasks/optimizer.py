"""The optimizer: AdamW, and plain SGD for the parameters that it suits better."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.optim import AdamW

# The fused AdamW of CPUs came with torch 2.4.
HAS_FUSED = tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 4)


class AdamWAndSGD(AdamW):
    """AdamW, and SGD with momentum (Sutskever et al. 2013) for groups that have a ``momentum``.

    A group's step with gradient g, momentum m and learning rate lr is::

        v <- m v + g
        w <- w - lr v

    Its weight decay, like AdamW's, does not enter the gradient.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:  # now, because it clears and clips the gradients of all groups
            with torch.enable_grad():
                loss = closure()
        groups = self.param_groups
        try:
            self.param_groups = [group for group in groups if "momentum" not in group]
            super().step()
        finally:
            self.param_groups = groups
        for group in groups:
            if "momentum" in group:
                self._step_of_sgd(group)
        return loss

    def _step_of_sgd(self, group: dict[str, Any]) -> None:
        for parameter in group["params"]:
            if parameter.grad is None:
                continue
            state = self.state[parameter]
            if "velocity" not in state:
                # A restored AdamW looks for a number of steps.
                state |= {"step": torch.tensor(0.0), "velocity": torch.zeros_like(parameter)}
            velocity = state["velocity"].mul_(group["momentum"]).add_(parameter.grad)
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
            parameter.add_(velocity, alpha=-group["lr"])
