"""Series in the .ts format of the UEA and UCR archives, as the package aeon describes it.

Comments begin with #. Lines that begin with @ state what follows: @dimensions 12, @timeStamps,
@missing, @equalLength and @classLabel, with the classes, or @targetLabel. After @data, each line is
a series: its features, separated by colons, each with its values separated by commas, and then the
label. Letters: T steps, F features.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..documents import DatasetError
from .containers import Answer, Series, SeriesFile, check_label, told


def read_ts(path: Path, text: str, answer: Answer | None) -> SeriesFile:
    """Read the series of a file; their ids are their numbers from 1.

    Raises DatasetError, with the line, if the file has another form or a value is missing.
    """
    stated, first = _header(path, text)
    if "true" in stated.get("timestamps", "false").lower():
        raise DatasetError(f"{path}: files with time stamps (@timeStamps true) cannot be read")
    kind = next((name for name in ("classlabel", "targetlabel") if name in stated), "")
    has_answer, *classes = stated.get(kind, "false").split() or ["false"]
    labelled = has_answer.lower() == "true"
    wanted = {"label": "classlabel", "targets": "targetlabel"}.get(answer or "", kind)
    if answer and not (labelled and kind == wanted):
        name = "@classLabel true" if answer == "label" else "@targetLabel true"
        raise DatasetError(f"{path}: there is no {name}, so the file has no {answer}")
    count = int(stated["dimensions"]) if stated.get("dimensions", "").isdigit() else None
    values: list[Tensor] = []
    labels: list[str] = []
    targets: list[tuple[float, ...]] = []
    for number, line in enumerate(text.splitlines()[first:], start=first + 1):
        if not line.strip() or line.startswith("#"):
            continue
        where = f"{path}, line {number}"
        fields = line.strip().split(":")
        label = fields.pop().strip() if labelled else ""
        count = len(fields) if count is None else count
        if len(fields) != count:
            raise DatasetError(f"{where}: {len(fields)} features where {count} are expected")
        values.append(_series(where, fields))
        if answer == "label":
            if classes and label not in classes:
                raise DatasetError(f"{where}: the label {label!r} is not one of {classes}")
            labels.append(check_label(where, label, "@classLabel"))
        elif answer == "targets":
            targets.append((_number(where, label, "the target"),))
    if not values:
        raise DatasetError(f"{path}: no series after @data")
    ids = tuple(map(str, range(1, len(values) + 1)))
    names = tuple(map(str, range(count or 0)))
    series = Series(ids, tuple(values), tuple(labels), tuple(targets))
    answers = ("target",) if answer == "targets" else ()
    return SeriesFile(names, answers, series, told(path, {"features": names}))


def _header(path: Path, text: str) -> tuple[dict[str, str], int]:
    """Return what the lines before @data state, by name in lower case, and their number."""
    stated: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.startswith("@"):
            if line.strip() and not line.startswith("#"):
                raise DatasetError(f"{path}, line {number}: neither @, nor # before @data")
            continue
        name, _, value = line[1:].strip().partition(" ")
        if name.lower() == "data":
            return stated, number
        stated[name.lower()] = value.strip()
    raise DatasetError(f"{path}: no line @data")


def _series(where: str, fields: Sequence[str]) -> Tensor:
    """Return the numbers (T, F) of a line."""
    columns = [
        [
            _number(where, value, f"feature {feature}, step {step}")
            for step, value in enumerate(field.split(","))
        ]
        for feature, field in enumerate(fields)
    ]
    for feature, column in enumerate(columns):
        if len(column) != len(columns[0]):
            raise DatasetError(
                f"{where}: feature {feature} has {len(column)} values and feature 0 has "
                f"{len(columns[0])}; all features of a series need the same number of steps"
            )
    return torch.tensor(columns, dtype=torch.float64, device="cpu").T.contiguous()


def _number(where: str, text: str, name: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DatasetError(f"{where}: {name} is {text.strip()!r:.40}, not a finite number")
    return value
