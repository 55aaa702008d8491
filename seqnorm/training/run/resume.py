"""Checks before a run is resumed: its folder, and what its checkpoint and its model agree on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule
from lightning.pytorch.utilities import rank_zero_warn

from ..callbacks.inside_epoch import KEY, is_held, not_held
from ..checkpoints.checkpoint_file import Checkpoint
from ..checkpoints.stored_model import load_weights
from .config_files import check_config

# The options of a trainer that the steps of an epoch depend on.
_TRAINER = (
    "precision",
    "accumulate_grad_batches",
    "limit_train_batches",
    "overfit_batches",
    "sync_batchnorm",
    "fast_dev_run",
)


def config_of_run(checkpoint: Checkpoint) -> Path | None:
    """Return the config.yaml of the run that a checkpoint lies in, or None if it lies elsewhere.

    The file is checked as one that is given by ``--config``. Nothing in a checkpoint itself is a
    configuration.

    Raises:
        ValueError: The file is not valid.
    """
    folder = Path(checkpoint.path).absolute().parent
    path = folder.parent / "config.yaml"
    if folder.name != "checkpoints" or not path.is_file():
        return None
    check_config(path)
    return path


def config_to_resume(checkpoint: Checkpoint) -> Path:
    """Return the config.yaml of the run to resume.

    Raises:
        ValueError: The checkpoint does not lie in a run's folder.
    """
    path = config_of_run(checkpoint)
    if path is None:
        raise ValueError(
            f"{checkpoint.path} is not where a run left it, in checkpoints/ beside the run's "
            "config.yaml, so the run cannot be resumed: move it back there, or begin a new run "
            "without --ckpt_path; test, validate and predict need the checkpoint alone"
        )
    return path


def check_progress(checkpoint: Checkpoint) -> None:
    """Refuse a checkpoint that a run cannot be resumed from.

    A run is resumed at the end of an epoch, where batches, carried states and draws begin anew, or
    inside an epoch if the checkpoint holds these.

    Raises:
        ValueError: The checkpoint was written inside an epoch without them, or does not state where
            it was written.
    """
    stored, path = checkpoint.contents, checkpoint.path
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
            f"{path} was written inside epoch {processed} without the state from which a run is "
            f"resumed there{other}"
        )
    if not whole and not inside:
        rank_zero_warn(
            f"{path} was written when trainer.max_steps or trainer.max_time had ended an epoch: "
            "the rest of its batches are left out"
        )


def check_same_batches(checkpoint: Checkpoint, config: Mapping[str, Any]) -> None:
    """Refuse to resume a run inside an epoch with other options for its batches and steps.

    Args:
        checkpoint: The checkpoint.
        config: The configuration to resume with.

    Raises:
        ValueError: An option has another value; the error names it.
    """
    if KEY not in checkpoint.contents:
        return
    now = options_of_an_epoch(config)
    for name, value in checkpoint.contents[KEY]["options"].items():
        if value != now.get(name):
            raise ValueError(
                f"{checkpoint.path} was written inside an epoch, which must end with the options "
                f"of its beginning: {name} was {value!r:.50}, and cannot be {now.get(name)!r:.50}"
            )


def options_of_an_epoch(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that the batches and steps of an epoch depend on, by name."""
    data = {f"data.{name}": value for name, value in config["data"].items()}
    for name in ("data.root", "data.eval_batch_size"):
        data.pop(name, None)
    trainer = {f"trainer.{name}": config["trainer"][name] for name in _TRAINER}
    return {"seed_everything": config["seed_everything"], **data, **trainer}


def check_resumable(model: LightningModule, checkpoint: Checkpoint) -> None:
    """Load the weights of a checkpoint into the model to resume with.

    Tokens, classes, features and targets must also be the same, because weights do not name them.

    Raises:
        ValueError: The weights are not those of the model.
    """
    load_weights(model, checkpoint.weights, checkpoint.path)
    for name, words in (
        ("tokenizer", "another vocabulary"),
        ("classes", "other classes"),
        ("features", "other features or another scale of them"),
        ("targets", "other targets or another scale of them"),
    ):
        ours, theirs = model.hparams.get(name), checkpoint.hyper_parameters.get(name)
        if theirs != ours and list(theirs or ()) != list(ours or ()):
            raise ValueError(
                f"{checkpoint.path}: its weights are not those of this model, but of {words} than "
                "the corpus and the options give now"
            )
