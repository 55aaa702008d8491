"""Stop training at the first NaN or infinity, and report where it arose."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.optim import Optimizer

from seqnorm.datasets import SeriesBatch
from seqnorm.nn.statistics import RunningTable

from ..distributed import gathered

# After so many steps the loss scale of half precision has fallen from 65,536 to 1 / 16, and is not
# the cause of infinite gradients.
SKIPPED = 20


class StopAtNonFinite(Callback):
    """End training before a step is taken from a loss or a gradient that is NaN or infinite.

    The error names the step, the documents of the batch and the first layer that computed it. To
    find the layer, the batch is run once more with the same random numbers, and every layer is
    watched. A model that carries states from batch to batch needs a ``rewind()`` to those at the
    beginning of the batch. As long as all is finite, the callback inspects only the loss and the
    norm of each gradient.

    No checkpoint is written after the error, nor one of weights that are not finite, which the last
    step from finite gradients may leave.

    In half precision, Lightning skips steps with infinite gradients and lowers the scale of the
    loss. Training then ends after 20 skipped steps in a row, or at its end if no step was taken.

    Several processes exchange a flag for the loss and one for the gradients in every step. They run
    the batch once more together, so that all join every exchange in it, and end with the same
    error, which reports the findings of each process.

    Raises:
        FloatingPointError: A loss, a gradient or a weight is not finite.
    """

    def __init__(self) -> None:
        self._batch: Any = None
        self._number = 0
        self._drawn = torch.empty(0)
        self._drawn_on_device: Tensor | None = None
        self._skipped = 0
        self._taken = 0

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._batch, self._number = batch, batch_idx
        self._drawn, device = torch.get_rng_state(), pl_module.device
        on_gpu = device.type == "cuda"
        self._drawn_on_device = torch.cuda.get_rng_state(device) if on_gpu else None

    def on_before_backward(
        self, trainer: Trainer, pl_module: LightningModule, loss: Tensor
    ) -> None:
        wrong = not bool(loss.isfinite())
        if _anywhere(trainer, wrong, loss.device):
            where = self._again(trainer, pl_module, _first_output)
            self._stop(trainer, f"the loss is {loss.item()}, {where}" if wrong else "")

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        grads = {n: p.grad for n, p in pl_module.named_parameters() if p.grad is not None}
        if not grads:
            return
        wrong: list[str] = []
        # The norm of finite values may overflow its type.
        if not bool(torch.stack([g.norm() for g in grads.values()]).isfinite().all()):
            wrong = [name for name, grad in grads.items() if not bool(grad.isfinite().all())]
        if not _anywhere(trainer, bool(wrong), next(iter(grads.values())).device):
            self._skipped = 0
            self._taken += 1
            return
        what = f"the gradient of {', '.join(wrong)} is not finite"
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        if scaler is not None:
            self._skipped += 1
            what += f" in {self._skipped} steps in a row, left out; the scale is {_scale(scaler)}"
        if scaler is None or self._skipped >= SKIPPED:
            where = self._again(trainer, pl_module, _first_gradient)
            # The average over processes is not finite in any of them; one or more caused it.
            found = f"{what}, {where}" if wrong and where else ""
            self._stop(trainer, found, f"{what}, which a second pass does not repeat")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._skipped and not self._taken:
            scale = _scale(getattr(trainer.precision_plugin, "scaler", None))
            raise FloatingPointError(
                f"no step was taken: in all {self._skipped} the gradients were not finite; the "
                f"scale has fallen to {scale}"
            )

    def state_dict(self) -> dict[str, Any]:
        return {"skipped": self._skipped, "taken": self._taken}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._skipped, self._taken = state_dict.get("skipped", 0), state_dict.get("taken", 0)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        wrong = [name for name, value in checkpoint["state_dict"].items() if not _finite(value)]
        if _anywhere(trainer, bool(wrong), pl_module.device):
            what = f"what is not finite is {', '.join(wrong)}" if wrong else ""
            raise FloatingPointError(
                f"after step {trainer.global_step} (epoch {trainer.current_epoch}): "
                f"{_of_all(trainer, what)}; no checkpoint is written"
            )

    def _stop(self, trainer: Trainer, what: str, otherwise: str = "") -> None:
        """Raise the error of the findings of all processes; ``what`` is "" if this one has none."""
        indices = getattr(self._batch, "indices", None)
        if trainer.world_size == 1:
            what = what or otherwise
        if what and isinstance(indices, Tensor):  # `indices` is a method of a tensor
            examples = "series" if isinstance(self._batch, SeriesBatch) else "documents"
            what = f"{what}; {examples} {', '.join(map(str, indices.tolist()))}"
        raise FloatingPointError(
            f"step {trainer.global_step} (epoch {trainer.current_epoch}, batch {self._number}): "
            f"{_of_all(trainer, what) or otherwise}"
        )

    def _again(
        self,
        trainer: Trainer,
        model: LightningModule,
        watch: Callable[[LightningModule, Any, int], str],
    ) -> str:
        """Run the batch once more, in all processes at once, and return what ``watch`` finds."""
        rewind = getattr(model, "rewind", None)
        if callable(rewind):  # the model carries states from batch to batch
            rewind()
        with ExitStack() as stack:
            gpu = self._drawn_on_device
            devices = [] if gpu is None else [model.device]
            stack.enter_context(torch.random.fork_rng(devices))
            torch.set_rng_state(self._drawn)
            if gpu is not None:
                torch.cuda.set_rng_state(gpu, model.device)
            if trainer.precision_plugin is not None:
                stack.enter_context(trainer.precision_plugin.forward_context())
            for module in model.modules():
                if isinstance(module, RunningTable):
                    stack.enter_context(module.held())
            stack.enter_context(_unlogged(model))
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
            return watch(model, self._batch, self._number)


def _scale(scaler: Any) -> str:
    return f"{scaler.get_scale():g}"


def _anywhere(trainer: Trainer, wrong: bool, device: torch.device) -> bool:
    """Return whether any process passes true; the flags are exchanged on ``device``."""
    if trainer.world_size == 1:
        return wrong
    flag = torch.tensor(float(wrong), device=device)
    return bool(trainer.strategy.reduce(flag, reduce_op="max"))


def _of_all(trainer: Trainer, what: str) -> str:
    """Join the findings of the processes that have any."""
    found = gathered(trainer, what)
    if len(found) == 1:
        return what
    return "; ".join(f"in process {rank} {words}" for rank, words in enumerate(found) if words)


def _first_output(model: LightningModule, batch: Any, number: int) -> str:
    """Describe the first layer, in the order of computation, whose output is not finite."""
    found: list[str] = []

    def look(name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        if not found and not _finite(output):
            came = "from an input that was" if _finite(inputs) else "from an input that was not"
            weights = [n for n, p in module.named_parameters() if not _finite(p)]
            own = f", with {', '.join(weights)} not finite" if weights else ""
            found.append(f"first in {name} ({type(module).__name__}), {came}{own}")

    with _hooked(model, "register_forward_hook", look), torch.no_grad():
        _loss(model, batch, number)
    return found[0] if found else "in no layer, but in the loss itself"


def _first_gradient(model: LightningModule, batch: Any, number: int) -> str:
    """Describe the first layer of the backward pass that receives or returns a gradient that is not
    finite; "" if all gradients are finite now."""
    found: list[str] = []

    def look(name: str, module: nn.Module, grad_input: Any, grad_output: Any) -> None:
        if not found and not _finite(grad_output):
            found.append(f"first on the way back to {name} ({type(module).__name__})")
        elif not found and not _finite(grad_input):
            found.append(f"first behind {name} ({type(module).__name__}) on the way back")

    with _hooked(model, "register_full_backward_hook", look), torch.enable_grad():
        weights = [p for p in model.parameters() if p.requires_grad]
        grads = torch.autograd.grad(_loss(model, batch, number), weights, allow_unused=True)
    if found:
        return found[0]
    return "in no layer" if not _finite(grads) else ""


def _loss(model: LightningModule, batch: Any, number: int) -> Tensor:
    wanted = list(inspect.signature(model.training_step).parameters)
    loss = model.training_step(*(batch, number)[: len(wanted)])
    return loss if isinstance(loss, Tensor) else loss["loss"]  # type: ignore[index]


@contextmanager
def _hooked(model: nn.Module, kind: str, look: Callable[..., None]) -> Iterator[None]:
    """Call ``look`` with the name of every layer that runs in the block."""
    with ExitStack() as hooks:
        for name, module in model.named_modules():
            if name and not isinstance(module, RunningTable):
                hooks.enter_context(getattr(module, kind)(partial(look, name)))
        yield


@contextmanager
def _unlogged(model: LightningModule) -> Iterator[None]:
    """Ignore the model's calls of ``log`` in the block."""
    for name in ("log", "log_dict"):
        model.__dict__[name] = lambda *values, **options: None
    try:
        yield
    finally:
        for name in ("log", "log_dict"):
            del model.__dict__[name]


def _finite(value: Any) -> bool:
    """Return whether all floating-point tensors in a value are finite."""
    if isinstance(value, Tensor):
        return not value.is_floating_point() or bool(value.isfinite().all())
    if isinstance(value, (tuple, list)):
        return all(_finite(part) for part in value)
    return True
