"""Numeric series: read, split, scaled and batched by length."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from lightning.pytorch.utilities import rank_zero_info

from seqnorm.datasets import (
    SERIES_CORPORA,
    DatasetError,
    Scaling,
    Series,
    SeriesCorpus,
    SeriesDataset,
    SeriesLayout,
    collate_series,
    load_series,
    split_last_series,
    split_series,
)
from seqnorm.datasets.documents import too_few_classes
from seqnorm.datasets.series.batching import SeriesItem
from seqnorm.datasets.series.containers import Answer
from seqnorm.datasets.series.corpora import load_one_part

from .base import PartsDataModule
from .batches import Batches


class SeriesDataModule(PartsDataModule):
    """Series in parts, scaled by the mean and standard deviation of the training part.

    Args:
        corpus: The name of a corpus (japanese_vowels), or the path of your own file or of a folder
            with the files train, validation and test: .npz, .parquet, .csv, .tsv or .ts.
        id_column: The column of the ids in your own files; null to guess it.
        time_column: The column of the times in a file with one row for each step; null to guess it.
        feature_columns: The columns of the features, as [x, y]; null for all columns that are left,
            or, in a Parquet file with lists, for all lists.
        delimiter: The character that separates the fields of your own .csv and .tsv files: comma,
            semicolon, tab, pipe or another character. null takes the only one in the header, or
            the usual one of the file's ending.
        test_fraction: The part of your own series to split off as a test part if they have none.
        standardise: Scale each feature to mean 0 and standard deviation 1 over all steps of the
            training part.
        batch_size: The number of series in a batch.
        validation: The series that are split off for validation: random, or last in the corpus.
        options: The other arguments of ``PartsDataModule``.

    Raises:
        ValueError: ``batch_size`` is below 1.
    """

    answer: ClassVar[Answer]
    examples = "series"
    instead = "use seqnorm predict"
    no_test = (
        "set test_fraction before training, to split one off, or give a folder or a .npz file with "
        "a train and a test part"
    )

    def __init__(
        self,
        corpus: str = "japanese_vowels",
        *,
        id_column: str | None = None,
        time_column: str | None = None,
        feature_columns: list[str] | None = None,
        delimiter: str | None = None,
        test_fraction: float | None = None,
        standardise: bool = True,
        batch_size: int = 16,
        validation: Literal["random", "last"] = "random",
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        self._datasets: dict[str, SeriesDataset] = {}

    def _layout(self) -> SeriesLayout:
        """Return the options for reading; a checkpoint's features are found by their names."""
        options = self.chosen("id_column", "time_column", "delimiter")
        for name in ("feature_columns", "target_columns"):
            columns = self.hparams.get(name)
            options[name] = None if columns is None else tuple(columns)
        label, wanted = self.hparams.get("label_column"), None
        if self.adopted is not None:
            wanted = named_features(self.features)
        return SeriesLayout(answer=self.answer, label_column=label, wanted=wanted, **options)

    @cached_property
    def corpus(self) -> SeriesCorpus:
        name, options = self.hparams["corpus"], self.chosen("root", "test_fraction")
        if self._alone != "train" and self.fold is not None:
            raise ValueError(f"{name} is evaluated as a whole; leave folds and fold out")
        if self._alone != "train" and Path(name).is_file():
            return load_one_part(name, self._layout())
        return load_series(name, layout=self._layout(), fold=self.fold, **options)

    @cached_property
    def _series(self) -> dict[str, Series]:
        train, validation = self.corpus.train, self.corpus.validation
        fraction = self.hparams["validation_fraction"]
        if validation is None and self.hparams["validation"] == "last":
            train, validation = split_last_series(train, fraction)
        elif validation is None:
            train, validation = split_series(train, fraction, self.hparams["split_seed"])
        found = {"train": train, "validation": validation}
        return found if self.corpus.test is None else {**found, "test": self.corpus.test}

    @property
    def columns(self) -> dict[str, tuple[Sequence[str | bytes], ...]]:
        found: dict[str, tuple[Sequence[str | bytes], ...]] = {}
        for part, series in self._series.items():
            numbers = [f"{tuple(v.shape)}:".encode() + v.numpy().tobytes() for v in series.values]
            answers = series.labels or [repr(targets) for targets in series.targets]
            found[part] = (numbers, answers)
        return found

    @property
    def test_names(self) -> tuple[str, Sequence[str]]:
        """The heading of a column that names the test series, and these names: the ids."""
        return "id", () if self.corpus.test is None else self.corpus.test.ids

    @property
    def has_test(self) -> bool:
        return self.corpus.test is not None

    @cached_property
    def features(self) -> Scaling:
        """The scaling of the features by the training part, or that of a checkpoint."""
        if self.adopted is not None:
            return Scaling.from_json(self.adopted.hyper_parameters["features"])
        if not self.hparams["standardise"]:
            return Scaling.none(self.corpus.features)
        return Scaling.of(self.corpus.features, self._series["train"].values)

    @property
    def features_json(self) -> str:
        """The scaling of the features as JSON, for the constructor of a model."""
        return self.features.to_json()

    def setup(self, stage: str) -> None:
        """Scale the parts that ``stage`` needs, unless that was done before.

        Raises:
            ValueError: The part does not exist, or it does not fit the checkpoint that is used.
        """
        parts = self.parts_of(stage)
        missing = [part for part in parts if part not in self._datasets]
        for part in missing:
            series = self._part(part)
            values = [self.features.apply(each) for each in series.values]
            self._datasets[part] = SeriesDataset(values, **self._answers(series))
        if stage == "fit" and missing:
            sizes = ", ".join(f"{len(self._datasets[part])} for {part}" for part in parts)
            lengths = self._series["train"].lengths
            about = (
                f"Series: {sizes}; {min(lengths)} to {max(lengths)} steps; "
                f"{len(self.corpus.features)} features; {self._about()}"
            )
            lines = [self.untold_notice, self.corpus.told, about]
            rank_zero_info("\n".join(filter(None, lines)))

    def _part(self, part: str) -> Series:
        """Return the series of a part.

        Raises:
            ValueError: They do not have the features of the checkpoint that is used.
        """
        if self.adopted is not None:
            check_features(self.corpus.name, self.corpus.features, self.features)
        if part == "test" and self.corpus.test is not None:
            return self.corpus.test  # without a split of the training part
        return self._series[part]

    @abstractmethod
    def _about(self) -> str:
        """Return the number of classes or the targets, for a message."""

    @abstractmethod
    def _answers(self, series: Series) -> dict[str, Any]:
        """Return the classes or the scaled targets, as an argument of ``SeriesDataset``."""

    def loader(self, part: str) -> Batches[SeriesItem]:
        data = self._datasets[part]
        sampler = self.buckets(part, data.lengths, batch_size=self.hparams["batch_size"])
        rank_zero_info(
            f"{part}: {len(sampler)} batches, {sampler.padding_waste():.1%} of their cells padding"
        )
        return Batches(data, batch_sampler=sampler, collate_fn=collate_series)


