"""The code of the pages and of the README runs, each page in a process of its own."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import onnx_here
import pytest
from pages import BLOCK, DOCS, NOT_RUN, PAGES, blocks, read
from source_tree import ROOT

WITH_CODE = [page for page in PAGES if blocks(page, "python")]
# convert_norm says so where a page replaces a BatchNorm.
EXPECTED = "running statistics are dropped"
# torch's exporter to ONNX warns of its own code, and of names that two inputs share.
OF_TORCH = {"onnx": ("FutureWarning", "DeprecationWarning", "UserWarning")}
# Code on these pages is for another machine or for the reader's own names.
MOST_LEFT_OUT = 10


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run every test in an empty folder, because the code of a page may write files."""
    monkeypatch.chdir(tmp_path)


def names(pages: list[Path]) -> Any:
    return pytest.mark.parametrize("page", pages, ids=[page.stem for page in pages])


@names(WITH_CODE)
def test_the_code_of_a_page_runs(page: Path, tmp_path: Path) -> None:
    if page.stem == "onnx":
        onnx_here.need()
    code = "\n".join(blocks(page, "python"))
    ignored = [f"ignore:{EXPECTED}", *(f"ignore::{kind}" for kind in OF_TORCH.get(page.stem, ()))]
    warned = [word for each in ("error", *ignored) for word in ("-W", each)]
    command = [sys.executable, *warned, "-c", code]
    process = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    assert process.stdout


def test_few_blocks_are_left_out_and_each_has_its_reason() -> None:
    found = [match for page in PAGES for match in BLOCK.findall(read(page)) if match[0]]
    assert 0 < len(found) <= MOST_LEFT_OUT
    marks = sum(len(re.findall(NOT_RUN, read(page))) for page in PAGES)
    assert marks == len(found), "a mark without a block after it"


def test_every_block_names_its_language() -> None:
    """Code in an unknown language would not be run; words in braces are directives of the site."""
    for page in PAGES:
        opened = re.findall(r"^```(\S*).*$", read(page), re.MULTILINE)[::2]
        languages = {word for word in opened if not word.startswith("{")}
        assert languages <= {"python", "sh", "text", "yaml", "json", "csv", "c"}, page


@names([page for page in WITH_CODE if re.search(r"^print\(.*  # ", read(page), re.MULTILINE)])
@pytest.mark.usefixtures("forgotten_steps")
def test_the_printed_text_is_that_of_the_comment(
    page: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The comment after a print is the printed text, or its beginning if it ends in dots."""
    scope: dict[str, object] = {}
    compared = 0
    for code in blocks(page, "python"):
        lines = code.splitlines()
        for statement in ast.parse(code).body:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", EXPECTED)
                exec(compile(ast.Module([statement], []), str(page), "exec"), scope)
            came = capsys.readouterr().out.strip()
            _, comment, said = lines[(statement.end_lineno or 1) - 1].partition("  # ")
            if comment and lines[statement.lineno - 1].startswith("print("):
                compared += 1
                if said.endswith("..."):
                    assert came.startswith(said.removesuffix("...").removesuffix(", "))
                else:
                    assert came == said
    assert compared


@names([page for page in WITH_CODE if "<!-- printed -->" in read(page)])
def test_the_lines_on_the_page_are_those_that_are_printed(
    page: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ((code, printed),) = re.findall(
        r"```python\n([^`]*)```\n\n<!-- printed -->\n```text\n(.*?)```", read(page), re.DOTALL
    )
    exec(code, {})
    assert capsys.readouterr().out == printed


def test_files_of_the_pages_are_not_in_the_repository() -> None:
    code = "\n".join(code for page in WITH_CODE for code in blocks(page, "python"))
    written = set(re.findall(r"""\bsave\w*\((?:[^"'\n]*, )?["']([^"'\n]+)["']""", code))
    assert written >= {"walks.npz", "lstm.pt"}
    assert not [name for name in written if (ROOT / name).exists()]


def test_there_are_pages_on_adding_something() -> None:
    found = [page.stem for page in WITH_CODE if page.stem.startswith("adding_")]
    assert found == ["adding_a_backend", "adding_a_cell", "adding_a_norm"]


def test_a_cell_takes_few_lines() -> None:
    """Each class of the page on cells has at most 25 lines."""
    text = "\n".join(blocks(DOCS / "adding_a_cell.md", "python"))
    classes = re.findall(r"^class .*?(?=^\n\n|^\S|\Z)", text, re.S | re.M)
    sizes = [len(text.rstrip().splitlines()) for text in classes]
    assert len(sizes) == 2
    assert max(sizes) <= 25
