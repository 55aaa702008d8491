"""The command line: fit, validate and test by Lightning's CLI, and predict."""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, Literal

import yaml
from jsonargparse import auto_cli
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.plugins import DoublePrecision, HalfPrecision
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.exceptions import SIGTERMException

from seqnorm.extra import need

from .callbacks import RunProgressBar
from .checkpoint import load_checkpoint, trust
from .classification import TextClassification
from .configs import check_configs
from .distributed import EndTogether, plugins
from .errors import one_line
from .inside_epoch import KEY
from .metrics import accuracy, macro_f1
from .parsing import keep_texts, mode
from .pictures import confusion_matrix
from .prediction import predict
from .report import print_report
from .restoring import check_progress, check_resumable, check_same_batches, load_weights
from .results import COLUMNS, append_once, commit
from .run import Run
from .stored_configs import check_classes, check_results, config_of
from .text import TextData

TRAINER = {
    "max_epochs": 6,
    "gradient_clip_val": 1.0,
    "log_every_n_steps": 10,
    "use_distributed_sampler": False,  # BucketBatchSampler divides batches among processes itself
}

DESCRIPTION = """Text classifiers with normalised recurrent layers: fit trains one and tests its
best epoch, validate and test evaluate a checkpoint, predict labels lines of text with one."""
HELP = {
    "fit": "Train a classifier, or go on with a run that was interrupted.",
    "validate": "Evaluate a checkpoint on the validation part.",
    "test": "Evaluate a checkpoint on the test part.",
}
MORE = "More subcommands have options of their own: train.py predict --help, train.py study --help"
TASKS = Literal["classification", "language"]


