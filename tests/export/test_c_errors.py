"""Modules and names that C cannot have are refused, and nothing is written."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import seqnorm
from seqnorm import GRU, LSTM, Norm, NormScheme, RecurrentLayer
from seqnorm.export import to_c


def of_own_step() -> nn.Module:
    """Return a layer of a step that only this file knows."""

    class OwnStep(seqnorm.Step):
        gates = "a"

        def step(self, x: Tensor, h: Tensor, state: Any, norm: Any, scheme: Any) -> Any:
            return (torch.tanh(norm("sum", x + h)),)

    return RecurrentLayer(OwnStep(), 2, 3)


class OwnForward(GRU):
    """A layer that doubles its output."""

    def forward(self, *args: Any, **options: Any) -> Any:
        output, state = super().forward(*args, **options)
        return 2 * output, state


class Model(nn.Module):
    """A model that contains a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.recurrent = GRU(2, 3)


def spoilt() -> nn.Module:
    layer = GRU(2, 3, norm="layer").eval()
    with torch.no_grad():
        layer.norm_hh_l0.weight[1] = float("nan")
    return layer


ERROR = NormScheme(input=Norm("batch", beyond="error"))
# The module, the type of the error, and parts of its message: the problem, then the remedy.
MODULES: dict[str, tuple[Callable[[], nn.Module], type[Exception], str]] = {
    "no layer": (lambda: nn.Linear(2, 3), TypeError, r"layer or cell of seqnorm, got Linear$"),
    "torch's layer": (lambda: nn.LSTM(2, 3), TypeError, r"layer or cell of seqnorm, got LSTM"),
    "a model": (Model, TypeError, r"got Model: give it model\.recurrent"),
    "of the user": (
        of_own_step,
        TypeError,
        r"step of its own, OwnStep, .*knows those of LSTM, GRU, RNN, LiGRU, IndRNN, SLSTM",
    ),
    "forward": (lambda: OwnForward(2, 3), TypeError, r"OwnForward has a forward of its own"),
    "batch": (lambda: LSTM(2, 3, norm="batch"), ValueError, r"norm of the batch.*layer\.eval\(\)"),
    "cell": (lambda: seqnorm.LSTMCell(2, 3, norm="batch"), ValueError, r"layer\.eval\(\)"),
    "zoneout": (lambda: LSTM(2, 3, zoneout=0.1), ValueError, r"where zoneout .*layer\.eval\(\)"),
    "dropout": (
        lambda: GRU(2, 3, 2, dropout=0.1, recurrent_dropout=0.2),
        ValueError,
        r"dropout and recurrent_dropout .*layer\.eval\(\)",
    ),
    "window": (
        lambda: GRU(2, 3, norm=NormScheme(input=Norm("layer", window=2))),
        ValueError,
        r"window=2\) takes the statistics of 2 steps .* leave window=None",
    ),
    "never trained": (
        lambda: GRU(2, 3, norm=ERROR).eval(),
        ValueError,
        r'input has no statistics of step 0.*beyond="last"',
    ),
    "double": (lambda: GRU(2, 3).double(), TypeError, r"torch\.float64: .*\.float\(\)"),
    "bfloat16": (lambda: GRU(2, 3).bfloat16(), TypeError, r"torch\.bfloat16: .*\.float\(\)"),
    "int8": (
        lambda: seqnorm.quantize_(GRU(2, 3)).eval(),
        TypeError,
        r"GRU has matrices of int8.*call to_c before quantize_",
    ),
    "nan": (spoilt, ValueError, r"hidden_gain_l0 holds NaN"),
    "meta": (lambda: GRU(2, 3, device="meta"), ValueError, r"on the device meta"),
    "no inputs": (lambda: seqnorm.GRUCell(0, 3), ValueError, r"input_size=0.* no arrays"),
}


@pytest.mark.usefixtures("forgotten_steps")
@pytest.mark.parametrize("case", MODULES)
def test_a_module_is_refused(case: str, tmp_path: Path) -> None:
    build, error, message = MODULES[case]
    with pytest.raises(error, match=message):
        to_c(build(), tmp_path / "model.h")
    assert not any(tmp_path.iterdir())


def test_a_layer_in_training_mode_that_draws_nothing(tmp_path: Path) -> None:
    (path,) = to_c(LSTM(2, 3, norm="layer"), tmp_path / "model.h")
    assert path.is_file()


# The arguments after the module, the type of the error, and parts of its message.
NAMES: dict[str, tuple[tuple[str, dict[str, Any]], type[Exception], str]] = {
    "file's name": (("my-net.h", {}), ValueError, r"name of the file 'my-net' is no identifier"),
    "digit": (("a.h", {"name": "2nd"}), ValueError, r"name '2nd' is no identifier.*name=\"model\""),
    "unicode": (("a.h", {"name": "modèle"}), ValueError, r"'modèle' is no identifier"),
    "reserved": (("a.h", {"name": "_model"}), ValueError, r"'_model' is no identifier"),
    "of C": (("a.h", {"name": "switch"}), ValueError, r"'switch' is a word of C or C\+\+"),
    "of C++": (("a.h", {"name": "class"}), ValueError, r"'class' is a word of C or C\+\+"),
    "library": (("tanh.h", {}), ValueError, r"'tanh' is a function of C's library"),
    "macro": (("a.h", {"name": "NULL"}), ValueError, r"'NULL' is a type or a macro of C's"),
    "type": (("a.h", {"name": "int32_t"}), ValueError, r"'int32_t' is a type or a macro"),
    "rare type": (("a.h", {"name": "uint_fast16_t"}), ValueError, r"'uint_fast16_t' is a type"),
    "own": (("a.h", {"name": "work"}), ValueError, r"'work' is a name within the header"),
    "shared": (("a.h", {"name": "seqnorm_net"}), ValueError, r"'seqnorm_net' begins as"),
    "number": (("a.h", {"name": 3}), TypeError, r"name must be a string, got int"),
    "ending": (("net.c", {}), ValueError, r"must end in \.h, got .*net\.c'.*write net\.h"),
    "no ending": (("net", {}), ValueError, r"write net\.h"),
    "no folder": (("no/net.h", {}), FileNotFoundError, r"no folder .*no for net\.h"),
    "folder": (("folder.h", {}), IsADirectoryError, r"folder\.h is a folder"),
    "weights": (("a.h", {"weights": "files"}), ValueError, r"\"header\" or \"file\", got 'files'"),
}


@pytest.mark.parametrize("case", NAMES)
def test_a_name_is_refused(case: str, tmp_path: Path) -> None:
    (path, options), error, message = NAMES[case]
    (tmp_path / "folder.h").mkdir()
    with pytest.raises(error, match=message):
        to_c(GRU(2, 3), tmp_path / path, **options)
    assert [file.name for file in tmp_path.iterdir()] == ["folder.h"]


def test_a_file_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(OSError, match=re.escape("No space left")):
        to_c(GRU(2, 3), tmp_path / "model.h")
