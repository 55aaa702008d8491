"""Layers and models outside of Python: ONNX, programs of torch.export, and C. Loaded when asked for."""

from .c import to_c as to_c
