"""Time and memory of seqnorm's layers on this CPU, beside torch's layers without a norm.

Each line of the table is timed alternately with its baseline, in one process: LSTM and GRU with
each norm against ``torch.nn.LSTM`` and ``GRU``, and the LayerNorm LSTM also against one in
TorchScript and one in plain PyTorch (``baselines.py``). Training is a forward pass and a backward
pass to input and parameters; inference is a forward pass. The lengths of ragged batches are drawn,
with a fixed seed, from a log-normal distribution that fits Reuters R8 (quantiles 5, 50, 95, 99 % =
12, 66, 355, 642 tokens, at most 964), and cut at 400. Their baseline is the faster of torch's layer
on packed and on padded sequences. Sequences of one and of four steps, the other cells (beside the
layer of torch that is used in their place, and beside their own time loop in Python) and both sides
under autocast in bfloat16 have a few shapes each. Peak memory of a training step is measured in
fresh processes.

Ratios are ours / baseline: below 1, ours is faster or smaller.
"""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path

import memory
import pictures
import table
import timing
import torch
import workload
from workload import Job

import seqnorm

MODES = (*workload.MODES, "memory")
VECTORS = {"base": 128, "avx2": 256, "avx512": 512}  # bits, by the kernels' instructions
RESULTS = Path(__file__).resolve().parent.parent / "results" / "cpu_speed.csv"


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--quick", action="store_true", help="a part of it, in less than two minutes"
    )
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="CELL:NORM:MODE:BASELINE",
        type=pattern,
        help="only these, as in lstm:layer:train:torch; an omitted part means any; may be repeated "
        f"(norms: {', '.join(workload.NORMS)}; modes: {', '.join(MODES)}; "
        f"baselines: {', '.join(workload.BASELINES)})",
    )
    parser.add_argument(
        "--budget",
        type=float,
        metavar="SECONDS",
        help="time for each line (default 2; with --quick 0.25)",
    )
    parser.add_argument(
        "--csv",
        type=Path,
        metavar="PATH",
        help="table to write, with its pictures and PATH's name + _memory.csv beside it "
        "(default results/cpu_speed.csv; with --quick or --only nothing is written)",
    )
    parser.add_argument(
        "--threads", type=int, metavar="N", help="threads (default: torch's number)"
    )
    options = parser.parse_args(argv)
    if options.budget is None:
        options.budget = 0.25 if options.quick else 2.0
    if options.csv is None and not options.quick and not options.only:
        options.csv = RESULTS
    return options


def pattern(text: str) -> tuple[str, str, str, str]:
    """Parse a selection of --only; "" or "*" matches any."""
    parts = [part if part != "*" else "" for part in text.split(":")]
    every = tuple(workload.CELLS), workload.NORMS, MODES, workload.BASELINES
    parts += [""] * (len(every) - len(parts))
    for name, known in zip(parts, every):
        if len(parts) != len(every) or (name and name not in known):
            raise argparse.ArgumentTypeError(f"{text!r}: {name!r} is not one of {', '.join(known)}")
    return parts[0], parts[1], parts[2], parts[3]


def selection(only: Sequence[tuple[str, str, str, str]]) -> Callable[..., bool]:
    """Return a function that says if a cell, norm, mode and baseline are selected."""

    def selected(*names: str) -> bool:
        matches = (all(w in ("", n) for w, n in zip(wanted, names)) for wanted in only)
        return not only or any(matches)

    return selected


def time_job(job: Job, budget: float) -> table.Row:
    """Time a job and return its row, without the columns that are the same for all rows."""
    torch.manual_seed(0)
    # TorchScript observes its first runs before it compiles.
    warmup = 4 if job.baseline == "scripted" else 2
    seconds, repeats = timing.interleaved(workload.calls(job), budget, warmup)
    ours = seconds.pop("ours")
    baseline = min(seconds, key=lambda name: seconds[name])
    shape = job.shape
    return {
        **{"cell": job.cell, "norm": job.norm, "mode": job.mode},
        **{"T": shape.T, "B": shape.B, "H": shape.H, "shape": shape.kind},
        "ours_ms": f"{ours * 1e3:.4f}",
        "baseline": baseline,
        "baseline_ms": f"{seconds[baseline] * 1e3:.4f}",
        "ratio": f"{ours / seconds[baseline]:.4f}",
        "repeats": repeats,
    }


