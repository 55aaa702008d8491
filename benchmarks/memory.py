"""Peak memory of one training step, measured in a process of its own.

``python benchmarks/memory.py lstm layer ours 128 32 256`` (cell, norm, "ours" or "torch", T, B, H)
prints it in bytes.
"""

from __future__ import annotations

import contextlib
import functools
import subprocess
import sys
from pathlib import Path

import torch
from workload import LAYERS, build, training_step

T_LINEAR = (100, 200, 400)
SIZES = [(128, 32, 256), *((T, 32, 256) for T in T_LINEAR)]  # T, B, H


@functools.cache
def measure(cell: str, norm: str, whose: str, T: int, B: int, H: int) -> float:
    """Return the peak memory of one training step in MiB."""
    command = [sys.executable, "-W", "error", __file__, cell, norm, whose, str(T), str(B), str(H)]
    command.append(str(torch.get_num_threads()))
    folder = Path(__file__).resolve().parent.parent
    process = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True, check=True)
    return int(process.stdout) / 2**20


def linearity(cell: str, norm: str) -> str:
    """Return a line with the growth of both over the doublings of T."""
    parts = []
    for whose, of_norm in (("ours", norm), ("torch", "none")):
        peaks = [measure(cell, of_norm, whose, T, *SIZES[0][1:]) for T in T_LINEAR]
        factors = [f"x{after / before:.2f}" for before, after in zip(peaks, peaks[1:])]
        parts.append(f"{whose} {' '.join(factors)}")
    steps = " -> ".join(map(str, T_LINEAR))
    return f"memory {cell} {norm}: growth over T {steps} (linear is x2.00): {', '.join(parts)}"


def peak_of_step(cell: str, norm: str, whose: str, T: int, B: int, H: int) -> int:
    """Return the bytes, in this process, above the level just before the step."""
    layer = build(cell, norm, H) if whose == "ours" else LAYERS[cell][1](H, H)

    def step_of(steps: int) -> object:
        input, grad = torch.randn(steps, B, H), torch.randn(steps, B, H)
        return training_step(layer, lambda x: layer(x)[0], input, grad)

    step_of(2)()  # one-time preparation does not count
    step = step_of(T)
    level = fresh_peak()
    step()
    return peak() - level


def fresh_peak() -> int:
    """Return ``peak`` after a reset, which Linux allows.

    The peak so far, from imports, may be above what the program holds now.
    """
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return peak()


def peak() -> int:
    """Return the largest number of bytes this program has held at once.

    On Linux it does not use ``ru_maxrss``, which cannot be reset and begins with the memory of the
    parent process before this program was started.
    """
    with contextlib.suppress(FileNotFoundError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource  # not on Windows

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


if __name__ == "__main__":
    *sizes, threads = map(int, sys.argv[4:])
    torch.set_num_threads(threads)
    T, B, H = sizes
    print(peak_of_step(*sys.argv[1:4], T, B, H))
