"""The code on docs/reinforcement_learning.md that needs other libraries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pages import BLOCK, DOCS, read

PACKAGES = ("sb3_contrib", "torchrl")
LEFT_OUT = [
    code
    for reason, language, code in BLOCK.findall(read(DOCS / "reinforcement_learning.md"))
    if reason and language == "python"
]


@pytest.mark.filterwarnings("ignore")  # warnings of the libraries
@pytest.mark.parametrize("package", PACKAGES)
def test_the_code_that_needs_a_library_runs(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(package, reason=f"{package} is not installed")
    (code,) = [code for code in LEFT_OUT if f"from {package}" in code]
    monkeypatch.chdir(tmp_path)
    scope: dict[str, Any] = {}
    exec(code, scope)
    if package == "torchrl":
        assert scope["values"].shape == (50, 2)
    else:
        assert scope["model"].num_timesteps >= 1_000


def test_every_block_is_run_with_its_library() -> None:
    assert len(LEFT_OUT) == len(PACKAGES)
