"""Errors of trained networks, on images and on texts."""

from __future__ import annotations

import torch
from torch import nn

from seqnorm.nn import reestimate_statistics
from seqnorm.studies.texts import Texts, error, in_order, with_statistics

from .data import DigitsOnPhotographs, Labelled
from .training import Run


def measure_images(run: Run, task: DigitsOnPhotographs) -> dict[str, float]:
    """Train, and measure the errors on validation and test images and the last training loss."""
    model, loss, images = run.train_images(task)
    measured = {"loss": loss, "validation_error": image_error(model, task.validation)}
    measured["error"] = image_error(model, task.test)
    if run.norm == "batch":
        whole = run.image_classifier(None)
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


def measure_text(run: Run, texts: Texts) -> dict[str, float]:
    """Train, and measure the errors on validation and test documents and the last loss."""
    model, loss = run.train_texts(texts)
    measured = {"loss": loss, "validation_error": error(model, texts.validation)}
    measured["error"] = error(model, texts.test)
    # Statistics of many documents would undo the effect of a batch of one.
    if run.norm == "batch" and run.batch > 1:
        again = with_statistics(model, texts.train, in_order(texts.train))
        measured["error_reestimated"] = error(again, texts.test)
    return measured
