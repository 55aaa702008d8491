"""The code on docs/forecasting.md that needs other libraries."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest
from pages import BLOCK, DOCS, read

PAGE = read(DOCS / "forecasting.md")
PACKAGES = {"pytorch_forecasting": "pytorch-forecasting", "darts": "darts"}
LEFT_OUT = [code for reason, language, code in BLOCK.findall(PAGE) if reason]
SHOWN = [ast.literal_eval(text) for _, kind, text in BLOCK.findall(PAGE) if kind == "text"]
# The sines have a standard deviation of 0.7, and noise of 0.1.
UNTRAINED = 0.7


@pytest.mark.filterwarnings("ignore")  # warnings of the libraries
@pytest.mark.timeout(600)
@pytest.mark.parametrize("package", PACKAGES)
def test_the_code_that_needs_a_library_runs(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(package, reason=f"{PACKAGES[package]} is not installed")
    (code,) = [code for code in LEFT_OUT if f"from {package} import" in code]
    monkeypatch.chdir(tmp_path)
    # A module, because darts looks for the classes of a stored model where they were defined.
    (tmp_path / f"recipe_{package}.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    errors: dict[str, float] = importlib.import_module(f"recipe_{package}").errors
    shown = SHOWN[list(PACKAGES).index(package)]
    assert errors.keys() == shown.keys()
    for name, error in errors.items():
        assert 0.05 < error < 0.7 * UNTRAINED, name
        # Other versions of the libraries may draw other numbers.
        assert error == pytest.approx(shown[name], abs=0.15), name


def test_every_block_is_run_with_its_library() -> None:
    assert len(LEFT_OUT) == len(SHOWN) == len(PACKAGES)
    assert len(BLOCK.findall(PAGE)) == 2 * len(PACKAGES)
