"""Run the tests of the layers as on other machines: narrower processors, and no C compiler.

    python tests/support/machines.py
    python tests/support/machines.py none avx2 -- tests/training -x

The kernels of seqnorm, PyTorch, oneDNN and MKL are limited to the same instruction set. Without
names, the tests run with each that this processor has, and without kernels. Arguments after ``--``
are passed to pytest in place of tests/nn and tests/models.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from seqnorm.nn.backends.cpu import library

MACHINES: dict[str, dict[str, str]] = {
    "avx512": {"SEQNORM_KERNELS": "avx512"},
    "avx2": {
        "SEQNORM_KERNELS": "avx2",
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    },
    "base": {
        "SEQNORM_KERNELS": "base",
        "ATEN_CPU_CAPABILITY": "default",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
    },
    "none": {"SEQNORM_KERNELS": "none"},
}


def main(arguments: list[str]) -> int:
    split = arguments.index("--") if "--" in arguments else len(arguments)
    names = arguments[:split] or [*reversed(library.VARIANTS), "none"]
    tests = arguments[split + 1 :] or ["tests/nn", "tests/models"]
    unknown = [name for name in names if name not in MACHINES]
    if unknown:
        print(f"no machine {unknown[0]!r}: there are {', '.join(MACHINES)}", file=sys.stderr)
        return 2
    ended = {}
    for name in names:
        start = time.monotonic()
        command = [sys.executable, "-m", "pytest", "-q", *tests]
        done = subprocess.run(
            command, cwd=Path(__file__).parents[2], env={**os.environ, **MACHINES[name]}
        )
        outcome = "failed" if done.returncode else "passed"
        ended[name] = f"{name}: {outcome} in {time.monotonic() - start:.0f} s"
    print("\n".join(ended.values()))
    return int(any("failed" in line for line in ended.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
