"""Checkout, wheels and sdist hold the same configurations and the same library."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

import pytest
from source_tree import ROOT

pytest.importorskip("setuptools", minversion="77")  # pip builds with it
# The parts of a checkout that go into packages.
PARTS = ["seqnorm", "configs", "tests", "benchmarks", "docs", "results", ".ci"]
PARTS += [path.name for path in ROOT.iterdir() if path.is_file()]
BUILD = "from setuptools import build_meta as b; import sys; getattr(b, sys.argv[1])(sys.argv[2])"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the sdist and a wheel without kernels in a copy of the checkout."""
    folder = tmp_path_factory.mktemp("packages")
    tree = folder / "tree"
    tree.mkdir()
    for part in PARTS:
        if (ROOT / part).is_file():
            shutil.copy(ROOT / part, tree)
        else:
            ignored = shutil.ignore_patterns("__pycache__", "*.so")
            shutil.copytree(ROOT / part, tree / part, ignore=ignored)
    for kind in ("build_sdist", "build_wheel"):
        subprocess.run(
            [sys.executable, "-c", BUILD, kind, str(folder)],
            cwd=tree,
            env={"SEQNORM_WITHOUT_KERNELS": "1", "PATH": ""},
            capture_output=True,
            check=True,
        )
    return folder


def below(folder: Path, pattern: str) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob(pattern)}


def test_the_wheel(built: Path) -> None:
    (path,) = built.glob("*.whl")
    assert path.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
        for name in below(ROOT / "configs", "*.yaml"):
            shipped = archive.read(f"seqnorm/configs/{name}")
            assert shipped == (ROOT / "configs" / name).read_bytes()
        (entries,) = (name for name in names if name.endswith("entry_points.txt"))
        assert b"seqnorm = seqnorm.command.main:main" in archive.read(entries)
    of_package = {f"seqnorm/{name}" for name in below(ROOT / "seqnorm", "*.py")}
    of_package |= {f"seqnorm/{name}" for name in below(ROOT / "seqnorm", "*.j2")}
    assert names >= of_package | {"seqnorm/py.typed"}
    configs = {name for name in names if name.startswith("seqnorm/configs/")}
    assert configs == {f"seqnorm/configs/{name}" for name in below(ROOT / "configs", "*.yaml")}
    assert {PurePosixPath(name).parts[0] for name in names if ".dist-info" not in name} == {
        "seqnorm"
    }


def test_the_sdist(built: Path) -> None:
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for folder, pattern in (
        ("seqnorm", "*.py"),
        ("seqnorm", "*.[ch]"),
        ("configs", "*.yaml"),
        ("tests", "*.py"),
        ("benchmarks", "*.py"),
        ("tests/golden", "*.*"),
        ("docs", "*.md"),
        (".ci", "*"),
    ):
        wanted = {f"{folder}/{name}" for name in below(ROOT / folder, pattern)}
        assert wanted
        assert not {name for name in wanted - names if "__pycache__" not in name}
    assert names >= {"train.py", "noxfile.py", "constraints.txt", "LICENSE", "CHANGELOG.md"}
    assert not {name for name in names if name.endswith((".so", ".pyc"))}
