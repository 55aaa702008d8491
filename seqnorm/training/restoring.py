"""What a checkpoint may bring with it: a configuration, hyper-parameters, weights that fit."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
import yaml
from torch import nn

from .checkpoint import load_checkpoint

M = TypeVar("M", bound=nn.Module)
ALLOW = "SEQNORM_ALLOW_CLASSES"
# None of these takes a function, or the name of one, as an argument.
ALLOWED = {
    "seqnorm.training.NormStatistics",
    "seqnorm.training.ReestimateStatistics",
    "seqnorm.training.SyncBatchNorm",
    "seqnorm.training.distributed.SyncBatchNorm",
    "seqnorm.training.checkpoint.AtomicCheckpointIO",
    "seqnorm.training.statistics.NormStatistics",
    *(
        f"lightning.pytorch.{name}"
        for name in (
            "callbacks.DeviceStatsMonitor",
            "callbacks.LearningRateMonitor",
            "callbacks.ModelSummary",
            "callbacks.RichModelSummary",
            "callbacks.RichProgressBar",
            "callbacks.TQDMProgressBar",
            "callbacks.Timer",
            "loggers.CSVLogger",
            "loggers.TensorBoardLogger",
            "profilers.SimpleProfiler",
        )
    ),
}
# Their values are paths, not classes.
_PATHS = {"default_root_dir"}


def config_of(stored: Mapping[str, Any], path: str | Path) -> str:
    """The configuration in a checkpoint, as YAML.

    Whoever made the checkpoint wrote it: the classes that it names are those of ``ALLOWED``, and of
    the environment variable SEQNORM_ALLOW_CLASSES, separated by commas.

    Raises:
        ValueError: it holds something else, or there is none.
    """
    if "config" not in stored:
        raise ValueError(f"{path} was not written by train.py fit")
    config = stored["config"]
    parts = {"model": dict, "data": dict, "trainer": dict, "run": dict}
    if not isinstance(config, dict) or not all(
        isinstance(config.get(part), kind) for part, kind in parts.items()
    ):
        raise ValueError(f"{path}: its configuration is not one of train.py fit")
    allowed = ALLOWED | set(filter(None, os.environ.get(ALLOW, "").split(",")))
    for place, name in _classes(config, "config"):
        if name not in allowed:
            raise ValueError(
                f"{path}: {place} names the class {name!r}, which a checkpoint may not choose; if "
                f"you trust it, set {ALLOW}={name}"
            )
    try:
        return yaml.safe_dump(config)  # type: ignore[no-any-return]
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: its configuration is more than plain values: {error}") from error


def _classes(value: Any, place: str) -> Iterator[tuple[str, object]]:
    """Every class that a configuration names, and where."""
    if isinstance(value, dict):
        if "class_path" in value:
            yield f"{place}.class_path", value["class_path"]
        for key, inner in value.items():
            # In the trainer's part a class may be written by its name alone.
            if place.startswith("config.trainer") and key not in _PATHS | {"class_path"}:
                yield from _named(inner, f"{place}.{key}")
            yield from _classes(inner, f"{place}.{key}")
    elif isinstance(value, (list, tuple)):
        for number, inner in enumerate(value):
            yield from _classes(inner, f"{place}[{number}]")


def _named(value: Any, place: str) -> Iterator[tuple[str, object]]:
    found = value if isinstance(value, (list, tuple)) else [value]
    in_arguments = ".init_args" in place
    yield from (
        (place, name)
        for name in found
        if isinstance(name, str) and "." in name and not in_arguments
    )


def check_whole_epochs(stored: Mapping[str, Any], path: str | Path) -> None:
    """Whether a run can go on from a checkpoint: from the end of an epoch, whose batches, states
    carried from one to the next and draws all begin anew.

    Raises:
        ValueError: it was written inside an epoch, or does not say where.
    """
    try:
        progress = stored["loops"]["fit_loop"]["epoch_progress"]["current"]
        started, processed = int(progress["started"]), int(progress["processed"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} does not say where in training it was written") from error
    if started != processed:
        raise ValueError(
            f"{path} was written inside epoch {processed}, and a run goes on from the end of an "
            "epoch: resume the last.ckpt beside it"
        )


def restored(kind: type[M], path: str | Path, device: str) -> tuple[M, dict[str, Any]]:
    """The model of a kind in a checkpoint, for inference, and how its texts were prepared.

    Raises:
        ValueError: what ``load_checkpoint`` does not read; hyper-parameters of no model, or of one
            that the weights do not fit.
    """
    stored = load_checkpoint(path)
    parameters = stored["hyper_parameters"]

    def build() -> M:
        try:
            return kind(**parameters)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"{path}: its hyper-parameters make no model: {error}") from error

    # First without memory: its size is what a stranger wrote.
    with torch.device("meta"):
        load_weights(build(), stored["state_dict"], path, assign=True)
    model = build()
    load_weights(model, stored["state_dict"], path)
    data = stored.get("datamodule_hyper_parameters")
    return model.to(device).eval(), dict(data) if isinstance(data, Mapping) else {}


def load_weights(
    model: nn.Module, weights: Mapping[str, Any], path: str | Path, *, assign: bool = False
) -> None:
    """Takes over weights, or raises a ValueError that names the first that does not fit."""
    for name, tensor in weights.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise ValueError(f"{path}: its weights are not finite: {name} holds NaN or infinity")
    try:
        model.load_state_dict(weights, assign=assign)
    except (RuntimeError, TypeError, AttributeError) as error:
        lines = [line.strip() for line in str(error).splitlines()]
        first = next((line for line in lines[1:] if line), lines[0])
        raise ValueError(
            f"{path}: its weights are not those of this model, but of another vocabulary, other "
            f"classes or other sizes: {first}"
        ) from error
