"""Findings and claims of the study of training's and inference's statistics."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from seqnorm.studies.evidence import Finding, Seeds
from seqnorm.studies.figures import NAMES
from seqnorm.studies.table import Table

COMPANY = {"random": "random", "short": "all short", "long": "all long"}
OVER_BATCH = ("batch", "batch_pooled")


def within(runs: Table, norm: str, size: int, a: str, b: str) -> Seeds:
    """Return one measure minus another of the same runs."""
    return runs.by_seed(a, norm=norm, batch=size) - runs.by_seed(b, norm=norm, batch=size)


def beside_layer(runs: Table, norm: str, size: int, measure: str) -> Seeds:
    """Return a share in percent minus LayerNorm's."""
    own, other = (runs.by_seed(measure, norm=n, batch=size) for n in (norm, "layer"))
    return 100 * (own - other)


def better(runs: Table, norm: str, size: int, a: str, b: str) -> Seeds:
    """Return points of accuracy by one kind of statistics minus those by another."""
    return 100 * within(runs, norm, size, f"accuracy_{a}", f"accuracy_{b}")


def largest(runs: Table, norm: str, companies: Iterable[str]) -> Seeds:
    """Return the largest change of a logit in any of the measures ``logit_<company>...``.

    The value of a seed is the largest of its runs of all batch sizes, which are not independent.
    """
    starts = tuple(f"logit_{company}" for company in companies)
    found = Seeds()
    for row in runs.where(norm=norm):
        seed = int(str(row["seed"]))
        for name, value in row.items():
            if name.startswith(starts) and isinstance(value, (int, float)):
                found[seed] = max(found.get(seed, 0.0), float(value))
    return found


def findings(runs: Table, sizes: Sequence[int]) -> list[Finding]:
    """Return all findings, those of BatchNorm of every step first."""
    found: list[Finding] = []

    def add(what: str, value: Seeds, unit: str, expected: int, key: bool = False) -> None:
        if value:
            found.append(Finding(what, value.interval, unit, expected, key))

    def company(norm: str, which: str) -> None:
        for size in sizes:
            what = f"answers changed by {COMPANY[which]} companions, batch {size}, {NAMES[norm]}"
            difference = beside_layer(runs, norm, size, f"changed_{which}_{size}")
            key = (norm, which, size) == ("batch", "random", sizes[0])
            add(f"{what} - LayerNorm", difference, "points", 1, key)

    for norm in OVER_BATCH:
        name = NAMES[norm]
        company(norm, "random")
        key = {size: norm == "batch" and size == sizes[0] for size in sizes}
        for size in sizes:
            what = f"test accuracy in inference, batch {size}, {name} - LayerNorm"
            add(what, beside_layer(runs, norm, size, "accuracy_running"), "points", -1, key[size])
        for size in sizes:
            what = f"test loss, running statistics - batches of {size}, trained at that, {name}"
            change = within(runs, norm, size, "loss_running", f"loss_batch{size}")
            add(what, change, "", 1, key[size])
        for size in sizes:
            what = f"accuracy, running statistics - one row's, trained at batch {size}, {name}"
            add(what, better(runs, norm, size, "running", "batch1"), "points", 1, key[size])
        if norm == "batch":  # the sets of the pooled norm are larger, and its answers alike
            company(norm, "short")
            company(norm, "long")
            for size in sizes:
                what = f"test loss, running - population statistics, batch {size}, {name}"
                add(what, within(runs, norm, size, "loss_running", "loss_population"), "", 1)
            for size in sizes:
                what = f"accuracy, running - population statistics, batch {size}, {name}"
                add(what, better(runs, norm, size, "running", "population"), "points", -1)
    for norm in ("layer", *OVER_BATCH):
        running = norm in OVER_BATCH
        moved = largest(runs, norm, ("running",) if running else COMPANY)
        what = f"largest change of a logit with the company, {NAMES[norm]}"
        add(f"{what}, running statistics" if running else what, moved, "", 0)
    return found


def quantities(runs: Table) -> dict[str, Any]:
    """Return the numbers of the text, of BatchNorm at batch sizes 64, 16 and 4."""
    sizes = (64, 16, 4)
    moved = [f"changed_random_{size}" for size in sizes]
    return {
        "changed": [100 * runs.by_seed(m, norm="batch", batch=n) for m, n in zip(moved, sizes)],
        "more": [beside_layer(runs, "batch", n, m) for m, n in zip(moved, sizes)],
        "still": largest(runs, "layer", COMPANY),
        "row": [better(runs, "batch", n, "batch1", "running") for n in sizes],
        "loss": [within(runs, "batch", n, "loss_running", f"loss_batch{n}") for n in sizes],
        "whole": [within(runs, "batch", n, "loss_running", "loss_population") for n in sizes],
        "accuracy": [better(runs, "batch", n, "running", "population") for n in sizes],
        "beside_layer": [beside_layer(runs, "batch", n, "accuracy_running") for n in sizes],
    }
