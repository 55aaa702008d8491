"""Pixel-level image generation: feed-forward stylisation with BatchNorm or InstanceNorm."""

from .study import ImageGeneration

__all__ = ["ImageGeneration"]
