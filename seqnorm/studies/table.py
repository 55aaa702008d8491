"""The table of a study: a row a run, and the curves that belong to them.

``<name>.csv`` has the columns ``run`` (the setting as text), the factors, the measures, and
``seconds``, ``machine``, ``commit``; ``<name>_curves.csv`` has ``run, curve, x, y``.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Union

from seqnorm.files import write_atomically

Value = Union[str, int, float, bool, None]
Setting = Mapping[str, Value]
Curve = list[tuple[float, float]]
ABOUT = ("seconds", "machine", "commit")


def run_id(setting: Setting, factors: Sequence[str]) -> str:
    """The setting as text: the values of the factors, joined by "/".

    Raises:
        ValueError: the setting has other keys than the factors; a factor left out is None.
    """
    if unknown := set(setting) - set(factors):
        raise ValueError(f"{sorted(unknown)} are no factors; these are: {', '.join(factors)}")
    return "/".join(to_text(setting.get(name)) for name in factors)


def to_text(value: Value) -> str:
    """A value as it stands in the file; numbers with six digits, ``None`` as nothing."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value)


def from_text(text: str) -> Value:
    """A value as ``to_text`` wrote it."""
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
    """Whether the row has these values, to the digits that the file keeps."""
    return all(to_text(row.get(name)) == to_text(value) for name, value in wanted.items())


@dataclass(frozen=True)
class Table:
    """Rows of a study, each a mapping from column to value, and their curves.

    Attributes:
        rows: in the order in which they were made.
        curves: by run and curve name.
        files: the folder with what runs left beside the table; None if it is on no disk.
    """

    rows: Sequence[Mapping[str, Value]] = ()
    curves: Mapping[tuple[str, str], Curve] = field(default_factory=dict)
    files: Path | None = field(default=None, compare=False)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Mapping[str, Value]]:
        return iter(self.rows)

    def where(self, **setting: Value) -> Table:
        """The rows in which these columns have these values, to the digits that the file keeps;
        ``None`` is an empty one."""
        kept = [row for row in self.rows if matches(row, setting)]
        return Table(kept, self.curves, self.files)

    def distinct(self, column: str) -> list[Value]:
        """The values of a column, each once, as they first appear; empty ones are left out."""
        return list(dict.fromkeys(v for row in self.rows if (v := row.get(column)) is not None))

    def by_seed(self, measure: str) -> dict[int, float]:
        """The measure by seed, of rows that have it.

        Raises:
            ValueError: two rows have the same seed: more must be said in ``where``.
        """
        found: dict[int, float] = {}
        for row in self.rows:
            seed, value = row["seed"], row.get(measure)
            if value is None:
                continue
            if not isinstance(seed, int) or isinstance(value, str):
                raise ValueError(f"row {row['run']}: no number in seed or {measure}")
            if seed in found:
                raise ValueError(f"two rows of seed {seed}: narrow the choice, at {row['run']}")
            found[seed] = float(value)
        return found

    def curve(self, row: Mapping[str, Value], name: str) -> Curve:
        """The points of a row's curve; none if it has no such curve."""
        return self.curves.get((str(row["run"]), name), [])


def read(path: Path) -> Table:
    """The table in the file, and the curves in the one beside it; empty where there is none.

    Raises:
        ValueError: a line does not have the columns of the header.
    """
    rows: list[dict[str, Value]] = []
    for line in _lines(path):
        row: dict[str, Value] = {name: from_text(text) for name, text in line.items()}
        row["run"] = line["run"]  # text, even where it reads as a number
        rows.append(row)
    curves: dict[tuple[str, str], Curve] = {}
    for line in _lines(curves_path(path)):
        points = curves.setdefault((line["run"], line["curve"]), [])
        points.append((float(line["x"]), float(line["y"])))
    return Table(rows, curves, path.with_suffix(""))


def curves_path(path: Path) -> Path:
    """Where the curves of the table ``path`` are."""
    return path.with_name(f"{path.stem}_curves.csv")


def write(path: Path, columns: Sequence[str], table: Table) -> None:
    """Writes the table and its curves, whole or not at all: each file is moved into its place.

    The curves go first, so that a row that is there has its curves.
    """
    known = {str(row["run"]) for row in table.rows}
    points = (
        (run, curve, to_text(float(x)), to_text(float(y)))
        for (run, curve), values in table.curves.items()
        if run in known
        for x, y in values
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    _replace(curves_path(path), ("run", "curve", "x", "y"), points)
    header = ("run", *columns, *ABOUT)
    rows = (tuple(to_text(row.get(name)) for name in header) for row in table.rows)
    _replace(path, header, rows)


def _lines(path: Path) -> Iterator[dict[str, str]]:
    if not path.exists():
        return
    with path.open(newline="", encoding="utf-8") as file:
        for number, line in enumerate(csv.DictReader(file, strict=True), start=2):
            if None in line or None in line.values():
                raise ValueError(f"{path}, line {number}: not as many columns as in the header")
            yield line


def _replace(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    replace(path, text.getvalue().encode())


def replace(path: Path, content: bytes) -> None:
    """Write the whole file atomically, and its folder if there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content)
