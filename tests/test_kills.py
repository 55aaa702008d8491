"""A few of the many kills in ``kills.py``."""

from __future__ import annotations

import os

import kills
import pytest


@pytest.mark.skipif(os.name != "posix", reason="kills process groups")
def test_kills_leave_no_trace(capsys: pytest.CaptureFixture[str]) -> None:
    assert kills.main(["--kills=2", "--late=2", "--epochs=60"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith(("2 kills (", "3 kills (", "4 kills ("))  # the run may have ended before
    assert last.endswith("; 61 rows of metrics and all else equal to the last digit")


def test_differences_are_seen() -> None:
    one = {"a": [1, {"b": (2.0, "x")}], "c": None}
    assert kills.differences(one, {"a": [1, {"b": (2.0, "x")}], "c": None}) == []
    assert kills.differences(one, {"a": [1, {"b": (2.5, "x")}], "c": 0}) == [
        "run.a[1].b[0]",
        "run.c",
    ]
    assert kills.differences([1], [1, 2]) == ["run"]
