"""Time of sequences that begin anew in the middle, and of batches without padding.

A LayerNorm LSTM with ``resets`` stands beside itself without them, and beside three ways to do
without: torch's LSTM called anew at every step with a reset, torch's cell in a loop that masks the
state, and torch's LSTM over the segments as a ``PackedSequence``. Each is a training step, a
forward and a backward pass. The lengths of the ragged batch are drawn by ``workload.draw_lengths``.

Axes: T steps, B sequences, H units and inputs.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import memory
import timing
import torch
import workload
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_sequence

import seqnorm

PROBABILITIES = (0.0, 0.002, 0.01, 0.05)
RESULTS = Path(__file__).resolve().parent.parent / "results" / "resets.csv"
COLUMNS = ("T", "B", "H", "probability", "way", "milliseconds", "ratio", "threads")
PADDED = "padded, with lengths"
RAGGED = (PADDED, "one after another")
BASIS = "LayerNorm LSTM without resets"


def trained(forward: Callable[[], Tensor]) -> Callable[[], None]:
    """Return a training step."""
    return lambda: forward().sum().backward()


def pieces(resets: Tensor) -> list[tuple[int, int]]:
    """Return the steps between those at which any sequence begins anew."""
    cuts = [0, *(t for t in range(1, len(resets)) if resets[t].any()), len(resets)]
    return list(zip(cuts, cuts[1:]))


def split(lstm: nn.LSTM, x: Tensor, resets: Tensor) -> Tensor:
    """Call torch's layer anew at every step at which any sequence begins anew."""
    state = tuple(x.new_zeros(1, x.shape[1], lstm.hidden_size) for _ in "hc")
    outputs = []
    for begin, end in pieces(resets):
        keep = (~resets[begin])[None, :, None]
        output, state = lstm(x[begin:end], tuple(part * keep for part in state))
        outputs.append(output)
    return torch.cat(outputs)


def masked(cell: nn.LSTMCell, x: Tensor, resets: Tensor) -> Tensor:
    """Call torch's cell step by step, with a state that is masked before each."""
    state = tuple(x.new_zeros(x.shape[1], cell.hidden_size) for _ in "hc")
    outputs = []
    for row, anew in zip(x, resets):
        state = cell(row, tuple(part * ~anew[:, None] for part in state))
        outputs.append(state[0])
    return torch.stack(outputs)


def segments(lstm: nn.LSTM, x: Tensor, resets: Tensor) -> Tensor:
    """Call torch's layer over all segments as sequences of one ``PackedSequence``."""
    found = []
    for b in range(x.shape[1]):
        cuts = [0, *(resets[1:, b].nonzero()[:, 0] + 1).tolist(), len(x)]
        found += [x[begin:end, b] for begin, end in zip(cuts, cuts[1:])]
    output: Tensor = lstm(pack_sequence(found, enforce_sorted=False))[0].data
    return output


def ways(T: int, B: int, H: int, probability: float) -> dict[str, Callable[[], None]]:
    """Return the training step of every way by its name."""
    torch.manual_seed(0)
    x = torch.randn(T, B, H, requires_grad=True)
    resets = torch.rand(T, B) < probability
    ours = seqnorm.LSTM(H, H, norm="layer")
    lstm, cell = nn.LSTM(H, H), nn.LSTMCell(H, H)
    return {
        BASIS: trained(lambda: ours(x)[0]),
        "LayerNorm LSTM with resets": trained(lambda: ours(x, resets=resets)[0]),
        "torch.nn.LSTM, a call for each part": trained(lambda: split(lstm, x, resets)),
        "torch.nn.LSTMCell, a masked loop": trained(lambda: masked(cell, x, resets)),
        "torch.nn.LSTM over packed segments": trained(lambda: segments(lstm, x, resets)),
    }


