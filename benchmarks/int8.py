"""Layers with weights of int8 beside the same layers in float32: time, and scores after training.

``python benchmarks/int8.py`` times both alternately in one process, in ``torch.inference_mode`` on
one thread. With ``--ckpt_path runs/r8/version_0/checkpoints/best.ckpt`` it tests a model that
``seqnorm fit`` has trained, before and after ``seqnorm.quantize_``.

Axes: T steps, B sequences, H units and inputs.
"""

from __future__ import annotations

import argparse
import copy
import io
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import table
import timing
import torch

import seqnorm

RESULTS = Path(__file__).resolve().parent.parent / "results" / "int8.csv"
CELLS = ("LSTM", "GRU")
SIZES = (128, 256, 512, 1024)
SHAPES = ((1, 1), (1, 16), (100, 1), (100, 16))
COLUMNS = ("cell", "norm", "T", "B", "H", "float_us", "int8_us", "ratio", *table.WHERE)


def lines(budget: float, sizes: tuple[int, ...]) -> Iterator[table.Row]:
    """Yield a row of the table for each cell and size."""
    for cell, H in itertools.product(CELLS, sizes):
        torch.manual_seed(0)
        layer: Any = getattr(seqnorm, cell)(H, H, norm="layer").eval()
        small = seqnorm.quantize_(copy.deepcopy(layer))
        for T, B in SHAPES:
            x = torch.randn(T, B, H)
            parts = [torch.randn(1, B, H) for _ in layer.step.states]
            state: Any = parts[0] if len(parts) == 1 else tuple(parts)
            runs = {
                "float": lambda layer=layer, x=x, state=state: layer(x, state),
                "int8": lambda small=small, x=x, state=state: small(x, state),
            }
            with torch.inference_mode():
                found, _ = timing.interleaved(runs, budget, warmup=5)
            times = [found[name] * 1e6 for name in runs]
            row: table.Row = {"cell": cell, "norm": "layer", "T": T, "B": B, "H": H}
            row |= {"float_us": f"{times[0]:.1f}", "int8_us": f"{times[1]:.1f}"}
            yield row | {"ratio": f"{times[1] / times[0]:.3f}"}


def markdown(path: Path) -> str:
    """Return the table of the page: the time of int8 divided by that of float32."""
    ratios = {
        (row["cell"], int(row["T"]), int(row["B"]), int(row["H"])): float(row["ratio"])
        for row in table.read(path)
    }
    found = [f"| | {' | '.join(f'H = {H}' for H in SIZES)} |", f"|{'---|' * (len(SIZES) + 1)}"]
    for cell, (T, B) in itertools.product(CELLS, SHAPES):
        shape = f"{'one step' if T == 1 else f'{T} steps'}, B = {B}"
        numbers = " | ".join(f"{ratios[cell, T, B, H]:.2f}" for H in SIZES)
        found.append(f"| {cell}, {shape} | {numbers} |")
    return "\n".join(found)


def size_of(model: torch.nn.Module) -> int:
    """Return the bytes of a file with the state dict of a model."""
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    return file.tell()


def data_of(checkpoint: Any) -> Any:
    """Return the data with which a model was trained."""
    from seqnorm.training.run.task import TASKS

    kept = {"seed", "vocabulary"}  # of training
    options = {name: value for name, value in checkpoint.data.items() if name not in kept}
    data = TASKS[checkpoint.task].data(**options)
    data.adopt(checkpoint)
    return data


def scores(path: Path) -> None:
    """Test a trained model in float32 and in int8."""
    from lightning.pytorch import Trainer

    from seqnorm.training.checkpoints.checkpoint_file import read_checkpoint
    from seqnorm.training.checkpoints.stored_model import stored_model
    from seqnorm.training.run.evaluate import evaluated
    from seqnorm.training.run.task import TASKS

    checkpoint = read_checkpoint(path)
    task, data = TASKS[checkpoint.task], data_of(checkpoint)
    data.setup("test")
    model = stored_model(task.module, checkpoint)
    options: dict[str, Any] = {"logger": False, "enable_progress_bar": False}
    for name in ("float32", "int8"):
        if name == "int8":
            seqnorm.quantize_(model)
        recurrent = [
            size_of(part) for part in model.modules() if isinstance(part, seqnorm.RecurrentLayer)
        ]
        shown = f"{sum(recurrent):,} bytes of recurrent layers, {size_of(model):,} of all"
        print(f"{name}: {shown}", flush=True)
        evaluated(task, Trainer(accelerator="cpu", **options), model.eval(), data, "test")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--ckpt_path", type=Path, help="test this model instead")
    parser.add_argument("--budget", type=float, default=2.0, help="seconds for each line")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, metavar="H")
    parser.add_argument("--csv", type=Path, default=RESULTS)
    parser.add_argument("--table", action="store_true", help="print the page's table and end")
    options = parser.parse_args(argv)
    if options.table:
        print(markdown(options.csv))
        return
    torch.set_num_threads(1)
    if options.ckpt_path is not None:
        scores(options.ckpt_path)
        return
    load = timing.load_average()
    if timing.busy(load):
        print(timing.busy(load))
    where = table.environment(load)
    with table.table(options.csv, COLUMNS) as write:
        for row in lines(options.budget, tuple(options.sizes)):
            write(row | where)
            shown = "{cell} T {T} B {B} H {H}: {float_us} us, int8 {int8_us} us, {ratio}"
            print(shown.format(**row), flush=True)


if __name__ == "__main__":
    main()
