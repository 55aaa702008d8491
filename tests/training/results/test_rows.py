"""Rows of results, appended by many processes at once, and their table."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from small_runs import SMALL

from seqnorm.training.results import rows as rows_module
from seqnorm.training.results.classification_table import COLUMNS, markdown
from seqnorm.training.results.rows import append_once, append_row


def row(**values: object) -> dict[str, object]:
    return {**dict.fromkeys(COLUMNS, ""), "corpus": "r8", "cell": "lstm", "norm": "layer", **values}


def append(path: Path, **values: object) -> None:
    append_row(path, row(**values), COLUMNS)


def test_many_write_at_once(tmp_path: Path) -> None:
    path = tmp_path / "new" / "results.csv"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda seed: append(path, seed=seed, config='a, "b"'), range(64)))
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(int(found["seed"]) for found in rows) == list(range(64))
    assert {found["config"] for found in rows} == {'a, "b"'}
    assert tuple(rows[0]) == COLUMNS
    assert [file.name for file in path.parent.iterdir()] == ["results.csv"]


def test_the_file_may_be_read_by_whom_the_umask_lets(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        append(tmp_path / "a.csv", corpus="Müller")
    finally:
        os.umask(before)
    assert (tmp_path / "a.csv").stat().st_mode & 0o777 == 0o640
    assert "Müller" in (tmp_path / "a.csv").read_text(encoding="utf-8")


@pytest.mark.parametrize("text", ["one\rtwo", "one\r\ntwo", "one\ntwo", "\r", 'a "b", c'])
def test_texts_survive_as_a_file(text: str, tmp_path: Path) -> None:
    append(tmp_path / "a.csv", corpus=text)
    append(tmp_path / "a.csv", corpus="r8")
    assert [found["corpus"] for found in rows_module.read_rows(tmp_path / "a.csv")] == [text, "r8"]


def test_a_row_lacks_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="seed"):
        append_row(tmp_path / "a.csv", {"corpus": "r8", "cell": "lstm", "norm": "layer"}, COLUMNS)


FULL = """
import pathlib, resource, signal, sys
from seqnorm.training.results.classification_table import COLUMNS
from seqnorm.training.results.rows import append_row
path = pathlib.Path(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
room = path.stat().st_size + 20
resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
try:
    append_row(path, dict.fromkeys(COLUMNS, "much more than there is room for"), COLUMNS)
except OSError as error:
    print(error)
"""


@pytest.mark.skipif(os.name != "posix", reason="limits of files")
def test_a_row_that_does_not_fit_leaves_the_others(tmp_path: Path) -> None:
    """A limit of 20 more bytes stands for a full disk."""
    path = tmp_path / "a.csv"
    append(path, seed=1)
    before = path.read_bytes()
    root = Path(__file__).parents[3]
    said = subprocess.check_output([sys.executable, "-c", FULL, path], text=True, cwd=root)
    assert "the result could not be appended; the rows before are whole: File too large" in said
    assert path.read_bytes() == before
    append(path, seed=2)
    assert path.read_bytes().startswith(before)
    assert len(path.read_bytes().splitlines()) == 3


class CrashError(Exception):
    pass


def test_a_row_is_appended_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, marker = tmp_path / "a.csv", tmp_path / "run.csv"

    def seconds() -> list[str]:
        with path.open(newline="") as file:
            return [found["seconds"] for found in csv.DictReader(file)]

    append(path, seconds=0.5)  # the row of another run

    def dies(*arguments: object) -> None:
        raise CrashError

    with monkeypatch.context() as patch:
        patch.setattr(rows_module, "append_row", dies)
        with pytest.raises(CrashError):
            append_once(path, row(seconds=1), marker, COLUMNS)
    assert seconds() == ["0.5"]
    assert append_once(path, row(seconds=2), marker, COLUMNS)
    append(path, seconds=3)
    assert not append_once(path, row(seconds=4), marker, COLUMNS)
    assert seconds() == ["0.5", "2", "3"]
    assert marker.read_text().splitlines()[-1] in path.read_text().splitlines()


@pytest.mark.parametrize("task", ["classification", "language"])
@pytest.mark.parametrize("appended", [False, True])
def test_a_run_that_dies_at_its_row_has_one(
    appended: bool,
    task: str,
    corpus: Path,
    lines: Path,
    run_seqnorm: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def dies(*arguments: Any) -> None:
        if appended:
            append_row(*arguments)
        raise CrashError

    data = corpus if task == "classification" else lines
    options = (f"--task={task}", f"--data.corpus={data}", *SMALL, "--run.name=run")
    with monkeypatch.context() as patch:
        patch.setattr(rows_module, "append_row", dies)
        with pytest.raises(CrashError):
            run_seqnorm("fit", *options, "--trainer.max_epochs=1", "--run.results=results.csv")
    for _ in range(2):
        run_seqnorm("fit", "--ckpt_path", "runs/run/version_0/checkpoints/last.ckpt")
        assert len(Path("results.csv").read_text().splitlines()) == 2


def test_table(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    for score in (0.96, 0.97, 0.98):
        append(path, test_accuracy=score, test_macro_f1=score - 0.1)
    append_row(
        path, row(cell="linear", norm="none", test_accuracy=0.9735, test_macro_f1=0.94), COLUMNS
    )
    expected = """\
| corpus | cell | norm | test accuracy | test macro F1 | runs |
|---|---|---|---|---|---|
| r8 | lstm | layer | 0.9700 ± 0.0100 | 0.8700 ± 0.0100 | 3 |
| r8 | linear | none | 0.9735 | 0.9400 | 1 |"""
    assert markdown(path) == expected
    printed = subprocess.run(
        [
            sys.executable,
            "-W",
            "error",
            "-m",
            "seqnorm.training.results.classification_table",
            path,
        ],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[3],
    )
    assert printed.stdout.strip() == expected
