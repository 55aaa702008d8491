"""A training run: its folder, which epoch it keeps, when it stops."""

from __future__ import annotations

import csv
import io
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only
from torch import nn

from seqnorm.datasets import Tokenizer, TorchtextTokenizer
from seqnorm.nn import report

from .averaging import ReestimateStatistics
from .callbacks import (
    BuffersOfTheFirst,
    RunCheckpoint,
    RunEarlyStopping,
    SeedEachEpoch,
    StartEmbedding,
    WeightAverage,
)
from .checkpoint import load_checkpoint
from .files import write_atomically
from .finite import StopAtNonFinite
from .inside_epoch import SaveInsideEpoch
from .parsing import dump
from .pictures import learning_curve


class Run:
    """A training run, in the folder ``<folder>/<name>/version_<n>``, where it stays if resumed.

    Args:
        folder: of all runs.
        name: of this one; null for the corpus's.
        monitor: what the best epoch is best at, on the validation part.
        patience: epochs without a better one after which training stops.
        ema_decay: decay a step of an exponential moving average of the weights, to validate and
            keep in place of the weights themselves; null for none. With BatchNorm it needs
            reestimate, for running averages are those of the weights themselves.
        reestimate: whether BatchNorm is validated and kept with statistics of the whole training
            part rather than with running averages.
        results: a CSV file to append the test result to, once: a run that had finished appends
            nothing when it is resumed.
        save_every_n_steps: steps after which last.ckpt is written inside an epoch too; null for at
            its end alone.
    """

    def __init__(
        self,
        *,
        folder: str = "runs",
        name: str | None = None,
        monitor: Literal["val_accuracy", "val_macro_f1", "val_loss"] = "val_accuracy",
        patience: int = 5,
        ema_decay: float | None = None,
        reestimate: bool = False,
        results: str | None = None,
        save_every_n_steps: int | None = 1000,
    ) -> None:
        if save_every_n_steps is not None and save_every_n_steps < 1:
            raise ValueError(
                f"run.save_every_n_steps must be at least 1, or null, not {save_every_n_steps}"
            )
        if name == "":
            raise ValueError("run.name is empty: give a name, or null for the corpus's")
        self.folder = folder
        self.name = name
        self.monitor = monitor
        self.patience = patience
        self.ema_decay = ema_decay
        self.reestimate = reestimate
        self.results = results
        self.save_every_n_steps = save_every_n_steps
        self.curves: tuple[str, ...] = ("loss", "accuracy")

    @property
    def before(self) -> list[Callback]:
        """What prepares a model before anything else sees it."""
        return [StartEmbedding()]

    @property
    def reestimation(self) -> Callback:
        """What takes the statistics of BatchNorm anew."""
        return ReestimateStatistics()

    def check(self, model: nn.Module) -> None:
        """Whether ``model`` can be trained so.

        Raises:
            ValueError: averaged weights would be validated with the statistics of others.
        """
        if self.ema_decay is not None and not self.reestimate and report(model).rows:
            raise ValueError(
                "run.ema_decay averages the weights, but BatchNorm's running statistics are those "
                "of the weights before averaging: set --run.reestimate true"
            )

    def start(self, corpus: str, checkpoint: str | None) -> Path:
        """The run's folder: a new one, or that of the checkpoint to resume from."""
        if checkpoint is not None:
            return Path(checkpoint).absolute().parent.parent
        # A shell leaves ~ in --run.folder=~/runs as it is, and the logger would not.
        base = Path(self.folder).expanduser() / (self.name or Path(corpus).stem)
        if "::" in str(base):  # by which Lightning takes a path for several file systems
            raise ValueError(f"the run's folder {str(base)!r} holds '::': choose other names")
        number = 0
        while True:
            path = base / f"version_{number}"
            # Only one process writes; the others learn its folder from Lightning.
            if getattr(rank_zero_only, "rank", 0) != 0:
                return path
            try:
                path.mkdir(parents=True)
                return path
            except FileExistsError:
                number += 1

    def logger(self, path: Path, checkpoint: str | None) -> TensorBoardLogger:
        """TensorBoard's log; what it holds from after ``checkpoint`` will be logged again."""
        steps = None if checkpoint is None else load_checkpoint(checkpoint)["global_step"]
        return TensorBoardLogger(path.parent, name="", version=path.name, purge_step=steps)

    def callbacks(self, path: Path, config: dict[str, Any], max_time: Any) -> list[Callback]:
        """What keeps, stops and documents the run in the folder ``path``, within ``max_time``."""
        monitor: dict[str, Any] = {
            "monitor": self.monitor,
            "mode": "min" if self.monitor == "val_loss" else "max",
        }
        files: dict[str, Any] = {"dirpath": path / "checkpoints", "enable_version_counter": False}
        self.best = RunCheckpoint(**monitor, **files, filename="best")
        self.timer = Timer(max_time)
        chosen: list[Callback] = [*self.before, SeedEachEpoch(config["seed_everything"])]
        chosen += [BuffersOfTheFirst(), StopAtNonFinite()]
        if self.ema_decay is not None:
            chosen.append(WeightAverage(self.ema_decay))
        if self.reestimate:  # of the averaged weights, hence after the average
            chosen.append(self.reestimation)
        chosen += [RunEarlyStopping(**monitor, patience=self.patience), self.timer]
        chosen.append(RunFiles(path, config, self.curves))
        return [
            *chosen,
            self.best,
            # Once the best is known, whose state is part of what is resumed.
            SaveInsideEpoch(path / "checkpoints" / "last.ckpt", self.save_every_n_steps),
            # Of its own, because save_last=True saves only when there is a new best; after the
            # best, as above; and at the end of an epoch however often there is a validation.
            RunCheckpoint(**files, filename="last", save_on_train_epoch_end=True),
        ]


