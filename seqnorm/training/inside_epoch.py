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
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from .checkpoint import is_plain
from .distributed import gathered
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


class SaveInsideEpoch(Checkpoint):
    """Goes on inside an epoch, and writes ``path`` there, after every ``every_n_steps`` steps.

    Besides what every checkpoint has, it holds of each process what lasts from one batch to the
    next: random states, sums of metrics, and states that a language model carries. Where a
    validation follows a step, the file is written after it; where a step is the last, not at all.

    Args:
        path: the file.
        every_n_steps: None for never.
    """

    def __init__(self, path: Path, every_n_steps: int | None) -> None:
        self.path = path
        self.every_n_steps = every_n_steps
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
            processes = len(self._loaded["processes"])
            _compare(trainer, processes, trainer.world_size, "processes")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # After what tries validation out, which draws.
        if self._loaded is not None:
            batches = trainer.num_training_batches
            _compare(trainer, self._loaded["batches"], batches, "batches an epoch")
            try:
                self._restore(trainer, _text_module(pl_module), self._loaded)
            except _NONSENSE as error:
                raise ValueError(not_held(trainer.ckpt_path)) from error
            self._loaded = None
        self._steps = trainer.global_step
        self._plan()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # Gradients that are being accumulated are not held: a step has just used them.
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
            if not trainer.should_stop:  # else the epoch ends here
                self._write(trainer, pl_module)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if self._held is not None:
            checkpoint[KEY] = self._held

    def _plan(self) -> None:
        every = self.every_n_steps
        self._next = math.inf if every is None else (self._steps // every + 1) * every

    def _write(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._plan()
        lasting = _text_module(pl_module).state_inside_epoch()
        own = {"random": random_states(pl_module.device), "module": lasting}
        processes = gathered(trainer, move_data_to_device(own, torch.device("cpu")))
        self._held = {"batches": trainer.num_training_batches, "processes": processes}
        try:
            trainer.save_checkpoint(self.path, weights_only=False)  # all of it
        finally:
            self._held = None

    def _restore(
        self, trainer: Trainer, module: TextModule[Any, Any], held: Mapping[str, Any]
    ) -> None:
        loader, taken = trainer.train_dataloader, trainer.fit_loop.batch_idx + 1
        assert isinstance(loader, Batches)
        if not 0 < taken < held["batches"]:
            raise ValueError(f"{taken} batches of {held['batches']}")
        own = held["processes"][trainer.global_rank]
        module.load_state_inside_epoch(move_data_to_device(own["module"], module.device))
        loader.leave_out(taken)
        set_random_states(own["random"], module.device)


# What nonsense in the place of states runs into.
_NONSENSE = (
    AssertionError,
    AttributeError,
    IndexError,
    KeyError,
    OverflowError,
    RuntimeError,
    TypeError,
    ValueError,
)


def is_held(held: Any) -> bool:
    """Whether it can be what ``SaveInsideEpoch`` holds, as far as can be seen without a model."""
    if not isinstance(held, Mapping) or type(held.get("batches")) is not int:
        return False
    return isinstance(held.get("processes"), list) and all(
        is_plain(tensor) for tensor in _tensors(held["processes"])
    )


def not_held(path: object) -> str:
    return f"{path} does not hold what a run goes on with inside an epoch"


def _tensors(held: Any) -> Iterator[Tensor]:
    if isinstance(held, Tensor):
        yield held
    elif isinstance(held, (list, tuple, Mapping)):
        for inner in held.values() if isinstance(held, Mapping) else held:
            yield from _tensors(inner)


def _compare(trainer: Trainer, was: int, now: float, what: str) -> None:
    if was != now:
        raise ValueError(
            f"{trainer.ckpt_path} was written inside an epoch, with {was} {what}, and goes on with "
            f"as many, not with {now}"
        )


def _text_module(module: LightningModule) -> TextModule[Any, Any]:
    assert isinstance(module, TextModule)
    return module


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
    if not 0 <= numpy["state"]["pos"] <= len(key) == 624:  # NumPy would read beyond it
        raise ValueError("no state of a generator")
    np.random.set_state({**numpy, "state": {**numpy["state"], "key": key}})  # noqa: NPY002  above
    torch.set_rng_state(states["torch"])
    if "cuda" in states and device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], device)
