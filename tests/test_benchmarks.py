"""The pieces of the benchmarks on tiny shapes: equal computations, right counts, right files.

No time is asserted.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module as module
from pathlib import Path
from typing import Any

import pytest
import torch
from comparing import perturbed_layer
from source_tree import ROOT
from torch import Tensor

import seqnorm

pytestmark = pytest.mark.usefixtures("importable_benchmarks")
FOLDER = ROOT / "benchmarks"


@pytest.fixture(autouse=True)
def same_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", ["eager", "scripted"])
def test_a_baseline_computes_what_the_reference_does(name: str) -> None:
    layer = perturbed_layer()
    baseline = getattr(module("baselines"), name)(layer)
    cotangents = [torch.randn(7, 4, 5), torch.randn(1, 4, 5), torch.randn(1, 4, 5)]
    # TorchScript compiles after its first runs, and the benchmark times later ones.
    for round in range(4):
        found = []
        for compute, part in ((layer, layer), (baseline, baseline.cell)):
            x = torch.randn(7, 4, 3, generator=torch.Generator().manual_seed(round))
            x.requires_grad_()
            part.zero_grad()
            with seqnorm.use_backend("reference"):
                output, (h, c) = compute(x)
            values = [output, h.view(1, 4, 5), c.view(1, 4, 5)]
            torch.autograd.backward(values, cotangents)
            grads = {key: value.grad for key, value in part.named_parameters()}
            found.append((values, {"input": x.grad, **grads}))
        (expected, expected_grads), (values, grads) = found
        assert grads.keys() == expected_grads.keys()
        pairs = [*zip(values, expected), *((grads[key], expected_grads[key]) for key in grads)]
        for actual, wanted in pairs:
            torch.testing.assert_close(actual, wanted, rtol=1e-5, atol=1e-5)


def tiny(kind: str, cell: str, norm: str, mode: str = "train") -> Any:
    workload = module("workload")
    return workload.Job(cell, norm, mode, workload.Shape(kind, 6, 3, 8))


@pytest.mark.parametrize("kind", ["grid", "ragged", "ragged_deep"])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_ours_and_torch_do_the_same_work(cell: str, kind: str) -> None:
    """Compare the shapes of all gradients in training and of the output in inference."""
    calls = module("workload").calls(tiny(kind, cell, "none"))
    names = ["torch"] if kind == "grid" else ["torch_packed", "torch_padded"]
    assert list(calls) == ["ours", *names]
    for _ in range(2):  # gradients are those of one step, not sums
        shapes = [[grad.shape for grad in call()] for call in calls.values()]
        assert all(shape == shapes[0] for shape in shapes)
    inference = module("workload").calls(tiny(kind, cell, "none", "infer"))
    outputs = [call() for call in inference.values()]
    assert len({output.shape for output in outputs}) == 1
    assert not any(output.requires_grad for output in outputs)


def test_a_training_step_gives_the_gradients_of_one_step() -> None:
    workload = module("workload")
    layer = seqnorm.GRU(2, 4, norm="layer")
    x, grad = torch.randn(5, 3, 2), torch.randn(5, 3, 4)
    step = workload.training_step(layer, lambda x: layer(x)[0], x, grad)
    step()
    found = step()
    leaf = x.clone().requires_grad_()
    layer.zero_grad()
    layer(leaf)[0].backward(grad)
    for actual, wanted in zip(found, [leaf.grad, *(p.grad for p in layer.parameters())]):
        torch.testing.assert_close(actual, wanted)


def test_packed_sequences_give_what_lengths_give() -> None:
    workload = module("workload")
    theirs = torch.nn.GRU(3, 4, 2, bidirectional=True)
    x, lengths = torch.randn(6, 3, 3), torch.tensor([2, 6, 4])
    expected = seqnorm.GRU.from_torch(theirs)(x, lengths=lengths)[0]
    torch.testing.assert_close(workload.run_packed(theirs, lengths, x), expected)


@pytest.mark.parametrize("norm", ["rms", "batch", "batch_pooled"])
@pytest.mark.parametrize("batch", [1, 3])
def test_every_norm_runs_without_a_warning(norm: str, batch: int) -> None:
    workload = module("workload")
    shapes = [workload.Shape("grid", 4, batch, 8), workload.Shape("ragged_deep", 4, batch, 8)]
    jobs = workload.all_jobs(shapes, [norm])
    assert {job.cell for job in jobs} == {"lstm", "gru"}
    assert ("train" in {job.mode for job in jobs}) == ((norm, batch) != ("batch", 1))
    for job in jobs:
        for call in workload.calls(job).values():
            call()


@pytest.mark.parametrize("kind", ["short", "cells", "bfloat16"])
def test_every_kind_of_shape_runs_without_a_warning(kind: str) -> None:
    workload = module("workload")
    jobs = workload.all_jobs([workload.Shape(kind, 4, 3, 8)], workload.NORMS)
    # There are processors where torch's plain layers have no bfloat16 to be compared with.
    left_out = kind == "bfloat16" and not torch.ops.mkldnn._is_mkldnn_bf16_supported()
    assert {job.norm for job in jobs} == (set() if left_out else set(workload.FEWER_NORMS[kind]))
    for job in jobs:
        gradients_or_outputs = [call() for call in workload.calls(job).values()]
        assert len(gradients_or_outputs) == 2
        for found in gradients_or_outputs:
            for tensor in found if job.mode == "train" else [found]:
                assert tensor.dtype == torch.float32
                assert tensor.isfinite().all()


def test_the_reference_computes_what_ours_does() -> None:
    workload = module("workload")
    job = workload.Job("slstm", "layer", "infer", workload.Shape("cells", 4, 3, 8), "reference")
    torch.testing.assert_close(*[call() for call in workload.calls(job).values()])


def test_inference_reads_statistics_of_every_step() -> None:
    workload = module("workload")
    shape = workload.Shape("grid", 4, 1, 8)
    layer = workload.build("lstm", "batch", 8)
    workload.fill_tables(layer, shape.T, shape)
    assert (layer.norm_hh_l0.table.count[: shape.T] > 0).all()


def test_the_grid() -> None:
    workload = module("workload")
    jobs = workload.all_jobs([*workload.GRID, *workload.RAGGED], workload.NORMS)
    assert len(set(jobs)) == len(jobs)
    plain = [job for job in jobs if job.shape.kind == "grid" and job.baseline == "torch"]
    # 2 cells, 5 norms, 2 modes and 36 shapes, without training with "batch" on 12 of them.
    assert len(plain) == 2 * 5 * 2 * 36 - 2 * 12
    others = [job for job in jobs if job.baseline != "torch"]
    assert len(others) == 2 * 2 * 36
    assert {(job.cell, job.norm) for job in others} == {("lstm", "layer")}
    assert {shape.kind for shape in workload.QUICK} == set(workload.KINDS)
    further = workload.all_jobs(workload.FURTHER, workload.NORMS)
    assert {job.cell for job in further} == set(workload.CELLS)
    assert {job.cell for job in further if job.baseline == "reference"} == set(workload.OTHERS)


def test_lengths_are_those_of_r8() -> None:
    draw = module("workload").draw_lengths
    assert draw(64).equal(draw(64))
    lengths: Tensor = draw(20_000, seed=1)
    assert int(lengths.min()) >= 1
    assert int(lengths.max()) == 400
    for part, wanted in {0.05: 12, 0.5: 66, 0.95: 355}.items():
        assert float(lengths.double().quantile(part)) == pytest.approx(wanted, rel=0.1)
    for batch in (16, 64):
        assert int(draw(batch).max()) == 400
        assert float(draw(batch).double().mean()) == pytest.approx(101, rel=0.1)


class Clock:
    """A clock that advances only in the calls."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[str] = []

    def __call__(self) -> float:
        return self.now

    def call(self, name: str, *seconds: float) -> None:
        self.calls.append(name)
        self.now += seconds[min(self.calls.count(name), len(seconds)) - 1]


