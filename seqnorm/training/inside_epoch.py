"""Checkpoints inside an epoch, from which a run goes on with the next batch."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from .module import TextModule

T = TypeVar("T")
KEY = "inside_epoch"


class Batches(DataLoader[T]):
    """A DataLoader with which a run can go on inside an epoch.

    It has a generator of its own. One without draws from the global one whenever it is iterated,
    which would shift the dropout masks of a resumed run.
    """

    def __init__(self, dataset: Dataset[T], **options: Any) -> None:
        super().__init__(dataset, generator=torch.Generator(), **options)
        self._left_out = 0

    def leave_out(self, count: int) -> None:
        """The next batch that is asked for of a new pass, or of one that waits, has others before
        it."""
        self._left_out = count

    def __iter__(self) -> Iterator[T]:  # type: ignore[override]  # torch's is one of its classes
        left_out, self._left_out = self._left_out, 0
        yield from islice(super().__iter__(), left_out, None)

    # By these two Lightning knows a loader that can go on. It is told by leave_out: Lightning asks
    # for a state where other passes were begun, and has made its iterator when it sets one.

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        pass


class SaveInsideEpoch(Callback):
    """Goes on inside an epoch, and writes ``path`` there, after every ``every_n_steps`` steps.

    Besides what every checkpoint has, it holds of each process what lasts from one batch to the
    next: random states, sums of metrics, and states that a language model carries. There is none
    after an epoch's last batch, nor where a validation follows, but at the next chance.

    Args:
        path: the file.
        every_n_steps: null for never.
    """

    def __init__(self, path: Path, every_n_steps: int | None) -> None:
        self.path = path
        self.every_n_steps = every_n_steps
        self._next = 0.0
        self._steps = 0
        self._held: dict[str, Any] | None = None
        self._loaded: Mapping[str, Any] | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # After what tries validation out, which draws.
        if self._loaded is not None:
            try:
                self._restore(trainer, _text_module(pl_module), self._loaded)
            except (AttributeError, IndexError, KeyError, RuntimeError, TypeError) as error:
                raise ValueError(not_held(trainer.ckpt_path)) from error
            self._loaded = None
        self._steps = trainer.global_step
        self._plan(trainer.global_step)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # Gradients that are being accumulated are not held: a step has just used them.
        stepped, self._steps = trainer.global_step != self._steps, trainer.global_step
        if not stepped or trainer.global_step < self._next:
            return
        if batch_idx + 1 >= trainer.num_training_batches or _validates(trainer, batch_idx):
            return
        self._plan(trainer.global_step)
        lasting = moved(_text_module(pl_module).state_inside_epoch(), "cpu")
        own = {"random": random_states(pl_module.device), "module": lasting}
        self._held = {
            "taken": batch_idx + 1,
            "batches": trainer.num_training_batches,
            "processes": _of_all(trainer, own),
        }
        try:
            trainer.save_checkpoint(self.path, weights_only=False)  # all of it
        finally:
            self._held = None

    def _plan(self, step: int) -> None:
        every = self.every_n_steps
        self._next = math.inf if every is None else (step // every + 1) * every

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if self._held is not None:
            checkpoint[KEY] = self._held

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._loaded = checkpoint.get(KEY)

    def _restore(
        self, trainer: Trainer, module: TextModule[Any, Any], held: Mapping[str, Any]
    ) -> None:
        loader = trainer.train_dataloader
        assert isinstance(loader, Batches)
        processes, batches = len(held["processes"]), held["batches"]
        for was, now, what in (
            (processes, trainer.world_size, "processes"),
            (batches, trainer.num_training_batches, "batches an epoch"),
        ):
            if was != now:
                raise ValueError(
                    f"{trainer.ckpt_path} was written inside an epoch, with {was} {what}, and goes "
                    f"on with as many, not with {now}"
                )
        own = held["processes"][trainer.global_rank]
        module.load_state_inside_epoch(moved(own["module"], module.device))
        loader.leave_out(held["taken"])
        set_random_states(own["random"], module.device)


def is_held(held: Any) -> bool:
    """Whether it can be what ``SaveInsideEpoch`` holds, by its outermost form."""
    kinds = {"taken": int, "batches": int, "processes": list}
    return isinstance(held, Mapping) and all(isinstance(held.get(k), kinds[k]) for k in kinds)


def not_held(path: object) -> str:
    return f"{path} does not hold what a run goes on with inside an epoch"


def _text_module(module: LightningModule) -> TextModule[Any, Any]:
    assert isinstance(module, TextModule)
    return module


def _validates(trainer: Trainer, batch_idx: int) -> bool:
    """Whether a validation follows this batch."""
    every = trainer.val_check_batch
    if every is None or every == float("inf"):
        return False
    over_epochs = trainer.check_val_every_n_epoch is None
    done = (trainer.fit_loop.total_batch_idx if over_epochs else batch_idx) + 1
    return done % int(every) == 0


def _of_all(trainer: Trainer, own: T) -> list[T]:
    """What every process has, in their order."""
    found: list[Any] = [own]
    if trainer.world_size > 1:
        found = [None] * trainer.world_size
        torch.distributed.all_gather_object(found, own)
    return found


def random_states(device: torch.device) -> dict[str, Any]:
    """The states of Python's, NumPy's and torch's generators, a GPU's too, as plain data."""
    numpy: Any = np.random.get_state(legacy=False)  # noqa: NPY002  the global generator is meant
    numpy["state"]["key"] = torch.from_numpy(numpy["state"]["key"].astype(np.int64))
    states = {"python": random.getstate(), "numpy": numpy, "torch": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def set_random_states(states: Mapping[str, Any], device: torch.device) -> None:
    """Goes on from ``random_states()``."""
    version, internal, gauss = states["python"]
    random.setstate((version, tuple(internal), gauss))
    numpy = states["numpy"]
    key = numpy["state"]["key"].numpy().astype(np.uint32)
    np.random.set_state({**numpy, "state": {**numpy["state"], "key": key}})  # noqa: NPY002  above
    torch.set_rng_state(states["torch"])
    if "cuda" in states and device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], device)


def moved(states: Any, device: torch.device | str) -> Any:
    """Tensors in lists, tuples and dictionaries, on another device."""
    if isinstance(states, Tensor):
        return states.to(device)
    if isinstance(states, Mapping):
        return {key: moved(value, device) for key, value in states.items()}
    if isinstance(states, (list, tuple)):
        return type(states)(moved(value, device) for value in states)
    return states
