"""Time of one step of a stream beside the layer's own call with its state.

Each line times four calls alternately in one process, in ``torch.inference_mode`` and for one step
of one sequence: a layer with the state of the step before; a stream of it; a model of Linear, that
layer and Linear, which begins anew; and a stream of that model. A line is the median of several
fresh processes, as in ``one_step.py``.

``python benchmarks/streams.py`` takes about a minute.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median

import table
import timing
import torch
from torch import Tensor, nn

import seqnorm

RESULTS = Path(__file__).resolve().parent.parent / "results" / "streams.csv"
PROCESSES = 5
LINES = list(itertools.product(("LSTM", "GRU"), ("layer", "batch"), (64, 256)))
WAYS = ("layer", "stream", "model", "stream_of_model")
COLUMNS = ("cell", "norm", "H", *(f"{way}_us" for way in WAYS), *table.WHERE)
NAMES = {"layer": "LayerNorm", "batch": "BatchNorm of every step"}


class Between(nn.Module):
    """Linear, a recurrent layer, Linear."""

    def __init__(self, layer: seqnorm.RecurrentLayer) -> None:
        super().__init__()
        self.before = nn.Linear(layer.input_size, layer.input_size)
        self.layer = layer
        self.after = nn.Linear(layer.hidden_size, 8)

    def forward(self, x: Tensor) -> Tensor:
        """Map (T, B, H) to (T, B, 8)."""
        output: Tensor = self.after(self.layer(self.before(x))[0])
        return output


def calls(cell: str, norm: str, H: int) -> dict[str, Callable[[], object]]:
    """Return a call of each way, for the next step of a stream of one sequence."""
    torch.manual_seed(0)
    layer = getattr(seqnorm, cell)(H, H, norm=norm)
    layer(torch.randn(8, 16, H))  # gives its tables statistics
    model = Between(layer).eval()
    x = torch.randn(1, 1, H)
    one, whole = seqnorm.Stream(layer, batch=1), seqnorm.Stream(model, batch=1)
    with torch.no_grad():
        _, state = layer(x)
    return {
        "layer": lambda: layer(x, state, first_step=1),
        "stream": lambda: one(x),
        "model": lambda: model(x),
        "stream_of_model": lambda: whole(x),
    }


def measured(budget: float) -> Iterator[dict[str, float]]:
    """Yield the median microseconds of each way for each line."""
    for line in LINES:
        runs = calls(*line)
        with torch.inference_mode():
            found, _ = timing.interleaved(runs, budget, warmup=10)
        yield {way: seconds * 1e6 for way, seconds in found.items()}


def markdown(path: Path) -> str:
    """Return the table of the page."""
    lines = ["| | units | layer | its stream | Linear, layer, Linear | its stream |"]
    lines.append("|---" * 6 + "|")
    for row in table.read(path):
        times = " | ".join(f"{float(row[f'{way}_us']):.0f}" for way in WAYS)
        lines.append(f"| {NAMES[row['norm']]} {row['cell']} | {row['H']} | {times} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    load = timing.load_average()
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--processes", type=int, default=PROCESSES, metavar="N")
    parser.add_argument("--budget", type=float, default=0.5, help="seconds of a line in a process")
    parser.add_argument("--csv", type=Path, metavar="PATH", default=RESULTS)
    parser.add_argument("--table", action="store_true", help="print the page's table and end")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.table:
        print(markdown(options.csv))
        return
    torch.set_num_threads(1)
    if options.one:
        print(json.dumps(list(measured(options.budget))))
        return
    where = table.environment(load)
    warning = timing.busy(load)
    if warning:
        print(warning)
    command = [sys.executable, __file__, "--one", f"--budget={options.budget}"]
    times = []
    for _ in range(options.processes):
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        times.append(json.loads(done.stdout))
    with table.table(options.csv, COLUMNS) as write:
        for line, each in zip(LINES, zip(*times)):
            row: table.Row = dict(zip(("cell", "norm", "H"), line))
            row |= {f"{way}_us": f"{median(one[way] for one in each):.2f}" for way in WAYS}
            write(row | where)
    print(markdown(options.csv))


if __name__ == "__main__":
    main()
