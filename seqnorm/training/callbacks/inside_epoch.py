"""Checkpoints inside an epoch, from which a run is resumed with the next batch."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from torch import Tensor

from ..checkpoints.checkpoint_file import is_plain, is_scalar
from ..data.batches import Batches
from ..distributed import gathered

KEY = "inside_epoch"


class SaveInsideEpoch(Checkpoint):
    """Save a checkpoint inside an epoch after every ``every_n_steps`` steps, and resume from it.

    Beside the contents of every checkpoint it holds the state of each process that lasts from one
    batch to the next: random states, sums of metrics, and the states that a language model carries.
    If a validation follows a step, the file is written after the validation. It is not written
    after the last step of an epoch.

    Args:
        path: The file.
        every_n_steps: The number of steps, or None for never.
        options: The options that the batches and steps of an epoch depend on, as plain values by
            name. A run is resumed inside an epoch with the same ones only.
    """

    def __init__(self, path: Path, every_n_steps: int | None, options: Mapping[str, Any]) -> None:
        self.path = path
        self.every_n_steps = every_n_steps
        self.options = dict(options)
        self._steps = 0
        self._next = math.inf
        self._after_validation = False
        self._held: dict[str, Any] | None = None
        self._loaded: dict[str, Any] | None = None

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._loaded = checkpoint.get(KEY)
        if self._loaded is not None:
            _compare(trainer, len(self._loaded["processes"]), trainer.world_size, "processes")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Later than the trial of a validation, which draws random numbers.
        if self._loaded is not None:
            batches = trainer.num_training_batches
            _compare(trainer, self._loaded["batches"], batches, "batches an epoch")
            try:
                self._restore(trainer, pl_module, self._loaded)
            except _NONSENSE as error:
                raise ValueError(not_held(trainer.ckpt_path)) from error
            self._loaded = None
        self._steps = trainer.global_step
        self._plan()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # Accumulated gradients are not saved: a step has just used them.
        stepped, self._steps = trainer.global_step != self._steps, trainer.global_step
        loop = trainer.fit_loop.epoch_loop
        if not stepped or trainer.global_step < self._next or loop._is_training_done:
            return
        fetcher = trainer.fit_loop._data_fetcher
        assert fetcher is not None
        if loop._should_check_val_fx(fetcher):
            self._after_validation = True
        else:
            self._write(trainer, pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._after_validation:
            self._after_validation = False
            if not trainer.should_stop:  # otherwise the epoch ends here
                self._write(trainer, pl_module)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if self._held is not None:
            checkpoint[KEY] = self._held

    def _plan(self) -> None:
        every = self.every_n_steps
        self._next = math.inf if every is None else (self._steps // every + 1) * every

    def _write(self, trainer: Trainer, pl_module: Any) -> None:
        self._plan()
        own = {"random": random_states(pl_module.device), "module": pl_module.state_inside_epoch()}
        self._held = {
            "batches": trainer.num_training_batches,
            "options": self.options,
            "processes": gathered(trainer, move_data_to_device(own, torch.device("cpu"))),
        }
        try:
            trainer.save_checkpoint(self.path, weights_only=False)
        finally:
            self._held = None

    def _restore(self, trainer: Trainer, module: Any, held: Mapping[str, Any]) -> None:
        loader, taken = trainer.train_dataloader, trainer.fit_loop.batch_idx + 1
        assert isinstance(loader, Batches)
        if not 0 < taken < held["batches"]:
            raise ValueError(f"{taken} batches of {held['batches']}")
        own = held["processes"][trainer.global_rank]
        module.load_state_inside_epoch(move_data_to_device(own["module"], module.device))
        loader.skip(taken)
        set_random_states(own["random"], module.device)


# The errors that a checkpoint with other values in place of states causes.
_NONSENSE: tuple[type[Exception], ...] = (LookupError, OverflowError, TypeError, ValueError)
_NONSENSE += (AssertionError, AttributeError, RuntimeError)


def is_held(held: Any) -> bool:
    """Return whether a value has the form of what ``SaveInsideEpoch`` adds to a checkpoint."""
    if not isinstance(held, Mapping) or type(held.get("batches")) is not int:
        return False
    options = held.get("options")
    if not isinstance(options, Mapping) or not all(is_scalar(v) for v in options.values()):
        return False
    processes = held.get("processes")
    return isinstance(processes, list) and all(map(is_plain, _tensors(processes)))


def not_held(path: object) -> str:
    return f"{path} does not hold the state from which a run is resumed inside an epoch"


def _tensors(held: Any) -> Iterator[Tensor]:
    if isinstance(held, Tensor):
        yield held
    elif isinstance(held, (list, tuple, Mapping)):
        for inner in held.values() if isinstance(held, Mapping) else held:
            yield from _tensors(inner)


def _compare(trainer: Trainer, was: int, now: float, what: str) -> None:
    if was != now:
        raise ValueError(
            f"{trainer.ckpt_path} was written inside an epoch with {was} {what}, and is resumed "
            f"with as many, not with {now}"
        )


def random_states(device: torch.device) -> dict[str, Any]:
    """Return the states of Python's, NumPy's, torch's and a GPU's generators, as plain data."""
    numpy: Any = np.random.get_state(legacy=False)  # noqa: NPY002  the global generator is meant
    numpy["state"]["key"] = torch.from_numpy(numpy["state"]["key"].astype(np.int64))
    states = {"python": random.getstate(), "numpy": numpy, "torch": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def set_random_states(states: Mapping[str, Any], device: torch.device) -> None:
    """Set the generators to the states of ``random_states()``."""
    version, internal, gauss = states["python"]
    random.setstate((version, tuple(internal), gauss))
    numpy = states["numpy"]
    key = numpy["state"]["key"].numpy().astype(np.uint32)
    if not 0 <= numpy["state"]["pos"] <= len(key) == 624:  # NumPy would read beyond the key
        raise ValueError("not the state of a generator")
    np.random.set_state({**numpy, "state": {**numpy["state"], "key": key}})  # noqa: NPY002  above
    torch.set_rng_state(states["torch"])
    if "cuda" in states and device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], device)
