"""A study that computes nothing of interest, to test properties of all studies.

It is a module of its own, because the processes that make the runs import it.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch

from seqnorm.studies import Finding, Outcome, Picture, Study, Table, paired
from seqnorm.studies.figures import draw_line, figure
from seqnorm.studies.table import Setting
from seqnorm.studies.tuning import best_rate, tuning_seeds


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
            started = Path(sys.argv[0]).with_name("waiting")
            started.with_suffix(".new").write_text(str(os.getpid()))
            started.with_suffix(".new").rename(started)
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

    def pictures(self, table: Table) -> list[Picture]:
        drawn = figure()
        axes = drawn.subplots()
        for norm in ("batch", "layer"):
            rows = table.where(stage="run", norm=norm)
            draw_line(axes, {1.0: rows.by_seed("error")}, norm)
        return [Picture("errors", drawn, "Errors of two norms.")]

    def findings(self, table: Table) -> list[Finding]:
        a, b = (table.where(stage="run", norm=norm).by_seed("error") for norm in ("batch", "layer"))
        return [Finding("error, BatchNorm minus LayerNorm", paired(a, b).scaled(100), "points", 1)]

    def verdict(self, table: Table) -> str:
        return f"It is {self.findings(table)[0].outcome}."
