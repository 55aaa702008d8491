"""The tasks that can be trained: the classes, files and results of each."""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any, ClassVar

import torch
from lightning.pytorch import Callback
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from seqnorm.files import write_atomically

from ..data.base import PartsDataModule
from ..data.classification import TextData
from ..data.language import LanguageData
from ..data.series import SeriesData, SeriesTargetData
from ..prediction import classification as labels
from ..prediction import language as scores
from ..prediction import series
from ..results import classification_table, language_table, series_table
from ..results.pictures import confusion_matrix
from ..results.scores import (
    accuracy,
    macro_f1,
    never_predicted,
    print_scores,
    write_class_scores,
)
from ..tasks.base import TaskModule
from ..tasks.classification import TextClassification
from ..tasks.language import LanguageModelling
from ..tasks.series import SeriesClassification, SeriesRegression
from ..tasks.starting_embedding import StartEmbedding
from .run_folder import LanguageRun, RegressionRun, Run


class Task(ABC):
    """A task, by which the commands differ.

    Attributes:
        model: The name of the model in the help.
        module, data, run: The classes whose arguments are the options.
        links: The arguments of the module that the data give, by their names there.
        callbacks: The callbacks that prepare a new model.
        curves: The quantities of the learning curve.
        columns: The columns of a row of results.
        scores: The test scores among these columns, with their names and formats in a line; {} for
            a task without cross-validation.
        finished: The file in a run's folder that is written last, after the row of results.
        predict: The function of ``seqnorm predict``.
    """

    model: ClassVar[str]
    module: ClassVar[type[TaskModule[Any, Any]]]
    data: ClassVar[type[PartsDataModule]]
    run: ClassVar[type[Run]]
    links: ClassVar[Mapping[str, str]]
    callbacks: ClassVar[Sequence[type[Callback]]] = ()
    curves: ClassVar[Sequence[str]]
    columns: ClassVar[Sequence[str]]
    scores: ClassVar[Mapping[str, tuple[str, str]]] = {}
    finished: ClassVar[str]
    predict: ClassVar[Callable[..., None]]

    def forward(self, model: Any, batch: Any) -> object:
        """Run a model on a training batch, to re-estimate the statistics of BatchNorm."""
        return model(batch[0], batch.lengths)

    def class_counts(self, data: Any) -> Sequence[int]:
        """Return the sizes of the classes, if they decide how the best epoch is chosen."""
        return ()

    @abstractmethod
    def row(self, found: Any, options: Any, best: Any) -> dict[str, object]:
        """Return the task's own part of a row of results.

        Args:
            found: The value of the test metric.
            options: The options of the run.
            best: The score of the best epoch, or None without a validation.
        """

    @abstractmethod
    def show(self, title: str, loss: float, found: Any, model: Any) -> None:
        """Print the value ``found`` of the metric."""

    @abstractmethod
    def write(self, found: Any, model: Any, title: str, path: Path, tested: bool) -> None:
        """Write the file ``finished`` at ``path``, at least if there was a test."""

    def predictions(
        self, data: Any, found: Mapping[int, Tensor]
    ) -> tuple[list[str], list[list[str]]]:
        """Return headings and rows: each test example, its answer and its prediction.

        Args:
            data: The DataModule.
            found: The prediction of each test example by its index.
        """
        raise NotImplementedError(f"{type(self).__name__} has no predictions of single examples")

    def write_all(
        self, headings: Sequence[str], rows: Sequence[Sequence[Any]], name: str, folder: Path
    ) -> None:
        """Write more than the predictions of all folds into the folder of a cross-validation.

        Args:
            headings, rows: Those of ``predictions``, with the rows of all folds.
            name: The name of the corpus.
            folder: The folder.
        """
        return


