"""One self-contained HTML page of all studies: questions, figures, numbers, verdicts, commands.

It needs no network and no script: figures are inside it as SVG. All text that comes from results
is escaped.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path

import torch

from seqnorm import nn
from seqnorm.nn import statistics_set

from . import table as tables
from .configuration import load
from .evidence import LEVEL, SHOWN, Finding
from .registry import STUDIES
from .runner import StudyError, path_of
from .study import Picture, Study
from .table import Table, replace

WIDE = 520  # pixels, from which a figure is wider than a phone can show it readably
TITLE = "The four limitations of BatchNorm"
STYLE = """
:root { color-scheme: light; }
body { margin: 0 auto; max-width: 60rem; padding: 1rem 1.25rem 4rem; background: #fff;
  color: #1a1a1a;
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 1.5rem 0 .5rem; }
h2 { font-size: 1.4rem; line-height: 1.25; margin: 3rem 0 .5rem; padding-top: 1rem;
  border-top: 1px solid #ccc; }
h3 { font-size: 1.05rem; margin: 1.75rem 0 .25rem; }
p, figcaption, li { max-width: 42rem; }
.question { font-style: italic; }
.verdict { border-left: .25rem solid #0072b2; padding: .25rem 0 .25rem 1rem; margin: 1.25rem 0; }
.verdict b { display: block; }
figure { margin: 1.5rem 0; }
.scroll { overflow-x: auto; }
.scroll svg { display: block; max-width: 100%; height: auto; }
figcaption { font-size: .92rem; color: #333; margin-top: .4rem; }
.sets { display: grid; gap: 1.25rem;
  grid-template-columns: repeat(auto-fill, minmax(min(20rem, 100%), 1fr)); }
.sets figure { margin: 0; }
.sets svg { width: 100%; height: auto; }
table { border-collapse: collapse; font-size: .9rem; }
th, td { text-align: left; vertical-align: top; padding: .3rem .75rem .3rem 0;
  border-bottom: 1px solid #ddd; }
td.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
code, pre { font-family: ui-monospace, "DejaVu Sans Mono", monospace; font-size: .88rem; }
pre { background: #f4f4f4; padding: .6rem .8rem; overflow-x: auto; }
nav ol { padding-left: 1.25rem; }
summary { cursor: pointer; margin: .75rem 0; }
@media (max-width: 40rem) {
  .wide + figcaption::before { font-style: italic; content: "Wider than the screen: drag it. "; }
  thead { display: none; }
  tr { display: block; border-bottom: 1px solid #ddd; padding: .4rem 0; }
  td, td.number { display: inline; border: 0; padding: 0 .6rem 0 0; white-space: normal; }
  td:first-child { display: block; }
  td:nth-child(3):not(:empty)::before { content: "95 %: "; }
  td:nth-child(4)::after { content: " runs"; }
}
@media print { .scroll { overflow: visible; } h2, figure { break-inside: avoid; } }
"""


def write_report(folder: Path, output: Path | None = None, quick: bool = False) -> Path:
    """Writes the page of the results in ``folder``, and its figures beside them.

    Args:
        folder: with a table for each study; a study without one is left out and said to be so.
        output: the page; ``<folder>/report.html`` if None.
        quick: the tables were made with ``--quick``.

    Raises:
        StudyError: the folder has no table at all.
    """
    parts, contents, missing = [], [], []
    for name, kind in STUDIES.items():
        study = load(kind, quick)
        table = tables.read(path_of(study, folder))
        if len(table):
            parts.append(_section(study, table, quick))
            contents.append(f'<li><a href="#{name}">{escape(study.title)}</a></li>')
        else:
            missing.append(f"<p>No results yet: <code>{_command(study, quick)}</code></p>")
    if not parts:
        raise StudyError(f"{folder} has no tables of studies: run one first")
    page = "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{TITLE}</title><style>{STYLE}</style></head><body>",
            f"<h1>{TITLE}</h1>",
            _introduction(quick),
            f"<nav><ol>{''.join(contents)}</ol></nav>",
            _sets(),
            *parts,
            *missing,
            _method(),
            "</body></html>\n",
        ]
    )
    output = output or folder / "report.html"
    replace(output, page.encode())
    print(f"The report is in {output}")
    return output


def _introduction(quick: bool) -> str:
    text = (
        "<p>A network trains better if what flows through it is <em>normalised</em>: shifted and "
        "scaled to mean 0 and variance 1. The question is over which numbers the mean and the "
        "variance are taken. BatchNorm takes them across the examples of a mini-batch. From that "
        "one choice follow four limitations; this page looks at each on real data, with the "
        "uncertainty of every number, and says also where BatchNorm does as well or better.</p>"
    )
    if quick:
        text += (
            "<p><strong>Made with <code>--quick</code>: too few and too short runs to conclude "
            "anything from.</strong></p>"
        )
    return text


def _sets() -> str:
    """The pictures of the set S, for images and for sequences."""
    images = [
        (
            torch.nn.BatchNorm2d(4),
            "Batch: one channel of all images; no other mixes them.",
        ),
        (torch.nn.GroupNorm(1, 4), "Layer: all channels and positions of one image."),
        (torch.nn.InstanceNorm2d(4), "Instance: one channel of one image."),
        (torch.nn.GroupNorm(2, 4), "Group: some channels of one image."),
    ]
    sequences = [
        (
            nn.BatchNorm(4, max_steps=5, layout="NTC"),
            "Batch, per time step: one unit, the sequences that still run at that step. Towards "
            "the end few are left.",
        ),
        (
            nn.BatchNorm(4, layout="NTC"),
            "Batch, pooled over time: one unit, all steps of all sequences.",
        ),
        (nn.LayerNorm(4, layout="NTC"), "Layer: the units of one step of one sequence."),
        (nn.InstanceNorm(4, layout="NTC"), "Instance: one unit over the steps of one sequence."),
    ]
    blocks = []
    for heading, norms in (("Images", images), ("Sequences of different length", sequences)):
        drawn = "".join(
            f"<figure>{statistics_set(norm).svg()}<figcaption>{escape(text)}</figcaption></figure>"
            for norm, text in norms
        )
        blocks.append(f'<h3>{heading}</h3><div class="sets">{drawn}</div>')
    return (
        '<h2 id="sets">Which numbers share a mean</h2><p>A norm is a choice of the set S of '
        "numbers that share a mean and a variance. In each picture one such set is coloured; "
        "padding, where a sequence has ended, is absent and enters nothing.</p>" + "".join(blocks)
    )


def _section(study: Study, table: Table, quick: bool) -> str:
    figures = "".join(_figure(picture) for picture in study.pictures(table))
    return (
        f'<section id="{study.name}"><h2>{escape(study.title)}</h2>'
        f'<p class="question">{escape(study.question)}</p>'
        f'<div class="verdict"><b>Verdict</b>{_paragraphs(study.verdict(table))}</div>'
        f"{figures}<h3>The numbers</h3>{_findings(study.findings(table))}"
        f"<h3>To make them again</h3><pre>{_command(study, quick)}</pre>"
        f"<p>{escape(_about(study, table))}</p></section>"
    )


def _paragraphs(text: str) -> str:
    return "".join(f"<p>{escape(part)}</p>" for part in text.split("\n\n"))


def _figure(picture: Picture) -> str:
    width = round(picture.figure.get_size_inches()[0] * 96)
    wide = " wide" if width > WIDE else ""
    return (
        f'<figure><div class="scroll{wide}"><div style="min-width:{round(0.72 * width)}px;'
        f'max-width:{width}px">{svg(picture)}</div></div>'
        f"<figcaption>{escape(picture.caption)}</figcaption></figure>"
    )


def svg(picture: Picture) -> str:
    """The figure as an SVG element whose ids are its own on a page with others."""
    import matplotlib

    text = io.StringIO()
    # A fixed salt and no date: the same table gives the same page.
    with matplotlib.rc_context({"svg.hashsalt": picture.name}):
        picture.figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    body = text.getvalue()
    body = body[body.index("<svg") :]
    label = f'role="img" aria-label="{escape(picture.caption)}"'
    body = re.sub(r'<svg ([^>]*?)width="[^"]*"', rf"<svg {label} \1", body, count=1)
    body = re.sub(r'^(<svg [^>]*?)height="[^"]*"', r"\1", body, count=1)
    body = re.sub(r'\bid="', f'id="{picture.name}-', body)
    body = re.sub(r"url\(#", f"url(#{picture.name}-", body)
    return re.sub(r'href="#', f'href="#{picture.name}-', body)


def _findings(findings: Sequence[Finding]) -> str:
    shown, rest = findings[:SHOWN], findings[SHOWN:]
    if not rest:
        return _rows(shown)
    more = f"{len(rest)} more numbers"
    return f"{_rows(shown)}<details><summary>{more}</summary>{_rows(rest)}</details>"


def _rows(findings: Sequence[Finding]) -> str:
    rows = []
    for finding in findings:
        mean, bounds = finding.numbers
        rows.append(
            f"<tr><td>{escape(finding.what)}</td><td class=number>{escape(mean)}</td>"
            f"<td class=number>{bounds}</td><td class=number>{finding.interval.n}</td>"
            f"<td>{escape(finding.outcome)}</td></tr>"
        )
    titles = ("quantity", "mean", f"{100 * LEVEL:.0f} % interval", "runs", "outcome")
    head = "".join(f"<th>{title}</th>" for title in titles)
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _command(study: Study, quick: bool) -> str:
    return f"python -m seqnorm.studies {study.name}{' --quick' if quick else ''}"


def _about(study: Study, table: Table) -> str:
    seconds = sum(
        float(row["seconds"]) for row in table if isinstance(row["seconds"], (int, float))
    )
    made = ", ".join(str(value) for value in table.distinct("machine"))
    commits = ", ".join(str(value) for value in table.distinct("commit"))
    return (
        f"{len(table)} runs, {seconds / 3600:.1f} core hours, on {made}, commit {commits}. Every "
        f"run is a row of {study.name}.csv with its seed; one is made again and compared with "
        "--again --only FACTOR=VALUE."
    )


def _method() -> str:
    return (
        "<h2>How the numbers were made</h2><p>Runs of one seed share initial weights, order of "
        "the data and everything else that is drawn, so norms are compared pair by pair: each "
        "value is the mean of the differences over the seeds, with Student's 95 % interval. It "
        "says how a difference would fall out with other random numbers, on the same test data; "
        "of other data it says nothing. The "
        "intervals are not widened for being many: of twenty quantities that do not differ, one "
        "is expected to look as if it did. “As predicted” means that the interval lies on the "
        "side of zero that the argument against BatchNorm predicts, “no difference shown” that it "
        "holds zero. Learning rates were chosen for each norm on validation data with other seeds "
        "than the reported ones, from a grid that was extended while its edge was the best, at "
        "most twice.</p>"
    )
