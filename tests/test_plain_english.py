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
# The folders whose arguments are options of the command, which --help describes.
DESCRIBED = [
    path
    for folder in ("models", "datasets", "training")
    for path in python_files(ROOT)
    if path.is_relative_to(ROOT / "seqnorm" / folder)
]
SECTION = re.compile(
    r"^( *)(?:Args|Attributes|Raises):\n((?:\1 {4}.*\n|\n(?=\1 {4}))+)", re.MULTILINE
)
# First words of descriptions in telegram style, which lack their article or their verb.
BARE = (
    *("Dropout", "Features", "Highest", "How", "Initial", "Largest", "Least", "Length", "Lengths"),
    *("Lowest", "Makes", "Most", "Name", "Names", "Number", "Numbers", "Path", "Probability"),
    *("Returns", "Running", "Seconds", "Seed", "Size", "Sizes", "Smallest", "Standard", "Values"),
)
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


def descriptions(docstring: str) -> Iterator[tuple[str, str]]:
    """Yield the name and the description of each argument, attribute and error of a docstring."""
    for section in SECTION.finditer(docstring + "\n"):
        indent = len(section[1]) + 4
        entry = rf"^ {{{indent}}}([\w*][^:\n]*): ((?:.|\n {{{indent + 1},}}\S)+)"
        for found in re.finditer(entry, section[2], re.MULTILINE):
            yield found[1], " ".join(found[2].split())


def faults(docstring: str) -> Iterator[str]:
    """Yield the faults of the descriptions in a docstring."""
    for name, text in descriptions(docstring):
        if text[0].islower():
            yield f"{name} begins in lower case: {text:.40}"
        elif text.partition(" ")[0] in BARE:
            yield f"{name} begins without an article or a verb: {text:.40}"
        if not text.endswith("."):
            yield f"{name} has no full stop: {text:.40}"


@pytest.mark.parametrize("path", DESCRIBED, ids=[str(path.relative_to(ROOT)) for path in DESCRIBED])
def test_descriptions_of_arguments(path: Path) -> None:
    found = [
        f"{path}:{node.lineno}: {fault}"
        for node in docstrings(path)
        for fault in faults(str(node.value))
    ]
    assert not found, "\n".join(found)


def test_faults_of_descriptions_are_found() -> None:
    docstring = """Do it.

    Args:
        one: the first one.
        two, three: The others, of
            two lines.
        four: Highest rate.
        five: The last
            of all

    Raises:
        ValueError: it is wrong.
    """
    assert [fault.split(":")[0] for fault in faults(docstring)] == [
        "one begins in lower case",
        "four begins without an article or a verb",
        "five has no full stop",
        "ValueError begins in lower case",
    ]
    assert dict(descriptions(docstring))["two, three"] == "The others, of two lines."


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
