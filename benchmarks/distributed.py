"""Cost of sharing the statistics of BatchNorm between processes at every time step.

``python benchmarks/distributed.py`` starts processes on this machine that are connected over gloo,
each with one thread. It times a training step (forward and backward) of a layer with
``norm="batch"``, in which each process has its own batch: by the compiled kernels (if they exist)
and by the time loop in Python, both without exchange, and by the time loop with exchange. All
processes begin each call at the same time. The program prints medians of the first process, in
milliseconds, and their ratios. The time of an exchange is the difference to the loop divided by the
number of exchanges.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing
from timing import busy, load_average

import seqnorm

# The timed cases: a name, the backend, and if statistics are shared.
CALLS: dict[str, tuple[str | None, bool]] = {
    "kernels": (None, False),
    "loop": ("reference", False),
    "shared": (None, True),
}


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--steps", type=int, default=50, help="T")
    parser.add_argument("--batch", type=int, default=16, help="B, of each process")
    parser.add_argument("--hidden", type=int, default=128, help="I = H")
    parser.add_argument("--repeats", type=int, default=20)
    return parser.parse_args(argv)


def training_step(cell: str, given: argparse.Namespace, shared: bool) -> Callable[[], None]:
    layer: Any = getattr(seqnorm, cell)(given.hidden, given.hidden, norm="batch")
    if shared:
        seqnorm.convert_sync_batchnorm(layer)
    x = torch.randn(given.steps, given.batch, given.hidden, requires_grad=True)

    def step() -> None:
        layer.zero_grad()
        layer(x)[0].sum().backward()

    return step


def count_exchanges(step: Callable[[], None]) -> int:
    """Count how often the processes wait for each other in one call."""
    count = 0
    kept = {name: getattr(dist, name) for name in ("all_gather", "all_reduce")}

    def counted(name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            count += 1
            return kept[name](*args, **kwargs)

        return call

    try:
        for name in kept:
            setattr(dist, name, counted(name))
        step()
    finally:
        for name, function in kept.items():
            setattr(dist, name, function)
    return count


def measure(rank: int, given: argparse.Namespace, store: str, cells: Sequence[str]) -> None:
    """Measure in one of the processes; the first one prints."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", store=dist.FileStore(store, given.processes), rank=rank, world_size=given.processes
    )
    for cell in cells:
        steps = {name: training_step(cell, given, shared) for name, (_, shared) in CALLS.items()}
        exchanges = count_exchanges(steps["shared"])
        times: dict[str, list[float]] = {name: [] for name in CALLS}
        for repeat in range(given.repeats + 2):
            for name, (backend, _) in CALLS.items():
                with seqnorm.use_backend(backend) if backend else nullcontext():
                    dist.barrier()
                    start = time.perf_counter()
                    steps[name]()
                    if repeat >= 2:  # the first ones are a warm-up
                        times[name].append(time.perf_counter() - start)
        if rank == 0:
            took = {name: 1000 * median(values) for name, values in times.items()}
            each = (took["shared"] - took["loop"]) / exchanges
            print(
                f"{cell}: kernels {took['kernels']:.1f} ms, loop {took['loop']:.1f} ms, shared "
                f"{took['shared']:.1f} ms (x{took['shared'] / took['loop']:.2f} of the loop, "
                f"x{took['shared'] / took['kernels']:.1f} of the kernels), {exchanges} exchanges "
                f"of {1000 * each:.0f} us"
            )
    # In torch 2.3, destroying the group holds Python's lock while it waits for the threads of gloo.
    # A thread that still frees a tensor of the last exchange waits for the lock: give it time.
    time.sleep(0.5)
    dist.destroy_process_group()


def main(argv: Sequence[str] | None = None, cells: Sequence[str] = ("LSTM", "GRU")) -> None:
    given = arguments(argv)
    os.environ["OMP_NUM_THREADS"] = "1"
    warning = busy(load_average())
    print(
        f"{given.processes} processes over gloo, T = {given.steps}, B = {given.batch} in each, "
        f"I = H = {given.hidden}, norm='batch', training"
    )
    if warning:
        print(warning)
    with tempfile.TemporaryDirectory() as folder:
        store = str(Path(folder) / "store")
        torch.multiprocessing.spawn(measure, (given, store, cells), given.processes)


if __name__ == "__main__":
    main()
