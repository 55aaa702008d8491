"""The command line of the studies: run, draw and report."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from seqnorm.extra import need

from . import table as tables
from .configuration import check_beside, keep_beside, load
from .registry import STUDIES
from .runner import Share, StudyError, make_runs, merge, path_of, run_again
from .study import Study
from .table import Setting, Table, from_text

FULL = Path("results/studies")
QUICK = Path("runs/studies/quick")


def arguments(argv: Sequence[str] | None, prog: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=prog, description=__doc__)
    parser.add_argument(
        "study", choices=[*STUDIES, "all", "report"], help="a study, all of them, or the report"
    )
    parser.add_argument("--quick", action="store_true", help="a small version, about two minutes")
    parser.add_argument("--config", type=Path, metavar="FILE", help="configs/studies/<name>.yaml")
    parser.add_argument(
        "--results", type=Path, metavar="FOLDER", help=f"{FULL}; with --quick {QUICK}"
    )
    parser.add_argument(
        "--processes", type=int, default=os.cpu_count() or 1, metavar="N", help="runs at once"
    )
    parser.add_argument(
        "--share", type=Share.parse, default=Share(), metavar="I/N", help="part I of N of the runs"
    )
    parser.add_argument(
        "--only",
        type=factor,
        action="append",
        default=[],
        metavar="FACTOR=VALUE",
        help="only these runs, as norm=batch; may be repeated",
    )
    parser.add_argument(
        "--again", action="store_true", help="make runs of the table again and compare"
    )
    parser.add_argument(
        "--merge",
        type=Path,
        nargs="+",
        default=[],
        metavar="FOLDER",
        help="take in the runs of other folders of results; make none",
    )
    parser.add_argument(
        "--markdown", type=Path, metavar="FILE", help="report: as a page of Markdown, not HTML"
    )
    parser.add_argument("--draw", action="store_true", help="figures and verdict alone, no runs")
    options = parser.parse_args(argv)
    if options.processes < 1:
        parser.error(f"--processes must be at least 1, got {options.processes}")
    if options.markdown and options.study != "report":
        parser.error("--markdown belongs to the report")
    if options.config and options.study in ("all", "report"):
        parser.error("--config belongs to one study")
    if options.results is None:
        options.results = QUICK if options.quick else FULL
    return options


def factor(text: str) -> tuple[str, tables.Value]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"written as FACTOR=VALUE, got {text!r}")
    return name, from_text(value)


def run(study: Study, options: argparse.Namespace) -> bool:
    """Does what the command line asks of one study; whether all went well."""
    only: Setting = dict(options.only)
    if unknown := set(only) - set(study.factors):
        raise StudyError(
            f"--only {sorted(unknown)}: the factors of {study.name} are {', '.join(study.factors)}"
        )
    folder: Path = options.results
    for made in (folder, *options.merge):
        check_beside(study, made)
    if options.again:
        return run_again(study, folder, only)
    if options.draw:
        draw(study, tables.read(path_of(study, folder)), folder)
        return True
    keep_beside(study, folder)
    if options.merge:
        table = merge(study, folder, options.merge)
    else:
        table = make_runs(
            study, folder, processes=options.processes, share=options.share, only=only, say=say
        )
    draw(study, table, folder)
    return True


def draw(study: Study, table: Table, folder: Path) -> None:
    """The study's figures as files, its findings and verdict on the screen."""
    if not len(table):
        raise StudyError(f"{path_of(study, folder)} has no runs yet")
    for picture in study.pictures(table):
        picture.figure.savefig(folder / f"{study.name}_{picture.name}.png", dpi=150)
    print(f"\n{study.title}. {study.question}\n")
    for finding in study.findings(table):
        print(f"  {finding}")
    print(f"\n{study.verdict(table)}")


def report(options: argparse.Namespace) -> None:
    """Writes the page of all studies."""
    if options.markdown:
        from .markdown import page

        text = page(options.results, options.markdown)
        tables.replace(options.markdown, text.encode())
    else:
        from .report import write_report

        write_report(options.results, quick=options.quick)


def say(line: str) -> None:
    print(line, flush=True)


def main(argv: Sequence[str] | None = None, prog: str = "python -m seqnorm.studies") -> None:
    """Runs the command line; exits with 1 if runs failed or came out differently."""
    options = arguments(argv, prog)
    try:
        need(prog, "matplotlib", "scipy")  # both of what follows the runs
        if options.study == "report":
            report(options)
            return
        names = list(STUDIES) if options.study == "all" else [options.study]
        well = [run(load(STUDIES[name], options.quick, options.config), options) for name in names]
    except (StudyError, ModuleNotFoundError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("stopped; run the same command again to go on", file=sys.stderr)
        sys.exit(130)
    sys.exit(0 if all(well) else 1)
