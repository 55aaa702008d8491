"""Type checkers see every public name, and the types of every call, in a user's file.

mypy always runs, and pyright if it is installed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import seqnorm
import seqnorm.models

pytest.importorskip("mypy", reason="a tool of development")
pytest.importorskip("setuptools", reason="setup.py says what is installed")

ROOT = Path(seqnorm.__file__).parent.parent
PAIR = "tuple[Tensor, Tensor]"
FOUR = "tuple[Tensor, Tensor, Tensor, Tensor]"
PACKED = "tuple[PackedSequence, Tensor]"
# Code of a user, and its inferred type.
REVEALED = {
    "seqnorm.LSTM(8, 16)(x)": f"tuple[Tensor, {PAIR}]",
    "seqnorm.LSTM(8, 16)(packed, (x, x))": f"tuple[PackedSequence, {PAIR}]",
    "seqnorm.GRU(8, 16)(x, lengths=[4, 3, 1])": PAIR,
    "seqnorm.GRU(8, 16).forward(packed)": PACKED,
    "seqnorm.RNN(8, 16)(packed, x)": PACKED,
    "seqnorm.LiGRU(8, 16)(x, None, x)": PAIR,
    "seqnorm.IndRNN(8, 16)(packed)": PACKED,
    "seqnorm.SLSTM(8, 16)(x, first_step=3)": f"tuple[Tensor, {FOUR}]",
    "seqnorm.LSTMCell(8, 16)(x)": PAIR,
    "seqnorm.GRUCell(8, 16)(x, None, first_step=3)": "Tensor",
    "seqnorm.SLSTMCell(8, 16)(x)": FOUR,
    "seqnorm.LayerNorm(8, layout='NTC')(x, [4, 3, 1])": "Tensor",
    "seqnorm.GroupNorm(2, 8)(x, mask=x)": "Tensor",
    "seqnorm.BatchNorm2d(8)(x, mask=x)": "Tensor",
    "seqnorm.InstanceNorm1d(8)(x)": "Tensor",
    "seqnorm.LayerNorm2d(8)(x)": "Tensor",
    "seqnorm.ConditionalInstanceNorm2d(8, 2)(x, x)": "Tensor",
    "seqnorm.AdaptiveInstanceNorm2d()(x, x)": "Tensor",
    "seqnorm.BatchInstanceNorm2d(8)(x, mask=x)": "Tensor",
    "seqnorm.SwitchableNorm2d(8)(x)": "Tensor",
    "seqnorm.ConditionalBatchNorm2d(8, 2)(x, x)": "Tensor",
    "seqnorm.statistics_set(seqnorm.SwitchableNorm2d(8))": "MixedSets",
    "seqnorm.LSTM.from_torch(torch.nn.LSTM(8, 16))": "LSTM",
    "torch_rnn.GRU(8, 16)(x)": PAIR,
    "seqnorm.RecurrentLayer(LeakyStep(), 8, 16, norm='layer')": "RecurrentLayer",
    "seqnorm.RecurrentCell(LeakyStep(), 8, 16)": "RecurrentCell",
    "seqnorm.explain(seqnorm.LSTM(8, 16), x).backends": "dict[str, str]",
    "seqnorm.convert_rnn(torch.nn.LSTM(8, 16))": "Module",
    "seqnorm.models.TextClassifier(9, 2)(x, x)": "Tensor",
    "seqnorm.preset('batch', max_steps=50)": "NormScheme",
    "seqnorm.PRESETS": "dict[str, dict[str, NormScheme]]",
    "seqnorm.__version__": "str",
    "seqnorm.load('a.ckpt', task='classification').predict(['x'])[0].label": "str",
    "seqnorm.load('a.ckpt', task='language').predict(['x'])[0].scores": "list[float]",
}
# Mistakes of a user, and a word in the error of either checker.
WRONG = {
    "seqnorm.LSTM(8, 16)(x, [4, 3, 1])": "overload",
    "seqnorm.GRU(8, 16)(x, (x, x))": "overload",
    "seqnorm.LSTM(8, 16)(packed, lengths=[4, 3, 1])": "overload",
    "seqnorm.LSTM(8, 16, nrom='layer')": "nrom",
    "seqnorm.GRUCell(8, 16)(x, (x, x))": "Tensor",
    "seqnorm.BatchNorm2d(8)(x, lengths=x)": "lengths",
    "seqnorm.LSTN": "LSTN",
}
HEAD = """\
from collections.abc import Callable

