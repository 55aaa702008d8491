"""Measures of a trained network: losses, and the change of a picture with its inputs.

Axes: S styles, N pictures.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from seqnorm.models import StylisationNet

from .data import CONTRASTS, CROPS_SEED, Task, fade, redraw

HALF, FAINT = 0.5, 0.25


def judge(net: StylisationNet, task: Task, contents: Tensor) -> tuple[Tensor, Tensor]:
    """Return the style and the content loss (S, N) of all contents in all styles, in inference."""
    return _losses(Inference(net), task, contents)


class Inference:
    """Redraws in inference, with the statistics that were kept for it."""

    def __init__(self, net: StylisationNet) -> None:
        self.net = net

    @torch.no_grad()
    def __call__(self, contents: Tensor, style: int, task: Task) -> Tensor:
        was = self.net.training
        self.net.eval()
        styles = torch.full((len(contents),), style)
        redrawn = redraw(self.net, contents, styles, task)
        self.net.train(was)
        return redrawn


class Together:
    """Redraws with the statistics of groups of pictures, as in training, without keeping them."""

    def __init__(self, net: StylisationNet, size: int) -> None:
        self.net = copy.deepcopy(net).train()
        self.size = size

    @torch.no_grad()
    def __call__(self, contents: Tensor, style: int, task: Task) -> Tensor:
        parts = contents.split(self.size)
        return torch.cat(
            [redraw(self.net, part, torch.full((len(part),), style), task) for part in parts]
        )


def _losses(redrawing: Inference | Together, task: Task, contents: Tensor) -> tuple[Tensor, Tensor]:
    found = []
    with torch.no_grad():
        for style in range(len(task.styles)):
            styles = torch.full((len(contents),), style)
            found.append(task.losses(redrawing(contents, style, task), contents, styles))
    return torch.stack([s for s, _ in found]), torch.stack([c for _, c in found])


def measure(
    net: StylisationNet, task: Task, batch: int
) -> tuple[dict[str, float], list[tuple[float, float]]]:
    """Measure a trained network on test contents; measures are means over styles.

    A difference of pictures is the mean absolute difference of their pixels, from 0 to 1.

    Returns:
        The measures, and the style loss in inference over the contrast of the content.
    """
    inference, together, alone = Inference(net), Together(net, batch), Together(net, 1)
    test, count = task.test, range(len(task.styles))
    style, content = judge(net, task, test)
    validation = task.total(*judge(net, task, task.validation))
    by_contrast = [
        (contrast, float(judge(net, task, fade(test, contrast))[0].mean()))
        for contrast in CONTRASTS
    ]
    redrawn = torch.stack([inference(test, s, task) for s in count])
    faded = torch.stack([inference(fade(test, HALF), s, task) for s in count])
    mates = torch.stack([_change_of_mates(together, test, s, task) for s in count])
    mates_later = torch.stack([_change_of_mates(inference, test, s, task) for s in count])
    values = {
        "validation": float(validation),
        "test_style": float(style.mean()),
        "test_content": float(content.mean()),
        "test_total": float(task.total(style, content)),
        "worst_style": float(style.topk(max(style.shape[1] // 4, 1)).values.mean()),
        "faint_style": dict(by_contrast)[FAINT],
        "batch_style": float(_losses(together, task, test)[0].mean()),
        "alone_style": float(_losses(alone, task, test)[0].mean()),
        "mates": float(mates.mean()),
        "mates_inference": float(mates_later.mean()),
        "contrast": float((faded - redrawn).abs().mean()),
        "between": float((redrawn - redrawn.roll(1, 1)).abs().mean()),
    }
    return values, by_contrast


def _change_of_mates(
    redrawing: Inference | Together, contents: Tensor, style: int, task: Task
) -> Tensor:
    """Return the change of each picture (N,) when it is redrawn among others.

    The second time the contents are in a random order, which is undone for the comparison.
    """
    order = torch.randperm(len(contents), generator=torch.Generator().manual_seed(CROPS_SEED))
    first = redrawing(contents, style, task)
    second = redrawing(contents[order], style, task)[order.argsort()]
    return (first - second).abs().mean((1, 2, 3))
