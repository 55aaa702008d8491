"""Trained models as modules whose inputs and outputs have names, one tensor each.

Axes: B texts or series, T tokens or steps, F features of a step, C classes, K targets, V tokens of
the vocabulary, P features of a layer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Union

import torch
from torch import Tensor, nn

from seqnorm.datasets import Scaling
from seqnorm.export.graphs import Argument
from seqnorm.nn.layers.exported import check_exportable
from seqnorm.nn.layers.layer import RecurrentLayer

from ..checkpoints.checkpoint_file import Checkpoint
from ..checkpoints.stored_model import stored_model
from ..tasks.classification import TextClassification
from ..tasks.language import LanguageModelling
from ..tasks.series import SeriesClassification, SeriesRegression

_B_T: tuple[int | str, ...] = ("B", "T")


class ModelGraph(nn.Module):
    """A trained model that takes one tensor for each name in ``arguments``, in their order.

    Attributes:
        arguments: The inputs by name.
        outputs: The names of the outputs.
        vocabulary: The number of tokens, and those with a meaning of their own; {} for series.
    """

    arguments: dict[str, Argument]
    outputs: list[str]
    vocabulary: Mapping[str, int] = MappingProxyType({})


class ClassifierGraph(ModelGraph):
    """Class probabilities (B, C) of ``tokens`` (B, T), of which ``lengths`` (B,) are valid."""

    def __init__(self, model: TextClassification) -> None:
        super().__init__()
        self.network = model.network
        self.arguments = {
            "tokens": Argument(_B_T, torch.int64),
            "lengths": Argument(("B",), torch.int64),
        }
        self.outputs = ["probabilities"]
        self.vocabulary = _vocabulary(model.tokenizer)

    def forward(self, *tensors: Tensor) -> Tensor:
        return self.network(*tensors).softmax(-1)


class SeriesGraph(ModelGraph):
    """Class probabilities (B, C) or targets (B, K) of ``values`` (B, T, F).

    The values are float64, in the units of the training data, and ``lengths`` (B,) of them are
    valid. Targets are float64, in their own units.
    """

    def __init__(self, model: SeriesClassification | SeriesRegression) -> None:
        super().__init__()
        self.network = model.network
        self.scaling = _Scale(model.features)
        self.targets: _Scale | None = None
        if isinstance(model, SeriesRegression):
            self.targets = _Scale(model.targets)
        self.arguments = {
            "values": Argument((*_B_T, len(model.features.names)), torch.float64),
            "lengths": Argument(("B",), torch.int64),
        }
        self.outputs = ["probabilities" if self.targets is None else "targets"]

    def forward(self, *tensors: Tensor) -> Tensor:
        values, lengths = tensors
        scaled = (values - self.scaling.mean) / self.scaling.std
        found: Tensor = self.network(scaled.float(), lengths)
        if self.targets is None:
            return found.softmax(-1)
        return found.double() * self.targets.std + self.targets.mean


class _Scale(nn.Module):
    mean: Tensor
    std: Tensor

    def __init__(self, scaling: Scaling) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(scaling.mean, dtype=torch.float64))
        self.register_buffer("std", torch.tensor(scaling.std, dtype=torch.float64))


class LanguageGraph(ModelGraph):
    """Logits of the next token after each of ``tokens`` (B, T), and the states of the layers.

    Layer k has the initial state ``h_0_lk`` and ``c_0_lk`` (1, B, P) and the final state ``h_n_lk``
    and ``c_n_lk``. With BatchNorm of every time step, ``first_step`` () is the number of the first
    step. The logits are (B, T, V); of one step, the tokens are (B,) and the logits (B, V).
    """

    def __init__(self, model: LanguageModelling, step: bool) -> None:
        super().__init__()
        self.network = model.network
        self.step = step
        self.arguments = {"tokens": Argument(("B",) if step else _B_T, torch.int64)}
        self.outputs = ["logits"]
        self.vocabulary = {**_vocabulary(model.tokenizer), "end": model.tokenizer.eos_id}
        self._parts: list[int] = []
        counts = False
        layer: Any
        for number, layer in enumerate(self.network.layers):
            letters = layer.step.states
            self._parts.append(len(letters))
            counts |= layer.counts_steps
            for letter, size in zip(letters, layer.state_sizes):
                name = f"{letter}_0_l{number}"
                self.arguments[name] = Argument((1, "B", size), torch.float32)
                self.outputs.append(f"{letter}_n_l{number}")
        if counts:
            self.arguments["first_step"] = Argument((), torch.int64)

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        given = dict(zip(self.arguments, tensors))
        tokens = given["tokens"].unsqueeze(1) if self.step else given["tokens"]
        parts = iter(tensors[1:])
        states = [tuple([next(parts) for _ in range(count)]) for count in self._parts]
        logits, after = self.network(tokens, None, states, given.get("first_step", 0))
        logits = logits.squeeze(1) if self.step else logits
        return (logits, *(part for state in after for part in state))


def _vocabulary(tokenizer: Any) -> dict[str, int]:
    return {
        "tokens": len(tokenizer),
        "padding": tokenizer.pad_id,
        "unknown": tokenizer.unk_id,
    }


Module = Union[TextClassification, SeriesClassification, SeriesRegression, LanguageModelling]
_MODULES: Mapping[str, tuple[type[Module], Callable[[Any], ModelGraph]]] = {
    "classification": (TextClassification, ClassifierGraph),
    "series_classification": (SeriesClassification, SeriesGraph),
    "series_regression": (SeriesRegression, SeriesGraph),
}


def model_graph(checkpoint: Checkpoint, step: bool) -> ModelGraph:
    """Build the model of a checkpoint as a graph, in evaluation mode.

    Args:
        checkpoint: The checkpoint.
        step: True for one step of a language model.

    Raises:
        ValueError: The checkpoint holds no model, one without a single step, or one with layers
            that cannot be exported.
    """
    if step and checkpoint.task != "language":
        raise ValueError(
            f"{checkpoint.path} is a model of the task {checkpoint.task}, which reads a whole "
            "sequence before it answers: only language models have a graph of one step"
        )
    graph: ModelGraph
    if checkpoint.task == "language":
        graph = LanguageGraph(stored_model(LanguageModelling, checkpoint), step)
    else:
        kind, make = _MODULES[checkpoint.task]
        graph = make(stored_model(kind, checkpoint))
    for module in graph.modules():
        if isinstance(module, RecurrentLayer):
            check_exportable(module)
    return graph.eval()
