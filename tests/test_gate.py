"""The gate notices missing paths among the tests it leaves out; nox runs its parts."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from source_tree import ROOT

PART = ROOT / ".ci" / "part"


def part(*words: str, script: Path = PART) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(script), *words], capture_output=True, text=True)


def test_every_path_that_is_left_out_exists() -> None:
    for name in ("left_out", "existing"):
        done = part(name)
        assert done.returncode == 0, done.stderr
    options = part("left_out").stdout.split()
    assert len(options) > 10
    assert options.pop(0) == "--fewer"
    for option in options:
        assert (ROOT / option.split("=")[1].split("::")[0]).exists()


@pytest.mark.parametrize(
    "named",
    [
        "tests/nn/test_moved.py",
        "tests/moved",
        "tests/test_moved.py::test_every_path_that_is_left_out_exists",
        "tests/test_gate.py::test_that_was_renamed",
    ],
)
def test_it_fails_for_a_path_that_does_not_exist(named: str, tmp_path: Path) -> None:
    done = part("existing", "tests/test_gate.py", named)
    assert done.returncode == 1
    assert named in done.stderr
    # The real script with one wrong name in its list.
    (tmp_path / ".ci").mkdir()
    script = tmp_path / ".ci" / "part"
    script.write_text(PART.read_text().replace("tests/studies\n", f"{named}\n"))
    script.chmod(0o755)
    shutil.copytree(ROOT / "tests", tmp_path / "tests")
    done = part("left_out", script=script)
    assert done.returncode == 1
    assert named in done.stderr
    assert not done.stdout


def test_it_finds_a_test_that_exists() -> None:
    here = "tests/test_gate.py::test_it_finds_a_test_that_exists"
    assert part("existing", here, "tests/studies", "tests/test_gate.py").returncode == 0


def test_the_gate_and_nox_run_every_part() -> None:
    defined = set(re.findall(r"^(\w+)\(\) \{", PART.read_text(), re.MULTILINE))
    defined -= {"existing", "left_out"}
    assert defined >= {"lint", "types", "tests", "network", "no_kernels", "torchtext"}
    run = (ROOT / ".ci" / "run").read_text()
    (named,) = re.findall(r"^for part in (.*); do$", run, re.MULTILINE)
    # The README's two commands are other parts, and "whole" is not in the gate.
    assert {*named.split(), "tests", "torchtext", "whole"} == defined
    sessions = ast.parse((ROOT / "noxfile.py").read_text()).body
    assert {node.name for node in sessions if isinstance(node, ast.FunctionDef)} >= defined
