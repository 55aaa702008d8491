"""Rows of results, which runs append to a CSV file."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev

from seqnorm.datasets.record_files import record_line
from seqnorm.files import lock, write_atomically

# The last columns of every table: how long the run took, and what it ran.
RUN_COLUMNS = ("epochs", "seconds", "config", "commit")


def append_row(path: str | Path, row: Mapping[str, object], columns: Sequence[str]) -> None:
    """Append a row of all ``columns`` to the CSV file ``path``, which starts with their names.

    Several processes may append at once.

    Raises:
        OSError: The row could not be written, as on a full disk; no part of it is in the file.
    """
    path = Path(path)
    line = record_line([row[name] for name in columns])
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab", buffering=0) as file:
        lock(file)
        before = os.fstat(file.fileno()).st_size
        rest = (line if before else record_line(columns) + line).encode()
        try:
            while rest:  # a first write may succeed in part, and the next one report a full disk
                rest = rest[file.write(rest) :]
            os.fsync(file.fileno())
        except OSError as error:
            file.truncate(before)
            words = f"the result could not be appended; the rows before are whole: {error.strerror}"
            raise OSError(error.errno, words, str(path)) from error


def append_once(
    path: str | Path, row: Mapping[str, object], marker: str | Path, columns: Sequence[str]
) -> bool:
    """Append a row as ``append_row`` does, unless ``path`` has the row in the file ``marker``.

    The marker is written first. A run that dies before or after it appends the row, and is resumed,
    finds out whether the row is there, even if the new row differs in its time.

    Returns:
        True if the row was appended.
    """
    path, marker = Path(path), Path(marker)
    if marker.exists() and path.exists():
        _, _, before = marker.read_bytes().partition(b"\n")
        if b"\n" + before in path.read_bytes():
            return False
    write_atomically(marker, record_line(columns) + record_line([row[name] for name in columns]))
    append_row(path, row, columns)
    return True


def read_rows(path: str | Path) -> list[dict[str, str]]:
    """Read the rows of a CSV file."""
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def spread(values: Sequence[float]) -> str:
    """Return the mean and, of several values, the standard deviation."""
    return f"{mean(values):.4f}" + (f" ± {stdev(values):.4f}" if len(values) > 1 else "")
