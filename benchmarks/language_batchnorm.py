"""Where BatchNorm of every step loses in a language model of documents.

``python benchmarks/language_batchnorm.py`` trains character models of the film reviews' sentences
(``configs/language/mr_documents.yaml``), and measures the bits a character of the test part with
other statistics in BatchNorm, in all and at the first steps. It appends a row for each run to
``results/language_batchnorm.csv``, can be interrupted and resumed, and prints the table.
"""

from __future__ import annotations

import argparse
import math
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from copy import deepcopy
from pathlib import Path

import torch
from torch import Tensor
from trained import rows_so_far, train

from seqnorm import report
from seqnorm.datasets import LanguageBatch
from seqnorm.files import commit
from seqnorm.models import LanguageModel
from seqnorm.nn import reestimate_statistics
from seqnorm.nn.statistics import batch_statistics
from seqnorm.studies.evidence import Seeds
from seqnorm.training import LanguageData, LanguageModelling
from seqnorm.training.checkpoints.stored_model import stored_model
from seqnorm.training.results.rows import append_row

ROOT = Path(__file__).resolve().parent.parent
RESULTS = "results/language_batchnorm.csv"
BASE = ("--config", "language/mr_documents", "--model.lr", "0.03")
# Four times as many rows in a batch, and as many steps of the optimizer.
WIDE = ("--data.batch_size", "128", "--trainer.max_epochs", "12")
BATCH = ("--model.norm", "batch")
VARIANTS = {
    "layer": (),
    "layer, 128 rows": WIDE,
    "batch": BATCH,
    "batch, unsorted": (*BATCH, "--data.noise", ".inf"),
    "batch, eps 0.01": (*BATCH, "--model.norm_options.eps", "0.01"),
    "batch, 128 rows": (*BATCH, *WIDE),
}
# The mean and variance of every step: those of training's running averages; averages and moments of
# the training part with the final weights; those of each test batch.
STATISTICS = ("running", "average", "population", "by_batch")
# The first step, which sees no character of the text, the next four, and the others.
PARTS = {"first": slice(0, 1), "next": slice(1, 5), "others": slice(5, None)}
COLUMNS = (
    *("variant", "seed", *STATISTICS),
    *(f"{kind}_{part}" for kind in ("running", "population") for part in PARTS),
    *("train", "config", "commit"),
)


@torch.no_grad()
def bits(
    model: LanguageModel, batches: Iterable[LanguageBatch], by_batch: bool = False
) -> tuple[Tensor, Tensor]:
    """Return the bits of all targets at every step, and the number of targets.

    Args:
        by_batch: normalise by the statistics of each batch, as training does.
    """
    model.eval()
    total, count = torch.zeros(2, 10_000, dtype=torch.float64)
    with batch_statistics(model) if by_batch else nullcontext():
        for batch in batches:
            nats, _ = model.surprisal(batch.tokens, batch.targets, batch.lengths)
            steps = torch.arange(batch.targets.shape[1])
            valid = steps < batch.lengths[:, None]
            places = steps.expand_as(valid)[valid]
            total.index_add_(0, places, nats.double() / math.log(2))
            count.index_add_(0, places, torch.ones_like(nats, dtype=torch.float64))
    return total, count


def measured(
    model: LanguageModel, known: Sequence[LanguageBatch], test: Sequence[LanguageBatch]
) -> dict[str, float]:
    """Return the bits a character of the test part by each kind of statistics."""
    found: dict[str, float] = {}
    of_batch = bool(report(model).rows)
    for kind in STATISTICS if of_batch else STATISTICS[:1]:
        asked = model
        if kind in ("average", "population"):
            asked = deepcopy(model)
            reestimate_statistics(
                asked, iter(known), lambda m, b: m(b.tokens, b.lengths), estimate=kind
            )
        total, count = bits(asked, test, kind == "by_batch")
        found[kind] = float(total.sum() / count.sum())
        for part, steps in PARTS.items():
            if f"{kind}_{part}" in COLUMNS:
                found[f"{kind}_{part}"] = float(total[steps].sum() / count[steps].sum())
    total, count = bits(model, known[:100], of_batch)
    return {**found, "train": float(total.sum() / count.sum())}


def make(variant: str, seed: int) -> None:
    """Train and measure a model, and append the row."""
    name = variant.replace(" ", "_").replace(",", "")
    words = [*BASE, *VARIANTS[variant], "--seed_everything", str(seed)]
    checkpoint = train(words, ROOT / "runs/language_batchnorm" / name)
    stored = checkpoint.contents["datamodule_hyper_parameters"]
    data = LanguageData(**{**stored, "root": str(ROOT / "data")})
    data.adopt(checkpoint)
    data.setup("fit")
    data.setup("test")
    network = stored_model(LanguageModelling, checkpoint).network
    found = measured(network, list(data.train_dataloader()), list(data.test_dataloader()))
    row = dict.fromkeys(COLUMNS, "") | {name: f"{value:.4f}" for name, value in found.items()}
    row |= {"variant": variant, "seed": str(seed), "config": shlex.join(words), "commit": commit()}
    append_row(ROOT / RESULTS, row, COLUMNS)
    print(variant, seed, {kind: row.get(kind) for kind in STATISTICS}, flush=True)


def seeds(made: Iterable[Mapping[str, str]], variant: str, measure: str) -> Seeds:
    """Return a measure of a variant by seed."""
    rows = [row for row in made if row["variant"] == variant and row[measure]]
    return Seeds({int(row["seed"]): float(row[measure]) for row in rows})


def table(made: Sequence[Mapping[str, str]]) -> str:
    """Return the table of the page: means with 95 % intervals over seeds."""
    names = ("running", "population", "by_batch", "running_first", "running_next", "running_others")
    words = ("running statistics", "taken anew", "of each test batch", "first character")
    heads = ("model", *words, "characters 2 to 5", "all later ones", "runs")
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for variant in VARIANTS:
        found = {name: seeds(made, variant, name) for name in names}
        if found["running"]:
            cells = [_cell(found[name], name in names[:3]) for name in names]
            lines.append(f"| {variant} | {' | '.join(cells)} | {len(found['running'])} |")
    return "\n".join(lines)


def _cell(values: Seeds, bounds: bool) -> str:
    if not values:
        return ""
    found = values.interval
    spread = f" ({found.low:.2f} to {found.high:.2f})" if bounds and found.n > 1 else ""
    return f"{found.mean:.2f}{spread}"


def main(run: Callable[[str, int], None] = make) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, default=5, help="number of runs of each model")
    parser.add_argument("--table", action="store_true", help="print the table of the page only")
    given = parser.parse_args()
    if given.table:
        print(table(rows_so_far(ROOT / RESULTS)))
        return
    for seed in range(given.seeds):
        for variant in VARIANTS:
            done = {(row["variant"], row["seed"]) for row in rows_so_far(ROOT / RESULTS)}
            if (variant, str(seed)) not in done:
                run(variant, seed)


if __name__ == "__main__":
    main()
