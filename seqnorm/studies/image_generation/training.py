"""Training of a network that redraws photographs in one style or in several."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean
from typing import TYPE_CHECKING

import torch
from torch import nn

from seqnorm.models import StylisationNet
from seqnorm.studies.table import Setting

from .data import Task, crops, redraw
from .measures import judge
from .verdict import ALL

if TYPE_CHECKING:
    from .study import ImageGeneration

Point = tuple[float, float]
POINTS = 20
CHECKS = 8


def train(
    study: ImageGeneration, task: Task, setting: Setting
) -> tuple[StylisationNet, dict[str, list[Point]], dict[str, float]]:
    """Train a network with Adam, its rate falling to zero as half a cosine.

    The first pictures are far from any style. Their gradients, thousands of times those at the end,
    are clipped to norm 1, and their squares are averaged over 100 steps, not 1,000.

    Returns:
        The network, its losses as curves over steps, and the means of the last tenth.
    """
    count, norm, seed = len(task.styles), setting["norm"], setting["seed"]
    steps = study.steps_of_all if setting["style"] == ALL else study.steps
    torch.manual_seed(seed)
    styles_of_net = count if norm == "conditional" else 1
    net = StylisationNet(norm, width=study.width, blocks=study.blocks, styles=styles_of_net)
    optimizer = torch.optim.Adam(net.parameters(), setting["rate"], betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    contents_of = torch.Generator().manual_seed(seed)
    styles_of = torch.Generator().manual_seed(seed)
    seen: dict[str, list[float]] = {"train_style": [], "train_content": []}
    curves: dict[str, list[Point]] = {"test_style": [], "test_content": []}
    for step in range(1, steps + 1):
        places = torch.randint(len(task.training), (study.batch,), generator=contents_of)
        photographs = [task.training[place] for place in places.tolist()]
        contents = crops(photographs, study.size, contents_of)
        styles = torch.randint(count, (study.batch,), generator=styles_of)
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
    return net, thinned | curves, last


def thin(values: Sequence[float], points: int = POINTS) -> list[Point]:
    """Average the values of steps 1, 2, ... over at most ``points`` stretches.

    A mean stands at the last step of its stretch.
    """
    stretch = max(-(-len(values) // points), 1)
    return [
        (min(start + stretch, len(values)), mean(values[start : start + stretch]))
        for start in range(0, len(values), stretch)
    ]
