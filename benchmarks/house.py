"""Count how large and how deep the library is, and the Python calls of a forward pass.

python benchmarks/house.py [--tree FOLDER] [--json]

``--tree`` names another checkout of the library to count in, by default the one of this file.

rooms       direct children of seqnorm/nn: packages and modules
floors      rooms in the longest chain of imports between them; rooms in a circle are one floor
arrows      imports between rooms, each pair of rooms counted once
back        arrows against the order of the wings (tests/support/source_tree.py) or, between rooms
            that the order does not know, arrows that are part of a circle
calls       functions of seqnorm called by one forward pass of a layer of 32 units with LayerNorm,
            after a first pass: calls that ``sys.setprofile`` reports in files of seqnorm
lines       lines of all files in seqnorm that git knows
docstrings  docstrings that begin with What, Whether, Who, Of or That
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "tests" / "support"))

import networkx  # noqa: E402  the path of the helpers comes first
from source_tree import (  # noqa: E402
    FIRST_WORDS,
    WINGS,
    docstrings,
    first_word,
    imports,
    modules,
    python_files,
)

LENGTHS = [10, 4, 7]

# Suffixes of files that are built from the sources.
BUILT = (".pyc", ".so")


def room(name: str) -> str:
    """Return the room of a module by its dotted name; "" outside of seqnorm.nn."""
    parts = name.split(".")
    return parts[2] if parts[:2] == ["seqnorm", "nn"] and len(parts) > 2 else ""


def plan(tree: Path) -> dict[str, int]:
    """Count rooms, floors and arrows in the imports between the rooms of ``seqnorm.nn``."""
    found = modules(tree)
    graph = networkx.DiGraph()
    for name in filter(room, found):
        graph.add_node(room(name))
        for target in filter(room, imports(found, name)):
            if room(target) != room(name):
                graph.add_edge(room(name), room(target))
    floors = networkx.condensation(graph)
    circle = floors.graph["mapping"]

    def back(start: str, end: str) -> bool:
        if start in WINGS and end in WINGS:
            return WINGS.index(start) < WINGS.index(end)
        return bool(circle[start] == circle[end])

    return {
        "rooms": len(graph),
        "floors": networkx.dag_longest_path_length(floors) + 1 if len(floors) else 0,
        "arrows": graph.number_of_edges(),
        "back": sum(back(*edge) for edge in graph.edges),
    }


@contextmanager
def counted(folder: Path) -> Iterator[list[str]]:
    """Collect the names of the functions in files of a folder that this thread calls."""
    called: list[str] = []

    def profile(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and folder in Path(frame.f_code.co_filename).parents:
            called.append(frame.f_code.co_name)

    sys.setprofile(profile)
    try:
        yield called
    finally:
        sys.setprofile(None)


def calls(tree: Path) -> dict[str, int]:
    """Count the calls of one forward pass, the second, of an LSTM and a GRU in each mode."""
    import torch

    import seqnorm

    folder = Path(seqnorm.__file__).parent
    if folder.resolve() != (tree / "seqnorm").resolve():  # imported before, from elsewhere
        raise SystemExit(f"house.py: seqnorm comes from {folder}, not from {tree}")
    x = torch.randn(3, 10, 16)
    ways: dict[str, dict[str, Any]] = {
        "list": {"lengths": LENGTHS},
        "tensor": {"lengths": torch.tensor(LENGTHS)},
        "none": {},
    }
    found = {}
    for cell in ("LSTM", "GRU"):
        for mode, names in (("training", ways), ("inference", ("list", "none"))):
            for name in names:
                layer = getattr(seqnorm, cell)(16, 32, batch_first=True, norm="layer")
                layer.train(mode == "training")
                with torch.set_grad_enabled(mode == "training"):
                    layer(x, **ways[name])
                    with counted(folder) as called:
                        layer(x, **ways[name])
                found[f"calls, {cell}, {mode}, lengths: {name}"] = len(called)
    return found


def lines(tree: Path) -> int:
    """Count the lines of all files in seqnorm that git knows, or of its sources outside of git."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "seqnorm"], cwd=tree, capture_output=True, text=True, check=False
    )
    paths = [tree / name for name in listed.stdout.split("\0") if name]
    if listed.returncode != 0:
        paths = [path for path in (tree / "seqnorm").rglob("*") if path.suffix not in BUILT]
    return sum(path.read_bytes().count(b"\n") for path in paths if path.is_file())


def odd_docstrings(tree: Path, place: str) -> int:
    """Count the docstrings in a folder that begin with one of the words to avoid."""
    return sum(
        first_word(str(node.value)) in FIRST_WORDS
        for path in python_files(tree, (place,))
        for node in docstrings(path)
    )


def counts(tree: Path) -> dict[str, int]:
    """Return all counts of a checkout by their names."""
    odd = {
        f"docstrings, {name}": odd_docstrings(tree, name)
        for name in ("seqnorm", "tests", "benchmarks")
    }
    return {**plan(tree), **calls(tree), "lines": lines(tree), **odd}


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tree", type=Path, default=ROOT, help="another checkout to count in")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    given = parser.parse_args(words)
    sys.path.insert(0, str(given.tree.resolve()))
    found = counts(given.tree)
    if given.json:
        print(json.dumps(found, indent=2))
    else:
        for name, number in found.items():
            print(f"{name:<40}{number:>7,}")


if __name__ == "__main__":
    main()
