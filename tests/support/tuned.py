"""Tuning runs of a study, with invented or computed measures."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from seqnorm.studies import Study, Table
from seqnorm.studies.table import Setting, Value, run_id


def tuned(study: Study, measure: Callable[[Setting], Mapping[str, Value]]) -> Table:
    """Return a table of exactly the runs that determine the choice of rates."""
    table = Table()
    while True:
        known = {row["run"] for row in table}
        rows = [
            {"run": run_id(setting, study.factors)} | dict(setting) | dict(measure(setting))
            for setting in study.settings(table)
            if setting.get("stage") == "tune" and run_id(setting, study.factors) not in known
        ]
        if not rows:
            return table
        table = Table([*table.rows, *rows])
