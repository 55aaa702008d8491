"""The statistics of training and those of inference: two functions of the same weights."""

from .study import TrainInference

__all__ = ["TrainInference"]
