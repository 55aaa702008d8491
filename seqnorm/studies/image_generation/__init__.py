"""Pixel-level image generation: feed-forward stylisation with BatchNorm and with InstanceNorm."""

from .study import ImageGeneration

__all__ = ["ImageGeneration"]
