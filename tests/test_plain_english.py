"""Docstrings, comments and error messages are written in plain English."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest
from source_tree import FIRST_WORDS, ROOT, docstrings, first_word, nodes, python_files

FILES = python_files(ROOT)
# A sentence begins at the start of a paragraph or a list item, or after the end of another one.
SENTENCE = re.compile(rf"(?:\A|\n\s*\n|\n\s*[-*]|[.!?])\s+({'|'.join(FIRST_WORDS)})\b")
NONE = re.compile(r"\b(?:is|are)\s+none\b")


def comments(source: str) -> Iterator[tuple[int, str]]:
    """Yield comments with the number of their first line; consecutive lines are one comment."""
    start, last, text = 0, -1, ""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        line = token.start[0]
        if line != last + 1 or not token.line.lstrip().startswith("#"):
            if text:
                yield start, text
            start, text = line, ""
        text += token.string.lstrip("#") + "\n"
        last = line
    if text:
        yield start, text


def texts(path: Path) -> Iterator[tuple[int, str, str]]:
    """Yield the line, kind and text of each docstring, comment and other string of a file."""
    own = list(docstrings(path))
    for node in own:
        yield node.lineno, "docstring", str(node.value)
    for node in nodes(path):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in own:
            yield node.lineno, "string", node.value
    for line, text in comments(path.read_text(encoding="utf-8")):
        yield line, "comment", text


def complaints(path: Path) -> Iterator[str]:
    """Yield the place of each breach of the rules and the words that break them."""
    for line, kind, text in texts(path):
        found = [(match, match[0]) for match in NONE.finditer(text)]
        if kind != "string":
            found += [(match, match[1]) for match in SENTENCE.finditer(f" {text}")]
        if kind == "docstring" and first_word(text) in FIRST_WORDS and not found:
            yield f"{path}:{line}: the docstring begins with {first_word(text)!r}"
        for match, words in found:
            at = line + text[: match.end()].count("\n")
            yield f"{path}:{at}: a {kind} with {' '.join(words.split())!r}"


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(ROOT)) for path in FILES])
def test_it_is_plain(path: Path) -> None:
    found = list(complaints(path))
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("source", "line", "words"),
    [
        ('"""{} it gives."""', 1, ""),
        ('\nclass A:\n    """{} it\n    gives."""', 3, ""),
        ('async def f():\n    "{} it gives."', 2, ""),
        ('"""Return it.\n\n{} it gives."""', 3, ""),
        ('"""Return it, always. {} it gives."""', 1, ""),
        ('"""Return:\n\n- {} it gives\n"""', 3, ""),
        ("x = 1\n# {} it gives.", 2, ""),
        ("# It gives.\n# {} it gives.", 2, ""),
        ("x = 1  # Long. {} it gives.", 1, ""),
        ('raise ValueError(f"{{x}} is {}")', 1, "none"),
        ("# These are\n# {}.", 2, "none"),
        ('"""Return one, or 0 if it is {}."""', 1, "none"),
    ],
)
def test_it_would_find_it(source: str, line: int, words: str, tmp_path: Path) -> None:
    path = tmp_path / "new.py"
    for word in [words] if words else FIRST_WORDS:
        path.write_text(source.format(word))
        nodes.cache_clear()
        (found,) = complaints(path)
        assert found.startswith(f"{path}:{line}: ")
        assert word in found


@pytest.mark.parametrize(
    "source",
    [
        '"""Return what it gives, of that."""',
        '"""Return `None` where it is None."""',
        'x = "What is this? That is text."',
        "x = 1  # what it gives\n# Offer it. Whoever wants it.",
        '"""Official. Thatcher."""',
        "x = 1  # a first one.\nWhat = 2  # another",
    ],
)
def test_it_finds_nothing_else(source: str, tmp_path: Path) -> None:
    path = tmp_path / "new.py"
    path.write_text(source)
    assert not list(complaints(path))
