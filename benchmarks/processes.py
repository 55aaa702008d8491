"""Benchmarks whose lines are medians of several fresh processes.

The place of a process in memory changes a call of some microseconds, so one process is not enough.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import table
import timing
import torch


@dataclass
class Program:
    """A benchmark of one thread, whose lines are always the same.

    Attributes:
        file: The file of the program.
        title: A sentence on what it measures.
        results: The file of its rows.
        columns: The columns of this file.
        processes: The number of processes, unless the command line states another one.
        budget: The seconds of a line in a process, likewise.
        measured: Returns what one process measures, a value in JSON, within a budget.
        rows: Returns the rows from what all processes have measured.
        markdown: Returns the table of the page from the file of the rows.
        also: Returns further columns of the machine.
    """

    file: str
    title: str
    results: Path
    columns: Sequence[str]
    processes: int
    budget: float
    measured: Callable[[float], Iterable[object]]
    rows: Callable[[Sequence[Any]], Iterable[table.Row]]
    markdown: Callable[[Path], str]
    also: Callable[[], table.Row] = dict

    def main(self, argv: Sequence[str] | None) -> None:
        """Measure all lines, or do what the command line asks for."""
        load = timing.load_average()
        options = parser(self.title, self.processes, self.budget, self.results).parse_args(argv)
        if options.table:
            print(self.markdown(options.csv))
            return
        torch.set_num_threads(1)
        if options.one:
            print(json.dumps(list(self.measured(options.budget))))
            return
        warning = timing.busy(load)
        if warning:
            print(warning)
        where = table.environment(load) | self.also()
        found = fresh(self.file, [f"--budget={options.budget}"], options.processes)
        with table.table(options.csv, self.columns) as write:
            for row in self.rows(found):
                write(row | where)
        print(self.markdown(options.csv))


def parser(
    title: str, processes: int, budget: float, results: Path | None
) -> argparse.ArgumentParser:
    """Return the options of a program of several processes."""
    found = argparse.ArgumentParser(description=title)
    found.add_argument("--processes", type=int, default=processes, metavar="N")
    found.add_argument(
        "--budget", type=float, default=budget, help="seconds of a line in a process"
    )
    found.add_argument("--csv", type=Path, metavar="PATH", default=results)
    found.add_argument("--table", action="store_true", help="print the page's table and end")
    found.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    return found


def fresh(file: str, arguments: Sequence[str], count: int) -> list[Any]:
    """Run a program with ``--one`` in ``count`` processes, and return what each has printed."""
    found = []
    for _ in range(count):
        command = [sys.executable, file, *arguments, "--one"]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        found.append(json.loads(done.stdout.splitlines()[-1]))
    return found


def medians(
    names: Sequence[str],
    lines: Iterable[Sequence[object]],
    processes: Sequence[Sequence[dict[str, float]]],
) -> list[table.Row]:
    """Return a row for each line: its values by ``names``, and medians over the processes.

    Args:
        names: The columns that tell the lines apart.
        lines: The lines.
        processes: The numbers of each line by column, in each process.
    """
    found = []
    for line, each in zip(lines, zip(*processes)):
        row: table.Row = dict(zip(names, line))
        for name in each[0]:
            form = "{:.2e}" if "difference" in name else "{:.2f}" if "_us" in name else "{:.0f}"
            row[name] = form.format(median(one[name] for one in each))
        found.append(row)
    return found