import torch
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

import seqnorm
import seqnorm.models
from seqnorm.integrations import torch_rnn

class LeakyStep(seqnorm.Step):
    gates = "al"
    parameters = {"scale": ("H",)}

    def step(
        self,
        x: torch.Tensor,
        h: torch.Tensor,
        state: tuple[torch.Tensor, ...],
        norm: Callable[[str, torch.Tensor], torch.Tensor],
        scheme: seqnorm.NormScheme | None,
        scale: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        a, leak = norm("sum", x + h).chunk(2, -1)
        return (state[0] + scale * leak.sigmoid() * (a.tanh() - state[0]),)


x = torch.zeros(4, 3, 8)
packed: PackedSequence = pack_padded_sequence(x, torch.tensor([4, 3, 1]))
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    names = [f"reveal_type(seqnorm.{name})" for name in seqnorm.__all__]
    imported = [f"from seqnorm import {name} as _{name}" for name in seqnorm.__all__]
    lines = [f"reveal_type({code})" for code in REVEALED] + list(WRONG) + names + imported
    path = tmp_path_factory.mktemp("user") / "user.py"
    path.write_text(HEAD + "\n".join(lines) + "\n")
    return path


def by_mypy(path: Path) -> str:
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(path.parent / "cache")]
    command += ["--no-error-summary", "--show-error-codes", path.name]
    environment = {**os.environ, "MYPYPATH": str(ROOT)}
    return subprocess.run(
        command, cwd=path.parent, env=environment, capture_output=True, text=True, check=False
    ).stdout


def by_pyright(path: Path) -> str:
    if shutil.which("pyright") is None:
        pytest.skip("pyright is not installed")
    settings = f'{{"extraPaths": ["{ROOT}"]}}'
    (path.parent / "pyrightconfig.json").write_text(settings)
    command = ["pyright", "--pythonpath", sys.executable, path.name]
    return subprocess.run(
        command, cwd=path.parent, capture_output=True, text=True, check=False
    ).stdout


@pytest.mark.parametrize("check", [by_mypy, by_pyright])
def test_a_users_file(check: Callable[[Path], str], written: Path) -> None:
    said: dict[int, list[str]] = {}
    for line in check(written).splitlines():
        found = re.search(r"user\.py:(\d+):(?:\d+)?(.*)", line)
        if found:
            said.setdefault(int(found[1]), []).append(found[2])
    number = HEAD.count("\n") + 1
    for code, kind in REVEALED.items():
        (text,) = said.pop(number)
        quoted = re.search(r'(?:type is|" is) "(.*)"', text)
        assert quoted, f"{code}: {text}"
        # mypy writes module names, and the fields of a PackedSequence.
        plain = re.sub(r"\b(?:[a-z_A-Z]+\.)+", "", quoted[1]).replace("Tuple", "tuple")
        plain = re.sub(r"tuple\[[^\[\]]*fallback=PackedSequence\]", "PackedSequence", plain)
        assert plain == kind, code
        number += 1
    for code, word in WRONG.items():
        errors = " ".join(said.pop(number, []))
        assert "error" in errors, code
        assert word in errors, f"{code}: {errors}"
        number += 1
    for name in seqnorm.__all__:
        (text,) = said.pop(number)
        assert "error" not in text, name
        _, arrow, result = text.split(" is ")[-1].rpartition("->")
        # mypy omits the arrow of a function that returns nothing.
        assert "Any" not in result or (not arrow and "def (" in result), f"{name}: {text}"
        number += 1
    assert not said, "imports by name give no error"


def test_the_marker_is_in_what_is_installed(tmp_path: Path) -> None:
    pytest.importorskip("setuptools", minversion="77")  # pip builds with it
    command = [sys.executable, "setup.py", "-q", "egg_info", "--egg-base", str(tmp_path)]
    command += ["build_py", "--build-lib", str(tmp_path / "built")]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    built = tmp_path / "built" / "seqnorm"
    assert (built / "nn" / "layers" / "cells" / "lstm.py").exists()
    assert (built / "py.typed").exists()
