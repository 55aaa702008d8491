"""Training stops where a number is no number, and says where that began."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.optim import Optimizer

from seqnorm.nn.statistics import RunningTable

from .distributed import gathered

# From its first 65,536 the scale of half precision has fallen to 1 / 16 by then, and it is not the
# scale that makes gradients infinite.
SKIPPED = 20


class StopAtNonFinite(Callback):
    """Ends training before a step is taken from a loss or a gradient that is NaN or infinite.

    The error names the step, the documents of the batch, and the first layer from which it came:
    the batch is run once more, with the same random numbers, and every layer watched; a model that
    carries states has a ``rewind()`` to those in which the batch began. While all is well it looks
    at the loss and at one norm of each gradient a step.

    Nothing is written any more, and no checkpoint at all of weights that are not finite, which a
    last step from finite gradients may leave.

    In half precision steps of infinite gradients are left out, as a matter of course, and the scale
    of the loss falls: training ends after 20 of them in a row, or at its end if there were no
    others.

    Several processes tell each other, an exchange for the loss and one for the gradients a step,
    run the batch once more together, so that every exchange in it is joined by all, and end with
    one and the same error, which says what was found where.

    Raises:
        FloatingPointError: see above.
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
        self._drawn = torch.get_rng_state()
        device = pl_module.device
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
        # A norm alone may be beyond what its type can hold.
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
            # Averaged over processes it is so in all of them, and comes from some.
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
        """Raises the error of what was found here, "" for nothing, and in the other processes."""
        indices = getattr(self._batch, "indices", None)
        if trainer.world_size == 1:
            what = what or otherwise
        if what and isinstance(indices, Tensor):  # a tensor has a method of that name
            what = f"{what}; documents {', '.join(map(str, indices.tolist()))}"
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
        """What ``watch`` sees when the batch is run as it was, in all processes at once."""
        rewind = getattr(model, "rewind", None)
        if callable(rewind):  # it carries states from batch to batch
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
    """Whether any process says so; they talk by this device."""
    if trainer.world_size == 1:
        return wrong
    told = trainer.strategy.reduce(torch.tensor(float(wrong), device=device), reduce_op="max")
    return bool(told)


def _of_all(trainer: Trainer, what: str) -> str:
    """What the processes have found that found something."""
    found = gathered(trainer, what)
    if len(found) == 1:
        return what
    return "; ".join(f"in process {rank} {words}" for rank, words in enumerate(found) if words)


def _first_output(model: LightningModule, batch: Any, number: int) -> str:
    """The first layer to finish whose output is not finite."""
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
    """The first layer on the way back that is given, or gives, a gradient that is not finite, or
    "" if all are finite now."""
    found: list[str] = []

    def look(name: str, module: nn.Module, grad_input: Any, grad_output: Any) -> None:
        if not found and not _finite(grad_output):
            found.append(f"first on the way back to {name} ({type(module).__name__})")
        elif not found and not _finite(grad_input):
            found.append(f"first behind {name} ({type(module).__name__}) on the way back")

    with _hooked(model, "register_full_backward_hook", look), torch.enable_grad():
        grads = torch.autograd.grad(
            _loss(model, batch, number),
            [p for p in model.parameters() if p.requires_grad],
            allow_unused=True,
        )
    if found:
        return found[0]
    return "in no layer" if not _finite(grads) else ""


def _loss(model: LightningModule, batch: Any, number: int) -> Tensor:
    wanted = list(inspect.signature(model.training_step).parameters)
    loss = model.training_step(*(batch, number)[: len(wanted)])
    return loss if isinstance(loss, Tensor) else loss["loss"]  # type: ignore[index]


@contextmanager
def _hooked(model: nn.Module, kind: str, look: Callable[..., None]) -> Iterator[None]:
    """Within, ``look`` is told of every layer by its name."""
    handles = []
    for name, module in model.named_modules():
        if name and not isinstance(module, RunningTable):

            def hook(module: nn.Module, one: Any, two: Any, name: str = name) -> None:
                look(name, module, one, two)

            handles.append(getattr(module, kind)(hook))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _unlogged(model: LightningModule) -> Iterator[None]:
    """Within, the model's ``log`` does nothing."""
    for name in ("log", "log_dict"):
        model.__dict__[name] = lambda *values, **options: None
    try:
        yield
    finally:
        for name in ("log", "log_dict"):
            del model.__dict__[name]


def _finite(value: Any) -> bool:
    """Whether all floating-point tensors in a value are."""
    if isinstance(value, Tensor):
        return not value.is_floating_point() or bool(value.isfinite().all())
    if isinstance(value, (tuple, list)):
        return all(_finite(part) for part in value)
    return True
