"""Files that are printed to, among them those that cannot be replaced."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from seqnorm.training.prediction.text_lines import lines_of, printing


@pytest.fixture
def kept_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder in which no file can be made, also for a user who may write anywhere."""
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path and access(path, mode))
    return tmp_path.resolve()


def test_the_input_is_overwritten_when_it_is_read(kept_folder: Path) -> None:
    path = kept_folder / "a.txt"
    path.write_text("one\ntwo\n")
    inode = path.stat().st_ino
    with path.open("rb") as file, printing(str(path)) as out:
        for line in lines_of(file, "a.txt"):
            out.write(f"{line} \u00e9\r\n")
        out.flush()
        out.buffer.write(b"\xff")
    assert path.read_bytes() == b"one \xc3\xa9\r\ntwo \xc3\xa9\r\n\xff"
    assert path.stat().st_ino == inode
    assert os.listdir(kept_folder) == ["a.txt"]


def test_an_error_keeps_the_file(kept_folder: Path) -> None:
    path = kept_folder / "a.txt"
    path.write_text("one\n")

    def lines() -> Iterator[str]:
        yield "two\n"
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"), printing(str(path)) as out:
        out.writelines(lines())
    assert path.read_text() == "one\n"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_pipe(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append(path.read_bytes()))
    reader.start()
    with printing(str(path)) as out:
        out.write("one\r\ntwo\n")
    reader.join(10)
    assert found == [b"one\r\ntwo\n"]
    assert path.is_fifo()
