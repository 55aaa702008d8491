"""The code of the pages on adding something runs, each page in a process of its own."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs").glob("adding_*.md"))


def blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.S | re.M)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_code_of_a_page_runs(page: Path, tmp_path: Path) -> None:
    code = "\n".join(blocks(page))
    process = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout


def test_there_are_pages() -> None:
    assert [page.stem for page in PAGES] == ["adding_a_backend", "adding_a_cell", "adding_a_norm"]


def test_a_cell_takes_few_lines() -> None:
    """Each class of the page on cells has at most 25 lines."""
    page = ROOT / "docs" / "adding_a_cell.md"
    classes = re.findall(r"^class .*?(?=^\n\n|^\S|\Z)", "\n".join(blocks(page)), re.S | re.M)
    sizes = [len(text.rstrip().splitlines()) for text in classes]
    assert len(sizes) == 2
    assert max(sizes) <= 25
