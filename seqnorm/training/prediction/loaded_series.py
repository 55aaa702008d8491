"""Trained models of series in Python, as ``seqnorm.load`` returns them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from seqnorm.datasets.series.arrays import check_finite

from ..checkpoints.checkpoint_file import Checkpoint
from ..checkpoints.stored_model import stored_model
from ..tasks.series import SeriesClassification, SeriesRegression
from .answers import Label, check_batch_size, labelled
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
            series: An array, a tensor or nested lists (T, F) for each series, in the units of the
                training data; they may differ in T.
            batch_size: The number of series in a batch.

        Raises:
            TypeError: A series holds something else than real numbers.
            ValueError: A series has another shape or number of features, no step, or a value that
                is missing or infinite; or ``batch_size`` is below 1.
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
        TypeError: A series holds something else than real numbers.
        ValueError: A series cannot be given to a model with these ``features``.
    """
    return [_checked(number, each, features) for number, each in enumerate(series)]


def _checked(number: int, series: Any, features: Sequence[str]) -> Tensor:
    import numpy as np

    if isinstance(series, Tensor):
        found = series.detach().cpu()
    else:
        try:
            array = np.asarray(series)
        except ValueError as error:  # lists of different lengths
            raise ValueError(f"series {number} is no array (steps, features): {error}") from error
        if array.dtype.kind not in "biuf":
            raise TypeError(f"series {number} holds {array.dtype} in place of numbers")
        found = torch.tensor(array.astype(np.float64))
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
