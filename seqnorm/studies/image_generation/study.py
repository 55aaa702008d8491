"""Study of image generation, where every image stands for itself.

A network redraws photographs in the style of a texture in one pass. Networks differ only in their
norm: one network for each style without a norm, with BatchNorm or with InstanceNorm, and one for
all styles with Conditional InstanceNorm or AdaIN. The test photographs take no part in training,
and rates are chosen on a third set of photographs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from seqnorm.datasets import PHOTOGRAPHS, TEXTURES
from seqnorm.studies.study import Outcome, Study
from seqnorm.studies.table import Setting, Table
from seqnorm.studies.tuning import tuned_runs

from . import data, verdict
from . import figures as drawing
from .data import CONTRASTS, SHOWN, Task, fade, shrink, to_png
from .measures import measure, redrawn
from .training import train
from .verdict import ALL, OF_ALL, OF_ONE


@dataclass(frozen=True)
class ImageGeneration(Study):
    """Stylisation with and without norms.

    Raises:
        ValueError: a photograph or texture is unknown, a photograph is in two parts, or a list is
            empty.
    """

    name = "image_generation"
    title = "Generating images"
    question = (
        "Does BatchNorm hurt a network that redraws images pixel by pixel, because its statistics "
        "mix unrelated images and wash out the features of each one?"
    )
    factors = ("stage", "norm", "style", "rate", "seed")
    measures = (
        *("validation", "train_style", "train_content", "test_style", "test_content", "test_total"),
        *("worst_style", "faint_style", "batch_style", "alone_style"),
        *("mates", "mates_inference", "contrast", "between"),
    )

    seeds: int  # reported runs of each norm and style
    tune_seeds: int  # runs of each norm, style and rate that the rate is chosen by
    rates: list[float]  # to choose from; a single one is used without tuning
    styles: list[str]  # textures
    training: list[str]  # photographs; no crop of one is in two parts
    validation: list[str]
    test: list[str]
    content_weight: float  # of the content loss beside the style loss
    steps: int  # of training with one style
    steps_of_all: int  # of training with all styles
    batch: int  # photographs per step
    size: int  # of a crop, pixels
    side: int  # length of the shorter side of a shrunk photograph
    texture_side: int  # the same for a texture
    width: int  # of the network
    blocks: int
    judged: int  # test crops; half as many for validation

    def __post_init__(self) -> None:
        parts = [*self.training, *self.validation, *self.test]
        pictures = (("photographs", parts, PHOTOGRAPHS), ("styles", self.styles, TEXTURES))
        for kind, names, known in pictures:
            if unknown := sorted(set(names) - set(known)):
                raise ValueError(f"unknown {kind} {unknown}: write some of {', '.join(known)}")
            if len(set(names)) < len(names):
                raise ValueError(f"{kind} {names} name one twice")
        for part in ("rates", "styles", "training", "validation", "test"):
            if not getattr(self, part):
                raise ValueError(f"{part} must name at least one")
        if self.judged < 2 * self.batch or self.judged % self.batch:
            needed = f"two batches of {self.batch} or more, all full"
            raise ValueError(f"judged={self.judged} must be {needed}")

    def settings(self, done: Table) -> Iterator[Setting]:
        groups = [(norm, style) for style in self.styles for norm in OF_ONE]
        groups += [(norm, ALL) for norm in OF_ALL]
        cases = [({"norm": norm, "style": style}, self.rates) for norm, style in groups]
        numbers = {"tuning": self.tune_seeds, "seeds": self.seeds}
        return tuned_runs(done, cases, **numbers, measure="validation", largest=False)

    def run(self, setting: Setting) -> Outcome:
        norm, style = setting["norm"], setting["style"]
        styles = self.styles if style == ALL else [style]
        task = self.task(styles)
        net, curves, last = train(self, task, setting)
        values, by_contrast = measure(net, task, self.batch)
        values = {**values, **last}
        if setting["stage"] == "tune":
            return Outcome(values)
        files: dict[str, bytes] = {}
        if setting["seed"] == 0:
            # The contents in the figures: crops of photographs, then the first one fading.
            faded = [fade(task.test[:1], contrast) for contrast in CONTRASTS]
            shown = torch.cat([task.test[:SHOWN], *faded])
            files = {"contents.png": to_png(shown)}
            for number, name in enumerate(styles):
                files[f"{norm}_{name}.png"] = to_png(redrawn(net, task, shown, number))
                files[f"style_{name}.png"] = to_png(task.styles[number : number + 1])
        return Outcome(values, {**curves, "contrast": by_contrast}, files)

    def task(self, styles: Sequence[str]) -> Task:
        """Return the task of a network with these styles."""
        parts = {"training": self.training, "validation": self.validation, "test": self.test}
        names = (*(name for part in parts.values() for name in part), *styles)
        loaded = data.load(names)
        photographs = {part: [shrink(loaded[n], self.side) for n in parts[part]] for part in parts}
        textures = [shrink(loaded[name], self.texture_side) for name in styles]
        size, judged, weight = self.size, self.judged, self.content_weight
        return Task(photographs, textures, size=size, judged=judged, content_weight=weight)

    figures = drawing.figures
    findings = verdict.findings
    quantities = verdict.quantities
