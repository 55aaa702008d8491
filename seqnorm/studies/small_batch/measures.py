"""Errors of trained networks, on images and on texts."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from seqnorm.datasets import TextDataset
from seqnorm.models import TextClassifier
from seqnorm.nn import reestimate_statistics

from .data import Labelled, Task, TextTask
from .training import ImageRun, TextRun


def measure_images(run: ImageRun, task: Task) -> dict[str, float]:
    """Train, and measure the errors on validation and test images and the last training loss."""
    model, loss, images = run.train(task)
    measured = {
        "loss": loss,
        "validation_error": image_error(model, task.validation),
        "error": image_error(model, task.test),
    }
    if run.norm == "batch":
        whole = run.model(task, None)
        whole.load_state_dict(model.state_dict())
        reestimate_statistics(whole, images.split(100), estimate="average")
        measured["error_reestimated"] = image_error(whole, task.test)
    return measured


@torch.no_grad()
def image_error(model: nn.Module, part: Labelled) -> float:
    """Return the fraction of images that are put into a wrong class."""
    model.eval()
    found = torch.cat([model(images).argmax(1) for images in part[0].split(250)])
    return float((found != part[1]).float().mean())


def measure_text(run: TextRun, task: TextTask) -> dict[str, float]:
    """Train, and measure the errors on validation and test documents and the last loss."""
    model, loss = run.train(task)
    measured = {
        "loss": loss,
        "validation_error": text_error(model, task, task.validation),
        "error": text_error(model, task, task.test),
    }
    # Statistics of many documents would undo the effect of a batch of one.
    if run.norm == "batch" and run.batch > 1:
        batches = task.in_order(task.train)
        reestimate_statistics(model, batches, lambda m, b: m(b.tokens, b.lengths))
        measured["error_reestimated"] = text_error(model, task, task.test)
    return measured


@torch.no_grad()
def text_error(model: TextClassifier, task: TextTask, part: TextDataset) -> float:
    """Return the fraction of documents that are put into a wrong class."""
    model.eval()
    wrong = 0
    for batch in task.in_order(part):
        found: Tensor = model(batch.tokens, batch.lengths).argmax(1)
        wrong += int((found != batch.labels).sum())
    return wrong / len(part)