def ragged(way: str, T: int, B: int, H: int) -> Callable[[], None]:
    """Return a training step on a ragged batch, in one of the ``RAGGED`` ways."""
    torch.manual_seed(0)
    lengths = workload.draw_lengths(B).clamp(max=T)
    ours = seqnorm.LSTM(H, H, norm="layer")
    if way == PADDED:
        padded = torch.randn(T, B, H, requires_grad=True)
        return trained(lambda: ours(padded, lengths=lengths)[0])
    bounds = nn.functional.pad(lengths.cumsum(0), (1, 0))
    rows = torch.randn(int(bounds[-1]), H, requires_grad=True)
    return trained(lambda: ours(rows, cu_seqlens=bounds)[0])


def peak_of(way: str, T: int, B: int, H: int) -> int:
    """Return the bytes that a ragged batch and its training step add to this process at most."""
    ragged(way, 2, B, H)()  # one-time preparation does not count
    level = memory.fresh_peak()
    ragged(way, T, B, H)()
    return memory.peak() - level


def peaks(T: int, B: int, H: int) -> Iterator[str]:
    """Measure the peak of every way in a process of its own, and return a line for each."""
    basis = 0.0
    for way in RAGGED:
        command = [sys.executable, "-W", "error", __file__, "--threads", "1", "--peak", way]
        command += ["--sizes", *map(str, (T, B, H))]
        made = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        found = int(made.stdout) / 2**20
        basis = basis or found
        yield f"ragged {way:38} {found:8.1f} MiB, ratio {found / basis:.2f}"


def lines(
    sizes: tuple[int, int, int], calls: dict[str, Callable[[], None]], shown: str, budget: float
) -> Iterator[dict[str, object]]:
    """Time calls in turn, print each with its ratio to the first, and return their rows."""
    seconds, _ = timing.interleaved(calls, budget, settle=True)
    basis = next(iter(seconds.values()))
    for way, time in seconds.items():
        print(f"{shown:6} {way:38} {1e3 * time:8.1f} ms, ratio {time / basis:.2f}", flush=True)
        values = (*sizes, shown, way, f"{1e3 * time:.2f}", f"{time / basis:.3f}")
        yield dict(zip(COLUMNS, (*values, torch.get_num_threads())))


def markdown(path: Path) -> str:
    """Return the table of the page: ratios to the layer without resets."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["probability"] != "ragged"]
    shown = sorted({row["probability"] for row in rows}, key=float)
    table = [f"| a reset with probability | {' | '.join(shown)} |", f"|{'---|' * (len(shown) + 1)}"]
    for way in dict.fromkeys(row["way"] for row in rows):
        ratios = {row["probability"]: float(row["ratio"]) for row in rows if row["way"] == way}
        if way != BASIS:
            table.append(f"| {way} | {' | '.join(f'{ratios[each]:.2f}' for each in shown)} |")
    return "\n".join(table)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--budget", type=float, default=8.0, help="seconds for each probability")
    parser.add_argument("--sizes", type=int, nargs=3, default=(128, 32, 256), metavar="SIZE")
    parser.add_argument("--csv", type=Path, default=RESULTS)
    parser.add_argument("--table", action="store_true", help="print the page's table and end")
    parser.add_argument("--memory", action="store_true", help="print peaks of memory and end")
    parser.add_argument("--peak", choices=RAGGED, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.table:
        print(markdown(options.csv))
        return
    torch.set_num_threads(options.threads)
    T, B, H = options.sizes
    if options.peak or options.memory:
        T = max(T, workload.LONGEST)
        print(peak_of(options.peak, T, B, H) if options.peak else "\n".join(peaks(T, B, H)))
        return
    warning = timing.busy(timing.load_average())
    if warning is not None:
        print(warning)
    rows = []
    for probability in PROBABILITIES:
        calls = ways(T, B, H, probability)
        rows += lines((T, B, H), calls, f"{probability:g}", options.budget)
    T = max(T, workload.LONGEST)
    calls = {way: ragged(way, T, B, H) for way in RAGGED}
    rows += lines((T, B, H), calls, "ragged", options.budget)
    with options.csv.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
