"""All studies by name, in the order of the argument."""

from __future__ import annotations

from .dynamic_network import DynamicNetwork
from .image_generation import ImageGeneration
from .small_batch import SmallBatch
from .study import Study
from .train_inference import TrainInference

STUDIES: dict[str, type[Study]] = {
    study.name: study for study in (SmallBatch, ImageGeneration, DynamicNetwork, TrainInference)
}
