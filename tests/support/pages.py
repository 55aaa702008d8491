"""The pages in docs/ and the README: their blocks of code, tables, links and command lines."""

from __future__ import annotations

import re
from pathlib import Path

from source_tree import ROOT

DOCS = ROOT / "docs"
README = ROOT / "README.md"
PAGES = [README, *sorted(DOCS.glob("*.md"))]
# A block is left out of the tests by this comment in front of it, which says why.
NOT_RUN = r"<!-- not run: [^\n]+ -->\n"
BLOCK = re.compile(rf"({NOT_RUN})?^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(page: Path, language: str) -> list[str]:
    """Return the blocks of a language that are run, in order."""
    found = BLOCK.findall(read(page))
    return [code for reason, kind, code in found if kind == language and not reason]


def marked(page: Path, name: str) -> str:
    """Return the text between ``<!-- name -->`` and ``<!-- end of name -->``."""
    mark = re.escape(name)
    (text,) = re.findall(rf"<!-- {mark} -->\n(.*?)<!-- end of {mark} -->", read(page), re.DOTALL)
    return str(text).strip()


def rows(table: str) -> list[list[str]]:
    """Return the cells of a table in Markdown, without its head."""
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def links(page: Path) -> list[str]:
    """Return the targets of links and pictures that are files, without the part after #."""
    text = re.sub(r"```.*?```", "", read(page), flags=re.DOTALL)
    found = [target.split("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text)]
    return [target for target in found if target and "://" not in target]


def inline_code(page: Path) -> list[str]:
    """Return the code within sentences, which may continue on the next line."""
    text = re.sub(r"```.*?```", "", read(page), flags=re.DOTALL)
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", text)]
