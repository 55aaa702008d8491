"""Training of a network that redraws photographs in one style or in several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

import torch
from torch import nn

from seqnorm.models import StylisationNet

from .data import Task, crops, redraw
from .measures import judge

Point = tuple[float, float]
POINTS = 20
CHECKS = 8


@dataclass(frozen=True)
class Trained:
    """A network and its losses in training: curves over steps, and means of the last tenth."""

    net: StylisationNet
    curves: Mapping[str, Sequence[Point]]
    last: Mapping[str, float]


def train(
    task: Task,
    norm: str,
    *,
    rate: float,
    seed: int,
    steps: int,
    batch: int,
    width: int,
    blocks: int,
) -> Trained:
    """Train a network with Adam, its rate falling to zero as half a cosine.

    The first pictures are far from any style. Their gradients, thousands of times those at the end,
    are clipped to norm 1, and their squares are averaged over 100 steps, not 1,000.
    """
    count = len(task.styles)
    torch.manual_seed(seed)
    net = StylisationNet(
        norm, width=width, blocks=blocks, styles=count if norm == "conditional" else 1
    )
    optimizer = torch.optim.Adam(net.parameters(), rate, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    contents_of = torch.Generator().manual_seed(seed)
    styles_of = torch.Generator().manual_seed(seed)
    size = task.test.shape[-1]
    seen: dict[str, list[float]] = {"train_style": [], "train_content": []}
    curves: dict[str, list[Point]] = {"test_style": [], "test_content": []}
    for step in range(1, steps + 1):
        contents = crops(task.training, batch, size, contents_of)
        styles = torch.randint(count, (batch,), generator=styles_of)
        losses = task.losses(redraw(net, contents, styles, task), contents, styles)
        optimizer.zero_grad()
        task.total(*losses).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        for name, loss in zip(seen, losses):
            seen[name].append(float(loss.detach().mean()))
        if step % max(steps // CHECKS, 1) == 0:
            for name, loss in zip(curves, judge(net, task, task.test)):
                curves[name].append((step, float(loss.mean())))
    tail = max(steps // 10, 1)
    last = {name: mean(values[-tail:]) for name, values in seen.items()}
    thinned = {name: thin(values) for name, values in seen.items()}
    return Trained(net, thinned | curves, last)


def thin(values: Sequence[float], points: int = POINTS) -> list[Point]:
    """Average the values of steps 1, 2, ... over at most ``points`` stretches.

    A mean stands at the last step of its stretch.
    """
    stretch = max(-(-len(values) // points), 1)
    return [
        (min(start + stretch, len(values)), mean(values[start : start + stretch]))
        for start in range(0, len(values), stretch)
    ]