class RunFiles(Callback):
    """Writes what lies in a run's folder ``path`` beside checkpoints and TensorBoard's logs.

    ``config``, of plain values, goes into config.yaml and into every checkpoint. ``curves`` are the
    quantities of which the learning curve is drawn. The rows of metrics.csv, one an epoch and one
    for the test, are part of a checkpoint too, so that a resumed run goes on with those and no
    others.
    """

    def __init__(self, path: Path, config: dict[str, Any], curves: Sequence[str]) -> None:
        self.path = path
        self.config = config
        self.curves = curves
        self.rows: list[dict[str, float]] = []
        # By the newest validation. Lightning forgets it when a run is interrupted, and then finds
        # nothing to stop by at the end of an epoch without one.
        self.validated: dict[str, float] = {}

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:  # now that nothing speaks against going on
            write_atomically(self.path / "config.yaml", dump(self.config))
            tokenizer = pl_module.tokenizer
            assert isinstance(tokenizer, (Tokenizer, TorchtextTokenizer))
            write_atomically(self.path / "tokenizer.json", tokenizer.to_json())

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for name, value in self.validated.items():
            trainer.callback_metrics[name] = torch.tensor(value, dtype=torch.float64)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self.validated = _logged(trainer, ("val_",))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._add_row(trainer, ("lr", "train_", "val_"))

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._add_row(trainer, ("test_",))

    def _add_row(self, trainer: Trainer, prefixes: tuple[str, ...]) -> None:
        metrics = _logged(trainer, prefixes)
        self.rows.append({"epoch": trainer.current_epoch, "step": trainer.global_step, **metrics})
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

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint["config"] = self.config

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            learning_curve(self.rows, self.path / "learning_curve.png", self.curves)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        last = self.path / "checkpoints" / "last.ckpt"
        if last.exists():
            rank_zero_info(
                "Interrupted. To go on from the last checkpoint:\n"
                f"python train.py fit --ckpt_path {shlex.quote(str(last))}"
            )


def _logged(trainer: Trainer, prefixes: tuple[str, ...]) -> dict[str, float]:
    """The newest of all metrics whose name begins so."""
    logged = trainer.callback_metrics.items()
    return {name: float(value) for name, value in logged if name.startswith(prefixes)}


def _numbers(found: Any) -> dict[str, float]:
    """Metrics out of a checkpoint."""
    if not isinstance(found, dict) or not all(
        isinstance(name, str) and isinstance(value, (int, float)) for name, value in found.items()
    ):
        raise ValueError("the metrics in the checkpoint are no numbers by their names")
    return found
