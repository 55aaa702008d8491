"""Pages of all studies: a self-contained HTML page, and the Markdown page of ``docs/``.

The templates beside this file hold the text. The HTML page needs no network and no script: figures
are inside it as SVG, and all text from results is escaped.
"""

from __future__ import annotations

import io
import os
import re
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import torch

from seqnorm import nn
from seqnorm.nn import statistics_set

from . import table as tables
from .configuration import load
from .evidence import Finding
from .registry import STUDIES
from .runner import StudyError, path_of
from .study import Study
from .table import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDE = 520  # pixels, from which a figure is too wide for a phone to show it readably


def html(folder: Path, quick: bool = False) -> str:
    """Return the HTML page of the results in ``folder``.

    Args:
        folder: with a table for each study. A study without a table is named as missing.
        quick: the tables were made with ``--quick``.

    Raises:
        StudyError: the folder has no table at all.
    """
    return _page("report.html.j2", folder, quick, sets=_sets(), svg=svg, wide=WIDE)


def markdown(folder: Path, place: Path) -> str:
    """Return the Markdown page of the results in ``folder``.

    Args:
        folder: of results, with the figures that ``--draw`` makes.
        place: of the file that the page is for; figures are linked from there.
    """
    figures = Path(os.path.relpath(folder, place.parent)).as_posix()
    return _page("report.md.j2", folder, False, figures=figures, row=row)


def studies(folder: Path, quick: bool = False) -> tuple[list[tuple[Study, Table]], list[Study]]:
    """Return the studies that have a table in ``folder``, and those that have none."""
    every = [load(kind, quick) for kind in STUDIES.values()]
    found = [(study, tables.read(path_of(study, folder))) for study in every]
    return [pair for pair in found if len(pair[1])], [s for s, table in found if not len(table)]


def _page(template: str, folder: Path, quick: bool, **more: Any) -> str:
    found, missing = studies(folder, quick)
    if not found:
        raise StudyError(f"{folder} has no tables of studies: run one first")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=template.endswith(".html.j2"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    page = environment.get_template(template)
    return page.render(found=found, missing=missing, quick=quick, **more)


def row(finding: Finding) -> str:
    """Return the finding as a row of a Markdown table."""
    cells = (finding.quantity, finding.mean, finding.bounds, finding.interval.n, finding.outcome)
    return f"| {' | '.join(map(str, cells))} |"


def _sets() -> dict[str, list[tuple[str, str]]]:
    """Return pictures of the set S with captions, for images and for sequences."""
    # In torch, the LayerNorm of images is a GroupNorm of one group.
    images: dict[str, tuple[str, torch.nn.Module]] = {
        "BatchNorm": (
            "One channel of all images; no other norm mixes them.",
            torch.nn.BatchNorm2d(4),
        ),
        "LayerNorm": ("All channels and positions of one image.", torch.nn.GroupNorm(1, 4)),
        "InstanceNorm": ("One channel of one image.", torch.nn.InstanceNorm2d(4)),
        "GroupNorm": ("Some channels of one image.", torch.nn.GroupNorm(2, 4)),
    }
    sequences: dict[str, tuple[str, torch.nn.Module]] = {
        "BatchNorm of every step": (
            "One unit, the sequences that still run at that step. Towards the end few are left.",
            nn.BatchNorm(4, max_steps=5, layout="NTC"),
        ),
        "BatchNorm pooled over time": (
            "One unit, all steps of all sequences.",
            nn.BatchNorm(4, layout="NTC"),
        ),
        "LayerNorm": (
            "The units of one step of one sequence.",
            nn.LayerNorm(4, layout="NTC"),
        ),
        "InstanceNorm": (
            "One unit over the steps of one sequence.",
            nn.InstanceNorm(4, layout="NTC"),
        ),
    }
    return {
        heading: [
            (replace(statistics_set(norm), name=name).svg(), text)
            for name, (text, norm) in norms.items()
        ]
        for heading, norms in (("Images", images), ("Sequences of different length", sequences))
    }


def svg(drawn: Figure, name: str, caption: str) -> str:
    """Return the figure as an SVG element whose ids begin with its name."""
    import matplotlib

    text = io.StringIO()
    # With a fixed salt and no date, the same table gives the same page.
    with matplotlib.rc_context({"svg.hashsalt": name}):
        drawn.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    body = text.getvalue()
    body = body[body.index("<svg") :]
    label = f'role="img" aria-label="{escape(caption)}"'
    body = re.sub(r'<svg ([^>]*?)width="[^"]*"', rf"<svg {label} \1", body, count=1)
    body = re.sub(r'^(<svg [^>]*?)height="[^"]*"', r"\1", body, count=1)
    return re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", body)
