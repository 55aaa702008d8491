"""The sizes of classes and the lengths of documents, shown before training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

# If there are more classes, the largest and the smallest ones are listed.
MOST = 20
_LARGEST, _SMALLEST = 12, 5
# Classes are unequal if the largest has more than so many times the documents of the smallest.
UNEQUAL = 5


def class_table(classes: Sequence[str], labels: Mapping[str, Sequence[int]]) -> str:
    """Return a table of the number of documents of each class, by part.

    Args:
        classes: The names of the classes.
        labels: The class of each document, by part; the first part decides about the order.
    """
    counts = {part: Counter(found) for part, found in labels.items()}
    first = next(iter(counts.values()))
    order = sorted(range(len(classes)), key=lambda number: (-first[number], classes[number]))
    rows = [["class", *counts]]
    rows += [
        [classes[number], *(f"{count[number]:,}" for count in counts.values())] for number in order
    ]
    if len(classes) > MOST:
        left = len(classes) - _LARGEST - _SMALLEST
        rest = [f"({left} more)", *("" for _ in counts)]
        rows = [*rows[: 1 + _LARGEST], rest, *rows[-_SMALLEST:]]
    width, *others = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join(
        "  ".join([name.ljust(width), *map(str.rjust, fields, others)]) for name, *fields in rows
    )


def length_line(lengths: Sequence[int], max_length: int | None) -> str:
    """Return the lengths of the training documents in words.

    Args:
        lengths: The numbers of tokens before documents are cut.
        max_length: The length to which they are cut, or None.
    """
    ranked = sorted(lengths)
    median, most = ranked[len(ranked) // 2], ranked[min(len(ranked) * 95 // 100, len(ranked) - 1)]
    line = f"Tokens of a training document: median {median:,}, 95 % up to {most:,}, "
    line += f"longest {ranked[-1]:,}"
    if max_length is None:
        return f"{line}; none is cut (data.max_length)"
    cut = sum(length > max_length for length in ranked)
    return f"{line}; {cut:,} of {len(ranked):,} are cut to {max_length:,} (data.max_length)"


def are_unequal(counts: Sequence[int]) -> bool:
    """Return whether the largest class is more than ``UNEQUAL`` times as large as the smallest."""
    found = [count for count in counts if count]
    return bool(found) and max(found) > UNEQUAL * min(found)
