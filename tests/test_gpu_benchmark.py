"""The benchmarks of the kernels for GPUs, as far as a machine without one can run them."""

from __future__ import annotations

import csv
import importlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from pages import marked
from source_tree import ROOT
from triton_here import needs_triton

import seqnorm

pytestmark = [needs_triton, pytest.mark.usefixtures("importable_benchmarks")]
PROGRAM = ROOT / "benchmarks" / "gpu.py"


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_whole_program(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", str(PROGRAM), "--dry", "--folder", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith(
        "results: 17 right, 0 WRONG, 8 skipped, 0 left out: see gpu_correct.csv\n"
    )
    correct = rows_of(tmp_path / "gpu_correct.csv")
    computed = {"device", "autocast", "repeated", "zoneout"}
    skipped = {"stream", "graph", "make_graphed_callables", "last device"}
    assert {row["what"] for row in correct} == computed | skipped
    for row in correct:
        if row["what"] in skipped:
            assert row["right"] == "skipped"
            assert row["error"].startswith("it needs GPUs: ")
            continue
        assert row["right"] == "True"
        assert row["error"] == ""
        assert (float(row["difference"]) > 0) == (row["what"] != "repeated"), "it was computed"
    speed = rows_of(tmp_path / "gpu_speed.csv")
    assert {(row["cell"], row["norm"], row["mode"], row["lengths"]) for row in speed} == {
        *(
            (cell, "layer", mode, "equal")
            for cell in ("LSTM", "GRU")
            for mode in ("train", "infer")
        ),
        *((cell, "layer", "train", "ragged") for cell in ("LSTM", "GRU")),
        *(("LSTM", "batch", mode, "equal") for mode in ("train", "infer")),
    }
    assert sum(bool(row["eager_ms"]) for row in speed) == 2
    for row in speed:
        assert float(row["ratio"]) > 0
        equal = row["lengths"] == "equal"
        assert row["errors"] == equal * "graph: RuntimeError: only a GPU has CUDA graphs"
    assert (tmp_path / "gpu_speed.png").stat().st_size > 1000


