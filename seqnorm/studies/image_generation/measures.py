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


@torch.no_grad()
def redrawn(
    net: StylisationNet, task: Task, contents: Tensor, style: int, group: int | None = None
) -> Tensor:
    """Redraw contents (N, 3, H, W) in one style.

    Args:
        group: number of pictures whose statistics are taken together, as in training; by default
            the network is in inference mode.
    """
    net = copy.deepcopy(net).train(group is not None)
    parts = contents.split(group or len(contents))
    return torch.cat([redraw(net, part, torch.full((len(part),), style), task) for part in parts])


def judge(
    net: StylisationNet, task: Task, contents: Tensor, group: int | None = None
) -> tuple[Tensor, Tensor]:
    """Return the style and the content loss (S, N) of all contents in all styles."""
    found = []
    with torch.no_grad():
        for style in range(len(task.styles)):
            styles = torch.full((len(contents),), style)
            pictures = redrawn(net, task, contents, style, group)
            found.append(task.losses(pictures, contents, styles))
    return torch.stack([s for s, _ in found]), torch.stack([c for _, c in found])


def measure(
    net: StylisationNet, task: Task, batch: int
) -> tuple[dict[str, float], list[tuple[float, float]]]:
    """Measure a trained network on test contents; measures are means over styles.

    A difference of pictures is the mean absolute difference of their pixels, from 0 to 1.

    Returns:
        The measures, and the style loss in inference over the contrast of the content.
    """
    test = task.test

    def pictures(contents: Tensor, group: int | None = None) -> Tensor:
        styles = range(len(task.styles))
        return torch.stack([redrawn(net, task, contents, style, group) for style in styles])

    def change_of_mates(group: int | None) -> float:
        # The contents once more in a random order, which is undone for the comparison.
        generator = torch.Generator().manual_seed(CROPS_SEED)
        order = torch.randperm(len(test), generator=generator)
        second = pictures(test[order], group)[:, order.argsort()]
        return float((pictures(test, group) - second).abs().mean((2, 3, 4)).mean())

    style, content = judge(net, task, test)
    faded = [(contrast, judge(net, task, fade(test, contrast))[0]) for contrast in CONTRASTS]
    by_contrast = [(contrast, float(losses.mean())) for contrast, losses in faded]
    plain = pictures(test)
    values = {
        "validation": float(task.total(*judge(net, task, task.validation))),
        "test_style": float(style.mean()),
        "test_content": float(content.mean()),
        "test_total": float(task.total(style, content)),
        "worst_style": float(style.topk(max(style.shape[1] // 4, 1)).values.mean()),
        "faint_style": dict(by_contrast)[FAINT],
        "batch_style": float(judge(net, task, test, batch)[0].mean()),
        "alone_style": float(judge(net, task, test, 1)[0].mean()),
        "mates": change_of_mates(batch),
        "mates_inference": change_of_mates(None),
        "contrast": _distance(pictures(fade(test, HALF)), plain),
        "between": _distance(plain, plain.roll(1, 1)),
    }
    return values, by_contrast


def _distance(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().mean())
