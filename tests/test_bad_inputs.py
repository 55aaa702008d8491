"""Every bad input gets one line, as ``docs/bad_inputs.md`` says."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import bad_inputs
import pytest
import torch
from bad_cases import CASES
from bad_inputs import PAGE, answer, row
from bad_makers import FETCHED, Case

from seqnorm.training.errors import line_of, one_line

# The page has the messages of the versions of Python and torch with which it was made.
OF_THE_PAGE = sys.version_info[:2] == (3, 11) and torch.__version__.startswith("2.13")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("good")
    bad_inputs.train(path)
    return path


@pytest.mark.skipif(os.name != "posix", reason="pipes and /dev/full")
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.group}: {case.tried}")
def test_each(case: Case, trained: Path, tmp_path: Path) -> None:
    found = row(case, answer(case, trained, tmp_path))
    page = PAGE.read_text(encoding="utf-8")
    if OF_THE_PAGE:
        assert found in page.splitlines()
    assert f"\n| {case.tried} | " in page


def test_the_page_has_no_others() -> None:
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    rows = [line for line in lines if line.startswith("| ") and not line.startswith("| input")]
    assert [line.split(" | ")[0] for line in rows] == [f"| {case.tried}" for case in CASES]
    assert [line[3:] for line in lines if line.startswith("## ")] == list(
        dict.fromkeys(case.group for case in CASES)
    )


def test_the_traceback_when_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SEQNORM_TRACEBACK", "1")
    with pytest.raises(ValueError, match="two\nlines"), one_line():
        raise ValueError("two\nlines")
    monkeypatch.setenv("SEQNORM_TRACEBACK", "0")
    with pytest.raises(SystemExit) as stop, one_line():
        raise ValueError("two\n  lines\x1b[31m")
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: two lines\\x1b[31m\n"


def test_faults_of_the_program_keep_their_traceback() -> None:
    with pytest.raises(KeyError), one_line():
        raise KeyError("x")


def test_faults_in_fetching_are_seen(tmp_path: Path) -> None:
    def make() -> list[str]:
        raise KeyError("x")

    (tmp_path / "trained").mkdir()
    with pytest.raises(KeyError):
        answer(Case(FETCHED, "a fault", make, ""), tmp_path / "trained", tmp_path / "empty")


def test_errors_without_words() -> None:
    assert line_of(ValueError()) == "ValueError"
    assert line_of(MemoryError()) == "there is not enough memory: MemoryError"