class SeriesData(SeriesDataModule):
    """Labelled series, to train a classifier.

    Args:
        corpus: The name of a corpus (japanese_vowels), or the path of your own file or of a folder
            with the files train, validation and test: .npz, .parquet, .csv, .tsv or .ts.
        label_column: The column or array of the labels in your own files; null to guess it.
        options: The other arguments of ``SeriesDataModule``.
    """

    answer = "label"

    def __init__(
        self, corpus: str = "japanese_vowels", *, label_column: str | None = None, **options: Any
    ) -> None:
        super().__init__(corpus, **options)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order of their numbers in a batch."""
        if self.adopted is not None:
            return tuple(self.adopted.hyper_parameters["classes"])
        return self.corpus.classes

    @property
    def class_counts(self) -> list[int]:
        """The number of training series of each class, in the order of ``classes``."""
        counts = Counter(self._series["train"].labels)
        return [counts[name] for name in self.classes]

    @property
    def is_own(self) -> bool:
        """True if the corpus is a file or folder of your own."""
        name = str(self.hparams["corpus"])
        return name not in SERIES_CORPORA and Path(name).exists()

    def setup(self, stage: str) -> None:
        if stage == "fit" and len(self.classes) < 2:
            raise DatasetError(f"{self.corpus.name}: {too_few_classes(self.classes)}")
        super().setup(stage)

    def _about(self) -> str:
        return f"{len(self.classes)} classes"

    def _answers(self, series: Series) -> dict[str, Any]:
        numbers = {name: number for number, name in enumerate(self.classes)}
        if unknown := sorted({*series.labels} - numbers.keys()):
            first = series.ids[series.labels.index(unknown[0])]
            raise ValueError(
                f"{self.corpus.name} has classes that are not in the training part: "
                f"{', '.join(unknown)} (the first is that of series {first!r}); it has "
                f"{', '.join(self.classes)}"
            )
        return {"labels": [numbers[label] for label in series.labels]}


class SeriesTargetData(SeriesDataModule):
    """Series with one or more targets, to train a regression.

    Args:
        corpus: The path of your own file or of a folder with the files train, validation and test:
            .npz, .parquet, .csv, .tsv or .ts.
        target_columns: The columns or arrays of the targets, as [y] or [height, weight]; null to
            guess the only one.
        options: The other arguments of ``SeriesDataModule``.
    """

    answer = "targets"

    def __init__(
        self, corpus: str, *, target_columns: list[str] | None = None, **options: Any
    ) -> None:
        super().__init__(corpus, **options)

    @cached_property
    def targets(self) -> Scaling:
        """The scaling of the targets by the training part, or that of a checkpoint."""
        if self.adopted is not None:
            return Scaling.from_json(self.adopted.hyper_parameters["targets"])
        targets = torch.tensor(self._series["train"].targets, dtype=torch.float64)
        return Scaling.of(self.corpus.targets, [targets])

    @property
    def targets_json(self) -> str:
        """The scaling of the targets as JSON, for the constructor of a model."""
        return self.targets.to_json()

    def _about(self) -> str:
        return f"targets {', '.join(self.targets.names)}"

    def _answers(self, series: Series) -> dict[str, Any]:
        if len(self.corpus.targets) != len(self.targets.names):
            raise ValueError(
                f"{self.corpus.name} has the targets {', '.join(self.corpus.targets)}, and the "
                f"model {', '.join(self.targets.names)}"
            )
        targets = torch.tensor(series.targets, dtype=torch.float64, device="cpu")
        return {"targets": self.targets.apply(targets)}


def named_features(scaling: Scaling) -> tuple[str, ...] | None:
    """Return the names of a model's features, or None if they are only numbered."""
    return None if _numbered(scaling.names) else scaling.names


def check_features(
    name: str, found: Sequence[str], scaling: Scaling, by_order: bool = False
) -> None:
    """Refuse series that do not have the features of a model.

    Features that are only numbered are known by their order, and others on request.

    Raises:
        ValueError: Their number or names differ.
    """
    by_order = by_order or _numbered(found) or _numbered(scaling.names)
    same = by_order or tuple(found) == scaling.names
    if len(found) != len(scaling.names) or not same:
        raise DatasetError(
            f"{name} has the features {', '.join(found)}, and the model was trained on "
            f"{', '.join(scaling.names)}; choose them with feature_columns"
        )


def _numbered(names: Sequence[str]) -> bool:
    return list(names) == [str(number) for number in range(len(names))]
