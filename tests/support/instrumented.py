"""The kernels compiled with one of gcc's sanitizers, and calls of layers that use them.

Flags and instruction sets are those of setup.py. The sources can be broken on purpose, because a
check that cannot fail proves nothing.
"""

from __future__ import annotations

import os
import platform
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

TESTS = Path(__file__).resolve().parent
PROGRAM = TESTS / "sanitized_calls.py"
POOL = TESTS / "thread_pool.c"
PRECISIONS: dict[str, list[str]] = {"float": [], "double": ["-DSEQNORM_DOUBLE"]}
ADDRESS, THREAD = "address,undefined", "thread"
# These checks double the compile time; other checks find the same errors.
WITHOUT = "null,pointer-overflow,object-size"
RUNTIMES = {ADDRESS: "libasan.so", THREAD: "libtsan.so"}
# Python and torch keep memory until the end. Every other error ends the process.
OPTIONS = {
    ADDRESS: {"ASAN_OPTIONS": "detect_leaks=0", "UBSAN_OPTIONS": "print_stacktrace=1"},
    THREAD: {"TSAN_OPTIONS": "halt_on_error=1"},
}


def why_not(sanitizer: str) -> str:
    """Return why this sanitizer cannot be used here; "" if it can."""
    if sys.platform != "linux":
        return "preloads the sanitizer's library as Linux does"
    if shutil.which("gcc") is None:
        return "needs gcc"
    if not runtime(sanitizer).is_absolute():
        return f"gcc is without its {RUNTIMES[sanitizer]}"
    return ""


def runtime(sanitizer: str) -> Path:
    """Return the sanitizer's library, only its name if gcc does not find it."""
    command = ["gcc", f"-print-file-name={RUNTIMES[sanitizer]}"]
    return Path(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())


def _fails(command: list[str]) -> bool:
    return subprocess.run(command, capture_output=True).returncode != 0


@dataclass(frozen=True)
class Edit:
    """A replacement of a pattern in a source, at all matches or at one by its number."""

    file: str
    pattern: str
    new: str
    which: int | None = None

    def apply(self, sources: Path) -> None:
        text = (sources / self.file).read_text()
        found = list(re.finditer(self.pattern, text))
        assert len(found) > (self.which or 0), f"{self.file} no longer has {self.pattern}"
        for match in reversed(found if self.which is None else [found[self.which]]):
            text = text[: match.start()] + match.expand(self.new) + text[match.end() :]
        (sources / self.file).write_text(text)


# Put forbidden bytes between the parts of the scratch memory, which are contiguous otherwise.
FENCES = (
    Edit("loop.c", r"next \+= ([^;]+);", r"next = fenced(next, \1);"),
    Edit(
        "loop.c",
        r"(?=#define FLUSH)",
        "#include <sanitizer/asan_interface.h>\n"
        "enum { FENCE = 64 / sizeof(real) };\n"
        "static real *fenced(real *next, int64_t count) {\n"
        "    /* Where only the size is asked for there is no memory. */\n"
        "    if ((uintptr_t)next > 1 << 30) __asan_poison_memory_region(next + count, 64);\n"
        "    return next + count + FENCE;\n"
        "}\n",
    ),
    Edit(
        "prepared.h",
        r"\*size \+= \(n \* \(int64_t\)sizeof\(real\) \+ 63\) / 64 \* 64;",
        # One layer uses the memory of the layer before.
        "if (at) __asan_unpoison_memory_region(found, (size_t)n * sizeof(real));\n"
        "    if (at) __asan_poison_memory_region(found + n, 64);\n"
        "    *size += (n * (int64_t)sizeof(real) + 127) / 64 * 64;",
    ),
)