def test_calls_take_turns_and_the_budget_ends_them() -> None:
    timing, clock = module("timing"), Clock()
    calls = {"a": lambda: clock.call("a", 100, 1), "b": lambda: clock.call("b", 200, 3)}
    medians, repeats = timing.interleaved(calls, budget=40, warmup=1, clock=clock)
    assert medians == {"a": 1, "b": 3}, "the warm-up does not count"
    assert repeats == 10, "of four seconds a round"
    assert clock.calls == ["a", "b"] * 11
    least = timing.interleaved(calls, budget=0, clock=clock)[1]
    assert least == timing.LEAST
    quick = {"a": lambda: clock.call("c", 0)}
    assert timing.interleaved(quick, budget=1, clock=clock)[1] == timing.MOST


def test_the_median_withstands_an_outlier() -> None:
    clock = Clock()
    calls = {"a": lambda: clock.call("a", 1, 9, 2, 2, 3)}
    medians, repeats = module("timing").interleaved(calls, budget=0, warmup=0, clock=clock)
    assert repeats == 5
    assert medians == {"a": 2}


def test_a_busy_machine_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    timing = module("timing")
    monkeypatch.setattr(timing.os, "cpu_count", lambda: 4)
    assert timing.busy(2.0) is None
    assert timing.busy(float("nan")) is None
    assert "load 2.10 on 4 cores" in timing.busy(2.1)


