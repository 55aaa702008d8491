"""The table of a study: a row for each run, and the curves that belong to the rows.

``<name>.csv`` has the columns ``run`` (the setting as text), the factors, the measures, and
``seconds``, ``machine``, ``commit``; ``<name>_curves.csv`` has ``run, curve, x, y``.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Union

from seqnorm.datasets.record_files import record_line
from seqnorm.files import write_atomically

from .evidence import Seeds

Value = Union[str, int, float, bool, None]
Setting = Mapping[str, Any]  # values of factors by name
Curve = list[tuple[float, float]]
ABOUT = ("seconds", "machine", "commit")


def run_id(setting: Setting, factors: Sequence[str]) -> str:
    """Return the setting as text: the values of the factors, joined by "/".

    A factor that the setting leaves out is None.

    Raises:
        ValueError: the setting has a key that is not a factor.
    """
    if unknown := set(setting) - set(factors):
        raise ValueError(f"unknown factors {sorted(unknown)}: write some of {', '.join(factors)}")
    return "/".join(to_text(setting.get(name)) for name in factors)


def to_text(value: Value) -> str:
    """Return a value as text: a float with six digits, ``None`` as the empty string."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value)


def from_text(text: str) -> Value:
    """Read a value that ``to_text`` wrote."""
    if text == "":
        return None
    if text in ("True", "False"):
        return text == "True"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def matches(row: Setting, wanted: Setting) -> bool:
    """Return True if the row has these values, to the six digits that the file keeps."""
    return all(to_text(row.get(name)) == to_text(value) for name, value in wanted.items())


@dataclass(frozen=True)
class Table:
    """Rows of a study, each a mapping from column to value, and their curves."""

    rows: Sequence[Mapping[str, Value]] = ()  # in the order in which they were made
    curves: Mapping[tuple[str, str], Curve] = field(default_factory=dict)  # by run and name
    files: Path | None = field(default=None, compare=False)  # folder of files that runs left

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Mapping[str, Value]]:
        return iter(self.rows)

    def where(self, **setting: Value) -> Table:
        """Return the rows with these values, to six digits; ``None`` matches an empty cell."""
        kept = [row for row in self.rows if matches(row, setting)]
        return Table(kept, self.curves, self.files)

    def distinct(self, column: str) -> list[Value]:
        """Return the distinct values of a column in order of appearance, without empty ones."""
        return list(dict.fromkeys(v for row in self.rows if (v := row.get(column)) is not None))

    def by_seed(self, measure: str, **setting: Value) -> Seeds:
        """Return the measure by seed, from the rows with these values that have it.

        Raises:
            ValueError: two rows have the same seed, so the setting must name more factors.
        """
        found = Seeds()
        for row in self.where(**setting):
            seed, value = row["seed"], row.get(measure)
            if value is None:
                continue
            if not isinstance(seed, int) or isinstance(value, str):
                raise ValueError(f"row {row['run']}: the seed or {measure} is not a number")
            if seed in found:
                raise ValueError(
                    f"two rows have seed {seed}, one of them {row['run']}: name more factors"
                )
            found[seed] = float(value)
        return found

    def curve(self, row: Mapping[str, Value], name: str) -> Curve:
        """Return the points of a row's curve, or an empty list."""
        return self.curves.get((str(row["run"]), name), [])

    def curve_by_seed(self, name: str, **setting: Value) -> dict[float, Seeds]:
        """Return the curve's values by x and seed, from the rows with these values."""
        found: dict[float, Seeds] = {}
        for row in self.where(**setting):
            for x, y in self.curve(row, name):
                found.setdefault(x, Seeds())[int(str(row["seed"]))] = y
        return found


def read(path: Path) -> Table:
    """Read the table and its curves; a missing file is an empty table.

    Raises:
        ValueError: a line has more or fewer columns than the header.
    """
    # A run is text, even where it reads as a number.
    rows = [
        {name: from_text(text) for name, text in line.items()} | {"run": line["run"]}
        for line in _lines(path)
    ]
    curves: dict[tuple[str, str], Curve] = {}
    for line in _lines(path.with_name(f"{path.stem}_curves.csv")):
        points = curves.setdefault((line["run"], line["curve"]), [])
        points.append((float(line["x"]), float(line["y"])))
    return Table(rows, curves, path.with_suffix(""))


def write(path: Path, columns: Sequence[str], table: Table) -> None:
    """Write the table and its curves. Each file is moved into its place when it is complete.

    The curves go first, so that every row in the file has its curves.
    """
    known = {str(row["run"]) for row in table.rows}
    points = (
        (run, curve, to_text(float(x)), to_text(float(y)))
        for (run, curve), values in table.curves.items()
        if run in known
        for x, y in values
    )
    _replace(path.with_name(f"{path.stem}_curves.csv"), ("run", "curve", "x", "y"), points)
    header = ("run", *columns, *ABOUT)
    rows = (tuple(to_text(row.get(name)) for name in header) for row in table.rows)
    _replace(path, header, rows)


def _lines(path: Path) -> Iterator[dict[str, str]]:
    if not path.exists():
        return
    with path.open(newline="", encoding="utf-8") as file:
        for number, line in enumerate(csv.DictReader(file, strict=True), start=2):
            if None in line or None in line.values():
                raise ValueError(f"{path}, line {number}: more or fewer columns than in the header")
            yield line


def _replace(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    replace(path, "".join(map(record_line, [header, *rows])).encode())


def replace(path: Path, content: bytes) -> None:
    """Replace the file in one step, after the content has reached the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content)
