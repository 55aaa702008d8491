"""All studies by name, in the order of the argument."""

from __future__ import annotations

from .dynamic_network.study import DynamicNetwork
from .image_generation.study import ImageGeneration
from .pixel_by_pixel.study import PixelByPixel
from .remedies.study import Remedies
from .small_batch.study import SmallBatch
from .study import Study
from .train_inference.study import TrainInference

STUDIES: dict[str, type[Study]] = {
    study.name: study
    for study in (
        SmallBatch,
        ImageGeneration,
        DynamicNetwork,
        TrainInference,
        PixelByPixel,
        Remedies,
    )
}
