"""Trained models in Python: ``seqnorm.load`` reads a checkpoint, and ``predict`` uses it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal, Union, overload

from ..checkpoints.checkpoint_file import Checkpoint, read_checkpoint
from ..checkpoints.stored_model import stored_model, stored_size
from ..tasks.classification import TextClassification
from ..tasks.language import LanguageModelling
from .answers import Label, check_batch_size, labelled
from .classification import label
from .language import Score, continuation, scored, window_of
from .loaded_series import LoadedSeriesClassifier, LoadedSeriesRegressor


class LoadedClassifier:
    """A trained text classifier; ``seqnorm.load`` returns it.

    Attributes:
        model: The LightningModule.
        classes: The names of the classes.
        max_length: The number of tokens after which texts are cut, as in training; None for no cut.
    """

    def __init__(self, checkpoint: Checkpoint, device: str = "cpu") -> None:
        self.model = stored_model(TextClassification, checkpoint, device)
        self.classes: tuple[str, ...] = self.model.classes
        self.max_length = stored_size(checkpoint, "max_length")

    def predict(self, texts: Iterable[str], batch_size: int = 64) -> list[Label]:
        """Return the label and the probabilities of each text.

        Raises:
            TypeError: ``texts`` is a single text, or holds something else than texts.
            ValueError: ``batch_size`` is below 1.
        """
        check_batch_size(batch_size)
        found = label(self.model, checked(texts), self.max_length, batch_size)
        return [labelled(self.classes, chances) for chances in found]

    def __repr__(self) -> str:
        return f"{type(self).__name__}(classes={self.classes})"


class LoadedLanguageModel:
    """A trained language model; ``seqnorm.load`` returns it.

    Attributes:
        model: The LightningModule.
        window: The tokens of a window of a model that was trained on a stream, otherwise None.
    """

    def __init__(self, checkpoint: Checkpoint, device: str = "cpu") -> None:
        self.model = stored_model(LanguageModelling, checkpoint, device)
        self.window = window_of(checkpoint)

    def predict(self, texts: Iterable[str]) -> list[Score]:
        """Return the perplexity and the scores of each text.

        Raises:
            TypeError: ``texts`` is a single text, or holds something else than texts.
        """
        return [scored(self.model, text, self.window) for text in checked(texts)]

    def continue_text(
        self,
        text: str,
        length: int = 200,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        seed: int = 0,
    ) -> str:
        """Draw a continuation of a text, to its end or for ``length`` tokens.

        Args:
            text: The beginning, which is not returned.
            length: The largest number of tokens of the continuation.
            temperature: The lower it is, the more probable are the tokens that are drawn.
            top_k: Draw from the k most probable tokens; None draws from all.
            seed: The seed of the draws.
        """
        options = length, self.window, temperature, top_k, (seed, 0)
        return continuation(self.model, text, *options)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self.model.tokenizer):,} tokens)"


Task = Literal["classification", "language", "series_classification", "series_regression"]
Loaded = Union[LoadedClassifier, LoadedLanguageModel, LoadedSeriesClassifier, LoadedSeriesRegressor]
_KINDS: Mapping[str, type[Loaded]] = {
    "classification": LoadedClassifier,
    "language": LoadedLanguageModel,
    "series_classification": LoadedSeriesClassifier,
    "series_regression": LoadedSeriesRegressor,
}


@overload
def load(
    path: str | Path, *, task: Literal["classification"], device: str = ...
) -> LoadedClassifier: ...
@overload
def load(
    path: str | Path, *, task: Literal["language"], device: str = ...
) -> LoadedLanguageModel: ...
@overload
def load(
    path: str | Path, *, task: Literal["series_classification"], device: str = ...
) -> LoadedSeriesClassifier: ...
@overload
def load(
    path: str | Path, *, task: Literal["series_regression"], device: str = ...
) -> LoadedSeriesRegressor: ...
@overload
def load(path: str | Path, *, task: None = ..., device: str = ...) -> Loaded: ...
def load(path: str | Path, *, task: Task | None = None, device: str = "cpu") -> Loaded:
    """Load a trained model from a checkpoint, to predict in Python.

    The checkpoint is all that is needed::

        model = seqnorm.load("runs/reviews/version_0/checkpoints/best.ckpt")
        for label, probabilities in model.predict(["a wonderful film", "far too long"]):
            ...

    A classifier's ``predict`` returns the label and the probabilities of each text or series, and
    that of a language model the perplexity of each text and the scores of its tokens. A regression
    returns the targets of each series in their own units. A series is an array (steps, features).

    Args:
        path: The checkpoint.
        task: The task that the model must have, by which type checkers know what is returned; None
            for any.
        device: The device of the model: cpu, cuda, ...

    Raises:
        ValueError: The file does not exist, is no checkpoint of ``seqnorm fit``, or has another
            task; or there is no such device.
    """
    checkpoint = read_checkpoint(path)
    if task is not None and task != checkpoint.task:
        raise ValueError(f"{path} holds a model of the task {checkpoint.task}, not of {task}")
    return _KINDS[checkpoint.task](checkpoint, device)


def checked(texts: Iterable[str]) -> Iterable[str]:
    """Return the texts; raise TypeError for a single text and for anything else than texts."""
    if isinstance(texts, (str, bytes)):
        raise TypeError("texts must be a list of texts; write [text] for a single one")
    found = list(texts)
    for number, text in enumerate(found):
        if not isinstance(text, str):
            raise TypeError(f"text {number} is {text!r:.50}, not a string")
    return found
