"""The trainer of all commands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelSummary, ProgressBar
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.plugins import CheckpointIO, DoublePrecision, HalfPrecision
from lightning.pytorch.plugins.layer_sync import LayerSync

from ..callbacks.progress_bar import RunProgressBar
from ..checkpoints.checkpoint_file import AtomicCheckpointIO, Checkpoint
from ..distributed import EndTogether, SyncBatchNorm

DEFAULTS = {
    "max_epochs": 6,
    "gradient_clip_val": 1.0,
    "log_every_n_steps": 10,
    "use_distributed_sampler": False,  # BucketBatchSampler divides batches among processes
}


def add_trainer(parser: LightningArgumentParser) -> None:
    """Add the options of the trainer to a parser."""
    parser.add_lightning_class_args(Trainer, "trainer")
    parser.set_defaults({f"trainer.{name}": value for name, value in DEFAULTS.items()})


def make_trainer(
    options: Mapping[str, Any],
    model: LightningModule,
    callbacks: Sequence[Callback] = (),
    resumed: Checkpoint | None = None,
    **changed: Any,
) -> Trainer:
    """Return the trainer of a command.

    Args:
        options: The arguments of ``Trainer`` by name.
        model: The model, which is converted to the trainer's precision.
        callbacks: The callbacks in addition to those in the options.
        resumed: The checkpoint of the run to resume.
        changed: The arguments of ``Trainer`` that replace those in the options.
    """
    given = options["callbacks"] or []
    used = [*([given] if isinstance(given, Callback) else given), EndTogether()]
    arguments = {**options, **changed}
    if any(isinstance(callback, ProgressBar) for callback in used):
        arguments["enable_progress_bar"] = True
    elif options["enable_progress_bar"] is not False:
        used.append(RunProgressBar())
    if not any(isinstance(callback, ModelSummary) for callback in used):
        # Lightning's table has a column of operations that are never counted.
        arguments["enable_model_summary"] = bool(options["enable_model_summary"])
    arguments["callbacks"] = [*used, *callbacks]
    arguments["logger"] = arguments["logger"] or False
    arguments["plugins"] = plugins(options, resumed)
    trainer = Trainer(**arguments)
    # With max_steps, Lightning would take a run that is resumed at the end of an epoch for one that
    # was interrupted inside it, and count that epoch twice.
    trainer.fit_loop._iteration_based_training = lambda: False  # type: ignore[method-assign]  # no option
    if isinstance(trainer.precision_plugin, (DoublePrecision, HalfPrecision)):
        # Lightning converts the model after it has restored the weights and copied them for their
        # average, which in double precision would then be in single precision.
        trainer.precision_plugin.convert_module(model)
    return trainer


def plugins(options: Mapping[str, Any], resumed: Checkpoint | None = None) -> list[Any]:
    """Return the plugins in the options of a trainer, and those of this library.

    These write checkpoints atomically and apply ``sync_batchnorm`` to the norms of this library,
    unless a given plugin does so.
    """
    given = options["plugins"] or []
    found = list(given) if isinstance(given, (list, tuple)) else [given]
    if not any(isinstance(plugin, CheckpointIO) for plugin in found):
        found.append(AtomicCheckpointIO(resumed))
    if options["sync_batchnorm"] and not any(isinstance(plugin, LayerSync) for plugin in found):
        found.append(SyncBatchNorm())
    return found
