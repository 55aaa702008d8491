"""The reference has every public name exactly once, and the gallery all that it promises."""

from __future__ import annotations

import ast
import json
import re
from importlib import import_module
from pathlib import Path

import pytest
from source_tree import ROOT

API = ROOT / "docs" / "api"
EXAMPLES = sorted((ROOT / "docs" / "examples").glob("*.py"))
DIRECTIVE = re.compile(
    r"^\.\. (?:auto(?:class|function|exception)|py:data):: ([\w.]+)$", re.MULTILINE
)
MODULES = ("seqnorm", "seqnorm.models", "seqnorm.datasets", "seqnorm.training")


def described(folder: Path) -> list[str]:
    """Return the names that the pages of the reference describe."""
    pages = sorted(folder.glob("*.rst"))
    return [name for page in pages for name in DIRECTIVE.findall(page.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_is_there_exactly_once(module: str) -> None:
    found = described(API)
    counts = {name: found.count(f"{module}.{name}") for name in import_module(module).__all__}
    assert len(counts) >= 6
    assert not {name: count for name, count in counts.items() if count != 1}


def test_every_name_that_is_described_exists() -> None:
    found = described(API)
    assert len(found) == len(set(found))
    for name in found:
        parts = name.split(".")
        place = next(k for k in range(len(parts), 0, -1) if is_module(".".join(parts[:k])))
        value = import_module(".".join(parts[:place]))
        for part in parts[place:]:
            value = getattr(value, part)


def is_module(name: str) -> bool:
    try:
        return bool(import_module(name))
    except ModuleNotFoundError:
        return False


def test_every_page_of_the_reference_is_in_the_contents() -> None:
    contents = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    pages = {f"api/{page.stem}" for page in API.glob("*.rst")}
    assert pages == set(re.findall(r"^api/\w+$", contents, re.MULTILINE))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_has_a_title_and_ends_with_a_figure(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    title, line, *_ = (ast.get_docstring(ast.parse(text)) or "").splitlines()
    assert line == "=" * len(title)
    assert "plt.show()" in text.rsplit("plt.subplots", 1)[-1].rsplit("plt.figure", 1)[-1]
    assert re.search(r"set_?[xz]?label|xlabel=", text), "no axis has a label"


def test_the_gallery_has_every_example() -> None:
    configuration = ast.parse((ROOT / "docs" / "conf.py").read_text(encoding="utf-8"))
    (order,) = (
        ast.literal_eval(node.value)
        for node in configuration.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "ORDER"
    )
    assert sorted(order) == [path.name for path in EXAMPLES]
    assert len(EXAMPLES) >= 6


@pytest.mark.site
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_a_picture_and_can_be_downloaded(path: Path, site: Path) -> None:
    page = (site / "gallery" / f"{path.stem}.html").read_text(encoding="utf-8")
    assert re.search(rf'_images/sphx_glr_{path.stem}_\d+\.png"', page)
    (notebook,) = set(re.findall(rf'href="\.\./(_downloads/\w+/{path.stem}\.ipynb)"', page))
    cells = json.loads((site / notebook).read_text(encoding="utf-8"))["cells"]
    assert any("plt.show()" in "".join(cell["source"]) for cell in cells)
    (script,) = set(re.findall(rf'href="\.\./(_downloads/\w+/{path.stem}\.py)"', page))
    assert (site / script).read_bytes() == path.read_bytes()


@pytest.mark.site
def test_docstrings_become_lists_and_not_something_else(site: Path) -> None:
    layers = (site / "api" / "layers.html").read_text(encoding="utf-8")
    names = "input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional"
    assert f"<strong>{names}, proj_size, device, dtype</strong>" in layers
    norms = (site / "api" / "norms.html").read_text(encoding="utf-8")
    assert norms.count("<strong>num_channels</strong> \u2013 C.") == 8
    for page in (site / "api").glob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert "Should be overridden by all subclasses" not in text, "torch's docstring"
        assert not re.search(r'class="(?:system-message|problematic)"', text)
