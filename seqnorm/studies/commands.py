"""Run the studies, draw their figures, and write the report."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from seqnorm.extra import need

from . import table as tables
from .again import run_again
from .configuration import check_beside, keep_beside, load
from .engines import ENGINES, Engine
from .registry import STUDIES
from .runner import StudyError, make_runs, path_of
from .study import Study
from .table import Setting, Table, from_text

FULL = Path("results/studies")
QUICK = Path("runs/studies/quick")


def arguments(argv: Sequence[str] | None, prog: str) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog=prog, description=__doc__)
    add = parser.add_argument
    add("study", choices=[*STUDIES, "all", "report"], help="a study, all of them, or the report")
    add("--quick", action="store_true", help="a small version, about two minutes")
    add("--config", type=Path, metavar="FILE", help="configs/studies/<name>.yaml")
    add("--results", type=Path, metavar="FOLDER", help=f"{FULL}; with --quick {QUICK}")
    add("--engine", choices=ENGINES, default="loky", help="loky: processes here; dask; ray")
    add("--processes", type=int, default=os.cpu_count() or 1, metavar="N", help="runs at once")
    add(
        "--only",
        type=factor,
        action="append",
        default=[],
        metavar="FACTOR=VALUE",
        help="only these runs, as norm=batch; may be repeated",
    )
    add("--again", action="store_true", help="repeat runs of the table and compare")
    add("--markdown", type=Path, metavar="FILE", help="for the report: write Markdown, not HTML")
    add("--draw", action="store_true", help="make no runs, only figures and the verdict")
    options = parser.parse_args(argv)
    if options.processes < 1:
        parser.error(f"--processes must be at least 1, got {options.processes}")
    if options.markdown and options.study != "report":
        parser.error("--markdown belongs to the report")
    if options.config and options.study in ("all", "report"):
        parser.error("--config belongs to one study")
    options.results = options.results or (QUICK if options.quick else FULL)
    return options


def factor(text: str) -> tuple[str, tables.Value]:
    """Read ``FACTOR=VALUE``."""
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"write FACTOR=VALUE, got {text!r}")
    return name, from_text(value)


def run(study: Study, options: argparse.Namespace) -> bool:
    """Run the command for one study. Return False if a repeated run differs."""
    only: Setting = dict(options.only)
    if unknown := set(only) - set(study.factors):
        raise StudyError(
            f"--only {sorted(unknown)}: the factors of {study.name} are {', '.join(study.factors)}"
        )
    folder: Path = options.results
    check_beside(study, folder)
    if options.again:
        return run_again(study, folder, only)
    if options.draw:
        table = tables.read(path_of(study, folder))
    else:
        keep_beside(study, folder)
        engine = Engine(options.engine, options.processes)
        say = partial(print, flush=True)  # lines of progress at once, into a pipe too
        table = make_runs(study, folder, engine=engine, only=only, say=say)
    draw(study, table, folder)
    return True


def draw(study: Study, table: Table, folder: Path) -> None:
    """Write the study's figures, and print its findings and its verdict."""
    if not len(table):
        raise StudyError(f"{path_of(study, folder)} has no runs yet")
    for name, drawn in study.figures(table).items():
        drawn.savefig(folder / f"{study.name}_{name}.png", dpi=150)
    print(f"\n{study.title}. {study.question}\n")
    for finding in study.findings(table):
        print(f"  {finding}")
    print(f"\n{study.text(table).verdict}")


def report(options: argparse.Namespace) -> None:
    """Write the page of all studies."""
    from .report import html, markdown

    folder: Path = options.results
    page: Path = options.markdown or folder / "report.html"
    text = markdown(folder, page) if options.markdown else html(folder, options.quick)
    tables.replace(page, text.encode())
    print(f"The report is in {page}")


def main(argv: Sequence[str] | None = None, prog: str = "seqnorm study") -> None:
    """Run the command line. Exit with 1 if runs failed or came out differently."""
    options = arguments(argv, prog)
    try:
        # For pictures, figures and findings after the runs.
        need(prog, "matplotlib", "PIL", "scipy")
        if options.study == "report":
            report(options)
            return
        names = list(STUDIES) if options.study == "all" else [options.study]
        well = [run(load(STUDIES[name], options.quick, options.config), options) for name in names]
    except (StudyError, ModuleNotFoundError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("stopped; run the same command again to continue", file=sys.stderr)
        sys.exit(130)
    sys.exit(0 if all(well) else 1)