def row(ratio: float, **changes: object) -> dict[str, object]:
    known = {"shape": "grid", "cell": "lstm", "norm": "layer", "mode": "train"}
    sizes = {"T": 25, "B": 16, "H": 64, "baseline": "torch", "ratio": f"{ratio:.4f}"}
    return {**known, **sizes, "machine": "some", "threads": 2, "torch": "2", **changes}


def test_summary_and_headline() -> None:
    table = module("table")
    rows = [row(0.5), row(2.0, H=128), row(4.0, mode="infer"), row(1.0, cell="gru")]
    rows += [row(9.0, baseline="eager"), row(9.0, norm="rms")]
    rows += [row(3.0, shape="ragged", baseline=f"torch_{how}") for how in ("packed", "padded")]
    lines = table.summary(rows)
    assert len(lines) == 6
    first = "grid        lstm   layer        train / torch   : geometric mean  1.00"
    assert lines[0] == f"{first}, worst  2.00 at T=25 B=16 H=128, of 2"
    assert lines[-1].endswith("geometric mean  3.00, worst  3.00 at T=25 B=16 H=64, of 2")
    headline = table.headline(rows)
    assert headline.endswith("geometric mean: 1.000 (LSTM 1.000 of 2, GRU 1.000 of 1)")
    assert "not measured" in table.headline([row(9.0, norm="rms")])


def test_what_only_selects() -> None:
    cpu = module("cpu")
    selected = cpu.selection([cpu.pattern("lstm:layer:train:torch"), cpu.pattern("gru::infer")])
    assert selected("lstm", "layer", "train", "torch")
    assert selected("gru", "rms", "infer", "reference")
    assert not selected("lstm", "layer", "train", "eager")
    assert not selected("lstm", "layer", "infer", "torch")
    assert not selected("gru", "rms", "train", "torch")
    assert cpu.selection([])("gru", "none", "memory", "torch")
    assert cpu.pattern("*:rms") == ("", "rms", "", "")
    for wrong in ("lstm:layr", "elman", "lstm:layer:train:jax", "lstm:layer:train:torch:more"):
        with pytest.raises(SystemExit):
            cpu.arguments(["--only", wrong])


def test_only_a_whole_run_replaces_the_results() -> None:
    cpu = module("cpu")
    assert cpu.arguments([]).csv == cpu.RESULTS
    assert cpu.arguments(["--quick"]).csv is None
    assert cpu.arguments(["--only", "lstm"]).csv is None


