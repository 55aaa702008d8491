"""The results of layers without a norm in half precision do not depend on the processor."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

PROGRAM = Path(__file__).resolve().parents[2] / "support" / "half_precision.py"


def reasons(most: str | None) -> dict[str, str]:
    """Return why torch's own layers are not used with instructions up to the named ones."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    if most is not None:
        environment["ONEDNN_MAX_CPU_ISA"] = most
    done = subprocess.run(
        [sys.executable, str(PROGRAM)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("most", [None, "AVX2"])
def test_with_what_onednn_uses(most: str | None) -> None:
    said = reasons(most)
    for case, reason in said.items():
        assert case.startswith("('LSTM', "), "the others are not oneDNN's"
        assert reason.startswith("torch's layer fails in half precision on this processor: ")
    if platform.machine() == "x86_64" and torch.backends.mkldnn.is_available():
        narrow = most is not None
        autocast = str(("LSTM", torch.float32, torch.bfloat16, True, True, True))
        assert narrow <= (autocast in said)
        assert "could not create a primitive descriptor" in said.get(autocast, "") or not narrow
