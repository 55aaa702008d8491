"""The program that counts the rooms of the library, its lines, and the calls of a layer."""

from __future__ import annotations

import json
from importlib import import_module as module
from pathlib import Path

import pytest
import torch
from comparing import perturbed_layer
from source_tree import ROOT

import seqnorm

pytestmark = pytest.mark.usefixtures("importable_benchmarks")


def small_tree(folder: Path, **files: str) -> Path:
    """Write a checkout of the given modules of seqnorm.nn."""
    for name, source in files.items():
        path = folder / "seqnorm" / "nn" / (name.replace("__", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    return folder


def test_the_plan_of_a_house(tmp_path: Path) -> None:
    plan = module("house").plan
    wings = {
        "statistics__moments": "",
        "norms__batch": "from ..statistics.moments import one, two\nfrom . import images",
        "norms__images": "from seqnorm.nn.statistics import moments",
        "layers__layer": "from ..norms.batch import one\nimport torch",
        "check": "",
    }
    assert plan(small_tree(tmp_path / "new", **wings)) == {
        "rooms": 4,
        "floors": 3,
        "arrows": 2,
        "back": 0,
    }
    wings["statistics__moments"] = "from ..layers.layer import one"
    assert plan(small_tree(tmp_path / "back", **wings)) == {
        "rooms": 4,
        "floors": 1,
        "arrows": 3,
        "back": 1,
    }
    # Rooms without a known order: a circle of two, and a third room above it.
    circle = {"a": "from .b import x", "b": "from .a import y", "c": "from .a import y"}
    found = plan(small_tree(tmp_path / "old", **circle))
    assert found == {"rooms": 3, "floors": 2, "arrows": 3, "back": 2}


def test_calls_are_counted_in_a_folder() -> None:
    house = module("house")
    layer = perturbed_layer()
    with house.counted(Path(seqnorm.__file__).parent) as called:
        layer(torch.randn(7, 4, 3))
    assert "forward" in called
    with house.counted(ROOT / "configs") as called:
        layer(torch.randn(7, 4, 3))
    assert called == []


def test_the_house_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    module("house").main(["--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["back"] == 0
    assert found["rooms"] >= found["floors"] > 1
    for cell in ("LSTM", "GRU"):
        for mode in ("inference", "training"):
            without, lengths = (
                found[f"calls, {cell}, {mode}, lengths: {kind}"] for kind in ("none", "list")
            )
            assert 0 < without <= lengths <= 60
    assert found["lines"] > 1000
