"""The rule by which documents are dropped.

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

from collections import defaultdict
from collections.abc import Mapping, Sequence

from .documents import CleaningReport, PartReport, Row

# For each part, the reasons for which documents are dropped from it.
_DROPPED = {
    "test": (),
    "validation": ("held_out",),
    "train": ("empty", "two_labels", "held_out", "duplicate"),
}


def clean(parts: Mapping[str, Sequence[Row]]) -> tuple[dict[str, list[Row]], CleaningReport]:
    """Apply the module's rule to parts named "train", "validation" and "test"."""
    found: dict[str, tuple[list[Row], PartReport]] = {}
    held_out: set[str] = set()
    for name, dropped in _DROPPED.items():
        if name in parts:
            found[name] = _clean_part(parts[name], held_out, dropped)
            held_out |= {row.text.strip() for row in found[name][0]}
    reports = {name: found[name][1] for name in reversed(found)}
    return {name: found[name][0] for name in reports}, CleaningReport(reports)


def _clean_part(
    rows: Sequence[Row], held_out: set[str], dropped: Sequence[str]
) -> tuple[list[Row], PartReport]:
    labels: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        labels[row.text.strip()].add(row.label)
    counts = dict.fromkeys(_DROPPED["train"], 0)
    seen: set[str] = set()
    kept = []
    for row in rows:
        key = row.text.strip()
        applies = (not key, len(labels[key]) > 1, key in held_out, key in seen)
        reason = next((name for name, true in zip(counts, applies) if true), None)
        seen.add(key)
        if reason:
            counts[reason] += 1
        if reason not in dropped:
            kept.append(row)
    return kept, PartReport(read=len(rows), kept=len(kept), **counts)
