"""All that a GPU has to say about the Triton kernels, in one call of at most ten minutes.

``python benchmarks/gpu.py`` compares their results with the definition (``gpu_correct``), writes
``results/gpu_correct.csv``, and then times them beside cuDNN's layers without a norm, the
definition and the definition under torch.compile (``gpu_speed``), and writes
``results/gpu_speed.csv``. Rows are written one by one, the most important first, and no new one
begins after ``--minutes``; those left out are printed.

``--picture`` draws ``results/gpu_speed.png`` again. ``--estimate`` computes launches and bytes
without a GPU (``gpu_estimate``). ``--dry`` does all with tiny sizes on a CPU, by Triton's
interpreter, to see that the program runs.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

if "--dry" in sys.argv:  # before Triton is imported
    os.environ["TRITON_INTERPRET"] = "1"

import gpu_correct
import gpu_estimate
import gpu_speed
import table
import torch

RESULTS = Path(__file__).resolve().parent.parent / "results"
Job = TypeVar("Job")
WHERE = ("gpu", "torch", "triton", "date", "commit")
# The colour and the marker of each precision, as in the other pictures.
STYLES = {"bfloat16": ("#0072B2", "s"), "float32": ("#000000", "o"), "tf32": ("#D55E00", "D")}


def environment(device: torch.device) -> table.Row:
    """Return the columns that describe the GPU, the versions and the date."""
    import triton

    whole = table.environment(0.0)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "the interpreter"
    return {
        "gpu": name,
        "triton": triton.__version__,
        **{column: whole[column] for column in ("torch", "date", "commit")},
    }


def until(
    jobs: Iterable[Job],
    end: float,
    needs: Callable[[Job], float] = lambda job: 0.0,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Job]:
    """Yield the jobs that begin before a time, and print the others.

    Args:
        jobs: descriptions of what is to be done, which cost nothing by themselves.
        needs: the seconds that must be left for a job.
    """
    left = []
    for job in jobs:
        if clock() + needs(job) >= end:
            left.append(job)
        else:
            yield job
    if left:
        print(f"the time is over, and {len(left)} were left out:", *left, sep="\n  ", flush=True)


def answers(device: torch.device) -> bool:
    """Return whether a device still computes, which a GPU does not after some errors of kernels."""
    try:
        return torch.ones(2, device=device).sum().item() == 2.0
    except RuntimeError:
        return False


def go_on(row: Mapping[str, object], errors: object, device: torch.device) -> None:
    """Stop the program after an error that leaves the device without answers."""
    if errors and not answers(device):
        print("after this the GPU does not answer, and nothing else can run:", row, flush=True)
        raise SystemExit(3)


def check_all(device: torch.device, folder: Path, end: float, few: bool) -> Counter[object]:
    """Compare results, write them, and return how many are True (right), False or skipped."""
    jobs = gpu_correct.jobs(few)
    found: Counter[object] = Counter()
    where = environment(device)
    with table.table(folder / "gpu_correct.csv", (*gpu_correct.COLUMNS, *WHERE)) as write:
        for job in until(jobs, end):
            row = job.row(device)
            write({**row, **where})
            found[row["right"]] += 1
            if row["right"] is False:
                print("WRONG", row, flush=True)
            go_on(row, row.get("error"), device)
    found["left out"] = len(jobs) - sum(found.values())
    return found


def time_all(
    device: torch.device, folder: Path, end: float, few: bool, compiled: bool = False
) -> None:
    """Time all contestants and write their times.

    Args:
        compiled: true to begin with the definition under torch.compile.
    """
    jobs = list(gpu_speed.jobs([(3, 2, 4)], slow=3) if few else gpu_speed.jobs())
    if few:  # one of each kind, in whichever precision comes first
        kinds = {(job.cell, job.norm, job.mode, job.ragged, job.beside): job for job in jobs[::-1]}
        jobs = [job for job in kinds.values() if job.beside != "compiled"][::-1]
    if compiled:
        jobs.sort(key=lambda job: job.beside != "compiled")
    clock = by_the_clock if device.type == "cpu" else gpu_speed.by_events
    where = environment(device)
    found = []
    with table.table(folder / "gpu_speed.csv", (*gpu_speed.COLUMNS, *WHERE)) as write:
        for job in until(jobs, end, lambda job: job.seconds):
            with gpu_speed.precision(job.precision):
                row = gpu_speed.measure(job, device, clock, 1 if few else gpu_speed.LEAST)
            found.append(row)
            write({**row, **where})
            print(", ".join(f"{name} {value}" for name, value in row.items() if value), flush=True)
            go_on(row, row["errors"], device)
    print(*gpu_speed.summary(found), sep="\n")


def by_the_clock(call: Callable[[], object]) -> float:
    begin = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - begin)


def draw(rows: Sequence[Mapping[str, str]], path: Path) -> None:
    """Draw the time of LayerNorm in training, divided by cuDNN's without a norm, against H."""
    from matplotlib.figure import Figure

    wanted = {"norm": "layer", "mode": "train", "lengths": "equal"}
    rows = [row for row in rows if row["ratio"] and wanted.items() <= row.items()]
    cells = list(dict.fromkeys(row["cell"] for row in rows))
    figure = Figure((4.2 * max(1, len(cells)), 3.4), layout="constrained")
    panels = figure.subplots(1, max(1, len(cells)), sharey=True, squeeze=False)[0]
    for axes, cell in zip(panels, cells):
        for name, (colour, marker) in STYLES.items():
            members = [row for row in rows if (row["cell"], row["precision"]) == (cell, name)]
            sizes, ratios = ([float(row[of]) for row in members] for of in ("H", "ratio"))
            axes.plot(sizes, ratios, marker, color=colour, label=name, alpha=0.7)
        axes.axhline(1.0, color="grey", linewidth=1)
        axes.set(xscale="log", yscale="log", xlabel="H", title=cell)
    panels[0].set_ylabel("time / cuDNN without a norm")
    if cells:
        panels[-1].legend(frameon=False)
    figure.savefig(path, dpi=150)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=9.0, help="begin nothing new after them")
    parser.add_argument("--folder", type=Path, default=RESULTS, help="the folder of the tables")
    parser.add_argument("--dry", action="store_true", help="tiny sizes, interpreted on a CPU")
    parser.add_argument("--picture", action="store_true", help="draw the picture again")
    parser.add_argument(
        "--compiled", action="store_true", help="begin the times with those of torch.compile"
    )
    parser.add_argument("--estimate", action="store_true", help="launches and bytes, computed")
    options = parser.parse_args(argv)
    speed = options.folder / "gpu_speed.csv"
    if options.picture:
        draw(table.read(speed), speed.with_suffix(".png"))
        return 0
    if options.estimate:
        gpu_estimate.main(["--csv", str(options.folder / "gpu_estimate.csv")])
        return 0
    if not options.dry and not torch.cuda.is_available():
        parser.error("there is no GPU that PyTorch can use: --dry sees that the program runs")
    if options.dry and options.folder == RESULTS:
        parser.error("--dry measures nothing: name another folder for its tables by --folder")
    device = torch.device("cpu" if options.dry else "cuda:0")
    begin, seconds = time.monotonic(), 60 * options.minutes
    torch.set_float32_matmul_precision("highest")
    found = check_all(device, options.folder, begin + seconds / 3, options.dry)
    time_all(device, options.folder, begin + seconds, options.dry, options.compiled)
    if importlib.util.find_spec("matplotlib"):
        draw(table.read(speed), speed.with_suffix(".png"))
    else:
        print("not drawn, because matplotlib is missing: pip install 'seqnorm[train]'")
    skipped = found[gpu_correct.SKIPPED]
    print(
        f"results: {found[True]} right, {found[False]} WRONG, {skipped} skipped, "
        f"{found['left out']} left out: see gpu_correct.csv"
    )
    return 0 if found[True] and not found[False] else 1


if __name__ == "__main__":
    raise SystemExit(main())
