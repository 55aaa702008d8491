"""Layers and models for programs without this library. The package is loaded when asked for."""

from __future__ import annotations

from .onnx import to_onnx as to_onnx

__all__ = ["to_onnx"]
