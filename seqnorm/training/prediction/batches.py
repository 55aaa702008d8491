"""Predict in batches; long documents and series are read alone and in chunks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Union

import torch

from seqnorm.datasets import BucketBatchSampler

from ..tasks.classification import TextClassification
from ..tasks.series import SeriesClassification, SeriesRegression
from .onnx_models import OnnxAnswers

# An example of more steps is read alone and in chunks, so that it does not pad others.
LONG = 4096
Model = Union[TextClassification, SeriesClassification, SeriesRegression, OnnxAnswers]


@torch.inference_mode()
def answers_to(
    model: Model,
    examples: Sequence[Any],
    lengths: Sequence[int],
    collate: Callable[[list[Any]], Any],
    batch_size: int,
) -> list[list[float]]:
    """Return the probabilities or the targets of each example, in their order.

    Args:
        model: The model.
        examples: The examples.
        lengths: The number of steps of each example.
        collate: The function that makes a batch of examples, whose first field is the input (B, T)
            or (B, T, F).
        batch_size: The largest number of examples in a batch.
    """
    short = [place for place, length in enumerate(lengths) if length <= LONG]
    groups = [[place] for place, length in enumerate(lengths) if length > LONG]
    if short:
        sampler = BucketBatchSampler(
            [lengths[place] for place in short], batch_size=batch_size, shuffle=False
        )
        groups += [[short[number] for number in numbers] for numbers in sampler]
    found: dict[int, list[float]] = {}
    for places in groups:
        batch = collate([examples[place] for place in places])
        answers = _answers(model, batch)
        found.update(zip(places, answers.tolist()))
    return [found[place] for place in range(len(examples))]


def _answers(model: Model, batch: Any) -> torch.Tensor:
    if isinstance(model, OnnxAnswers):
        return model.predict_step(batch)
    batch = model.transfer_batch_to_device(batch, model.device, 0)
    if batch[0].shape[1] <= LONG:
        return model.predict_step(batch)
    return model.answers(model.network.in_chunks(batch[0], batch.lengths, LONG))
