"""Adapters whose library is not installed name it, and the command that installs it."""

from __future__ import annotations

import importlib
import sys

import pytest

NEEDED = {"sb3": ["numpy", "sb3_contrib"], "torchrl": ["torchrl", "tensordict"]}
CASES = [(name, module) for name, modules in NEEDED.items() for module in modules]


@pytest.mark.filterwarnings("ignore")  # warnings of the libraries
@pytest.mark.parametrize(("name", "module"), CASES)
def test_a_missing_package(name: str, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for other in NEEDED[name]:  # those before it may be absent too
        if other == module:
            break
        pytest.importorskip(other)
    full = f"seqnorm.integrations.{name}"
    for loaded in [key for key in sys.modules if key.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.delitem(sys.modules, full, raising=False)
    monkeypatch.setitem(sys.modules, module, None)
    told = f"{full} needs the module {module}, which is not installed: pip install 'seqnorm.rl.'"
    with pytest.raises(ModuleNotFoundError, match=f"^{told}$"):
        importlib.import_module(full)
