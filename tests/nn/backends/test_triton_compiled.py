"""The kernels in Triton, compiled for GPUs on a machine without one.

``python benchmarks/gpu_resources.py`` compiles all its lines, for all architectures.
"""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
from source_tree import ROOT
from triton_here import LEAST, VERSION

pytestmark = pytest.mark.skipif(VERSION < LEAST, reason="it needs the package triton 3.9")
PROGRAM = ROOT / "benchmarks" / "gpu_resources.py"
RESULTS = ROOT / "results" / "gpu_resources.csv"
# Lines of the program: LSTM and LiGRU at H 64, GRU at H 256, and norms of the batch of an LSTM and
# an RNN, in both passes.
LINES = (0, 1, 48, 49, 22, 23, 12, 13, 44, 45)
# The largest shared memory of a program, in bytes, by architecture.
SHARED = {"80": 166_912, "90": 232_448, "100": 232_448}
CELLS = ("LSTM", "GRU", "RNN", "LiGRU")
REGISTERS = 255  # the most that a thread can have
# The largest stack, in bytes, in the table. It holds what does not fit into the registers.
STACK = 256


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def check(row: dict[str, str]) -> None:
    assert 0 < int(row["registers"]) <= REGISTERS
    assert int(row["stack"]) <= STACK
    assert int(row["shared"]) <= SHARED[row["arch"]]


def test_kernels_compile(tmp_path: Path) -> None:
    path = tmp_path / "resources.csv"
    command = [sys.executable, "-W", "error", str(PROGRAM), "--arch", "90", "--csv", str(path)]
    for line in LINES:
        command += ["--line", str(line)]
    # Triton keeps compiled kernels by the hash of their source.
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = rows_of(path)
    assert [(row["cell"], row["norm"], row["mode"]) for row in found] == [
        (cell, norm, mode)
        for cell, norm in (
            *(("LSTM", "layer"), ("LiGRU", "moumen2023"), ("GRU", "layer")),
            *(("LSTM", "batch"), ("RNN", "batch")),
        )
        for mode in ("forward", "backward")
    ]
    for row in found:
        check(row)
        assert int(row["stack"]) == 0


def test_the_whole_table() -> None:
    rows = rows_of(RESULTS)
    assert {row["arch"] for row in rows} == {"80", "90", "100"}
    assert {(row["cell"], row["norm"]) for row in rows} == {
        *((cell, "layer") for cell in CELLS if cell != "LiGRU"),
        ("LiGRU", "moumen2023"),  # its "layer" has no norm in the recurrence
        *((cell, "batch") for cell in CELLS),
    }
    for row in rows:
        check(row)
