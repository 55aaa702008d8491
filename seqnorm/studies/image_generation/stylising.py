"""Training a network to redraw photographs in one style or in several, and what is measured of it.

Axes: N pictures, H, W pixels.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

import torch
from torch import Tensor, nn

from seqnorm.models import StylisationNet

from .losses import content_loss, gram, mean_square, style_loss
from .photographs import crops, crops_in_turn, fade, middle

Point = tuple[float, float]
# Pictures that every run is judged by, the same for all.
CROPS_SEED = 20160727
CONTRASTS = (1.0, 0.5, 0.25, 0.125)
HALF, FAINT = 0.5, 0.25
POINTS = 20
CHECKS = 8


@dataclass(frozen=True)
class Task:
    """What a network learns: contents, styles, and the losses between them.

    Attributes:
        features: of the losses.
        training: photographs (3, H, W) to cut contents from.
        validation, test: contents (N, 3, size, size) of other photographs.
        styles: pictures (S, 3, size, size), a piece of each style.
        grams: the Gram matrices of each style's whole picture, by style and scale.
        unit: of the content loss.
        content_weight: of the content loss, beside the style loss.
    """

    features: nn.Module
    training: Sequence[Tensor]
    validation: Tensor
    test: Tensor
    styles: Tensor
    grams: Sequence[Sequence[Tensor]]
    unit: float
    content_weight: float

    @classmethod
    def of(
        cls,
        features: nn.Module,
        photographs: Mapping[str, Sequence[Tensor]],
        styles: Sequence[Tensor],
        *,
        size: int,
        judged: int,
        content_weight: float,
    ) -> Task:
        """A task with ``judged`` test contents, half as many for validation.

        Args:
            photographs: those of "training", "validation" and "test".
        """
        generator = torch.Generator().manual_seed(CROPS_SEED)
        test = crops_in_turn(photographs["test"], judged, size, generator)
        validation = crops_in_turn(photographs["validation"], judged // 2, size, generator)
        sample = crops_in_turn(photographs["training"], judged, size, generator)
        with torch.no_grad():
            grams = [[gram(f) for f in features(style[None])] for style in styles]
            unit = mean_square(features(sample))
        pieces = torch.stack([middle(style, size) for style in styles])
        return cls(
            features,
            photographs["training"],
            validation,
            test,
            pieces,
            grams,
            unit,
            content_weight,
        )

    def losses(self, redrawn: Tensor, contents: Tensor, styles: Tensor) -> tuple[Tensor, Tensor]:
        """Style and content loss (N,) of redrawn contents, whose styles (N,) are given."""
        features = self.features(redrawn)
        with torch.no_grad():
            wanted = self.features(contents)
        scales = range(len(features))
        target = [torch.cat([self.grams[s][scale] for s in styles.tolist()]) for scale in scales]
        return style_loss(features, target), content_loss(features, wanted, self.unit)

    def total(self, style: Tensor, content: Tensor) -> Tensor:
        """What is minimised, of losses (N,)."""
        return (style + self.content_weight * content).mean()


def redraw(net: StylisationNet, contents: Tensor, styles: Tensor, task: Task) -> Tensor:
    """Contents (N, 3, H, W) in the styles (N,) of the task."""
    given = {"conditional": styles, "adaptive": task.styles[styles]}.get(net.norm)
    redrawn: Tensor = net(contents, given)
    return redrawn


@dataclass(frozen=True)
class Trained:
    """A network and its losses on the way: curves over steps, and means of the last tenth."""

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
    """Trains a network by Adam; the rate falls to zero as half a cosine.

    The first pictures are far from any style, with gradients thousands of times those at the end:
    they are clipped to norm 1, and the average of their squares is kept over 100 steps, not 1,000.
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
    """Values of steps 1, 2, ... as means of at most ``points`` stretches, each at its last step."""
    stretch = max(-(-len(values) // points), 1)
    return [
        (min(start + stretch, len(values)), mean(values[start : start + stretch]))
        for start in range(0, len(values), stretch)
    ]


def judge(net: StylisationNet, task: Task, contents: Tensor) -> tuple[Tensor, Tensor]:
    """Style and content loss (S, N) of all contents in all styles, in inference."""
    return _losses(Inference(net), task, contents)


class Inference:
    """Redraws in inference, with whatever statistics were kept for it."""

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
    """Redraws with the statistics of groups of pictures, as in training, and changes none kept."""

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


def measure(net: StylisationNet, task: Task, batch: int) -> tuple[dict[str, float], list[Point]]:
    """What the study says of a trained network, on test contents, as means over styles.

    Differences of pictures are mean absolute ones of their pixels, which go from 0 to 1.

    Returns:
        The measures, and the style loss in inference by the contrast of the content.
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
    """How much each picture (N,) changes when it is redrawn among others.

    The second time the contents are in a random order, and back in their own for the comparison.
    """
    order = torch.randperm(len(contents), generator=torch.Generator().manual_seed(CROPS_SEED))
    first = redrawing(contents, style, task)
    second = redrawing(contents[order], style, task)[order.argsort()]
    return (first - second).abs().mean((1, 2, 3))
