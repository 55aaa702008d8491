"""The source of a checkout as text: its modules, what they import, and their docstrings."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
DOCS = ("docs/_ext", "docs/examples", "docs/conf.py")
PLACES = ("seqnorm", "benchmarks", "tests", *DOCS, "noxfile.py", "setup.py", "train.py")
# The wings of seqnorm.nn, from the ground up: each may import itself and those before it.
WINGS = [
    "check",
    "autocast",
    "graphs",
    "statistics",
    "recurrence",
    "norms",
    "backends",
    "layers",
    "statistics_sets",
]
# No docstring and no sentence begins with one of these.
FIRST_WORDS = ("What", "Whether", "Who", "Of", "That")


def python_files(root: Path, places: tuple[str, ...] = PLACES) -> list[Path]:
    """Return the Python files in the given files and folders of a checkout."""
    files = [
        path
        for place in places
        for path in ([root / place] if place.endswith(".py") else (root / place).rglob("*.py"))
    ]
    return sorted(files)


def modules(root: Path) -> dict[str, Path]:
    """Return every module of seqnorm by its dotted name; a package is its ``__init__``."""
    found = {}
    for path in python_files(root, ("seqnorm",)):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@functools.cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


@functools.cache
def for_typing(path: Path) -> frozenset[ast.AST]:
    """Return everything below ``if TYPE_CHECKING``, which no program runs."""
    guarded = [
        inner
        for node in nodes(path)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for statement in node.body
        for inner in ast.walk(statement)
    ]
    return frozenset(guarded)


def imports(found: Mapping[str, Path], name: str, *, typing_too: bool = True) -> Iterator[str]:
    """Yield the absolute name of each import anywhere in a module, down to modules in ``found``."""
    path = found[name]
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in nodes(path):
        if not typing_too and node in for_typing(path):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, base] if base else parents)
            for alias in node.names:
                inside = f"{base}.{alias.name}"
                yield inside if inside in found else base


def docstrings(path: Path) -> Iterator[ast.Constant]:
    """Yield the docstring of the module and of each class and function."""
    for node in nodes(path):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                yield first.value


def first_word(text: str) -> str:
    """Return the word that a text begins with, without punctuation."""
    return (text.split() or [""])[0].strip(".,:;*`\"'")
