"""Start every test from the same seed and check that torch's global settings are unchanged.

There are as many workers as cores, so each worker and its subprocesses compute in one thread.

A test under ``tests/nn`` with more than ``CASES`` cases runs that many and a sixth of the others,
the same ones every time, or still fewer with ``--fewer``, in a second environment. A case that is
marked ``whole`` repeats a long test with another value, and does not run. All of them do if pytest
has the option ``--whole`` or is given the test itself.
"""

from __future__ import annotations

import os
import sys
import tempfile
import zlib
from collections import defaultdict
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
# Without a GPU the kernels in Triton are interpreted. Triton reads this when it is imported.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")
# Cases of one test that always run, and the part of the others that does.
CASES, PART = 16, 6
FEWER = 6, 24
torch.set_num_threads(1)
kernels_here.hear_of_their_absence()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--whole", action="store_true", help="run every case of the long matrices")
    parser.addoption("--fewer", action="store_true", help="run a few cases of the long matrices")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--whole") or any("::" in argument for argument in config.args):
        return
    tests: dict[str, list[str]] = defaultdict(list)
    for item in items:
        if item.nodeid.startswith("tests/nn/"):
            tests[item.nodeid.partition("[")[0]].append(item.nodeid)
    left = {item.nodeid for item in items if item.get_closest_marker("whole")}
    always, part = FEWER if config.getoption("--fewer") else (CASES, PART)
    for cases in tests.values():
        cases.sort(key=lambda name: zlib.crc32(name.encode()))  # any order that mixes the cases
        left.update(name for place, name in enumerate(cases[always:]) if place % part)
    config.hook.pytest_deselected(items=[item for item in items if item.nodeid in left])
    items[:] = [item for item in items if item.nodeid not in left]


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
