"""``seqnorm fit``: train a model and test its best epoch, or resume a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional

import yaml
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.utilities import rank_zero_info

from seqnorm.extra import need
from seqnorm.files import commit

from ..checkpoints.checkpoint_file import Checkpoint, read_checkpoint, trust
from ..checkpoints.stored_model import load_weights
from ..data.base import PartsDataModule
from ..results.rows import append_once
from .evaluate import evaluated
from .loggers import check_loggers, close, log_end
from .options import command_parser, parse
from .quiet import describe, warn_of_slowness
from .rate_finder import find_rate
from .resume import check_progress, check_resumable, check_same_batches, config_to_resume
from .task import TASKS, Task
from .trainer import add_trainer, make_trainer


class Trained(NamedTuple):
    """A run that has ended.

    Attributes:
        data: Its data.
        row: Its row of results, or None without a test.
    """

    data: PartsDataModule
    row: dict[str, object] | None


def fit_parser(task: Task) -> LightningArgumentParser:
    """Return the parser of the command."""
    words = (
        f"Train a {task.model} and test its best epoch, or resume a run that was interrupted. "
        "seqnorm fit FILE is short for seqnorm fit --data.corpus FILE."
    )
    parser = training_parser("fit", words, task)
    parser.add_argument(
        "--ckpt_path",
        type=Optional[str],
        default=None,
        help="A checkpoint in a run's folder, to resume the run from.",
    )
    parser.add_argument(
        "--find_lr",
        type=bool,
        default=False,
        help="Train for 100 steps with a rising learning rate, suggest a rate, and end.",
    )
    parser.add_argument(
        "--folds",
        type=Optional[int],
        default=None,
        help="Cross-validate: train as many runs, each tested on another part of the examples, and "
        "show the mean and the standard deviation of their scores.",
    )
    parser.add_argument(
        "--folds_path",
        type=Optional[str],
        default=None,
        help="The folder of an interrupted cross-validation to go on with, as runs/my/folds_0. All "
        "other options are those of its beginning.",
    )
    return parser


def training_parser(command: str, description: str, task: Task) -> LightningArgumentParser:
    """Return a parser with the options of a training run."""
    (name,) = (name for name, known in TASKS.items() if known is task)
    parser = command_parser(command, description, name)
    parser.add_argument(
        "--seed_everything", type=int, default=0, help="The seed of all random numbers."
    )
    add_trainer(parser)
    parser.add_lightning_class_args(task.module, "model")
    parser.add_lightning_class_args(task.data, "data")
    parser.add_class_arguments(task.run, "run")
    parser.link_arguments("seed_everything", "data.seed")
    for source, target in task.links.items():
        parser.link_arguments(f"data.{source}", f"model.{target}", apply_on="instantiate")
    return parser


def plain_config(parser: LightningArgumentParser, options: Any) -> dict[str, Any]:
    """Return the options as plain values, without those of this call alone.

    Options that are null are included.
    """
    config = yaml.safe_load(parser.dump(options, skip_unset=False))
    left_out = ("config", "ckpt_path", "find_lr", "folds", "folds_path")
    return {key: value for key, value in config.items() if key not in left_out}


def parsed(
    task: Task, arguments: Sequence[str], checkpoint: Checkpoint | None
) -> tuple[LightningArgumentParser, Any]:
    """Return the parser of the command and its options.

    A resumed run has the options in its folder's config.yaml; those on the command line override
    them.
    """
    parser = fit_parser(task)
    before: list[str] = []
    if checkpoint is not None:
        before = ["--config", str(config_to_resume(checkpoint))]
        check_progress(checkpoint)
    return parser, parse(parser, [*before, *arguments], checkpoint)


def fit_one(
    task: Task,
    parser: LightningArgumentParser,
    options: Any,
    checkpoint: Checkpoint | None,
    written: str,
    folder: Path | None = None,
    callbacks: Sequence[Callback] = (),
) -> Trained | None:
    """Train a model and test its best epoch, or resume a run from ``checkpoint``.

    Args:
        task: The task.
        parser, options: The value of ``parsed``.
        checkpoint: The checkpoint of the run to resume.
        written: The options as the user wrote them, for the row of results.
        folder: The folder of the run; None for the next one, or that of the checkpoint. Runs whose
            folder is given follow one another, which needs a single process.
        callbacks: Further callbacks.

    Returns:
        The data and the row of results, or None if the options end the run before.

    Raises:
        ValueError: A run whose folder is given would have several processes.
    """
    config = plain_config(parser, options)
    if checkpoint is not None:
        check_same_batches(checkpoint, config)
    made = build(task, parser, options)
    model, data, run, trainer_options = made.model, made.data, made.run, made.trainer.as_dict()
    if trainer_options["fast_dev_run"]:
        trainer = make_trainer(trainer_options, model, resumed=checkpoint)
        trainer.fit(model, datamodule=data, ckpt_path=options.ckpt_path)
        return None
    need("seqnorm fit", "matplotlib")  # for the pictures at the end
    if options.find_lr:
        picture = run.place(options.data.corpus) / "learning_rates.png"
        find_rate(trainer_options, model, data, picture)
        return None
    if trainer_options["logger"] is None:
        check_loggers(run.loggers)
    run.check(model)
    if checkpoint is not None:  # raises now, in one line, if the checkpoint does not fit
        check_resumable(model, checkpoint)
        data.check_same(checkpoint.contents, checkpoint.path)
    if folder is None:
        path = run.start(options.data.corpus, checkpoint)
    else:
        path = folder
        path.mkdir(exist_ok=checkpoint is not None)
    rank_zero_info(f"Everything that the run writes is in {path}")
    trainer = train(task, made, config, path, checkpoint, callbacks, alone=folder is not None)
    loggers = list(trainer.loggers)
    found, tested = _test_best(task, trainer, made)
    row: dict[str, object] | None = None
    if found is not None and trainer.is_global_zero:
        if tested:
            best = run.best.best_model_score  # None without a validation
            row = {
                "corpus": data.corpus.name,
                "cell": options.model.cell,
                "norm": options.model.norm or "none",
                "seed": options.seed_everything,
                **task.row(found, options, best),
                "epochs": trainer.current_epoch,
                "seconds": f"{run.timer.time_elapsed():.1f}",
                "config": written,
                "commit": commit(),
            }
            if run.results is not None:
                finished = (path / task.finished).exists()
                marker = path / "result.csv"
                if finished or not append_once(run.results, row, marker, task.columns):
                    rank_zero_info("The run had finished before: run.results gets no second row.")
        title = f"{data.corpus.name} {'test' if tested else 'validation'}"
        task.write(found, model, title, path / task.finished, tested)
        metrics = {
            name: float(value)
            for name, value in trainer.callback_metrics.items()
            if name.startswith("test_" if tested else "val_")
        }
        if run.best.best_model_score is not None:
            metrics[f"best_{run.monitor}"] = float(run.best.best_model_score)
        pictures = [path / "learning_curve.png", path / task.finished]
        log_end(loggers, config, metrics, [each for each in pictures if each.suffix == ".png"])
    if folder is not None:
        close(loggers)
    rank_zero_info(f"The run is in {path}")
    return Trained(data, row)


def build(task: Task, parser: LightningArgumentParser, options: Any) -> Any:
    """Build the model, the data and the run that the options describe, and read the corpus.

    Errors in the corpus are raised here, before the run has a folder.
    """
    seed_everything(options.seed_everything, workers=True)
    try:
        made = parser.instantiate(options)
    except TypeError as error:  # an argument that no signature declares, as an option of a norm
        raise ValueError(str(error)) from error
    rank_zero_info(describe(made.model.network))
    made.data.setup("fit")
    made.run.choose_monitor(task.class_counts(made.data))
    return made


def train(
    task: Task,
    made: Any,
    config: Mapping[str, Any],
    path: Path,
    checkpoint: Checkpoint | None = None,
    callbacks: Sequence[Callback] = (),
    alone: bool = False,
) -> Trainer:
    """Train the model that ``build`` made, and write the files of its run in the folder ``path``.

    Args:
        task: The task.
        made: The result of ``build``.
        config: The configuration of the run.
        path: The folder.
        checkpoint: The checkpoint to resume from.
        callbacks: Callbacks in addition to those of the run.
        alone: True if there may be only one process.

    Raises:
        ValueError: There may be only one process, and the trainer has several.
    """
    run, options = made.run, made.trainer.as_dict()
    logger = options["logger"]
    trainer = make_trainer(
        options,
        made.model,
        [*run.callbacks(path, config, task, options["max_time"]), *callbacks],
        checkpoint,
        max_time=None,  # the run's own timer has the limit
        logger=run.make_loggers(path, checkpoint) if logger is None else logger,
    )
    if alone and trainer.world_size > 1:
        raise ValueError(
            "several runs that follow one another need a single process, not "
            f"{trainer.world_size}: set --trainer.devices 1 and --trainer.num_nodes 1"
        )
    warn_of_slowness(trainer)
    ckpt_path = None if checkpoint is None else checkpoint.path
    trainer.fit(made.model, datamodule=made.data, ckpt_path=ckpt_path)
    return trainer


def _test_best(task: Task, trainer: Trainer, made: Any) -> tuple[Any, bool]:
    """Test the best epoch, or validate it if the corpus has no test part.

    Returns:
        The metric, None if there are no batches, and whether it is that of a test.
    """
    model, tested = made.model, made.data.has_test
    best: str | None = made.run.best.best_model_path or None
    if best is None:
        rank_zero_info(
            f"Training ended at step {trainer.global_step} without a validation, so no epoch is "
            "the best: what is shown is the last state."
        )
    if not tested:
        shown = "the last state" if best is None else "the best epoch"
        rank_zero_info(f"There is no test part: this is how {shown} is in validation.")
        # The callbacks and loggers would take this for another validation of training.
        trainer.callbacks = []  # type: ignore[attr-defined]  # set by a connector
        trainer.loggers = []
    if best is not None:
        # The trainer's own loading would let the callback for averaged weights replace the average
        # in the checkpoint by the weights of the last step.
        trust(best)
        load_weights(model, read_checkpoint(best).weights, best)
    try:
        found = evaluated(task, trainer, model, made.data, "test" if tested else "val")
    except MisconfigurationException as error:  # a limit that leaves no batch
        rank_zero_info(f"Nothing is shown: {error}")
        found = None
    return found, tested