def test_it_needs_a_gpu(tmp_path: Path) -> None:
    for words, says in (
        (["--folder", str(tmp_path)], "there is no GPU that PyTorch can use"),
        (["--dry"], "--dry measures nothing"),
    ):
        done = subprocess.run(
            [sys.executable, str(PROGRAM), *words],
            env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 2
        assert says in done.stderr
    assert not list(tmp_path.iterdir())


def test_an_error_hides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    correct: Any = importlib.import_module("gpu_correct")
    speed: Any = importlib.import_module("gpu_speed")

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no such instruction")

    from seqnorm.nn.backends.triton import passes

    monkeypatch.setattr(passes.Forward, "run", fail)
    jobs = [job for job in correct.jobs(few=True) if job.what in ("device", "repeated", "zoneout")]
    rows = [job.row(torch.device("cpu")) for job in jobs]
    assert {row["error"] for row in rows} == {"RuntimeError: no such instruction"}
    assert not any(row["right"] for row in rows)
    job = speed.Job("LSTM", "layer", "train", "float32", False, 3, 2, 4)
    row = speed.measure(job, torch.device("cpu"), lambda call: (call(), 1.0)[1])
    assert row["errors"].startswith("triton: RuntimeError: no such instruction; graph: ")
    assert float(row["cudnn_ms"]) == 1.0
    assert "ratio" not in row


def test_a_wrong_result_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    correct: Any = importlib.import_module("gpu_correct")
    from seqnorm.nn.backends.triton import passes

    real = passes.Backward.gradients

    def wrong(self: Any) -> Any:
        found = real(self)
        return [None if grad is None else grad * 1.01 for grad in found]

    monkeypatch.setattr(passes.Backward, "gradients", wrong)
    jobs = [job for job in correct.jobs(few=True) if job.what == "device"]
    assert jobs
    assert not any(job.row(torch.device("cpu"))["right"] for job in jobs)


def test_an_error_of_torch_is_no_skipped_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch raises NotImplementedError, for operators that a device lacks."""
    correct: Any = importlib.import_module("gpu_correct")
    case = correct.Case("LSTM", "layer", "float32", 3, 2, 5)

    def fail() -> tuple[float, float]:
        raise NotImplementedError("could not run 'aten::mm' on this device")

    assert correct.row_of(case, "device", fail)["right"] is False
    assert correct.difference([torch.tensor([float("nan")])], [torch.ones(1)]) == float("inf")
    assert correct.difference([torch.tensor([1e-3])], [torch.zeros(1)]) == pytest.approx(0.1)


def test_the_time_ends_the_program(capsys: pytest.CaptureFixture[str]) -> None:
    """No job is done to find out that it is left out."""
    gpu: Any = importlib.import_module("gpu")
    now = [0.0]
    done = []
    needs = {"compile": 5.0}
    for job in gpu.until(
        ["a", "compile", "b", "c"], 3.0, lambda job: needs.get(job, 0.0), lambda: now[0]
    ):
        done.append(job)
        now[0] += 2.0
    assert done == ["a", "b"]
    said = capsys.readouterr().out
    assert said == "the time is over, and 2 were left out:\n  compile\n  c\n"


def test_a_gpu_that_does_not_answer_ends_the_program(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    gpu: Any = importlib.import_module("gpu")
    correct: Any = importlib.import_module("gpu_correct")
    device = torch.device("cpu")
    row = {"what": "device", "error": "CUDA error: an illegal memory access", "right": False}
    monkeypatch.setattr(correct.Job, "row", lambda self, device: row)
    found = gpu.check_all(device, tmp_path, float("inf"), few=True)
    assert found == {False: len(correct.jobs(few=True)), "left out": 0}, "it answers, and goes on"
    assert gpu.check_all(device, tmp_path, 0.0, few=True)["left out"] == found[False]
    monkeypatch.setattr(gpu, "answers", lambda device: False)
    with pytest.raises(SystemExit):
        gpu.check_all(device, tmp_path, float("inf"), few=True)
    assert [row["error"][:10] for row in rows_of(tmp_path / "gpu_correct.csv")] == ["CUDA error"]


def test_tf32_is_allowed_only_where_it_is_measured() -> None:
    from seqnorm.nn.backends.triton.layout import allows_tf32

    speed: Any = importlib.import_module("gpu_speed")
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    for name in speed.PRECISIONS:
        with speed.precision(name):
            assert allows_tf32() == torch.backends.cudnn.allow_tf32 == (name == "tf32")
    assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32) == before


def test_every_case_is_a_call_that_the_kernels_take() -> None:
    correct: Any = importlib.import_module("gpu_correct")
    for case in correct.cases():
        call = correct.Call(case._replace(T=2, H=24), torch.device("cpu"))
        call.results("reference", torch.float64)
        lengths = {"lengths": call.lengths}
        reasons = seqnorm.explain(call.layer.double(), call.input.double(), **lengths).reasons
        assert reasons["_l0"]["triton"] is None, case


def test_the_sample_and_the_shapes() -> None:
    correct: Any = importlib.import_module("gpu_correct")
    speed: Any = importlib.import_module("gpu_speed")
    cases = correct.cases()
    assert cases == correct.cases()
    assert len(set(cases)) == len(cases) >= 60
    assert {case.norm for case in cases} == set(correct.NORMS)
    assert {case.H for case in cases} == set(correct.SIZES)
    assert {case.B for case in cases} == set(correct.BATCHES)
    assert len(set(speed.SHAPES)) == 24
    jobs = list(speed.jobs())
    assert jobs[0][3:8] == ("bfloat16", False, 1024, 16, 768)
    assert len(set(jobs)) == len(jobs)
    for norm in ("layer", "batch"):
        for mode in ("train", "infer"):
            found = {job.precision for job in jobs if (job.norm, job.mode) == (norm, mode)}
            assert found == set(speed.PRECISIONS)
    assert {job.T for job in jobs if job.beside} == {64}
    assert all(job.seconds > 60 for job in jobs if job.beside == "compiled")
    assert [bool(job.seconds) for job in jobs] == sorted(bool(job.seconds) for job in jobs)
    for T, B, H in speed.SHAPES:
        assert (T, B) != (0, 0)
        assert T in (64, 256, 1024)
        assert B in (1, 16, 64, 256)
        assert H in (64, 128, 256, 512, 768, 1024)
    lengths = speed.Job("LSTM", "layer", "train", "float32", True, 100, 8, 4).lengths()
    assert lengths[0] == 100
    assert lengths[-1] == 5
    assert lengths == sorted(lengths, reverse=True)


def test_the_estimate_is_that_of_the_program() -> None:
    estimate: Any = importlib.import_module("gpu_estimate")
    computed = [{name: str(value) for name, value in row.items()} for row in estimate.rows()]
    assert rows_of(estimate.RESULTS) == computed


@pytest.mark.parametrize("name", ["gpu_estimate", "gpu_resources"])
def test_the_page_has_the_tables(name: str) -> None:
    program: Any = importlib.import_module(name)
    lines = program.lines_of(rows_of(program.RESULTS))
    assert len(lines) > 5
    assert marked(ROOT / "docs" / "gpu.md", name) == "\n".join(lines)


@pytest.mark.parametrize("norm", ["layer", "batch"])
@pytest.mark.parametrize("mode", ["train", "infer"])
@pytest.mark.parametrize("cell", ["LSTM", "GRU"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_launches_are_counted(
    cell: str, norm: str, mode: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Float64 takes the way of layers with many units, one step after the other."""
    estimate: Any = importlib.import_module("gpu_estimate")
    from seqnorm.nn.backends.triton import passes

    T, B, H = 4, 3, 5
    counted: list[str] = []

    def spy(name: str, real: Any) -> Any:
        def call(*args: Any, **named: Any) -> Any:
            counted.append(name)
            return real(*args, **named)

        return call

    monkeypatch.setattr(passes._Pass, "launch", spy("kernel", passes._Pass.launch))
    monkeypatch.setattr(torch, "mm", spy("product", torch.mm))
    layer: Any = getattr(seqnorm, cell)(2, H, norm=norm, dtype=dtype)
    x = torch.randn(T, B, 2, dtype=dtype)
    with seqnorm.use_backend("triton"), torch.set_grad_enabled(mode == "train"):
        output = layer.train(mode == "train")(x)[0]
    if mode == "train":
        output.sum().backward()
        counted.append("product of W_hh")  # by an operator
    units = H if dtype == torch.float32 else 10_000
    shape = estimate.Shape(cell, norm, mode, T, B, units, "float32")
    assert len(counted) == estimate.launches(shape)


@pytest.mark.parametrize("H", [5, 130])
@pytest.mark.parametrize("cell", ["LSTM", "GRU"])
def test_the_bytes_are_those_of_the_tensors(
    cell: str, H: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compare ``streamed`` with the tensors of all rows that the kernels are given."""
    estimate: Any = importlib.import_module("gpu_estimate")
    from seqnorm.nn.backends.triton import passes

    T, B = 2, 3
    seen = 0

    def spy(real: Any) -> Any:
        def arguments(self: Any) -> Any:
            nonlocal seen
            found = real(self)
            given = [one for one in found if isinstance(one, torch.Tensor) and one.dim() == 2]
            seen += sum(one.numel() * one.itemsize for one in given if len(one) == T * B)
            return found

        return arguments

    for one in (passes.Forward, passes.Backward):
        monkeypatch.setattr(one, "arguments", spy(one.arguments))
    layer: Any = getattr(seqnorm, cell)(2, H, norm="layer")
    with seqnorm.use_backend("triton"):
        layer(torch.randn(T, B, 2))[0].sum().backward()
    # The product for the gradient of W_hh reads the gradient of one term again, and h, which the
    # kernel of a GRU reads too.
    again = estimate.GATES[cell] + (cell == "GRU")
    shape = estimate.Shape(cell, "layer", "train", T, B, H, "float32")
    assert T * estimate.traffic(shape).streamed == seen + again * T * B * H * 4
    assert estimate.row_of(shape)["bytes_per_step"] == sum(estimate.traffic(shape)[:2])
