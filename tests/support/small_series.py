"""Small series with classes and targets, and files of every kind that hold them."""

from __future__ import annotations

import csv
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
from pyarrow import parquet

from seqnorm.datasets import Series

FEATURES = ("x", "y")
CLASSES = ("down", "up")
# Small sizes, and no output.
SMALL = (
    "--model.hidden_size=8",
    "--data.batch_size=8",
    "--trainer.log_every_n_steps=1",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
)


def make(count: int, seed: int = 0) -> dict[str, dict[str, Any]]:
    """Return series by id: values (T, 2), a label by the slope of x, and two targets.

    The first target is the slope, the second one the number of steps.
    """
    draw = random.Random(seed)
    found = {}
    for number in range(count):
        steps, slope = draw.randrange(3, 9), draw.choice((-1.0, 1.0)) * draw.uniform(0.5, 1.5)
        values = [[slope * t + draw.gauss(0, 0.1), 100 + draw.gauss(0, 5)] for t in range(steps)]
        label = CLASSES[slope > 0]
        found[f"s{number}"] = {"values": values, "label": label, "targets": [slope, float(steps)]}
    return found


def write_long(path: Path, series: dict[str, dict[str, Any]], delimiter: str = ",") -> None:
    """Write one row for each step, in random order."""
    rows = [
        [key, t, *step, each["label"], *each["targets"]]
        for key, each in series.items()
        for t, step in enumerate(each["values"])
    ]
    first = {row[0]: row for row in reversed(rows)}  # series appear in the same order
    rest = [row for row in rows if row is not first[row[0]]]
    random.Random(1).shuffle(rest)
    with path.open("w", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(["id", "time", *FEATURES, "label", "slope", "steps"])
        writer.writerows([*(first[key] for key in series), *rest])


def table(series: dict[str, dict[str, Any]], nested: bool = False) -> Any:
    """Return a table with one row for each series."""
    columns: dict[str, Any] = {"id": list(series)}
    if nested:
        columns["values"] = [each["values"] for each in series.values()]
    else:
        for number, name in enumerate(FEATURES):
            columns[name] = [[s[number] for s in each["values"]] for each in series.values()]
    columns["label"] = [each["label"] for each in series.values()]
    for number, name in enumerate(("slope", "steps")):
        columns[name] = [each["targets"][number] for each in series.values()]
    return pyarrow.table(columns)


def write_parquet(path: Path, series: dict[str, dict[str, Any]], nested: bool = False) -> None:
    parquet.write_table(table(series, nested), path)


def arrays(series: dict[str, dict[str, Any]], form: str) -> dict[str, Any]:
    """Return the arrays of a .npz file of the form "padded", "offsets" or "apart"."""
    values = [np.array(each["values"]) for each in series.values()]
    found: dict[str, Any] = {
        "labels": np.array([each["label"] for each in series.values()]),
        "targets": np.array([each["targets"] for each in series.values()]),
        "features": np.array(FEATURES),
    }
    if form == "apart":
        return {**{f"series_{key}": each for key, each in zip(series, values)}, **found}
    found["ids"] = np.array(list(series))
    lengths = [len(each) for each in values]
    if form == "offsets":
        return {**found, "values": np.concatenate(values), "offsets": np.cumsum([0, *lengths])}
    padded = np.full((len(values), max(lengths), 2), np.nan)
    for row, each in zip(padded, values):
        row[: len(each)] = each
    return {**found, "values": padded, "lengths": np.array(lengths)}


def assert_same_series(found: Series, expected: dict[str, dict[str, Any]]) -> None:
    assert found.ids == tuple(expected)
    for values, each in zip(found.values, expected.values()):
        assert values.dtype.is_floating_point
        assert values.tolist() == each["values"]
