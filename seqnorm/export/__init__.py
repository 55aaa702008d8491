"""Layers and models for programs without this library. The package is loaded when asked for."""

from __future__ import annotations

from .c import to_c as to_c
from .onnx import to_onnx as to_onnx
from .programs import decompose as decompose
from .programs import to_program as to_program

__all__ = ["decompose", "to_c", "to_onnx", "to_program"]
