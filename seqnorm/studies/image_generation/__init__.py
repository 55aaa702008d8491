"""Pixel-level image generation: feed-forward stylisation with BatchNorm or InstanceNorm."""