def speed_line(row: table.Row) -> str:
    names = f"{row['shape']:11} {row['cell']:6} {row['norm']:12} {row['mode']:5}"
    sizes = " ".join(f"{axis}={row[axis]:<3}" for axis in "TBH")
    times = f"ours {row['ours_ms']:>10} ms, {row['baseline']:12} {row['baseline_ms']:>10} ms"
    return f"{names} {sizes} {times}, ratio {row['ratio']} ({row['repeats']} repeats)"


def memory_row(cell: str, norm: str, sizes: tuple[int, int, int]) -> table.Row:
    ours, theirs = (
        memory.measure(cell, name, whose, *sizes)
        for name, whose in ((norm, "ours"), ("none", "torch"))
    )
    return {
        **{"cell": cell, "norm": norm},
        **dict(zip("TBH", sizes)),
        "ours_mib": f"{ours:.2f}",
        "torch_mib": f"{theirs:.2f}",
        "ratio": f"{ours / theirs:.4f}",
    }


def memory_line(row: table.Row) -> str:
    sizes = " ".join(f"{axis}={row[axis]:<3}" for axis in "TBH")
    sides = f"ours {row['ours_mib']} MiB, torch {row['torch_mib']} MiB"
    return f"memory {row['cell']} {row['norm']} {sizes} {sides}, ratio {row['ratio']}"


def memory_jobs(quick: bool) -> list[tuple[str, str]]:
    """Return the cells and norms whose memory is measured."""
    if quick:
        return [("lstm", "layer")]
    return [(cell, norm) for cell in workload.LAYERS for norm in workload.NORMS]


def main(argv: Sequence[str] | None = None) -> None:
    load = timing.load_average()
    options = arguments(argv)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    where = table.environment(load)
    selected = selection(options.only)
    print(", ".join(f"{name} {value}" for name, value in where.items()))
    print(f"backend cpu {seqnorm.available_backends()['cpu']}")
    bits = VECTORS.get(str(where["instructions"]))
    if bits is not None:
        print(f"vectors of {bits} bits")
    warning = timing.busy(load)
    if warning:
        print(warning)

    shapes = (
        workload.QUICK if options.quick else [*workload.GRID, *workload.RAGGED, *workload.FURTHER]
    )
    norms = workload.QUICK_NORMS if options.quick else workload.NORMS
    rows = []
    with table.table(options.csv, table.SPEED) as write:
        for job in workload.all_jobs(shapes, norms):
            if selected(job.cell, job.norm, job.mode, job.baseline):
                rows.append(time_job(job, options.budget) | where)
                print(speed_line(rows[-1]), flush=True)
                write(rows[-1])
    beside = options.csv and options.csv.with_name(f"{options.csv.stem}_memory.csv")
    with table.table(beside, table.MEMORY) as write:
        for cell, norm in memory_jobs(options.quick):
            if not selected(cell, norm, "memory", "torch"):
                continue
            for sizes in memory.SIZES:
                row = memory_row(cell, norm, sizes) | where
                print(memory_line(row), flush=True)
                write(row)
            print(memory.linearity(cell, norm), flush=True)
    if options.csv and importlib.util.find_spec("matplotlib"):
        for path in pictures.draw_all(rows, options.csv):
            print(f"drawn: {path}")
    elif options.csv:
        print("not drawn, because matplotlib is missing: pip install 'seqnorm[train]'")
    if warning:
        print(warning)
    print(*table.summary(rows), sep="\n")
    print(table.headline(rows))


if __name__ == "__main__":
    main()
