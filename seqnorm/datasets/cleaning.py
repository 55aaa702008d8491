"""The rule by which documents are dropped, and the report of the dropped documents.

The parts are ordered train < validation < test. Two texts are the same if they are equal after
leading and trailing white space is removed.

- The test part stays as published, so that results remain comparable with those of other people.
  Its empty texts, texts with two labels and duplicates are counted but not dropped.
- The validation part loses only the texts that are also in the test part.
- The training part loses, in this order: empty texts; every copy of a text that it holds under two
  labels; every copy of a text that is also in the validation or test part; all copies but the first
  of each remaining text.
- A corpus published without a test part is cleaned as a training part and then split.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from seqnorm.datasets.documents import Row


@dataclass(frozen=True)
class PartReport:
    """Counts of one part; each document is counted under the first reason that applies.

    If `kept == read`, the reasons count documents that were found and not dropped.
    """

    read: int
    empty: int
    two_labels: int
    held_out: int
    duplicate: int
    kept: int


@dataclass(frozen=True)
class CleaningReport:
    """The results of cleaning for each part; `print(report)` shows them as a table."""

    parts: Mapping[str, PartReport]
    split_off: int = 0

    @property
    def dropped(self) -> int:
        """The number of documents dropped from all parts."""
        return sum(part.read - part.kept for part in self.parts.values())

    def __str__(self) -> str:
        headings = ["part", "read", "empty", "two labels", "held out", "duplicate", "kept"]
        rows = [
            [name, *(f"{count:,}" for count in asdict(part).values())]
            for name, part in self.parts.items()
        ]
        widths = [max(map(len, column)) for column in zip(headings, *rows)]
        lines = [
            "  ".join(
                cell.rjust(width) if place else cell.ljust(width)
                for place, (cell, width) in enumerate(zip(row, widths))
            )
            for row in [headings, *rows]
        ]
        if self.split_off:
            lines.append(
                f"no test part was published: {self.split_off:,} of the kept documents became it"
            )
        return "\n".join(lines)

    def with_split(self, split_off: int) -> CleaningReport:
        """Return the report of a corpus whose test part was split off after cleaning."""
        return replace(self, split_off=split_off)


def clean(parts: Mapping[str, Sequence[Row]]) -> tuple[dict[str, list[Row]], CleaningReport]:
    """Apply the module's rule to parts named "train", "validation" and "test"."""
    cleaned: dict[str, list[Row]] = {}
    reports: dict[str, PartReport] = {}
    held_out: set[str] = set()
    for name in ("test", "validation", "train"):
        if name in parts:
            cleaned[name], reports[name] = _clean_part(name, parts[name], held_out)
            held_out |= {row.text.strip() for row in cleaned[name]}
    order = [name for name in ("train", "validation", "test") if name in parts]
    return (
        {name: cleaned[name] for name in order},
        CleaningReport({name: reports[name] for name in order}),
    )


def _clean_part(name: str, rows: Sequence[Row], held_out: set[str]) -> tuple[list[Row], PartReport]:
    dropped_reasons = {
        "train": {"empty", "two_labels", "held_out", "duplicate"},
        "validation": {"held_out"},
        "test": set[str](),
    }[name]
    first_label: dict[str, str] = {}
    ambiguous: set[str] = set()
    for text, label in rows:
        if first_label.setdefault(text.strip(), label) != label:
            ambiguous.add(text.strip())
    counts = {"empty": 0, "two_labels": 0, "held_out": 0, "duplicate": 0}
    seen: set[str] = set()
    kept = []
    for row in rows:
        key = row.text.strip()
        if not key:
            reason = "empty"
        elif key in ambiguous:
            reason = "two_labels"
        elif key in held_out:
            reason = "held_out"
        elif key in seen:
            reason = "duplicate"
        else:
            reason = ""
        seen.add(key)
        if reason:
            counts[reason] += 1
        if reason not in dropped_reasons:
            kept.append(row)
    return kept, PartReport(read=len(rows), kept=len(kept), **counts)
