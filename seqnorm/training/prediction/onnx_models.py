"""Models in ONNX files, in the form in which prediction uses those of checkpoints.

Axes: B texts or series, T tokens or steps, F features, C classes, K targets, V tokens of the
vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from seqnorm.datasets import LanguageTokenizer, Scaling, tokenizer_from_json
from seqnorm.models.drawing import draw

from .onnx_file import OnnxFile


class OnnxAnswers:
    """A classifier or a regression in an ONNX file.

    Args:
        file: The file.
        device: The device of the model, which must be the CPU.
    """

    device = torch.device("cpu")

    def __init__(self, file: OnnxFile, device: str) -> None:
        check_device(file, device)
        self.file = file

    def predict_step(self, batch: Any) -> Tensor:
        """Return class probabilities (B, C) or targets (B, K)."""
        (found,) = self.file.run(**dict(zip(self.file.inputs, (batch[0], batch.lengths))))
        return found


class OnnxClassifier(OnnxAnswers):
    """A text classifier in an ONNX file.

    Attributes:
        tokenizer: The tokenizer.
        classes: The names of the classes.
    """

    def __init__(self, file: OnnxFile, device: str = "cpu") -> None:
        super().__init__(file, device)
        self.tokenizer = tokenizer_from_json(file.tokenizer())
        self.classes = file.names("classes")


class OnnxSeries(OnnxAnswers):
    """A classifier of series, or a regression on them, in an ONNX file.

    Attributes:
        features: The names of the features with their scaling, which the graph applies.
        names: The names of the classes or of the targets.
    """

    def __init__(self, file: OnnxFile, device: str = "cpu") -> None:
        super().__init__(file, device)
        self.features = Scaling.from_json(file.text("features"))
        if file.task == "series_classification":
            self.names = file.names("classes")
        else:
            self.names = Scaling.from_json(file.text("targets")).names


class OnnxLanguageModel:
    """A language model in an ONNX file, by its graph of a sequence or of one step.

    Attributes:
        tokenizer: The tokenizer.
        ends: True if each text ends with a token for its end.
        network: This object, which is also the network.
    """

    device = torch.device("cpu")

    def __init__(self, file: OnnxFile, device: str = "cpu") -> None:
        check_device(file, device)
        self.file = file
        self.tokenizer = LanguageTokenizer.from_json(file.tokenizer())
        self.ends: bool = file.stated("ends", bool)
        self.step: bool = file.stated("step", bool)
        self.network = self
        self._counts = self.tokenizer.characters()

    def characters(self, before: Tensor, targets: Tensor) -> Tensor:
        """Return the characters (N,) of ``targets`` (N,), each after the token ``before`` (N,)."""
        return self.tokenizer.characters_after(before, targets, self._counts)

    def surprisal(
        self,
        tokens: Tensor,
        targets: Tensor,
        lengths: Tensor,
        states: list[Tensor] | None = None,
        start: int = 0,
    ) -> tuple[Tensor, list[Tensor]]:
        """Return -log p (T,) of the ``targets`` (1, T), in nats, and the final states.

        Args:
            tokens: (1, T), the tokens before the targets.
            targets: (1, T).
            lengths: (1,), which is T.
            states: The initial states; None for zeros.
            start: The number of the first step.
        """
        logits, states = self._read(tokens[0], states, start)
        return F.cross_entropy(logits, targets[0], reduction="none"), states

    def generate(self, prompt: Sequence[int], length: int, **options: Any) -> list[int]:
        """Draw tokens as ``LanguageModel.generate`` does."""

        def read(tokens: Tensor, states: Any, step: int) -> tuple[Tensor, list[Tensor]]:
            logits, states = self._read(tokens, states, step)
            return logits[-1], states

        return draw(read, prompt, length, **options)

    def _read(
        self, tokens: Tensor, states: list[Tensor] | None, start: int
    ) -> tuple[Tensor, list[Tensor]]:
        """Return the logits (T, V) after each of ``tokens`` (T,), and the final states."""
        names = list(self.file.inputs)
        counts = "first_step" in names
        parts = [name for name in names if name not in ("tokens", "first_step")]
        if states is None:
            states = [torch.zeros(1, 1, self.file.inputs[name][2]) for name in parts]
        found: list[Tensor] = []
        for number, piece in enumerate(tokens.split(1) if self.step else [tokens[None]]):
            given = {"tokens": piece, **dict(zip(parts, states))}
            if counts:
                given["first_step"] = torch.tensor(start + number)
            logits, *states = self.file.run(**given)
            found.append(logits if self.step else logits[0])
        return torch.cat(found), states


def check_device(file: OnnxFile, device: str) -> None:
    """Refuse another device than the CPU.

    Raises:
        ValueError: It is another one.
    """
    if device != "cpu":
        raise ValueError(
            f"{file.path} is read on the CPU, not on the device {device!r}: leave --device out"
        )
