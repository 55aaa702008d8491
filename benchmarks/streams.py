"""Time of one step of a stream beside the layer's own call with its state.

Each line times four calls alternately in one process, in ``torch.inference_mode`` and for one step
of one sequence: a layer with the state of the step before; a stream of it; a model of Linear, that
layer and Linear, which begins anew; and a stream of that model. A line is the median of several
fresh processes, as in ``one_step.py``.

``python benchmarks/streams.py`` takes about a minute.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import processes
import table
import timing
import torch
from torch import Tensor, nn

import seqnorm

RESULTS = Path(__file__).resolve().parent.parent / "results" / "streams.csv"
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
    """Yield the median microseconds of each way for each line, by column."""
    for line in LINES:
        runs = calls(*line)
        with torch.inference_mode():
            found, _ = timing.interleaved(runs, budget, warmup=10)
        yield {f"{way}_us": seconds * 1e6 for way, seconds in found.items()}


def markdown(path: Path) -> str:
    """Return the table of the page."""
    lines = ["| | units | layer | its stream | Linear, layer, Linear | its stream |"]
    lines.append("|---" * 6 + "|")
    for row in table.read(path):
        times = " | ".join(f"{float(row[f'{way}_us']):.0f}" for way in WAYS)
        lines.append(f"| {NAMES[row['norm']]} {row['cell']} | {row['H']} | {times} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    processes.Program(
        file=__file__,
        title=__doc__.partition("\n")[0],
        results=RESULTS,
        columns=COLUMNS,
        processes=5,
        budget=0.5,
        measured=measured,
        rows=lambda found: processes.medians(("cell", "norm", "H"), LINES, found),
        markdown=markdown,
    ).main(argv)


if __name__ == "__main__":
    main()
