"""Python 3.9 can parse and run every file, as far as its text shows.

vermin knows the version that introduced each function, argument and module. It does not distinguish
a union of types in an annotation, which is not evaluated here, from one that is evaluated, so these
tests search for the latter.
"""

from __future__ import annotations

import ast
import builtins
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FLOOR = (3, 9)
PLACES = ("seqnorm", "tests", "benchmarks", "docs/_ext", "docs/examples", "docs/conf.py")
PLACES += ("train.py", "setup.py")
FILES = sorted(
    path
    for place in PLACES
    for path in ([ROOT / place] if place.endswith(".py") else (ROOT / place).rglob("*.py"))
)


def complaints(*paths: Path) -> str:
    """Return vermin's report of features that are too new; "" if nothing is too new."""
    # vermin takes our "long" and "decode" for Python 2's; the last name is read by getattr.
    known = ["long", "str.decode", "sys.stdlib_module_names"]
    target = f"-t={FLOOR[0]}.{FLOOR[1]}-"
    command = [sys.executable, "-c", "import vermin; vermin.main()", target, "--no-tips"]
    command += [part for name in known for part in ("--exclude", name)]
    command += ["--violations", *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stderr
    assert not done.stderr
    return done.stdout if done.returncode else ""


def annotations(tree: ast.AST) -> set[int]:
    """Return the id of every node within an annotation."""
    return {
        id(inner)
        for node in ast.walk(tree)
        for name in ("annotation", "returns")
        if getattr(node, name, None) is not None
        for inner in ast.walk(getattr(node, name))
    }


def is_type(node: ast.expr) -> bool:
    """Return True if an operand of ``|`` looks like a type: None, int, nn.Module, list[int]."""
    if isinstance(node, ast.Constant):
        return node.value is None
    if isinstance(node, ast.Subscript):
        return is_type(node.value)
    if isinstance(node, ast.Attribute):
        return node.attr[:1].isupper() and not node.attr.isupper()
    if not isinstance(node, ast.Name):
        return False
    return isinstance(getattr(builtins, node.id, None), type) or (
        node.id[0].isupper() and not node.id.isupper()
    )


def unions(source: str) -> list[str]:
    """Return unions ``X | Y`` of types that are evaluated, which needs Python 3.10."""
    tree = ast.parse(source, feature_version=FLOOR)
    text = annotations(tree)
    return [
        ast.unparse(node)
        for node in ast.walk(tree)
        if id(node) not in text
        and isinstance(node, ast.BinOp)
        and isinstance(node.op, ast.BitOr)
        and (is_type(node.left) or is_type(node.right))
    ]


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(ROOT)) for path in FILES])
def test_it_parses_and_computes_no_union_of_types(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert not unions(source)
    if annotations(ast.parse(source)):
        assert "from __future__ import annotations" in source, "annotations are evaluated"


def test_it_calls_nothing_newer() -> None:
    assert len(FILES) > 200
    found = complaints(*FILES)
    assert not found, found


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("list(zip([1], [2], strict=True))", "zip(strict)"),
        ("import itertools\nitertools.pairwise([])", "itertools.pairwise"),
        ("import dataclasses\n@dataclasses.dataclass(slots=True)\nclass A:\n    x: int", "slots"),
    ],
)
def test_vermin_would_find_it(source: str, what: str, tmp_path: Path) -> None:
    path = tmp_path / "new.py"
    path.write_text(source)
    assert what in complaints(path)


@pytest.mark.parametrize("source", ["A = int | None", "isinstance(x, list | Tuple)", "B = T | str"])
def test_the_walk_would_find_a_union(source: str) -> None:
    assert len(unions(source)) == 1
    with pytest.raises(SyntaxError):
        unions("match x:\n    case 1:\n        pass")