def test_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cpu, memory, table, workload = map(module, ("cpu", "memory", "table", "workload"))
    kinds = {"grid": (5, 2, 8), "ragged": (5, 3, 8), "ragged_deep": (5, 3, 8)}
    shapes = [workload.Shape(kind, *sizes) for kind, sizes in kinds.items()]
    monkeypatch.setattr(workload, "QUICK", shapes)
    monkeypatch.setattr(memory, "measure", lambda *call: 2.0 if "ours" in call else 4.0)
    path = tmp_path / "new" / "speed.csv"
    only = ["--only", "lstm:layer", "--only", "gru:layer:train"]
    cpu.main(["--quick", "--budget", "0", "--threads", "1", "--csv", str(path), *only])

    rows = table.read(path)
    assert tuple(rows[0]) == table.SPEED
    assert all(value for row in rows for value in row.values())
    # LSTM in both modes: three baselines on the grid, one on each ragged shape; then GRU.
    assert len(rows) == 2 * (3 + 2) + 3
    for line in rows:
        ratio = float(line["ours_ms"]) / float(line["baseline_ms"])
        assert float(line["ratio"]) == pytest.approx(ratio, rel=0.02, abs=1e-3)
        assert (line["threads"], line["repeats"]) == ("1", "5")
    baselines = {line["baseline"] for line in rows if line["shape"] == "grid"}
    assert baselines == {"torch", "scripted", "eager"}
    sizes = table.read(tmp_path / "new" / "speed_memory.csv")
    assert tuple(sizes[0]) == table.MEMORY
    assert [line["T"] for line in sizes] == ["128", "100", "200", "400"]
    assert {line["ratio"] for line in sizes} == {"0.5000"}

    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("threads 1, torch ")
    assert any("growth over T 100 -> 200 -> 400" in line for line in said)
    assert said[-1] == table.headline(rows)
    assert said[-1].startswith("LayerNorm LSTM and GRU training over the grid")
    for name in ("speed.png", "speed_infer.png"):
        assert (tmp_path / "new" / name).stat().st_size > 10_000


def test_pictures_of_a_whole_grid(tmp_path: Path) -> None:
    from matplotlib.image import imread

    pictures, workload = module("pictures"), module("workload")
    rows = [
        row(0.8 + len(job.norm) / 10, **{axis: getattr(job.shape, axis) for axis in "TBH"})
        | {"cell": job.cell, "norm": job.norm, "mode": job.mode, "baseline": job.baseline}
        for job in workload.all_jobs(workload.GRID, workload.NORMS)
    ]
    (training, _) = pictures.draw_all(rows, tmp_path / "speed.csv")
    pixels = imread(training)
    assert min(pixels.shape[:2]) > 600
    assert 0.002 < (pixels[..., :3].mean(-1) < 0.5).mean() < 0.5
    assert pictures.draw_all([], tmp_path / "none.csv") == []


def test_memory_of_a_step_in_a_process_of_its_own() -> None:
    command = [sys.executable, "-W", "error", "-W", "ignore:normalised layers are slow here"]
    command += [str(FOLDER / "memory.py"), "lstm", "layer", "ours", "400", "16", "64", "1"]
    process = subprocess.run(command, capture_output=True, text=True, check=True)
    # The gates of all steps alone are T * B * 4H numbers of four bytes.
    assert 400 * 16 * 4 * 64 * 4 < int(process.stdout) < 2**28


def test_the_cost_of_sharing_statistics() -> None:
    """The command runs two processes; exchanges are counted, not timed."""
    command = [sys.executable, "-W", "error", str(FOLDER / "distributed.py"), "--repeats=1"]
    command += ["--steps=3", "--batch=2", "--hidden=4"]
    done = subprocess.run(command, cwd=FOLDER.parent, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    lstm, gru = (line for line in done.stdout.splitlines() if "exchanges" in line)
    # Two to agree; forward and backward, one for W x and, for each step, two (LSTM) or one (GRU).
    assert lstm.startswith("LSTM: ")
    assert f" {2 + 2 * (1 + 2 * 3)} exchanges" in lstm
    assert f" {2 + 2 * (1 + 3)} exchanges" in gru
