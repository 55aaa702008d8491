"""A study that computes nothing of interest, to test properties of all studies.

It is a module of its own, because the processes that make the runs import it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from seqnorm.studies import Finding, Outcome, Seeds, Study, Table
from seqnorm.studies.figures import draw_line, figure
from seqnorm.studies.table import Setting
from seqnorm.studies.tuning import best_rate, tuning_seeds

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TEXT = """
## headline

{{ claim("It is a limitation.", above(difference)) }}

## verdict

{{ claim("It is one, by {0.mean:.0f} points.", above(difference)) }}

## errors

Errors of two norms.
"""


@dataclass(frozen=True)
class Toy(Study):
    """Two norms with a tuned rate for each; the best rate is 0.1 for layer and 1.0 for batch."""

    name: ClassVar[str] = "toy"
    title: ClassVar[str] = "A limitation"
    question: ClassVar[str] = "Is it one?"
    factors: ClassVar[tuple[str, ...]] = ("stage", "norm", "rate", "seed")
    measures: ClassVar[tuple[str, ...]] = ("score", "error")

    seeds: int
    rates: list[float]
    fail: str = ""
    trace: str = ""
    noise: float = 0.01

    def settings(self, done: Table) -> Iterator[Setting]:
        for norm in ("batch", "layer"):
            for rate in self.rates:
                for seed in tuning_seeds(1):
                    yield {"stage": "tune", "norm": norm, "rate": rate, "seed": seed}
        for norm in ("batch", "layer"):
            tuned = done.where(stage="tune", norm=norm)
            rate = best_rate(tuned, self.rates, tuning_seeds(1), "score")
            if rate is not None:
                for seed in range(self.seeds):
                    yield {"stage": "run", "norm": norm, "rate": rate, "seed": seed}

    def run(self, setting: Setting) -> Outcome:
        if self.trace:
            with Path(self.trace).open("a") as file:
                file.write("run\n")
        if self.fail == "die":
            os._exit(9)
        if self.fail == "wait":
            Path(f"{self.trace}.{os.getpid()}").touch()
            time.sleep(300)
        if self.fail and setting["norm"] == self.fail and setting["stage"] == "run":
            raise ValueError("this norm is out of order")
        rate, seed = setting["rate"], setting["seed"]
        assert isinstance(rate, float)
        assert isinstance(seed, int)
        if setting["stage"] == "tune":
            best = 1.0 if setting["norm"] == "batch" else 0.1
            return Outcome({"score": -abs(rate - best)})
        noise = float(torch.rand((), generator=torch.Generator().manual_seed(seed))) * self.noise
        error = noise + (0.3 if setting["norm"] == "batch" else 0.1) + 0.001 * seed
        files = {f"{setting['norm']}_{seed}.txt": b"kept"}
        return Outcome({"error": error}, {"loss": [(0, 1.0), (1, error)]}, files)

    def difference(self, table: Table) -> Seeds:
        runs = table.where(stage="run")
        return 100 * (runs.by_seed("error", norm="batch") - runs.by_seed("error", norm="layer"))

    def figures(self, table: Table) -> dict[str, Figure]:
        drawn = figure()
        axes = drawn.subplots()
        for norm in ("batch", "layer"):
            draw_line(axes, {1.0: table.by_seed("error", stage="run", norm=norm)}, norm)
        return {"errors": drawn}

    def findings(self, table: Table) -> list[Finding]:
        value = self.difference(table).interval
        return [Finding("error, BatchNorm minus LayerNorm", value, "points", 1)]

    def quantities(self, table: Table) -> dict[str, Any]:
        return {"difference": self.difference(table)}

    def template(self) -> str:
        return TEXT
