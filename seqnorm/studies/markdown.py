"""The results of the studies as Markdown: a page for ``docs/`` and the README's table.

``python -m seqnorm.studies report --markdown docs/limitations.md`` writes the page;
``python -m seqnorm.studies.markdown results/studies`` prints the table.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from . import table as tables
from .configuration import load
from .evidence import LEVEL, SHOWN, Finding
from .registry import STUDIES
from .runner import path_of
from .study import Study
from .table import Table

INTRODUCTION = """# The four limitations of BatchNorm, measured

A norm is a choice of the set S of numbers that share a mean and a variance. BatchNorm takes them
across the examples of a mini-batch, and that one choice is behind all four limitations:

1. small batches give noisy statistics;
2. networks that generate images pixel by pixel mix what belongs to one image with others;
3. a network that is unrolled to another length for every batch needs statistics of every time step,
   and the later the step, the fewer sequences it rests on;
4. training and inference use different statistics.

The cure is another S, inside one example: all units of a layer (LayerNorm), the plane of one
channel (InstanceNorm), a group of channels (GroupNorm). How much each limitation weighs, and where
BatchNorm is the better norm all the same, is a question to data. Below, runs of one seed share
initial weights and the order of the data; a value is the mean of the differences over seeds, with
Student's 95 % interval. Intervals are not widened for being many: of twenty quantities that do not
differ, one is expected to look as if it did. Learning rates are chosen for each norm on validation
data, with other seeds.
"""


def key_figures(folder: Path) -> str:
    """The few findings of each study that matter most, as one table."""
    lines = _head("study", "quantity")
    for study, table in studies(folder):
        key = [finding for finding in study.findings(table) if finding.key]
        lines += [f"| {study.name} {_cells(finding)}" for finding in key]
    return "\n".join(lines)


def page(folder: Path, place: Path) -> str:
    """Question, verdict, figures with captions, numbers and command of every study in ``folder``.

    Args:
        folder: of results, with the figures that ``--draw`` makes.
        place: of the file that the page is for; figures are linked from there.
    """
    parts = [INTRODUCTION]
    for study, table in studies(folder):
        parts.append(f"## {study.title}\n\n{study.question}\n")
        parts.append(f"**Verdict.** {study.verdict(table)}\n")
        for picture in study.pictures(table):
            link = Path(os.path.relpath(folder, place.parent)) / f"{study.name}_{picture.name}.png"
            parts.append(f"![{study.title}]({link.as_posix()})\n\n*{picture.caption}*\n")
        parts.append(_numbers(study.findings(table)))
        parts.append(f"```sh\npython -m seqnorm.studies {study.name}\n```\n")
    return "\n".join(parts)


def studies(folder: Path) -> Iterator[tuple[Study, Table]]:
    """Those that have a table in ``folder``, as their configuration is shipped."""
    for kind in STUDIES.values():
        study = load(kind, quick=False)
        table = tables.read(path_of(study, folder))
        if len(table):
            yield study, table


def _numbers(findings: Sequence[Finding]) -> str:
    lines = [
        *_head("quantity"),
        *map(_cells, findings[:SHOWN]),
    ]
    rest = len(findings) - SHOWN
    more = f"\n{rest} more numbers are printed with `--draw`.\n" if rest > 0 else ""
    return "\n".join(lines) + "\n" + more


def _head(*columns: str) -> list[str]:
    titles = [*columns, "mean", f"{100 * LEVEL:.0f} % interval", "seeds", "outcome"]
    return [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]


def _cells(finding: Finding) -> str:
    mean, bounds = finding.numbers
    return f"| {finding.what} | {mean} | {bounds} | {finding.interval.n} | {finding.outcome} |"


if __name__ == "__main__":
    print(key_figures(Path(sys.argv[1])))