class Classification(Task):
    """Text classification."""

    model = "text classifier"
    module: ClassVar[type[TaskModule[Any, Any]]] = TextClassification
    data: ClassVar[type[PartsDataModule]] = TextData
    run = Run
    links: ClassVar[Mapping[str, str]] = {
        "tokenizer_json": "tokenizer",
        "classes": "classes",
        "class_counts": "class_counts",
    }
    callbacks: ClassVar[Sequence[type[Callback]]] = (StartEmbedding,)
    curves = ("loss", "accuracy")
    columns: ClassVar[Sequence[str]] = classification_table.COLUMNS
    scores: ClassVar[Mapping[str, tuple[str, str]]] = {
        "test_accuracy": ("accuracy", ".4f"),
        "test_macro_f1": ("macro F1", ".4f"),
    }
    finished = "confusion_matrix.png"
    predict: ClassVar[Callable[..., None]] = staticmethod(labels.predict)
    units = ("tokens", "documents")  # of lengths, and of examples

    def row(self, found: Any, options: Any, best: Any) -> dict[str, object]:
        confusion = found.sum(0)
        return {
            "test_accuracy": f"{accuracy(confusion):.4f}",
            "test_macro_f1": f"{macro_f1(confusion):.4f}",
        }

    def show(self, title: str, loss: float, found: Any, model: Any) -> None:
        print_scores(title, loss, found, model.metric("test").names, model.classes, self.units)
        if warning := never_predicted(found.sum(0), model.classes, self.units[1]):
            weighted = model.hparams["class_weights"] is not None
            more = "" if weighted else "; --model.class_weights balanced weights rare classes more"
            rank_zero_info(f"{warning}{more}")

    def class_counts(self, data: Any) -> Sequence[int]:
        # Results on published corpora are compared by their accuracy.
        return data.class_counts if data.is_own else ()

    def write(self, found: Any, model: Any, title: str, path: Path, tested: bool) -> None:
        confusion = found.sum(0)
        write_class_scores(confusion, model.classes, path.with_name("classes.csv"))
        title = f"{title}: accuracy {accuracy(confusion):.4f}"
        confusion_matrix(confusion, model.classes, title, path)

    def predictions(
        self, data: Any, found: Mapping[int, Tensor]
    ) -> tuple[list[str], list[list[str]]]:
        heading, names = data.test_names
        _, answers = data.columns["test"]
        classes = data.classes
        rows: list[list[str]] = []
        for place, logits in sorted(found.items()):
            chances = (f"{chance:.6f}" for chance in logits.double().softmax(-1).tolist())
            rows.append([names[place], answers[place], classes[int(logits.argmax())], *chances])
        return [heading, "label", "predicted", *(f"p_{name}" for name in classes)], rows

    def write_all(
        self, headings: Sequence[str], rows: Sequence[Sequence[Any]], name: str, folder: Path
    ) -> None:
        classes = [heading.removeprefix("p_") for heading in headings[3:]]
        numbers = {each: number for number, each in enumerate(classes)}
        confusion = torch.zeros(len(classes), len(classes), dtype=torch.int64)
        for _, label, predicted, *_ in rows:
            confusion[numbers[label], numbers[predicted]] += 1
        write_class_scores(confusion, classes, folder / "classes.csv")
        title = f"{name}, all folds: accuracy {accuracy(confusion):.4f}"
        confusion_matrix(confusion, classes, title, folder / "confusion_matrix.png")


class Language(Task):
    """Language modelling."""

    model = "language model"
    module = LanguageModelling
    data = LanguageData
    run = LanguageRun
    links: ClassVar[Mapping[str, str]] = {"tokenizer_json": "tokenizer", "ends": "ends"}
    curves = ("loss", "perplexity")
    columns = language_table.COLUMNS
    finished = "test.json"
    predict = staticmethod(scores.predict)

    def forward(self, model: Any, batch: Any) -> object:
        return model.surprisal(batch, "estimate")

    def row(self, found: Any, options: Any, best: Any) -> dict[str, object]:
        return {
            "mode": options.data.mode + ", resets" * options.data.reset_at_documents,
            "level": options.data.level,
            "lr": options.model.lr,
            "val_loss": f"{math.nan if best is None else float(best):.4f}",
            "test_perplexity": f"{found['perplexity'].item():.4f}",
            "test_bits_per_character": f"{found['bits_per_character'].item():.4f}",
        }

    def show(self, title: str, loss: float, found: Any, model: Any) -> None:
        print(
            f"{title}: perplexity {found['perplexity']:.4f}, {found['bits_per_character']:.4f} "
            f"bits a character, loss {found['loss']:.4f} over {found['tokens']:,} tokens, "
            f"{found['characters']:,} characters"
        )

    def write(self, found: Any, model: Any, title: str, path: Path, tested: bool) -> None:
        if tested:
            values = {name: value.item() for name, value in found.items()}
            write_atomically(path, json.dumps(values, indent=1) + "\n")


