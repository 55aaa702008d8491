"""Numbers of the study of training's and inference's statistics."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from seqnorm.studies.evidence import Finding, Seeds
from seqnorm.studies.figures import NAMES
from seqnorm.studies.remedied_training import REMEDIES
from seqnorm.studies.table import Table

if TYPE_CHECKING:
    from .study import TrainInference

COMPANY = {"random": "random", "short": "all short", "long": "all long"}
OVER_BATCH = ("batch", "batch_pooled", *REMEDIES)


def within(runs: Table, norm: str, size: int, a: str, b: str) -> Seeds:
    """Return one measure minus another of the same runs."""
    return runs.by_seed(a, norm=norm, batch=size) - runs.by_seed(b, norm=norm, batch=size)


def beside_layer(runs: Table, norm: str, size: int, measure: str) -> Seeds:
    """Return a share in percent minus LayerNorm's."""
    own, other = (runs.by_seed(measure, norm=n, batch=size) for n in (norm, "layer"))
    return 100 * (own - other)


def narrower(runs: Table, remedy: str, size: int) -> Seeds:
    """Return the size of BatchNorm's gap between its two losses minus that of a remedy."""
    gaps = [within(runs, n, size, "loss_running", f"loss_batch{size}") for n in ("batch", remedy)]
    own, other = (Seeds({seed: abs(gap) for seed, gap in found.items()}) for found in gaps)
    return own - other


def remedied(runs: Table, remedy: str, size: int, norm: str = "batch") -> Seeds:
    """Return points of accuracy in inference of a remedy minus those of a norm."""
    own, other = (runs.by_seed("accuracy_running", norm=n, batch=size) for n in (remedy, norm))
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


def findings(study: TrainInference, table: Table) -> list[Finding]:
    """Return the findings of BatchNorm of every step, by batch size."""
    runs, sizes = table.where(stage="run"), study.batch_sizes
    found: list[Finding] = []

    def add(
        what: str, value: Callable[[int], Seeds], sign: int, unit: str = "points", key: bool = True
    ) -> None:
        for size in sizes:
            if values := value(size):
                quantity, first = what.format(size), size == sizes[0]
                found.append(Finding(quantity, values.interval, unit, sign, key and first))

    what = "predictions changed by other documents in a batch of {}, BatchNorm minus LayerNorm"
    add(what, lambda n: beside_layer(runs, "batch", n, f"changed_random_{n}"), 1)
    what = "test accuracy in inference, batch {}, BatchNorm minus LayerNorm"
    add(what, lambda n: beside_layer(runs, "batch", n, "accuracy_running"), -1)
    what = "BatchNorm, batch {}: test loss, running statistics minus statistics of the batch"
    add(what, lambda n: within(runs, "batch", n, "loss_running", f"loss_batch{n}"), 1, "")
    what = "BatchNorm, batch {}: accuracy, running statistics minus statistics of a single row"
    add(what, lambda n: better(runs, "batch", n, "running", "batch1"), 1)
    for remedy in REMEDIES:
        name = NAMES[remedy]
        what = f"gap of training's and inference's test loss, batch {{}}, BatchNorm minus {name}"
        add(what, partial(narrower, runs, remedy), 1, "", key=False)
        what = f"test accuracy in inference, batch {{}}, {name} minus BatchNorm"
        add(what, partial(remedied, runs, remedy), 1, key=False)
        what = f"test accuracy in inference, batch {{}}, {name} minus LayerNorm"
        add(what, partial(remedied, runs, remedy, norm="layer"), 0, key=False)
    return found


def quantities(study: TrainInference, table: Table) -> dict[str, Any]:
    """Return the numbers of the text, of BatchNorm at batch sizes 64, 16 and 4."""
    runs = table.where(stage="run")
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
        "narrower": [narrower(runs, r, n) for r in REMEDIES for n in sizes],
        "remedied": [remedied(runs, r, n) for r in REMEDIES for n in sizes],
        "beside_layer": [beside_layer(runs, "batch", n, "accuracy_running") for n in sizes],
    }
