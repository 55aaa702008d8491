"""The layers in C compute what the definition computes in float64.

Axes: T steps, I = input size, H = hidden size.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import c_models
import pytest
import torch
from beside_reference import SCHEMES
from c_models import C99, STRICT, drawn
from comparing import DISTINCT, scheme_of, uncounted_is_meant
from tolerances import SINGLE
from torch import Tensor

import seqnorm
import seqnorm.export
from seqnorm import Norm, NormScheme

T = 50
TANH, ERF = Norm("dynamic_tanh"), Norm("dynamic_erf", shift=0.3)
LAYER, PART, BATCH = Norm("layer"), Norm("rms", part=0.3), Norm("batch")
POOLED = Norm("batch_pooled")
# The cell, its norm, and options of the layer.
OPTIONS: dict[str, tuple[str, Any, tuple[int, ...], dict[str, Any]]] = {
    "deep": ("LSTM", "layer", (), {"num_layers": 3}),
    "deep_other_sizes": ("GRU", "rms", (33, 7), {"num_layers": 2}),
    "projected": ("LSTM", "fastrnns", (), {"num_layers": 2, "proj_size": 5}),
    "wide": ("LSTM", "ba2016", (70, 33), {}),
    "narrow": ("RNN", None, (1, 1), {}),
    "heads": ("GRU", "layer", (), {"heads": 3}),
    "heads_of_lstm": ("LSTM", NormScheme(hidden=Norm("layer", "heads")), (), {"heads": 4}),
    "heads_of_slstm": ("SLSTM", "xlstm", (5, 18), {"num_heads": 2, "num_layers": 2}),
    "both": ("LSTM", "layer", (), {"bidirectional": True}),
    "both_deep": ("GRU", "ba2016", (), {"bidirectional": True, "num_layers": 2}),
    "both_deeper": ("RNN", "layer", (), {"bidirectional": True, "num_layers": 3}),
    "both_batch": ("LSTM", "batch", (), {"bidirectional": True, "num_layers": 2, "proj_size": 3}),
    "both_outside": (
        "LiGRU",
        NormScheme(frame=BATCH, output=BATCH, bias_ih=None),
        (),
        {"bidirectional": True, "learn_initial_state": True},
    ),
    "learned": ("LSTM", "rms", (), {"num_layers": 2, "learn_initial_state": True}),
    "learned_of_slstm": ("SLSTM", "layer", (), {"learn_initial_state": True}),
    "zoneout": ("LSTM", "layer", (), {"zoneout": (0.2, 0.4), "proj_size": 4}),
    "zoneout_of_h": ("SLSTM", "layer", (), {"zoneout": 0.3}),
    "zoneout_of_gru": ("GRU", "dreamer", (), {"zoneout": 0.1, "num_layers": 2}),
    "relu": ("RNN", "layer", (), {"nonlinearity": "relu"}),
    "relu_alone": ("IndRNN", "layer", (), {"nonlinearity": "relu"}),
    "tanh_of_ligru": ("LiGRU", "moumen2023", (), {"nonlinearity": "tanh"}),
    "no_bias": ("GRU", "layer", (), {"bias": False}),
    "dynamic": ("LSTM", NormScheme(input=TANH, hidden=ERF, cell=TANH, output=ERF), (), {}),
    "dynamic_sum": ("GRU", NormScheme(sum=ERF, bias_ih="inside"), (), {}),
    "part": ("LSTM", NormScheme(input=PART, hidden=Norm("rms", 4, part=0.5), cell=PART), (), {}),
    "part_of_gru": (
        "GRU",
        NormScheme(sum=Norm("rms", ("rz", "n"), part=0.1), bias_ih=None),
        (),
        {},
    ),
    "tables_everywhere": (
        "LSTM",
        NormScheme(input=BATCH, hidden=BATCH, cell=BATCH, frame=POOLED, output=POOLED),
        (),
        {"num_layers": 2},
    ),
}
CELLS: dict[str, tuple[str, Any, dict[str, Any]]] = {
    "cell_of_lstm": ("LSTMCell", "batch", {"learn_initial_state": True}),
    "cell_of_gru": ("GRUCell", "layer", {"heads": 2}),
    "cell_of_slstm": ("SLSTMCell", None, {}),
}


def with_options() -> dict[str, Any]:
    """Return a layer with each option."""
    found = {
        name: drawn(cell, norm, *sizes, **options)
        for name, (cell, norm, sizes, options) in OPTIONS.items()
    }
    gap = found["tables_everywhere"].norm_hh_l1.table.count
    gap[2] = 0  # this step reads the one before
    found["standardised"] = seqnorm.weight_standardisation(drawn("GRU", "layer"))
    for name, (cell, norm, options) in CELLS.items():
        made = getattr(seqnorm, cell)(6, 8, norm=norm, **options).eval()
        found[name] = made
        for each in made.modules():
            if isinstance(each, seqnorm.nn.statistics.RunningTable):
                each.adopt(torch.randn(3, each.features), torch.rand(3, each.features) + 0.5)
    return found


# A part that has every cell and every kind of norm, for further compilers.
PART_OF_THEM = (
    *("projected", "heads", "both_batch", "learned_of_slstm", "zoneout_of_gru"),
    *("relu_alone", "tanh_of_ligru", "dynamic", "part", "cell_of_lstm"),
)


def a_part() -> dict[str, Any]:
    """Return some of the layers."""
    every = with_options()
    return {name: every[name] for name in PART_OF_THEM}


def compare(folder: Path, models: dict[str, Any], *options: str, **how: Any) -> tuple[float, str]:
    """Return the largest difference between the models of one program and their layers."""
    uncounted_is_meant()
    before = how.pop("before", [])
    source = c_models.write(folder, models, how.pop("weights", "header"))
    program = c_models.compiled(source, *options, **how)
    inputs = {name: torch.randn(T, model.input_size) for name, model in models.items()}
    found = c_models.run([*before, program], models, inputs)
    wanted = {name: c_models.expected(models[name], x) for name, x in inputs.items()}
    largest = c_models.largest(found, wanted)
    print(f"{len(models)} models, {' '.join(options)}: largest difference {largest}")
    return largest


@c_models.needs("gcc")
def test_every_cell_with_every_norm(tmp_path: Path) -> None:
    """All presets, and schemes that no preset has, in one program."""
    models = {f"{cell}_{name}": drawn(cell, scheme_of(name, cell)) for name, cell in DISTINCT}
    for cell, schemes in SCHEMES.items():
        for number, scheme in enumerate(schemes.values()):
            models[f"{cell}_{number}_scheme"] = drawn(cell, scheme)
    assert len(models) > 100
    models = {name.lower(): model for name, model in models.items()}
    found = compare(tmp_path, models, *C99, "-O0")
    assert found[0] <= SINGLE, found


@c_models.needs("gcc")
def test_every_option_of_a_layer(tmp_path: Path) -> None:
    """A program that sanitizers watch."""
    watched = ["-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    found = compare(tmp_path, with_options(), *C99, "-O0", *watched)
    assert found[0] <= SINGLE, found


@c_models.needs("gcc")
@pytest.mark.parametrize("options", [["-O3"], ["-Ofast", "-march=native"], ["-DSEQNORM_PLAIN"]])
def test_further_ways_to_compile(tmp_path: Path, options: list[str]) -> None:
    """The second may reorder sums and ignore NaN; the third is that of other compilers."""
    found = compare(tmp_path, a_part(), *C99, *options)
    assert found[0] <= SINGLE, found


@c_models.needs("g++")
def test_in_a_program_in_cpp(tmp_path: Path) -> None:
    found = compare(tmp_path, a_part(), "-x", "c++", "-std=c++11", *STRICT, compiler="g++")
    assert found[0] <= SINGLE, found


@c_models.needs("gcc", "g++")
def test_a_header_in_several_files(tmp_path: Path) -> None:
    """A program in C++ calls two models whose code is in a file in C."""
    for name in ("one", "two"):
        seqnorm.export.to_c(drawn("GRU", "layer"), tmp_path / f"{name}.h")
    headers = '#include "one.h"\n#include "two.h"\n'
    code = tmp_path / "code.c"
    code.write_text(f"#define ONE_IMPLEMENTATION\n#define TWO_IMPLEMENTATION\n{headers}{headers}")
    c_models.compiled(code, *C99, "-c", target="code.o")
    program = tmp_path / "main.cpp"
    calls = "int main() { return one_init(&a) || two_init(&b); }\n"
    program.write_text(f"{headers}static one a;\nstatic two b;\n{calls}")
    path = c_models.compiled(program, "code.o", *STRICT, compiler="g++")
    subprocess.run([path], check=True)


@c_models.needs("aarch64-linux-gnu-gcc", "qemu-aarch64")
def test_on_arm(tmp_path: Path) -> None:
    """A program for another processor, in an emulator."""
    before = ["qemu-aarch64", "-L", "/usr/aarch64-linux-gnu"]
    compiler = "aarch64-linux-gnu-gcc"
    found = compare(tmp_path, a_part(), *C99, "-O3", compiler=compiler, before=before)
    assert found[0] <= SINGLE, found


@c_models.needs("gcc")
def test_weights_in_a_file(tmp_path: Path) -> None:
    every = with_options()
    models = {name: every[name] for name in ("deep", "both_batch", "heads", "cell_of_lstm")}
    found = compare(tmp_path, models, *C99, "-O1", weights="file")
    assert found[0] <= SINGLE, found
    (tmp_path / "deep.bin").write_bytes((tmp_path / "heads.bin").read_bytes() * 9)
    done = subprocess.run([tmp_path / "program"], input=b"\0" * 8, cwd=tmp_path)
    assert done.returncode == 5, "the weights of another model are refused"


@c_models.needs("gcc", "nm")
def test_without_memory_of_the_heap(tmp_path: Path) -> None:
    """Only ``create`` asks for memory, so that the rest needs none."""
    seqnorm.export.to_c(drawn("LSTM", "layer"), tmp_path / "model.h")
    source = tmp_path / "part.c"
    source.write_text('#define MODEL_IMPLEMENTATION\n#define MODEL_NO_MALLOC\n#include "model.h"\n')
    part = c_models.compiled(source, *C99, "-O2", "-c", target="part.o")
    names = subprocess.run(["nm", part], capture_output=True, text=True, check=True).stdout
    needed = {line.split()[-1] for line in names.splitlines() if " U " in line}
    assert needed <= {"sqrtf", "memcpy", "memset", "_GLOBAL_OFFSET_TABLE_", "__stack_chk_fail"}
    written = {line.split()[1] for line in names.splitlines() if len(line.split()) == 3}
    assert not written & set("bBdDC"), "no data that is written"


@c_models.needs("gcc")
def test_steps_without_statistics_are_refused(tmp_path: Path) -> None:
    layer = drawn("GRU", seqnorm.preset("batch", "GRU", beyond="error", max_steps=9))
    model = c_models.Loaded(tmp_path, layer)
    x = torch.randn(4, 6)  # as many steps as have statistics
    wanted = c_models.expected(layer, x)[0]
    for _ in range(2):
        for row, y in zip(x[:3], wanted):
            status, found = model.step(row)
            assert status == 0
            assert c_models.distance(found, y) <= SINGLE
        assert model.run(x[:2])[0] == 1
        status, outputs = model.run(x[3:])
        assert status == 0
        assert c_models.distance(outputs[0], wanted[3]) <= SINGLE
        status, found = model.step(x[0])
        assert status == 1
        assert bool(found.isnan().all()), "nothing was written"
        model.reset()


@c_models.needs("gcc")
@pytest.mark.parametrize("cell", ["LSTM", "GRU", "RNN", "LiGRU", "IndRNN", "SLSTM"])
def test_large_numbers_and_nan(tmp_path: Path, cell: str) -> None:
    """Saturated gates are exact, and NaN stays NaN until the next reset."""
    layer = drawn(cell, None)
    model = c_models.Loaded(tmp_path, layer)
    wanted: Tensor
    for size in (1e-6, 30.0, 300.0):
        x = size * torch.randn(9, 6)
        wanted, _ = c_models.expected(layer, x)
        status, found = model.run(x)
        assert status == 0
        assert c_models.distance(found, wanted) <= SINGLE, size
        model.reset()
    x = torch.randn(3, 6)
    x[1, 2] = float("nan")
    _, found = model.run(x)
    assert found.isnan().any(1).tolist() == [False, True, True]
