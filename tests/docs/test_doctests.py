"""The examples with >>> in docstrings and pages give what they say."""

from __future__ import annotations

import doctest
import re
from importlib import import_module
from pathlib import Path

import onnx_here
import pytest
import torch
import triton_here
from source_tree import ROOT, docstrings, modules

import seqnorm
from seqnorm.nn.backends.cpu import library

MODULES = {
    name: path
    for name, path in modules(ROOT).items()
    if any(re.search(r"^ *>>> ", str(node.value), re.MULTILINE) for node in docstrings(path))
}
PAGES = sorted((ROOT / "docs").glob("*.md"))
EXPORTS = ("seqnorm.export.onnx", "seqnorm.export.programs")
SHOWS_KERNELS = "seqnorm.nn.layers.explain"
NAMES = {"torch": torch, "nn": torch.nn, "seqnorm": seqnorm}


def failures(tests: list[doctest.DocTest]) -> tuple[int, str]:
    """Return the number of the examples that ran, and what went wrong."""
    said: list[str] = []
    runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.NORMALIZE_WHITESPACE)
    for test in tests:
        runner.run(test, out=said.append, clear_globs=False)
    return runner.tries, "".join(said)


def of_page(text: str, name: str) -> list[doctest.DocTest]:
    """Return the blocks of a page that hold >>>, which share their names."""
    blocks = re.findall(r"^```(?:python|pycon)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    parser, names = doctest.DocTestParser(), dict(NAMES)
    tests = []
    for number, block in enumerate(blocks):
        if ">>>" in block:
            test = parser.get_doctest(block, {}, f"{name}, block {number}", name, 0)
            test.globs = names
            tests.append(test)
    return tests


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.usefixtures("forgotten_steps")
def test_docstrings(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == SHOWS_KERNELS and library.LIBRARY is None:
        pytest.skip("the kernels are not built")
    if name in EXPORTS:
        onnx_here.need()
    if name.startswith("seqnorm.nn.backends.triton.") and triton_here.VERSION < triton_here.LEAST:
        pytest.skip("it needs the package triton")
    monkeypatch.chdir(tmp_path)
    module = import_module(name)
    # As on a reader's machine. Triton has read it when it was imported.
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    # RecurrentLayer's docstring uses the step that Step's docstring defines.
    names = {**NAMES, **vars(seqnorm.nn), **vars(module)}
    names["nn"] = torch.nn
    finder = doctest.DocTestFinder(exclude_empty=True)
    tests = [test for test in finder.find(module, globs=names) if test.examples]
    if name == "seqnorm.nn.layers.layer":
        before = finder.find(seqnorm.Step, "Step", globs=names)
        tests = [test for test in before if test.examples] + tests
        for test in tests:
            test.globs = names
    tried, said = failures(tests)
    assert tried
    assert not said, said


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_pages(page: Path) -> None:
    _, said = failures(of_page(page.read_text(encoding="utf-8"), page.name))
    assert not said, said


def test_there_are_docstrings_with_examples() -> None:
    assert len(MODULES) >= 8


def test_it_would_find_a_wrong_page() -> None:
    page = "# Page\n\n```python\n>>> x = 1\n```\n\n```python\n>>> x + 1\n3\n```\n"
    tried, said = failures(of_page(page, "page.md"))
    assert tried == 2
    assert "Expected:\n    3\nGot:\n    2" in said
    assert not failures(of_page(page.replace("\n3\n", "\n2\n"), "page.md"))[1]
