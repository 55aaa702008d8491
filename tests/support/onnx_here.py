"""Skips tests where torch or the packages of ONNX cannot export, and says why."""

from __future__ import annotations

import pytest

from seqnorm.export.onnx import need_onnx


def need() -> None:
    """Skip the module that calls this, unless an export is possible and can be run."""
    try:
        need_onnx()
        import onnxruntime
    except (ModuleNotFoundError, RuntimeError) as error:
        pytest.skip(str(error), allow_module_level=True)
    _ = onnxruntime