class Build:
    """The kernels for all instruction sets and precisions, with a sanitizer.

    Args:
        directory: the folder of sources, objects and libraries.
        edits: changes of the sources.
    """

    def __init__(self, directory: Path, sanitizer: str, edits: Sequence[Edit] = ()) -> None:
        with mock.patch("setuptools.setup"):
            setup = runpy.run_path(str(TESTS.parents[1] / "setup.py"))
        self.directory = directory
        self.sanitizer = sanitizer
        self.variants: dict[str, tuple[list[str], int]] = setup["VARIANTS"]
        # Little optimisation compiles faster and keeps more accesses to check.
        plain = [flag for flag in setup["FLAGS"] if not flag.startswith("-O")]
        self.flags = ["-O1", "-g1", "-fPIC", "-fno-omit-frame-pointer", *plain]
        self.flags += [f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all"]
        # The calls have few rows and weights.
        self.flags += ["-DROWS_TOGETHER=9", "-DCENTRED=9", "-DWORTH_SHARING=1"]
        self.flags += [f"-fno-sanitize={WITHOUT}"] if sanitizer == ADDRESS else []
        self.sources = self._edited(TESTS.parents[1] / setup["SOURCES"], "whole", edits)
        kinds = [(name, real) for name in self.variants for real in PRECISIONS]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            loops = list(pool.map(lambda kind: self._loop(self.sources, *kind), kinds))
        self.loops = dict(zip(kinds, loops))
        self.entry = self._object(self.sources / "entry.c", self.sources / "entry.o")

    def _edited(self, sources: Path, name: str, edits: Sequence[Edit]) -> Path:
        target = self.directory / name
        shutil.copytree(sources, target, ignore=shutil.ignore_patterns("*.o", "*.so"))
        for edit in edits:
            edit.apply(target)
        return target

    def _gcc(self, *arguments: str) -> None:
        done = subprocess.run(["gcc", *self.flags, *arguments], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    def _object(self, source: Path, target: Path, *flags: str) -> Path:
        self._gcc(*flags, "-c", str(source), "-o", str(target))
        return target

    def _loop(self, sources: Path, variant: str, real: str) -> Path:
        flags, width = self.variants[variant]
        macros = [f"-DVECTOR_BYTES={width}", f"-DSUFFIX={variant}_{real}", *PRECISIONS[real]]
        return self._object(
            sources / "loop.c", sources / f"{variant}_{real}.o", *flags, *macros, "-Wno-psabi"
        )

    def library(self, name: str = "whole", edit: Edit | None = None, waits: bool = True) -> Path:
        """Return the library, unchanged or with an edit of the first instruction set in double.

        With the thread sanitizer, the kernels run in threads of ``thread_pool.c``, whose barriers
        do not wait with ``waits=False``.
        """
        folder, loops = self.sources, dict(self.loops)
        if edit is not None:
            folder = self._edited(self.sources, name, [edit])
            first = next(iter(self.variants)), "double"
            loops[first] = self._loop(folder, *first)
        objects = [self.entry, *loops.values()]
        options = ["-shared", "-lm", "-ldl", "-lpthread"]
        if self.sanitizer == THREAD:
            macros = [] if waits else ["-DNEVER_WAIT"]
            objects.append(self._object(POOL, folder / f"{name}_pool.o", *macros))
            wrapped = ["dlsym"] if waits else ["dlsym", "seqnorm_wait"]
            options += [f"-Wl,--wrap={function}" for function in wrapped]
        # The file name that the backend expects.
        target = self.directory / "libraries" / name / "_kernels.so"
        target.parent.mkdir(parents=True)
        self._gcc(*map(str, objects), "-o", str(target), *options)
        return target

    def run(self, library: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run ``sanitized_calls.py`` with a library, in a process of its own."""
        # Older sanitizers do not work with randomised addresses, and not every container
        # allows a process to switch them off.
        fixed = ["setarch", platform.machine(), "--addr-no-randomize"]
        if shutil.which("setarch") is None or _fails([*fixed, "true"]):
            fixed = []
        pool = ["--pool"] if self.sanitizer == THREAD else []
        environment = {
            **os.environ,
            **OPTIONS[self.sanitizer],
            "LD_PRELOAD": str(runtime(self.sanitizer)),
            # Check memory that Python allocates, too.
            "PYTHONMALLOC": "malloc",
            # Its kernels are in another folder and complete.
            "SEQNORM_KERNELS": "",
            "PYTHONPATH": os.pathsep.join([*sys.path, str(TESTS)]),
        }
        return subprocess.run(
            [*fixed, sys.executable, str(PROGRAM), str(library), *pool, *arguments],
            env=environment,
            capture_output=True,
            text=True,
        )
