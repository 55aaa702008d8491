"""The pages for contributors name every folder and helper, and nothing that does not exist."""

from __future__ import annotations

import re

import pytest
from source_tree import ROOT

import seqnorm

PAGES = ("CONTRIBUTING.md", "OWNER.md", "tests/README.md")


def quoted(page: str) -> list[str]:
    """Return the code in a page, without blocks."""
    text = re.sub(r"```.*?```", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL)
    return re.findall(r"`([^`\n]+)`", text)


def folders(*places: str) -> set[str]:
    """Return the folders directly inside the given ones that hold files."""
    return {
        f"{path.relative_to(ROOT).as_posix()}/"
        for place in places
        for path in (ROOT / place).iterdir()
        if path.is_dir() and not path.name.startswith(("_", ".")) and any(path.glob("*.*"))
    }


@pytest.mark.parametrize("page", PAGES)
def test_every_path_exists(page: str) -> None:
    tops = {path.name for path in ROOT.iterdir()}
    words = {text.split()[0] for text in quoted(page) if "<" not in text}
    named = {word for word in words if word.split("/")[0] in tops}
    assert named
    missing = [name for name in named if not any(ROOT.glob(name.rstrip("/")))]
    assert not missing


def test_the_map_of_the_house_is_whole() -> None:
    own = folders("seqnorm", "seqnorm/nn") - {"seqnorm/nn/"}
    tops = {"configs/", "benchmarks/", "docs/", "results/", "data/", "tests/", ".ci/"}
    assert set(quoted("CONTRIBUTING.md")) >= own | tops


def test_the_map_of_the_tests_is_whole() -> None:
    named = quoted("tests/README.md")
    assert set(named) >= folders("tests", "tests/nn") - {"tests/nn/"}
    (table,) = re.findall(
        r"^## Helpers\n.*", (ROOT / "tests/README.md").read_text(), re.DOTALL | re.MULTILINE
    )
    helpers = re.findall(r"^\| `([\w.]+)` \|", table, re.MULTILINE)
    there = sorted(p.name for p in (ROOT / "tests/support").iterdir() if p.suffix in (".py", ".c"))
    assert helpers == there


def test_the_citation_has_the_version() -> None:
    text = (ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {seqnorm.__version__}\n" in text