class ClassesOfSeries(Classification):
    """Classification of series."""

    model = "classifier of series"
    module = SeriesClassification
    data = SeriesData
    links: ClassVar[Mapping[str, str]] = {
        "features_json": "features",
        "classes": "classes",
        "class_counts": "class_counts",
    }
    callbacks = ()
    columns = series_table.CLASSIFICATION
    predict = staticmethod(series.predict)
    units = ("steps", "series")

    def row(self, found: Any, options: Any, best: Any) -> dict[str, object]:
        return {**_rate_and_loss(options, best), **super().row(found, options, best)}


class TargetsOfSeries(Task):
    """Regression on series."""

    model = "regression on series"
    module = SeriesRegression
    data = SeriesTargetData
    run = RegressionRun
    links: ClassVar[Mapping[str, str]] = {"features_json": "features", "targets_json": "targets"}
    curves = ("loss", "mae")
    columns = series_table.REGRESSION
    scores: ClassVar[Mapping[str, tuple[str, str]]] = {
        "test_mae": ("MAE", ".5g"),
        "test_rmse": ("RMSE", ".5g"),
        "test_r2": ("R²", ".4f"),
    }
    finished = "test.json"
    predict = staticmethod(series.predict)

    def row(self, found: Any, options: Any, best: Any) -> dict[str, object]:
        errors = {f"test_{name}": f"{mean(found[name]):.6g}" for name in ERRORS}
        return {**_rate_and_loss(options, best), **errors}

    def show(self, title: str, loss: float, found: Any, model: Any) -> None:
        targets = model.targets.names
        for number, target in enumerate(targets):
            name = f"{title}, {target}" if len(targets) > 1 else title
            mae, rmse, r2 = (found[error][number] for error in ERRORS)
            print(f"{name}: MAE {mae:.6g}, RMSE {rmse:.6g}, R² {r2:.4f}")
        print(f"{title}: loss {loss:.4f}")

    def write(self, found: Any, model: Any, title: str, path: Path, tested: bool) -> None:
        if tested:
            errors = {
                target: {name: found[name][number] for name in ERRORS}
                for number, target in enumerate(model.targets.names)
            }
            write_atomically(path, json.dumps(errors, indent=1, ensure_ascii=False) + "\n")

    def predictions(
        self, data: Any, found: Mapping[int, Tensor]
    ) -> tuple[list[str], list[list[str]]]:
        heading, names = data.test_names
        answers, targets = data.corpus.test.targets, data.targets.names
        rows: list[list[str]] = [
            [names[place], *map(repr, answers[place]), *(f"{value:.9g}" for value in each.tolist())]
            for place, each in sorted(found.items())
        ]
        return [heading, *targets, *(f"predicted_{name}" for name in targets)], rows


ERRORS = ("mae", "rmse", "r2")


def _rate_and_loss(options: Any, best: Any) -> dict[str, object]:
    """Return the learning rate, and the loss of the best epoch if the loss chose it."""
    monitored = best is not None and options.run.monitor == "val_loss"
    return {"lr": options.model.lr, "val_loss": f"{float(best):.4f}" if monitored else ""}


TASKS: dict[str, Task] = {
    "classification": Classification(),
    "language": Language(),
    "series_classification": ClassesOfSeries(),
    "series_regression": TargetsOfSeries(),
}
