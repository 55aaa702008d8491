"""The loggers of a run, by name, and the values and pictures that they get at its end."""

from __future__ import annotations

import math
import os
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from seqnorm.extra import HINT, need
from seqnorm.files import write_atomically

LoggerName = Literal["tensorboard", "wandb", "mlflow"]
_TRACKING = "MLFLOW_TRACKING_URI"
_INSTALL = {"wandb": "pip install wandb", "mlflow": "pip install mlflow"}


def base_of(path: Path) -> Path:
    """Return the folder of all runs of one name in which the folder of a run lies.

    It is the parent, or the one above for a run of a cross-validation or of a sweep, as
    ``my/folds_0/fold_1`` and ``my/sweep_0/trial_3``.
    """
    several = r"folds_\d+/fold_\d+|sweep_\d+/trial_\d+"
    deeper = re.fullmatch(several, f"{path.parent.name}/{path.name}")
    return path.parent.parent if deeper else path.parent


def check_loggers(names: Sequence[LoggerName]) -> None:
    """Import the packages of loggers.

    Raises:
        ModuleNotFoundError: One is missing.
    """
    for name in names:
        need(f"the logger {name}", name, hint=_INSTALL.get(name, HINT))


def make_loggers(names: Sequence[LoggerName], path: Path, purge_step: int | None) -> list[Logger]:
    """Return the loggers of the run in the folder ``path``.

    Weights & Biases and MLflow find their servers by their own environment variables
    (``WANDB_MODE=offline`` keeps a run here, in its folder); without ``MLFLOW_TRACKING_URI`` MLflow
    writes into the folder of all runs, into ``mlflow.db`` and ``mlflow/``.

    Args:
        names: The names of the loggers.
        path: The folder of the run, as ``<folder>/<name>/version_<n>``.
        purge_step: TensorBoard logs entries later than this step again; None for a new run.
    """
    made: list[Logger] = []
    base = base_of(path)
    for name in dict.fromkeys(names):
        if name == "tensorboard":
            # The hyper-parameters are logged at the end, with the final metrics.
            board = TensorBoardLogger(
                path.parent,
                name="",
                version=path.name,
                purge_step=purge_step,
                default_hp_metric=False,
            )
            made.append(board)
        elif name == "wandb":
            made.append(
                WandbLogger(
                    project="seqnorm",
                    group=base.name,
                    name=path.relative_to(base.parent).as_posix(),
                    id=_own_id(path),
                    save_dir=str(path),
                    resume="allow",
                )
            )
        else:
            folder = base.parent.absolute()
            known = path / "mlflow_run.txt"
            flow = MLFlowLogger(
                experiment_name=base.name,
                run_name=path.relative_to(base).as_posix(),
                tracking_uri=os.environ.get(_TRACKING) or f"sqlite:///{folder}/mlflow.db",
                artifact_location=None if _TRACKING in os.environ else f"{folder}/mlflow",
                run_id=known.read_text().strip() if known.exists() else None,
            )
            if flow.run_id is not None and not known.exists():
                write_atomically(known, flow.run_id)
            made.append(flow)
    return made


def _own_id(path: Path) -> str:
    """Return the id of the run in the folder, which a resumed run continues."""
    file = path / "wandb_run.txt"
    if not file.exists():
        write_atomically(file, uuid.uuid4().hex[:12], shared=True)
    return file.read_text().strip()


@rank_zero_only
def log_end(
    loggers: Sequence[Logger],
    config: Mapping[str, Any],
    metrics: Mapping[str, float],
    pictures: Sequence[Path],
) -> None:
    """Log the options of a finished run with its final metrics, and its pictures.

    Args:
        loggers: The loggers that ``make_loggers`` made; others are left alone.
        config: The configuration of the run.
        metrics: The final metrics by name.
        pictures: The files of the pictures; those that do not exist are left out.
    """
    options = dict(_flat(config))
    finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
    there = [path for path in pictures if path.exists()]
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.log_hyperparams(options, {f"final/{name}": v for name, v in finite.items()})
            for path in there:
                logger.experiment.add_image(path.stem, _pixels(path), dataformats="HWC")
            logger.save()
        elif isinstance(logger, WandbLogger):
            logger.log_hyperparams(options)
            logger.experiment.summary.update({f"final/{name}": v for name, v in finite.items()})
            for path in there:
                logger.log_image(path.stem, [str(path)])
        elif isinstance(logger, MLFlowLogger):
            assert logger.run_id is not None
            # MLflow refuses another value of an option, which a resumed run may have: it is a tag.
            known = logger.experiment.get_run(logger.run_id).data.params
            logger.log_hyperparams({name: options[name] for name in options.keys() - known.keys()})
            for name in options.keys() & known.keys():
                if str(options[name]) != known[name]:
                    logger.experiment.set_tag(logger.run_id, f"resumed.{name}", options[name])
            logger.log_metrics({f"final_{name}": value for name, value in finite.items()})
            for path in there:
                logger.experiment.log_artifact(logger.run_id, str(path))


def close(loggers: Sequence[Logger]) -> None:
    """End the entries of a finished run where the next run in this process would continue them."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.experiment.finish()


def _flat(config: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the options of a configuration by their names on the command line."""
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}.")
        else:
            plain = isinstance(value, (bool, int, float, str))
            yield f"{before}{name}", value if plain else str(value)


def _pixels(path: Path) -> Any:
    from matplotlib.image import imread

    return (imread(path)[..., :3] * 255).astype("uint8")
