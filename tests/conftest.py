"""Start every test from the same seed and check that torch's global settings are unchanged.

There are as many workers as cores, so each worker and its subprocesses compute in one thread.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator

import kernels_here
import pytest
import torch
from source_tree import ROOT

from seqnorm.nn.recurrence import step as registry

os.environ.setdefault("OMP_NUM_THREADS", "1")
# The tests trust their own checkpoints, which an old torch cannot load safely.
os.environ.setdefault("SEQNORM_TRUST_CHECKPOINTS", "1")
# The cache of torch.compile does not distinguish instruction sets.
os.environ.setdefault(
    "TORCHINDUCTOR_CACHE_DIR",
    os.path.join(tempfile.gettempdir(), f"inductor_{torch.backends.cpu.get_cpu_capability()}"),
)
torch.set_num_threads(1)
kernels_here.hear_of_their_absence()


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    torch.manual_seed(20160721)
    yield
    assert torch.get_default_dtype() == torch.float32


@pytest.fixture
def forgotten_steps() -> Iterator[None]:
    """Forget the steps that a test has defined."""
    steps = dict(registry.STEPS)
    presets = {name: dict(schemes) for name, schemes in registry.PRESETS.items()}
    yield
    for table, before in ((registry.STEPS, steps), (registry.PRESETS, presets)):
        table.clear()
        table.update(before)


@pytest.fixture(scope="module")
def importable_benchmarks() -> Iterator[None]:
    """Make the programs in ``benchmarks/`` importable, also by each other, within one module."""
    folder = ROOT / "benchmarks"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        yield
    for program in folder.glob("*.py"):
        sys.modules.pop(program.stem, None)
