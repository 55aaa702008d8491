"""The kernels compile for Windows and macOS, by the cross compiler of the extra ``release``."""

from __future__ import annotations

import runpy
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from unittest import mock

import pytest

ROOT = Path(__file__).resolve().parents[3]
pytestmark = pytest.mark.skipif(
    find_spec("ziglang") is None, reason="needs ziglang: pip install 'seqnorm[release]'"
)


@pytest.mark.parametrize("file", ["entry.c", "loop.c"])
@pytest.mark.parametrize("target", ["x86_64-windows-gnu", "aarch64-macos", "x86_64-macos"])
def test_no_warning(target: str, file: str, tmp_path: Path) -> None:
    with mock.patch("setuptools.setup"):
        setup = runpy.run_path(str(ROOT / "setup.py"))
    _, width = setup["VARIANTS"]["base"]
    command = [sys.executable, "-m", "ziglang", "cc", "-target", target, *setup["FLAGS"], "-O1"]
    command += [f"-DVECTOR_BYTES={width}", "-DSUFFIX=base_float", "-Wall", "-Werror"]
    command += ["-Wno-unknown-pragmas"]  # those of gcc that unroll loops
    command += ["-c", str(ROOT / setup["SOURCES"] / file), "-o", str(tmp_path / "object.o")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
