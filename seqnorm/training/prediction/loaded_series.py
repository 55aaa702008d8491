"""Trained models of series in Python, as ``seqnorm.load`` returns them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from seqnorm.datasets.series.arrays import check_finite
from seqnorm.datasets.series.containers import shown

from ..checkpoints.checkpoint_file import Checkpoint
from ..checkpoints.stored_model import stored_model
from ..data.series import numbered
from ..tasks.series import SeriesClassification, SeriesRegression
from .answers import Label, check_batch_size, each_of, labelled
from .series import outputs_of


class LoadedSeriesClassifier:
    """A trained classifier of series; ``seqnorm.load`` returns it.

    Attributes:
        model: The LightningModule.
        classes: The names of the classes.
        features: The names of the features, in their order.
    """

    def __init__(self, checkpoint: Checkpoint, device: str = "cpu") -> None:
        self.model = stored_model(SeriesClassification, checkpoint, device)
        self.classes: tuple[str, ...] = self.model.classes
        self.features = self.model.features.names

    def predict(self, series: Iterable[Any], batch_size: int = 64) -> list[Label]:
        """Return the label and the probabilities of each series.

        Args:
            series: An array, a tensor, nested lists or a table (T, F) for each series, in the units
                of the training data; they may differ in T. The features are found in the columns
                of a table, as a pandas DataFrame, by their names, and other columns are left out.
            batch_size: The number of series in a batch.

        Raises:
            TypeError: A series holds something else than real numbers, or ``series`` is a single
                table, a path or the like.
            ValueError: A series has another shape or number of features, no column of a feature, no
                step, or a value that is missing or infinite; or ``batch_size`` is below 1.
        """
        check_batch_size(batch_size)
        found = outputs_of(self.model, checked_series(series, self.features), batch_size)
        return [labelled(self.classes, chances) for chances in found]

    def __repr__(self) -> str:
        return f"{type(self).__name__}(classes={self.classes}, features={self.features})"


class LoadedSeriesRegressor:
    """A trained model that predicts targets from series; ``seqnorm.load`` returns it.

    Attributes:
        model: The LightningModule.
        targets: The names of the targets.
        features: The names of the features, in their order.
    """

    def __init__(self, checkpoint: Checkpoint, device: str = "cpu") -> None:
        self.model = stored_model(SeriesRegression, checkpoint, device)
        self.targets = self.model.targets.names
        self.features = self.model.features.names

    def predict(self, series: Iterable[Any], batch_size: int = 64) -> list[dict[str, float]]:
        """Return the targets of each series by their names, in the units of the training data.

        The arguments and errors are those of ``LoadedSeriesClassifier.predict``.
        """
        check_batch_size(batch_size)
        found = outputs_of(self.model, checked_series(series, self.features), batch_size)
        return [dict(zip(self.targets, values)) for values in found]

    def __repr__(self) -> str:
        return f"{type(self).__name__}(targets={self.targets}, features={self.features})"


def checked_series(series: Iterable[Any], features: Sequence[str]) -> list[Tensor]:
    """Return the series (T, F) in float64.

    Raises:
        TypeError: A series holds something else than real numbers, or there is no list of series.
        ValueError: A series cannot be given to a model with these ``features``.
    """
    several = each_of(series, "series", "arrays (steps, features)", "array")
    return [_checked(number, each, features) for number, each in enumerate(several)]


def _checked(number: int, series: Any, features: Sequence[str]) -> Tensor:
    if hasattr(series, "columns"):
        series = _in_order(number, series, features)
    found = series.detach().cpu() if isinstance(series, Tensor) else _array(number, series)
    if found.ndim != 2:
        raise ValueError(
            f"series {number} has the shape {tuple(found.shape)}, not (steps, features); give a "
            "list of such arrays, and write [array] for a single one"
        )
    if found.is_complex():
        raise TypeError(f"series {number} holds {found.dtype} in place of real numbers")
    if found.shape[1] != len(features):
        raise ValueError(
            f"series {number} has {found.shape[1]} features, and the model was trained on "
            f"{len(features)}: {', '.join(features)}"
        )
    if not len(found):
        raise ValueError(f"series {number} has no steps; leave it out")
    found = found.double()
    check_finite("predict", found.numpy(), [0, len(found)], [str(number)], features)
    return found


def _in_order(number: int, table: Any, features: Sequence[str]) -> Any:
    """Return a table with the columns of the features alone, in their order.

    A table or a model whose columns are only numbered is known by their order, as a file is.

    Raises:
        ValueError: A feature has no column, or more than one.
    """
    is_arrow = hasattr(type(table), "column_names")  # whose columns are the values
    columns = list(table.column_names if is_arrow else table.columns)
    names = list(map(str, columns))
    if numbered(names):
        return table
    if wrong := [name for name in features if names.count(name) != 1]:
        if numbered(features):
            return table
        count = "more than one" if wrong[0] in names else "no"
        raise ValueError(
            f"series {number} has {count} column {wrong[0]!r}; it has {shown(names)}, and the "
            f"model was trained on {shown(features)}"
        )
    chosen = [columns[names.index(name)] for name in features]
    return table.select(chosen) if is_arrow else table[chosen]


def _array(number: int, series: Any) -> Tensor:
    """Return an array or lists of numbers as a tensor, of any shape.

    Raises:
        TypeError: There is something else than real numbers.
        ValueError: The lists have different lengths.
    """
    import numpy as np

    if isinstance(series, Mapping):
        raise TypeError(f"series {number} is a mapping, not an array (steps, features)")
    try:
        array = np.asarray(series)
    except ValueError as error:  # lists of different lengths
        raise ValueError(f"series {number} is no array (steps, features): {error}") from error
    if array.dtype.kind in "OSU":
        array = array.astype(object)
        for place, value in np.ndenumerate(array):
            if not isinstance(value, (Real, Decimal)):
                step = f", step {place[0]}" if place else ""
                raise TypeError(
                    f"series {number}{step} holds {value!r:.50}, a value that is missing or no "
                    "number; fill in the gap, or leave out the step or the series"
                )
    elif array.dtype.kind not in "biuf":
        raise TypeError(f"series {number} holds {array.dtype} in place of real numbers")
    return torch.tensor(array.astype(np.float64))
