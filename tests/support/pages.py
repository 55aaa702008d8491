"""The pages in docs/ and the README: their blocks of code and their tables."""

from __future__ import annotations

import re
from pathlib import Path

from source_tree import ROOT

DOCS = ROOT / "docs"
# A block is left out of the tests by this comment in front of it, which says why.
NOT_RUN = re.compile(r"<!-- not run: (.+?) -->\n")
BLOCK = re.compile(r"(<!-- not run: [^\n]+ -->\n)?^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(page: Path, language: str) -> list[str]:
    """Return the blocks of a language that are run, in order."""
    found = BLOCK.findall(read(page))
    return [code for reason, kind, code in found if kind == language and not reason]


def reasons(page: Path) -> list[str]:
    """Return the reasons of the blocks that are not run."""
    return NOT_RUN.findall(read(page))


def marked(page: Path, name: str) -> str:
    """Return the text between ``<!-- name -->`` and ``<!-- end of name -->``."""
    (text,) = re.findall(rf"<!-- {name} -->\n(.*?)<!-- end of {name} -->", read(page), re.DOTALL)
    return str(text).strip()


def rows(table: str) -> list[list[str]]:
    """Return the cells of a table in Markdown, without its head."""
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
