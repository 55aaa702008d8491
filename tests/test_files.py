"""Atomic writing of files, numbered folders, locks, and the name of a commit."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from seqnorm.files import commit, lock, next_folder, replacing, write_atomically


def full(file: int) -> None:
    """Fail as ``os.fsync`` does on a disk without space."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_file_is_replaced_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, "äh\n")
    assert path.read_bytes() == "äh\n".encode()
    path.chmod(0o640)
    with replacing(path) as file:
        file.write(b"new")
        assert path.read_bytes() == "äh\n".encode()
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o640 or os.name != "posix"
    assert [found.name for found in tmp_path.iterdir()] == ["file"]


def test_an_error_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(KeyError), replacing(path) as file:  # noqa: PT012  it is raised within
        file.write(b"new")
        raise KeyError
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="file could not be written; the one before is whole: No sp"):
        write_atomically(path, b"new")
    assert path.read_text() == "old"
    assert [found.name for found in tmp_path.iterdir()] == ["file"]
    with pytest.raises(FileNotFoundError, match=r"missing.file'"):
        write_atomically(tmp_path / "missing" / "file", b"new")


def test_several_processes_may_write_a_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with replacing(path, shared=True) as file:
        (other,) = tmp_path.iterdir()
        assert str(os.getpid()) in other.name
        file.write(b"new")
    assert path.read_bytes() == b"new"


def test_the_next_folder_has_the_first_free_number(tmp_path: Path) -> None:
    base = tmp_path / "runs" / "r8"
    assert next_folder(base, "version") == base / "version_0"
    assert next_folder(base, "folds") == base / "folds_0"
    (base / "version_2").mkdir()
    (base / "version_1").write_text("a file")
    assert next_folder(base, "version") == base / "version_3"
    assert sorted(path.name for path in base.iterdir() if path.is_dir()) == [
        "folds_0",
        "version_0",
        "version_2",
        "version_3",
    ]
    with pytest.raises(NotADirectoryError):
        next_folder(base / "version_1", "version")


LOCKED = """
import sys
from seqnorm.files import lock
try:
    lock(open(sys.argv[1], "ab"), wait=False)
except BlockingIOError:
    print("locked")
"""


@pytest.mark.skipif(os.name != "posix", reason="locks of POSIX")
def test_a_lock_lasts_until_the_file_is_closed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", LOCKED, str(tmp_path / "file")]
    root = Path(__file__).parents[1]
    with (tmp_path / "file").open("ab") as file:
        lock(file)
        assert subprocess.check_output(command, text=True, cwd=root) == "locked\n"
    assert subprocess.check_output(command, text=True, cwd=root) == ""


def test_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert commit() == ""
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run([*git, "init", "-q"], check=True)
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "table.csv").write_text("1")
    (tmp_path / "file").write_text("1")
    subprocess.run([*git, "add", "file", "results"], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "one"], check=True)
    clean = commit()
    assert len(clean) >= 7
    (tmp_path / "results" / "table.csv").write_text("2")
    monkeypatch.chdir(tmp_path / "results")
    assert commit() == clean
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("2")
    assert commit() == f"{clean}-dirty"
