"""The studies by name, in the order of the argument."""

from __future__ import annotations

from .image_generation import ImageGeneration
from .study import Study
from .train_inference import TrainInference

STUDIES: dict[str, type[Study]] = {study.name: study for study in (TrainInference, ImageGeneration)}
