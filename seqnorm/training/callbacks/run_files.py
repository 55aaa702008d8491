"""The callback that writes the files of a run's folder."""

from __future__ import annotations

import csv
import io
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from seqnorm.files import write_atomically

from ..results.pictures import learning_curve


class RunFiles(Callback):
    """Write config.yaml, the module's files, metrics.csv and the learning curve of a run.

    The rows of metrics.csv, one for each epoch, counted from 1, and one for the test, are part of
    every checkpoint, so that a resumed run continues exactly these.

    Args:
        path: The run's folder.
        config: The text of config.yaml.
        title: The title of the learning curve.
        curves: The quantities of the learning curve.
        alone: Say how to resume an interrupted run, which is not one of several.
    """

    def __init__(
        self, path: Path, config: str, title: str, curves: Sequence[str], alone: bool = True
    ) -> None:
        self.path = path
        self.alone = alone
        self.title = title
        self.config = config
        self.curves = curves
        self.rows: list[dict[str, float]] = []
        # Metrics of the last validation. Lightning forgets them when a run is interrupted, and
        # then cannot decide about stopping at the end of an epoch without a validation.
        self.validated: dict[str, float] = {}

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:  # all checks of a resumed run have passed by now
            write_atomically(self.path / "config.yaml", self.config)
            module: Any = pl_module
            for name, text in module.files.items():
                write_atomically(self.path / name, text)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for name, value in self.validated.items():
            trainer.callback_metrics[name] = torch.tensor(value, dtype=torch.float64)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self.validated = _logged(trainer, ("val_",))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._add_row(trainer, trainer.current_epoch + 1, ("lr", "train_", "val_"))

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._add_row(trainer, trainer.current_epoch, ("test_",))

    def _add_row(self, trainer: Trainer, epoch: int, prefixes: tuple[str, ...]) -> None:
        metrics = _logged(trainer, prefixes)
        self.rows.append({"epoch": epoch, "step": trainer.global_step, **metrics})
        if trainer.is_global_zero:
            text = io.StringIO(newline="")
            names = dict.fromkeys(name for row in self.rows for name in row)
            writer = csv.DictWriter(text, list(names))
            writer.writeheader()
            writer.writerows(self.rows)
            write_atomically(self.path / "metrics.csv", text.getvalue())

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows, "validated": self.validated}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = [_numbers(row) for row in state_dict["rows"]]
        self.validated = _numbers(state_dict.get("validated", {}))

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            learning_curve(self.rows, self.path / "learning_curve.png", self.title, self.curves)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        last = self.path / "checkpoints" / "last.ckpt"
        if last.exists() and self.alone:
            rank_zero_info(
                "Interrupted. To resume from the last checkpoint:\n"
                f"seqnorm fit --ckpt_path {shlex.quote(str(last))}"
            )


def _logged(trainer: Trainer, prefixes: tuple[str, ...]) -> dict[str, float]:
    """Return the newest value of every metric whose name begins with a prefix."""
    logged = trainer.callback_metrics.items()
    return {name: float(value) for name, value in logged if name.startswith(prefixes)}


def _numbers(found: Any) -> dict[str, float]:
    """Return metrics out of a checkpoint, if they are numbers by name."""
    if not isinstance(found, dict) or not all(
        isinstance(name, str) and isinstance(value, (int, float)) for name, value in found.items()
    ):
        raise ValueError("the metrics in the checkpoint are not numbers by name")
    return found