class TextCLI(LightningCLI):
    """Lightning's CLI for text classification; a task of another kind derives from it.

    ``fit`` tests the best epoch at its end. A checkpoint given by ``--ckpt_path`` brings the
    configuration it was trained with, over which the command line has precedence. ``columns`` are
    those of a row of results, and ``finished`` is the file in a run's folder that says that it has
    been tested, and has its row.
    """

    model: TextClassification
    datamodule: TextData
    task: ClassVar[TASKS] = "classification"
    kinds: ClassVar[tuple[type[LightningModule], type[LightningDataModule], type[Run]]] = (
        TextClassification,
        TextData,
        Run,
    )
    description = DESCRIPTION
    help: ClassVar[dict[str, str]] = HELP
    columns: ClassVar[Sequence[str]] = COLUMNS
    finished: ClassVar[str] = "confusion_matrix.png"
    predict: ClassVar[Callable[..., None]] = staticmethod(predict)

    def __init__(self, args: ArgsType = None) -> None:
        super().__init__(
            *self.kinds[:2],
            save_config_callback=None,
            trainer_defaults=TRAINER,
            parser_kwargs={
                "description": self.description,
                "epilog": MORE,
                "exit_on_error": False,
                "parser_mode": mode(),
                **{
                    command: {"description": text, "exit_on_error": False, "parser_mode": mode()}
                    for command, text in self.help.items()
                },
            },
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,  # the constructors save their arguments themselves
            args=args,
        )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """What can be done, and the arguments of the trainer's methods that are not asked for."""
        return {
            "fit": {"model", "datamodule", "weights_only", "train_dataloaders", "val_dataloaders"},
            "validate": {"model", "datamodule", "weights_only", "dataloaders", "verbose"},
            "test": {"model", "datamodule", "weights_only", "dataloaders", "verbose"},
        }

    def _add_subcommands(self, parser: LightningArgumentParser, **kwargs: Any) -> None:
        super()._add_subcommands(parser, **kwargs)
        # Lightning lists its trainer's methods with the descriptions that those have.
        assert parser._subcommands_action is not None
        for listed in parser._subcommands_action._choices_actions:
            listed.help = self.help[listed.dest]

    def _prepare_subcommand_parser(self, *args: Any, **kwargs: Any) -> LightningArgumentParser:
        parser = super()._prepare_subcommand_parser(*args, **kwargs)
        keep_texts(parser)
        return parser

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument(
            "--seed_everything", type=int, default=0, help="Seed of all that is random."
        )
        parser.add_argument(
            "--task",
            type=TASKS,
            default=self.task,
            help="What is trained; options and their defaults are those of the task.",
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_class_arguments(self.kinds[2], "run")
        parser.link_arguments("seed_everything", "data.seed")
        parser.link_arguments("data.tokenizer_json", "model.tokenizer", apply_on="instantiate")
        self.link_classes(parser)

    def link_classes(self, parser: LightningArgumentParser) -> None:
        """What a model takes from its data beyond the tokenizer."""
        parser.link_arguments("data.classes", "model.classes", apply_on="instantiate")

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        self.arguments: list[str] = sys.argv[1:] if args is None else list(args)
        super().parse_arguments(parser, args)

    def _parse_ckpt_path(self) -> None:
        """Parses again, on top of the checkpoint's configuration.

        Lightning's own lets the checkpoint's model arguments win over the command line, silently,
        and knows nothing of the rest.
        """
        command = self.config["subcommand"]
        self.checkpoint: str | None = self.config[command]["ckpt_path"]
        if self.checkpoint is None:
            if command != "fit":
                self.parser.error(
                    f"{command} needs --ckpt_path, as runs/r8/version_0/checkpoints/best.ckpt"
                )
            return
        contents = load_checkpoint(self.checkpoint)
        stored = config_of(contents, self.checkpoint)
        if command == "fit" and Path(self.checkpoint).absolute().parent.name != "checkpoints":
            self.parser.error(
                f"{self.checkpoint} is not where a run left it, in its folder's checkpoints/, so "
                "the run cannot be resumed"
            )
        if command == "fit":
            check_progress(contents, self.checkpoint)
        after = self.arguments.index(command) + 1
        base = ["--config", stored]
        alone = self.parser.parse_args([command, *base])
        check_classes(alone[command].as_dict(), self.checkpoint)
        if command == "fit" and "--run.results" not in " ".join(self.arguments):
            check_results(alone["fit"]["run"]["results"], self.checkpoint)
        self.config = self.parser.parse_args(
            [*self.arguments[:after], *base, *self.arguments[after:]]
        )
        if command == "fit" and KEY in contents:
            check_same_batches(
                alone["fit"].as_dict(), self.config["fit"].as_dict(), self.checkpoint
            )
        if command != "fit":
            self.config[command]["data"]["vocabulary"] = self.checkpoint

    def _plain_config(self) -> dict[str, Any]:
        """The configuration without what is not part of it: config files and the checkpoint."""
        # With what is null, by an argument that jsonargparse has called skip_none and skip_unset.
        config = yaml.safe_load(self.parser.dump(self.config, "parser_mode", False))["fit"]
        return {key: value for key, value in config.items() if key not in ("config", "ckpt_path")}

    def instantiate_classes(self) -> None:
        try:
            super().instantiate_classes()
        except TypeError as error:  # of an argument that no signature declares, as a norm's option
            raise ValueError(str(error)) from error

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        # Here rather than in the trainer, so that what is wrong with a corpus is found early.
        self.datamodule.setup(str(self.subcommand))
        options = self.config_init[self.subcommand]["trainer"]
        given = options["callbacks"] or []
        callbacks = [*([given] if isinstance(given, Callback) else given), EndTogether()]
        if any(isinstance(callback, ProgressBar) for callback in callbacks):
            kwargs["enable_progress_bar"] = True  # which is of the run's own bar
        elif options["enable_progress_bar"] is not False:
            callbacks.append(RunProgressBar())
        logger: Any = options["logger"]
        if self.subcommand == "fit" and not options["fast_dev_run"]:
            # Of the log, before there is a folder for it, and of the pictures at the end.
            need("train.py fit", "matplotlib", *(["tensorboard"] if logger is None else []))
            self.run: Run = self.config_init["fit"]["run"]
            self.run.check(self.model)
            if self.checkpoint is not None:  # found here, what does not fit has one line
                stored = load_checkpoint(self.checkpoint)
                check_resumable(self.model, stored, self.checkpoint)
                self.datamodule.check_same(stored, self.checkpoint)
            self.path = self.run.start(self.config["fit"]["data"]["corpus"], self.checkpoint)
            # Where there is a timer, Lightning leaves the limit to it, and does not tell it.
            limit, kwargs["max_time"] = options["max_time"], None
            callbacks += self.run.callbacks(self.path, self._plain_config(), limit)
            logger = self.run.logger(self.path, self.checkpoint) if logger is None else logger
        kwargs |= {"callbacks": callbacks, "logger": logger or False, "plugins": plugins(options)}
        trainer = super().instantiate_trainer(**kwargs)
        # Where max_steps is given Lightning takes a run that goes on from the end of an epoch for
        # one that was interrupted inside it, and counts that epoch twice.
        trainer.fit_loop._iteration_based_training = lambda: False  # type: ignore[method-assign]  # no option
        if isinstance(trainer.precision_plugin, (DoublePrecision, HalfPrecision)):
            # Lightning does so once it has restored the weights and made their average, which in
            # double precision then would be those of single precision.
            trainer.precision_plugin.convert_module(self.model)
        return trainer

    def after_fit(self) -> None:
        """Tests the best epoch, and writes down what came out."""
        if self.config_init["fit"]["trainer"]["fast_dev_run"]:
            return
        tested = self.datamodule.has_test
        best: str | None = self.run.best.best_model_path or None
        if best is None:
            rank_zero_info(
                f"Training ended at step {self.trainer.global_step} without a validation, so no "
                "epoch is the best: what is shown is the last state."
            )
        else:
            trust(best)
        if not tested:
            shown = "the last state" if best is None else "the best epoch"
            rank_zero_info(f"There is no test part: this is how {shown} is in validation.")
            # What averages weights and logs would take this for one more validation of training.
            self.trainer.callbacks = []  # type: ignore[attr-defined]
            self.trainer.loggers = []
        try:
            found = self._evaluate("test" if tested else "val", best)
        except MisconfigurationException as error:  # of a share of the batches that is none
            rank_zero_info(f"Nothing is shown: {error}")
            found = None
        if found is None:
            rank_zero_info(f"The run is in {self.path}")
            return
        if not self.trainer.is_global_zero:
            return
        if tested and self.run.results is not None:
            row, marker = self._row(found), self.path / "result.csv"
            if (self.path / self.finished).exists() or not append_once(
                self.run.results, row, marker, self.columns
            ):
                rank_zero_info("The run had finished before: run.results gets no second row.")
        self.leave(found, tested)
        rank_zero_info(f"The run is in {self.path}")

    def _row(self, found: Any) -> dict[str, object]:
        options = self.config["fit"]
        return {
            "corpus": self.corpus,
            "cell": options["model"]["cell"],
            "norm": options["model"]["norm"] or "none",
            "seed": options["seed_everything"],
            **self.result(found),
            "epochs": self.trainer.current_epoch,
            "seconds": f"{self.run.timer.time_elapsed():.1f}",
            "config": shlex.join(self.arguments[1:]),
            "commit": commit(),
        }

    @property
    def corpus(self) -> str:
        """The corpus's name."""
        return self.datamodule.corpus.name

    def result(self, found: Any) -> dict[str, object]:
        """What a row of results has of the task's own; ``found`` is what the metric came to."""
        confusion = found.sum(0)
        return {
            "test_accuracy": f"{accuracy(confusion):.4f}",
            "test_macro_f1": f"{macro_f1(confusion):.4f}",
        }

    def leave(self, found: Any, tested: bool) -> None:
        """Writes what is to be in the run's folder, ``finished`` at least if there was a test."""
        confusion_matrix(found.sum(0), self.model.classes, self.path / self.finished)

    def show(self, title: str, loss: float, found: Any) -> None:
        """Prints what the metric came to."""
        print_report(title, loss, found, self.model.metric("test").names)

    def test(self, model: LightningModule, datamodule: LightningDataModule, ckpt_path: str) -> None:
        """Prints how good the weights in ``ckpt_path`` are on the test part."""
        self._show("test", ckpt_path)

    def validate(
        self, model: LightningModule, datamodule: LightningDataModule, ckpt_path: str
    ) -> None:
        """Prints how good the weights in ``ckpt_path`` are on the validation part."""
        self._show("val", ckpt_path)

    def _show(self, stage: Literal["test", "val"], ckpt_path: str) -> None:
        if self._evaluate(stage, ckpt_path) is None:
            raise ValueError(f"there is nothing to show: trainer.limit_{stage}_batches is 0")

    def _evaluate(self, stage: Literal["test", "val"], checkpoint: str | None) -> Any:
        """What the metric comes to with the weights in a checkpoint, or those that the model has;
        None where there are no batches."""
        # Not by the trainer: its callback for averaged weights would replace the average that the
        # checkpoint holds by the weights of the last step.
        if checkpoint is not None:
            load_weights(self.model, load_checkpoint(checkpoint)["state_dict"], checkpoint)
        evaluate = self.trainer.test if stage == "test" else self.trainer.validate
        evaluated = evaluate(self.model, datamodule=self.datamodule, verbose=False)
        if not evaluated:
            rank_zero_info(f"trainer.limit_{stage}_batches is 0: nothing is evaluated.")
            return None
        (values,) = evaluated
        found = self.model.metric(stage).compute()
        if self.trainer.is_global_zero:
            title = f"{self.corpus} {'test' if stage == 'test' else 'validation'}"
            self.show(title, values[f"{stage}_loss"], found)
        return found


def task_of(arguments: Sequence[str]) -> str | None:
    """The task that a command line is about: --task, or what its checkpoint or, of its config
    files, the last that says so has been written for; None if nothing says so.

    What cannot be read is left to the parser of the whole command line, which says what is wrong.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--task")
    parser.add_argument("--ckpt_path")
    parser.add_argument("-c", "--config", action="append", default=[])
    with suppress(argparse.ArgumentError):
        found, _ = parser.parse_known_args(list(arguments))
        if found.task is not None:
            return str(found.task)
        stated: list[Any] = []
        if found.ckpt_path is not None:
            with suppress(ValueError):
                stored = load_checkpoint(found.ckpt_path)
                # One of a Lightning trainer of one's own has no configuration that says so.
                if "classes" not in stored["hyper_parameters"]:
                    stated.append({"task": "language"})
                stated.append(stored.get("config"))
        for path in found.config:
            with suppress(OSError, ValueError, yaml.YAMLError):
                stated.append(yaml.safe_load(Path(path).read_text(encoding="utf-8")))
        named = [part["task"] for part in stated if isinstance(part, dict) and "task" in part]
        return str(named[-1]) if named else None
    return None


def main(
    tasks: Mapping[str, type[TextCLI]] | None = None,
    **others: Callable[[Sequence[str], str], None],
) -> None:
    """Runs the command in ``sys.argv``.

    Args:
        tasks: what can be trained besides classifiers, by the name that ``task`` has in a
            configuration.
        others: more subcommands by name; each takes its arguments and how it is called.
    """
    if sys.argv[1:2] and sys.argv[1] in others:
        others[sys.argv[1]](sys.argv[2:], f"train.py {sys.argv[1]}")
        return
    # Documents are encoded once and padded as they are needed; worker processes only add start-up.
    warnings.filterwarnings("ignore", ".*does not have many workers")
    # A resumed run writes on where it was.
    warnings.filterwarnings("ignore", "Checkpoint directory .* exists and is not empty")
    # Lightning calls a function of torch that torch 2.13 has deprecated.
    warnings.filterwarnings("ignore", ".*LeafSpec.*", FutureWarning)
    with one_line():
        check_configs(sys.argv[1:])
    cli = (tasks or {}).get(task_of(sys.argv[2:]) or "", TextCLI)
    if sys.argv[1:2] == ["predict"]:
        options: dict[str, Any] = {"prog": "train.py predict", "exit_on_error": False}
        options["parser_mode"] = mode()
        with one_line():
            auto_cli(cli.predict, args=sys.argv[2:], as_positional=False, **options)
        return
    try:
        with one_line():
            cli()
    except SIGTERMException:
        # It carries no exit status, and a run that was cut short must not look like a success.
        sys.exit(128 + signal.SIGTERM)
