"""Layers and models outside of Python: ONNX, programs of torch.export, C. Loaded when asked for."""

from __future__ import annotations

from .c import to_c as to_c

__all__ = ["to_c"]
