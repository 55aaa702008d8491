"""Time of ONNX files of a LayerNorm LSTM in onnxruntime, beside the library and torch's LSTM.

Each line times five calls alternately in one process and one thread: the file of the whole sequence
(one ``Scan``), the file of one step (called T times), the layer itself, ``torch.nn.LSTM`` and the
file of a layer without a norm (ONNX's own ``LSTM``). A line is the median of several processes.

``python benchmarks/onnx_speed.py`` takes about five minutes.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import onnxruntime
import processes
import table
import timing
import torch

import seqnorm
from seqnorm.export import to_onnx

RESULTS = Path(__file__).resolve().parent.parent / "results" / "onnx_speed.csv"
LINES = list(itertools.product((100, 1), (64, 256, 512), (1, 16)))
WAYS = ("onnx", "onnx_step", "layer", "torch", "onnx_lstm")
COLUMNS = ("T", "H", "B", *(f"{way}_us" for way in WAYS), *table.WHERE)


def session(layer: Any, folder: Path, **arguments: Any) -> onnxruntime.InferenceSession:
    """Return a session of one thread for the file of a layer."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    path = to_onnx(layer, folder / "layer.onnx", **arguments)
    return onnxruntime.InferenceSession(path, options)


def calls(H: int, folder: Path) -> Callable[[int, int], dict[str, Callable[[], Any]]]:
    """Return a function of T and B that returns a call of each way."""
    torch.manual_seed(0)
    layer = seqnorm.LSTM(H, H, norm="layer").eval()
    plain = torch.nn.LSTM(H, H).eval()
    whole = session(layer, folder, states=False)
    single = session(layer, folder, step=True)
    own = session(seqnorm.LSTM.from_torch(plain).eval(), folder, states=False)

    def of(T: int, B: int) -> dict[str, Callable[[], Any]]:
        x = torch.randn(T, B, H)
        given = x.numpy()

        def by_steps() -> Any:
            state = {name: torch.zeros(1, B, H).numpy() for name in ("h_0", "c_0")}
            for frame in given:
                output, h, c = single.run(None, {"input": frame, **state})
                state = {"h_0": h, "c_0": c}
            return output

        return {
            "onnx": lambda: whole.run(None, {"input": given})[0],
            "onnx_step": by_steps,
            "layer": lambda: layer(x)[0],
            "torch": lambda: plain(x)[0],
            "onnx_lstm": lambda: own.run(None, {"input": given})[0],
        }

    return of


def measured(budget: float) -> Iterator[dict[str, float]]:
    """Yield the median microseconds of each way for each line, by column."""
    found: dict[tuple[int, int, int], dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for H in sorted({H for _, H, _ in LINES}):
            of = calls(H, Path(folder))
            for T, _, B in [line for line in LINES if line[1] == H]:
                with torch.inference_mode():
                    times, _ = timing.interleaved(of(T, B), budget, warmup=3)
                found[T, H, B] = {f"{way}_us": seconds * 1e6 for way, seconds in times.items()}
    yield from (found[line] for line in LINES)


def markdown(path: Path) -> str:
    """Return the table of the page, in milliseconds."""
    names = "ONNX, Scan | ONNX, one step | the layer | `torch.nn.LSTM` | ONNX's own LSTM"
    lines = [f"| T | H | B | {names} | frames/s by Scan |", "|---" * 9 + "|"]
    for row in table.read(path):
        times = " | ".join(f"{float(row[f'{way}_us']) / 1e3:.3g}" for way in WAYS)
        rate = 1e6 * int(row["T"]) * int(row["B"]) / float(row["onnx_us"])
        lines.append(f"| {row['T']} | {row['H']} | {row['B']} | {times} | {rate:,.0f} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    processes.Program(
        file=__file__,
        title=__doc__.partition("\n")[0],
        results=RESULTS,
        columns=COLUMNS,
        processes=3,
        budget=2.0,
        measured=measured,
        rows=lambda found: processes.medians(("T", "H", "B"), LINES, found),
        markdown=markdown,
    ).main(argv)


if __name__ == "__main__":
    main()
