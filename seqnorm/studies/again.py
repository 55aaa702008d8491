"""Repeat stored runs and compare their numbers."""

from __future__ import annotations

import math
from pathlib import Path

from . import table as tables
from .runner import Say, StudyError, machine, make_one, path_of
from .study import Study
from .table import Setting, run_id, to_text

# Another instruction set rounds differently, and training enlarges that. Between AVX-512 and AVX2,
# 63 of 648 numbers of the quick studies differed, by up to a fifth.
RELATIVE, ABSOLUTE = 0.25, 1e-4
WITHIN = (
    f"numbers may differ by {100 * RELATIVE:.0f} % or {ABSOLUTE:g}, because other instructions "
    "round differently and training enlarges that (by up to 20 % between AVX-512 and AVX2)"
)


def run_again(study: Study, folder: Path, only: Setting, say: Say = print) -> bool:
    """Repeat stored runs, and return True if all their measures came out the same.

    Runs of the same processor, instruction set and version of torch must have the same digits.
    Others are compared with a tolerance, which is stated. ``only`` selects runs by their factors;
    ``say`` takes a line for each run and number.

    Raises:
        StudyError: the table has no such run.
    """
    table = tables.read(path_of(study, folder))
    stored = {row["run"]: row for row in table}
    settings = [s for s in study.settings(table) if tables.matches(s, only)]
    known = [s for s in settings if run_id(s, study.factors) in stored]
    if not known:
        raise StudyError(f"{path_of(study, folder)} has no run with {dict(only)}")
    well, here = True, machine()
    for setting in known:
        run = run_id(setting, study.factors)
        row = stored[run]
        alike = row.get("machine") == here
        made_on = row.get("machine") or "an unnamed machine"
        rule = "every digit must be the same" if alike else f"this is {here}: {WITHIN}"
        say(f"{run}: stored on {made_on}; {rule}")
        outcome = make_one(study, setting).outcome
        if isinstance(outcome, Exception):
            raise outcome
        for name in study.measures:
            then, now = row.get(name), outcome.values.get(name)
            if then is None and now is None:
                continue
            same = held = to_text(then) == to_text(now)
            if not (same or alike or None in (then, now)):
                one, two = float(str(then)), float(str(now))
                held = math.isclose(one, two, rel_tol=RELATIVE, abs_tol=ABSOLUTE)
            well = well and held
            verdict = "" if same else ": within the tolerance" if held else ": DIFFERS"
            say(f"{run} {name}: {to_text(then)} then, {to_text(now)} now{verdict}")
    return well
