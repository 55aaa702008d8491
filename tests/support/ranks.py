"""Run a function in several processes that are connected over gloo, within a given time."""

from __future__ import annotations

import datetime
import multiprocessing
import os
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kernels_here
import torch
import torch.distributed as dist

# An exchange that one process does not join fails the others after this long.
TIMEOUT = datetime.timedelta(seconds=30)


def together(
    work: Callable[[int], object],
    ranks: int,
    folder: Path,
    seconds: float = 270.0,
) -> list[Any]:
    """Return ``work(rank)`` of each process, in the order of ranks.

    Args:
        work: a function of a module that a new process can import.
        folder: an empty one, for what they leave.
        seconds: after which they are ended, which is a failure.
    """
    context = multiprocessing.get_context("spawn")  # a fork would inherit a thread pool half alive
    processes = [
        context.Process(target=_run, args=(work, rank, ranks, folder)) for rank in range(ranks)
    ]
    for process in processes:
        process.start()
    end = time.monotonic() + seconds
    try:
        for process in processes:
            process.join(max(0.0, end - time.monotonic()))
        late = [rank for rank, process in enumerate(processes) if process.is_alive()]
    finally:
        for process in processes:
            if process.is_alive():
                process.kill()
                process.join()
    said = [path.read_text() for path in sorted(folder.glob("error_*.txt"))]
    assert not said, "\n".join(said)
    assert not late, f"processes {late} of {ranks} hang"
    assert [process.exitcode for process in processes] == [0] * ranks
    return [torch.load(folder / f"result_{rank}.pt", weights_only=False) for rank in range(ranks)]


def _run(work: Callable[[int], object], rank: int, ranks: int, folder: Path) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    warnings.simplefilter("error")
    kernels_here.hear_of_their_absence()
    store = dist.FileStore(str(folder / "store"), ranks)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=ranks, timeout=TIMEOUT)
    try:
        torch.save(work(rank), folder / f"result_{rank}.pt")
    except BaseException:
        (folder / f"error_{rank}.txt").write_text(f"rank {rank}: {traceback.format_exc()}")
        raise
    finally:
        dist.destroy_process_group()
