"""Messages about missing kernels, depending on how seqnorm was installed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from beside_reference import needs_kernels

import seqnorm
from seqnorm.nn.backends.cpu import library
from seqnorm.nn.backends.cpu.missing import why_not

INSIDE = Path("seqnorm", "nn", "backends", "cpu", "_kernels.so")
AGAIN = "install seqnorm once more, with pip install --force-reinstall --no-cache-dir"


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide every installation of seqnorm that no test made, and provide a compiler."""
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setenv("CC", f"{sys.executable} -pthread")


def file(path: Path, content: str | bytes = b"") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def package(root: Path, kernels: bytes | None) -> Path:
    """Return the place of the kernels, beside their sources, as in a checkout and in a wheel."""
    file(root / INSIDE.parent / "src" / "entry.c")
    return root / INSIDE if kernels is None else file(root / INSIDE, kernels)


def checkout(root: Path, kernels: bytes | None = None) -> Path:
    file(root / "setup.py")
    return package(root, kernels)


def installed(root: Path, monkeypatch: pytest.MonkeyPatch, origin: object = None) -> None:
    """Write the files that pip writes for an installation."""
    about = root / "seqnorm-0.1.dist-info"
    file(about / "METADATA", "Metadata-Version: 2.1\nName: seqnorm\nVersion: 0.1\n")
    if origin is not None:
        file(about / "direct_url.json", json.dumps(origin))
    monkeypatch.setattr(sys, "path", [str(root)])


def test_a_checkout_beside_an_installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cause in this case is not a missing compiler."""
    here, site = tmp_path / "sources of it", tmp_path / "site"
    kernels = checkout(here)
    package(site, b"kernels")
    installed(site, monkeypatch, {"url": here.as_uri(), "dir_info": {}})
    assert why_not(kernels) == (
        f"seqnorm was imported from the source folder {here}, where no kernels were compiled; the "
        f"copy installed in {site} has them: run programs that stand outside of {here}, or compile "
        f"them here: pip install -e '{here}'"
    )


def test_a_checkout_beside_another_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, other, site = tmp_path / "here", tmp_path / "ö ther", tmp_path / "site"
    kernels = checkout(here)
    checkout(other, b"kernels")
    installed(site, monkeypatch, {"url": other.as_uri(), "dir_info": {"editable": True}})
    assert f"; the copy installed in {other} has them: run programs" in why_not(kernels)


@pytest.mark.parametrize("there", ["nothing", "without kernels", "this one"])
def test_a_checkout_alone(there: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, site = tmp_path / "here", tmp_path / "site"
    kernels = checkout(here)
    if there != "nothing":
        package(site, None)
        editable = {"editable": True} if there == "this one" else {}
        installed(site, monkeypatch, {"url": here.as_uri(), "dir_info": editable})
    expected = f"imported from the source folder {here}, where no kernels were compiled: "
    assert why_not(kernels) == f"seqnorm was {expected}pip install -e {here}"
    monkeypatch.setenv("CC", "no-such-compiler -O2")
    assert why_not(kernels).endswith(
        f"{expected}install a C compiler (gcc or clang), then pip install -e {here}"
    )


def test_an_installation_without_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = package(tmp_path, None)
    installed(tmp_path, monkeypatch)
    expected = f"its kernels were not compiled when seqnorm was installed in {tmp_path}: "
    assert why_not(kernels) == expected + AGAIN
    monkeypatch.setenv("CC", "no-such-compiler")
    compiler = "install a C compiler (gcc or clang), then "
    assert why_not(kernels) == expected + compiler + AGAIN


def other_machine() -> bytes:
    """Write a library for another processor."""
    content = bytearray(Path(torch._C.__file__).read_bytes())
    content[18:20] = b"\xfe\xfe"  # e_machine in ELF
    return bytes(content)


@pytest.mark.parametrize(
    "content",
    [lambda: b"no library at all", lambda: b"", other_machine, Path(torch._C.__file__).read_bytes],
    ids=["text", "empty", "of another machine", "another library"],
)
@pytest.mark.parametrize("where", [checkout, package])
def test_a_library_that_cannot_be_loaded(
    where: Callable[[Path, bytes], Path],
    content: Callable[[], bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kernels = where(tmp_path, content())
    monkeypatch.setattr(library, "__file__", str(kernels.with_name("library.py")))
    monkeypatch.setattr(library, "ASKED", "")
    found, why = library._load()
    assert found is None
    assert why.startswith(f"its kernels {kernels} cannot be loaded (")
    assert why.count("_kernels.so") > 1, "what the system says of it"
    assert why.endswith(f"): {AGAIN if where is package else f'pip install -e {tmp_path}'}")


PROGRAM = "import seqnorm\nprint(seqnorm.available_backends()['cpu'])\n"


@needs_kernels
def test_programs_in_a_checkout_and_outside(tmp_path: Path) -> None:
    """After ``pip install .`` in a checkout, Python finds the sources beside a program first."""
    here, site = tmp_path / "checkout", tmp_path / "site"
    without = shutil.ignore_patterns("*.so", "__pycache__")
    shutil.copytree(Path(seqnorm.__file__).parent, here / "seqnorm", ignore=without)
    shutil.copytree(here / "seqnorm", site / "seqnorm")
    shutil.copy(library.__file__.replace("library.py", "_kernels.so"), site / INSIDE)
    with pytest.MonkeyPatch.context() as patch:
        installed(site, patch)
    file(here / "setup.py")
    said = []
    for folder in (here, tmp_path):
        program = file(folder / "program.py", PROGRAM)
        environment = {**os.environ, "PYTHONPATH": str(site), "SEQNORM_KERNELS": ""}
        done = subprocess.run(
            [sys.executable, str(program)],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        said.append(done.stdout)
    assert said[0].startswith(f"absent: seqnorm was imported from the source folder {here}, ")
    assert f"; the copy installed in {site} has them: " in said[0]
    assert said[1].startswith("active: ")
