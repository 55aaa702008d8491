"""Models out of checkpoints: hyper-parameters and weights that fit, and where a run goes on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities import rank_zero_warn
from torch import nn

from .checkpoint import load_checkpoint
from .errors import is_of_memory, line_of
from .inside_epoch import KEY, is_held, not_held

M = TypeVar("M", bound=nn.Module)
# The options of a trainer that the steps of an epoch depend on.
_OF_STEPS = (
    "precision",
    "accumulate_grad_batches",
    "limit_train_batches",
    "overfit_batches",
    "sync_batchnorm",
    "fast_dev_run",
)


def check_progress(stored: Mapping[str, Any], path: str | Path) -> None:
    """Whether a run can go on from a checkpoint: from the end of an epoch, whose batches, states
    carried from one to the next and draws all begin anew, or where it holds these.

    Raises:
        ValueError: it was written inside an epoch without them, or does not say where.
    """
    try:
        progress = stored["loops"]["fit_loop"]["epoch_progress"]["current"]
        started, processed = int(progress["started"]), int(progress["processed"])
        int(stored["global_step"])
        whole = stored["loops"]["fit_loop"]["epoch_loop.batch_progress"]["is_last_batch"]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} does not say where in training it was written") from error
    inside = started != processed
    if KEY in stored and not (inside and is_held(stored[KEY])):
        raise ValueError(not_held(path))
    if inside and KEY not in stored:
        other = ": resume the last.ckpt beside it" if Path(path).name != "last.ckpt" else ""
        raise ValueError(
            f"{path} was written inside epoch {processed} without what a run goes on with "
            f"there{other}"
        )
    if not whole and not inside:
        rank_zero_warn(
            f"{path} was written when trainer.max_steps or trainer.max_time had ended an epoch: "
            "the rest of its batches are left out"
        )


def check_same_batches(was: Mapping[str, Any], now: Mapping[str, Any], path: str | Path) -> None:
    """Whether the rest of an epoch goes on with the batches, steps and numbers that it began with.

    Args:
        was, now: configurations of a fit, as it was written and as it is to go on.
        path: of the checkpoint.

    Raises:
        ValueError: an option that they depend on has another value.
    """
    before, after = _of_batches(was), _of_batches(now)
    for name, value in before.items():
        if value != after[name]:
            raise ValueError(
                f"{path} was written inside an epoch, the rest of which is as its beginning: "
                f"{name} was {value!r:.50}, and cannot be {after[name]!r:.50}"
            )


def _of_batches(config: Mapping[str, Any]) -> dict[str, Any]:
    """The options that the batches and steps of an epoch depend on, and their values."""
    data = {f"data.{name}": value for name, value in config["data"].items()}
    for name in ("data.root", "data.eval_batch_size"):
        data.pop(name, None)
    trainer = {f"trainer.{name}": config["trainer"][name] for name in _OF_STEPS}
    return {"seed_everything": config["seed_everything"], **data, **trainer}


def check_resumable(model: LightningModule, stored: Mapping[str, Any], path: str | Path) -> None:
    """Whether the weights in a checkpoint are those of the model that is to go on, by its tokens
    and classes too, which the weights count and do not name.

    Raises:
        ValueError: they are not.
    """
    load_weights(model, stored["state_dict"], path)
    for name, words in (("tokenizer", "another vocabulary"), ("classes", "other classes")):
        ours, theirs = (
            parameters.get(name) for parameters in (model.hparams, stored["hyper_parameters"])
        )
        if theirs != ours and list(theirs or ()) != list(ours or ()):
            raise ValueError(
                f"{path}: its weights are not those of this model, but of {words} than the corpus "
                "and the options give now"
            )


def restored(kind: type[M], path: str | Path, device: str) -> tuple[M, dict[str, Any]]:
    """The model of a kind in a checkpoint, for inference, and how its texts were prepared.

    Raises:
        ValueError: what ``load_checkpoint`` does not read; hyper-parameters of no model, or of one
            that the weights do not fit; a device that there is not.
    """
    stored = load_checkpoint(path)
    parameters, weights = stored["hyper_parameters"], stored["state_dict"]
    layers = parameters.get("num_layers", 1)
    if isinstance(layers, int) and layers > len(weights):  # of which it would make every one
        raise ValueError(f"{path}: {layers} layers, and {len(weights)} weights")
    try:
        # First without memory: its size is what a stranger wrote.
        with torch.device("meta"):
            load_weights(kind(**parameters), weights, path, assign=True)
        model = kind(**parameters)
        load_weights(model, weights, path)
    except (ImportError, MemoryError):
        raise
    except Exception as error:  # whatever a model of nonsense runs into
        line = line_of(error)
        told = line if str(path) in line else f"{path}: its hyper-parameters make no model: {line}"
        raise ValueError(told) from error
    try:
        model.to(device)
    except (AssertionError, RuntimeError) as error:  # of a torch without it, or of none's
        if is_of_memory(error):
            raise
        raise ValueError(f"there is no device {device!r}: {line_of(error)}") from error
    data = stored.get("datamodule_hyper_parameters")
    return model.eval(), _checked(data, path) if isinstance(data, Mapping) else {}


def _checked(data: Mapping[str, Any], path: str | Path) -> dict[str, Any]:
    """How texts were prepared, sizes that are sizes."""
    for name in ("max_length", "window"):
        size = data.get(name)
        if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 1):
            raise ValueError(f"{path}: {name} is {size!r:.50}, not a number of tokens")
    return dict(data)


def load_weights(
    model: nn.Module, weights: Mapping[str, Any], path: str | Path, *, assign: bool = False
) -> None:
    """Takes over weights, or raises a ValueError that names the first that does not fit."""
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    for name, tensor in weights.items():
        # One that does not fit may be of any size, without as much memory behind it.
        if tensor.shape != shapes.get(name) or not tensor.is_floating_point():
            continue
        if not bool(tensor.isfinite().all()):
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
