"""The options of a run, its folder, and the callbacks that keep, stop and document it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lightning.pytorch import Callback
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only
from torch import nn

from seqnorm.nn import report

from ..callbacks.epoch_start import SeedEachEpoch, ShareBuffers
from ..callbacks.finite import StopAtNonFinite
from ..callbacks.inside_epoch import SaveInsideEpoch
from ..callbacks.kept_weights import RunCheckpoint, RunEarlyStopping, WeightAverage
from ..callbacks.reestimate import ReestimateStatistics
from ..callbacks.run_files import RunFiles
from ..checkpoints.checkpoint_file import Checkpoint
from ..data.overview import are_unequal
from .loggers import LoggerName, base_of, make_loggers
from .resume import options_of_an_epoch
from .yaml_texts import dump

if TYPE_CHECKING:
    from .task import Task

HIGHER_IS_BETTER = ("val_accuracy", "val_macro_f1")


class Run:
    """A training run, in the folder ``<folder>/<name>/version_<n>``, where it is also resumed.

    Args:
        folder: The folder of all runs.
        name: The name of the run; null for that of the corpus.
        monitor: The quantity of the validation part that chooses the best epoch; null for
            val_accuracy, or val_macro_f1 if the largest class of your own data has more than five
            times the documents of the smallest.
        patience: The number of epochs without a better one after which training stops.
        ema_decay: The decay per step of an exponential moving average of the weights, which is
            validated and kept in place of the weights; null for no average. With BatchNorm it needs
            reestimate, because running averages are those of the weights before averaging.
        reestimate: Validate and keep BatchNorm with statistics of the whole training part in place
            of running averages.
        results: A CSV file to append the test result to. A finished run that is resumed appends
            nothing.
        loggers: The loggers, one of tensorboard, wandb and mlflow, or a list of them. They get the
            metrics of every epoch, and at the end the options with the final metrics and the
            pictures. trainer.logger replaces them; false is for no logger.
        save_every_n_steps: Write last.ckpt after so many steps inside an epoch too; null for at its
            end only.
    """

    def __init__(
        self,
        *,
        folder: str = "runs",
        name: str | None = None,
        monitor: Literal["val_accuracy", "val_macro_f1", "val_loss"] | None = None,
        patience: int = 5,
        ema_decay: float | None = None,
        reestimate: bool = False,
        results: str | None = None,
        loggers: LoggerName | list[LoggerName] = "tensorboard",
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
        self.monitor: str | None = monitor
        self.patience = patience
        self.ema_decay = ema_decay
        self.reestimate = reestimate
        self.results = results
        self.loggers: list[LoggerName] = [loggers] if isinstance(loggers, str) else loggers
        self.save_every_n_steps = save_every_n_steps

    def check(self, model: nn.Module) -> None:
        """Refuse a model whose averaged weights would be validated with other statistics.

        Raises:
            ValueError: The weights are averaged, and BatchNorm's statistics are not re-estimated.
        """
        if self.ema_decay is not None and not self.reestimate and report(model).rows:
            raise ValueError(
                "run.ema_decay averages the weights, but BatchNorm's running statistics are those "
                "of the weights before averaging: set --run.reestimate true"
            )

    def choose_monitor(self, class_counts: Sequence[int]) -> None:
        """Choose the quantity that is monitored, unless an option did, and say so if it matters.

        Args:
            class_counts: The sizes of the classes in the training part, () if they do not matter.
        """
        if self.monitor is not None:
            return
        unequal = are_unequal(class_counts)
        self.monitor = "val_macro_f1" if unequal else "val_accuracy"
        if unequal:
            present = [count for count in class_counts if count]
            rank_zero_info(
                f"The classes are unequal, from {min(present):,} to {max(present):,} training "
                "documents, so the best epoch is chosen by val_macro_f1 (run.monitor). "
                "--model.class_weights balanced weights rare classes more in training."
            )

    def place(self, corpus: str) -> Path:
        """Return the folder of all runs of this name."""
        # A shell does not expand ~ in --run.folder=~/runs, and the logger would not either.
        base = Path(self.folder).expanduser() / (self.name or Path(corpus).stem)
        if "::" in str(base):  # Lightning splits paths there
            raise ValueError(f"the run's folder {str(base)!r} holds '::': choose other names")
        return base

    def start(self, corpus: str, checkpoint: Checkpoint | None) -> Path:
        """Return the run's folder: a new one, or that of the checkpoint to resume from."""
        if checkpoint is not None:
            return Path(checkpoint.path).absolute().parent.parent
        base = self.place(corpus)
        number = 0
        while True:
            path = base / f"version_{number}"
            # Only one process writes; Lightning tells the others the folder.
            if getattr(rank_zero_only, "rank", 0) != 0:
                return path
            try:
                path.mkdir(parents=True)
                return path
            except FileExistsError:
                number += 1

    def make_loggers(self, path: Path, checkpoint: Checkpoint | None) -> list[Logger]:
        """Return the loggers of the run; entries later than ``checkpoint`` are logged again."""
        steps = None if checkpoint is None else checkpoint.contents["global_step"]
        return make_loggers(self.loggers, path, steps)

    def callbacks(
        self, path: Path, config: Mapping[str, Any], task: Task, max_time: Any
    ) -> list[Callback]:
        """Return the callbacks of the run in the folder ``path``.

        Args:
            path: The folder.
            config: The configuration of the run.
            task: The task.
            max_time: The trainer's limit.
        """
        if self.monitor is None:
            self.choose_monitor(())
        monitor: dict[str, Any] = {
            "monitor": self.monitor,
            "mode": "max" if self.monitor in HIGHER_IS_BETTER else "min",
        }
        files: dict[str, Any] = {"dirpath": path / "checkpoints", "enable_version_counter": False}
        self.best = RunCheckpoint(**monitor, **files, filename="best")
        self.timer = Timer(max_time)
        chosen: list[Callback] = [
            *(kind() for kind in task.callbacks),
            SeedEachEpoch(config["seed_everything"]),
        ]
        chosen += [ShareBuffers(), StopAtNonFinite()]
        if self.ema_decay is not None:
            chosen.append(WeightAverage(self.ema_decay))
        if self.reestimate:  # after the average, whose statistics it re-estimates
            chosen.append(ReestimateStatistics(task.forward))
        chosen += [RunEarlyStopping(**monitor, patience=self.patience), self.timer]
        base = base_of(path)
        alone = base == path.parent
        name = base.name if alone else path.relative_to(base.parent).as_posix()
        title = f"{name}: {config['model']['cell']}, norm {config['model']['norm']}"
        chosen.append(RunFiles(path, dump(config), title, task.curves, alone))
        return [
            *chosen,
            self.best,
            # After the best epoch is known, because its state is saved.
            SaveInsideEpoch(
                path / "checkpoints" / "last.ckpt",
                self.save_every_n_steps,
                options_of_an_epoch(config),
            ),
            # A callback of its own, because save_last=True saves only when there is a new best. It
            # comes after the best for the same reason, and saves at the end of an epoch however
            # often there is a validation.
            RunCheckpoint(**files, filename="last", save_on_train_epoch_end=True),
        ]


class LanguageRun(Run):
    """A training run, in the folder ``<folder>/<name>/version_<n>``, where it is also resumed.

    Args:
        monitor: The quantity of the validation part that chooses the best epoch.
        options: The other arguments of ``Run``.
    """

    def __init__(self, *, monitor: Literal["val_loss"] = "val_loss", **options: Any) -> None:
        super().__init__(monitor=monitor, **options)


class RegressionRun(Run):
    """A training run, in the folder ``<folder>/<name>/version_<n>``, where it is also resumed.

    Args:
        monitor: The quantity of the validation part that chooses the best epoch.
        options: The other arguments of ``Run``.
    """

    def __init__(
        self, *, monitor: Literal["val_loss", "val_mae", "val_rmse"] = "val_loss", **options: Any
    ) -> None:
        super().__init__(monitor="val_loss", **options)
        self.monitor = monitor
