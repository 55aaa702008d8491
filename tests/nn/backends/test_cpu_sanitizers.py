"""The kernels compiled with gcc's sanitizers: no access outside of their arguments, no undefined
behaviour of C, and no data races.

``SEQNORM_SANITIZED_CALLS=2000 pytest tests/nn/backends/test_cpu_sanitizers.py`` makes more calls,
about 20 in a second, and removes each barrier in turn.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from instrumented import ADDRESS, FENCES, THREAD, Build, Edit, runtime, why_not

VARIABLE = "SEQNORM_SANITIZED_CALLS"
CALLS = os.environ.get(VARIABLE, "60")
TIMEOUT = 300 + int(CALLS)
pytest.importorskip("setuptools", reason="setup.py tells how to compile the kernels")
needs_address = pytest.mark.skipif(bool(why_not(ADDRESS)), reason=why_not(ADDRESS))
needs_thread = pytest.mark.skipif(bool(why_not(THREAD)), reason=why_not(THREAD))
at_length = pytest.mark.skipif(
    VARIABLE not in os.environ, reason=f"takes minutes: set {VARIABLE} to a number of calls"
)
# Sizes, by the kernels that an edit breaks.
BROKEN = ("--calls", "300", "--variants", "base", "--dtypes", "float64")
WIDE = r"\(size_t\)m \* sizeof"
BREAKS = {
    "writes one real behind the end": (
        Edit("vector.h", rf"memcpy\(p, &x, {WIDE}", r"memcpy(p, &x, (size_t)(m + 1) * sizeof"),
        "AddressSanitizer: (heap-buffer-overflow|use-after-poison)",
    ),
    "takes every address for one of a whole vector": (
        Edit("vector.h", r", aligned\(sizeof\(real\)\)", ""),
        "runtime error: .* misaligned address",
    ),
    "reads one real behind the end": (
        Edit("vector.h", rf"memcpy\(&x, p, {WIDE}", r"memcpy(&x, p, (size_t)(m + 1) * sizeof"),
        "AddressSanitizer: (heap-buffer-overflow|use-after-poison)",
    ),
    "has too little scratch memory": (
        Edit("loop.c", "return next - start;", "return next - start - FENCE - 1;"),
        "AddressSanitizer: heap-buffer-overflow",
    ),
    "goes from one part of the scratch memory into the next": (
        Edit("loop.c", r"(ones = next, next = fenced\(next, GH)", r"\1 - 1"),
        "AddressSanitizer: use-after-poison",
    ),
    "counts one step too many": (
        Edit("loop.c", "t < a->T", "t <= a->T", which=0),
        "AddressSanitizer: heap-buffer-overflow",
    ),
}
# Edits that every run of the tests checks, one for each sanitizer.
ALWAYS = list(BREAKS)[:2]


def assert_clean(build: Build) -> None:
    """Make many calls with every norm, instruction set, precision and number of threads."""
    done = build.run(build.library(), "--calls", CALLS)
    if "unexpected memory mapping" in done.stderr:
        pytest.skip(f"{runtime(build.sanitizer).name} does not know this machine's address space")
    assert done.returncode == 0, done.stderr[-10_000:]
    assert done.stdout.startswith(f"{CALLS} calls of ")


def assert_seen(build: Build, library: Path, complaint: str) -> None:
    done = build.run(library, *BROKEN)
    assert done.returncode != 0, "nothing was seen"
    assert re.search(complaint, done.stderr), done.stderr[-10_000:]


@needs_address
@pytest.mark.timeout(TIMEOUT)
def test_no_access_outside_and_nothing_undefined(tmp_path: Path) -> None:
    build = Build(tmp_path, ADDRESS, FENCES)
    assert_clean(build)
    for name in ALWAYS:
        edit, complaint = BREAKS[name]
        assert_seen(build, build.library(name, edit), complaint)


@needs_thread
@pytest.mark.timeout(TIMEOUT)
def test_no_thread_reads_what_another_writes(tmp_path: Path) -> None:
    build = Build(tmp_path, THREAD)
    assert_clean(build)
    library = build.library("no barriers", waits=False)
    assert_seen(build, library, "ThreadSanitizer: data race")


@at_length
@needs_address
@pytest.mark.timeout(1800)
def test_every_break_is_seen(tmp_path: Path) -> None:
    build = Build(tmp_path, ADDRESS, FENCES)
    for name in BREAKS.keys() - ALWAYS:
        edit, complaint = BREAKS[name]
        assert_seen(build, build.library(name, edit), complaint)


@at_length
@needs_thread
@pytest.mark.timeout(1800)
def test_every_barrier_is_needed(tmp_path: Path) -> None:
    """Without any single barrier there is a race, and the sanitizer finds it."""
    build = Build(tmp_path, THREAD)
    places = [
        Edit(source.name, r"\bmeet\(s\)", "(void)0", which)
        for source in sorted(build.sources.glob("*.[ch]"))
        for which in range(len(re.findall(r"\bmeet\(s\)", source.read_text())))
    ]
    assert len(places) > 1
    for number, edit in enumerate(places):
        library = build.library(f"without barrier {number}", edit)
        assert_seen(build, library, "ThreadSanitizer: data race")
