"""Alternate timing of several calls, and the load of the machine."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Mapping
from statistics import median

LEAST, MOST = 5, 2000  # repeats, whatever the budget


def interleaved(
    calls: Mapping[str, Callable[[], object]],
    budget: float,
    warmup: int = 2,
    clock: Callable[[], float] = time.perf_counter,
    settle: bool = False,
) -> tuple[dict[str, float], int]:
    """Return the median seconds of each call, and the number of repeats.

    The calls alternate, so that a temporary slowdown of the machine affects all of them.

    Args:
        calls: functions by name.
        budget: seconds after which no further round begins.
        warmup: number of rounds that are not timed.
        settle: make each call twice and time the second one. A call that frees much memory would
            else slow the next one, which has to ask the system for it again.
    """
    for _ in range(warmup):
        for call in calls.values():
            call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    gc.collect()
    gc.disable()
    try:
        begin, repeats = clock(), 0
        while repeats < LEAST or (repeats < MOST and clock() - begin < budget):
            for name, call in calls.items():
                if settle:
                    call()
                start = clock()
                call()
                times[name].append(clock() - start)
            repeats += 1
    finally:
        gc.enable()
    return {name: median(values) for name, values in times.items()}, repeats


def load_average() -> float:
    """Return the load of the last minute; NaN if the system does not record it."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")


def busy(load: float) -> str | None:
    """Return a warning if other programs were running before the start."""
    cores = os.cpu_count() or 1
    if load > 0.5 * cores:
        return f"WARNING: the machine was busy (load {load:.2f} on {cores} cores): do not use this"
    return None
