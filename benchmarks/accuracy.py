"""The accuracy of text classifiers over seeds: norms, parts of the recipe, a linear classifier.

``python benchmarks/accuracy.py r8`` makes the runs of a corpus that are missing in
``results/accuracy.csv``; it can be interrupted and resumed. ``--norms``, ``--variants`` and
``--seeds`` choose runs. ``python benchmarks/accuracy.py --table`` prints the tables of the page.
"""

from __future__ import annotations

import argparse
import json
import math
import shlex
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor
from torchmetrics.functional.classification import multiclass_confusion_matrix
from trained import rows_so_far, train

from seqnorm.files import commit
from seqnorm.studies import interval
from seqnorm.training import TextClassification, TextData
from seqnorm.training.checkpoints.checkpoint_file import Checkpoint
from seqnorm.training.checkpoints.stored_model import stored_model
from seqnorm.training.results.baseline import linear_predictions
from seqnorm.training.results.rows import append_row
from seqnorm.training.results.scores import macro_f1

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path("results/accuracy.csv")
BASE = ("--config", "base", "--config")
CONFIGS = {
    "r8": (*BASE, "wide"),
    "r52": (*BASE, "corpus/r52", "--config", "wide"),
    "20news": (*BASE, "wide", "--config", "wide_20news"),
}
NORMS = {
    "layer": (),
    "batch": ("--model.norm", "batch"),
    "batch_pooled": ("--model.norm", "batch_pooled"),
    "none": ("--model.norm", "null"),
}
RECIPE = "recipe"
# Each changes one thing, to see how much it adds.
VARIANTS = {
    RECIPE: (),
    "recurrent layers alone": ("--model.wide", "false"),
    "TF-IDF by AdamW": ("--model.wide_lr", "null"),
    "one loss": ("--model.part_loss", "0"),
    "sorted batches": ("--data.noise", "0.05"),
    "labels not smoothed": ("--model.label_smoothing", "0"),
    "random vectors": ("--model.embedding", "normal"),
    "two readings": ("--model.consistency", "1"),
    "validation documents left out": ("--data.validation", "last"),
}
COLUMNS = (
    *("corpus", "norm", "variant", "seed", "accuracy", "macro_f1", "recurrent", "tfidf"),
    *("only_right", "only_wrong", "linear", "documents", "epochs", "seconds", "config", "commit"),
)


def make(corpus: str, norm: str, variant: str, seed: int) -> None:
    """Train a classifier, test it and its parts, and append the row."""
    name = f"{corpus} {norm} {variant}".replace(" ", "_")
    words = [*CONFIGS[corpus], *NORMS[norm], *VARIANTS[variant], "--seed_everything", str(seed)]
    start = time.perf_counter()
    checkpoint = train(words, ROOT / "runs/accuracy" / name)
    seconds = time.perf_counter() - start
    labels, parts = _tested(checkpoint, corpus)
    answers = [each.argmax(-1) for each in (sum(parts), *parts)]  # type: ignore[union-attr]  # never 0
    right, linear = answers[0] == labels, torch.tensor(_linear(corpus)) == labels
    shares = [f"{(each == labels).double().mean().item():.4f}" for each in answers]
    confusion = multiclass_confusion_matrix(answers[0], labels, parts[0].shape[1])
    row = {
        "corpus": corpus,
        "norm": norm,
        "variant": variant,
        "seed": seed,
        "accuracy": shares[0],
        "macro_f1": f"{macro_f1(confusion):.4f}",
        "recurrent": shares[1],
        "tfidf": shares[2] if len(parts) > 1 else "",
        "only_right": int((right & ~linear).sum()),
        "only_wrong": int((~right & linear).sum()),
        "linear": f"{linear.double().mean().item():.4f}",
        "documents": len(labels),
        "epochs": checkpoint.contents["epoch"] + 1,
        "seconds": f"{seconds:.0f}",
        "config": shlex.join(words),
        "commit": commit(),
    }
    append_row(ROOT / RESULTS, row, COLUMNS)
    print(json.dumps({key: row[key] for key in COLUMNS[:8]}), flush=True)


@torch.no_grad()
def _tested(checkpoint: Checkpoint, corpus: str) -> tuple[Tensor, list[Tensor]]:
    """Return the labels (N,) of the test documents, and the logits (N, C) of both parts."""
    model = stored_model(TextClassification, checkpoint)
    stored = checkpoint.contents["datamodule_hyper_parameters"]
    data = TextData(corpus, root=str(ROOT / "data"), max_length=stored["max_length"])
    data.adopt(checkpoint)
    data.setup("test")
    found: list[tuple[Tensor, ...]] = []
    for batch in data.test_dataloader():
        parts = [each for each in model.network.parts(*batch[:2]) if each is not None]
        found.append((batch.indices, batch.labels, *parts))
    places, labels, *logits = (torch.cat(each) for each in zip(*found))
    order = places.argsort()
    return labels[order], [each[order] for each in logits]


@cache
def _linear(corpus: str) -> list[int]:
    data = TextData(corpus, root=str(ROOT / "data"))
    return linear_predictions(data.corpus)


def mcnemar(only_right: int, only_wrong: int) -> float:
    """Return the two-sided exact p-value of McNemar's test: a binomial test with p = 1/2."""
    n, k = only_right + only_wrong, min(only_right, only_wrong)
    tail = sum(math.comb(n, i) for i in range(k + 1))
    return min(1.0, float(2 * tail / 2**n))


def tables(found: Sequence[dict[str, str]]) -> str:
    """Return the tables of the page: the recipe with each norm, and what its parts add."""
    groups: dict[tuple[str, str, str], list[dict[str, str]]] = {}
    order = {name: place for place, name in enumerate((*CONFIGS, *NORMS, *VARIANTS))}
    for row in sorted(found, key=lambda row: [order[row[name]] for name in COLUMNS[:3]]):
        groups.setdefault((row["corpus"], row["norm"], row["variant"]), []).append(row)
    lines = [
        "| corpus | norm | accuracy, 95 % interval | recurrent layers alone | TF-IDF alone "
        "| macro F1 | linear | p of each run | runs |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for (corpus, norm, variant), made in groups.items():
        if variant == RECIPE:
            scores = [_mean(made, name) for name in ("recurrent", "tfidf", "macro_f1")]
            each = ", ".join(
                f"{mcnemar(int(row['only_right']), int(row['only_wrong'])):.2f}" for row in made
            )
            cells = [corpus, norm, _interval(made), *scores, made[0]["linear"], each, len(made)]
            lines.append(f"| {' | '.join(map(str, cells))} |")
    compared = [
        f"| {corpus} | {variant} | {_interval(made)} | {len(made)} |"
        for (corpus, norm, variant), made in groups.items()
        if norm == "layer" and len({key[2] for key in groups if key[0] == corpus}) > 1
    ]
    if compared:
        lines += ["", "| corpus | changed | accuracy, 95 % interval | runs |", "|---|---|---|---|"]
    return "\n".join(lines + compared)


def _mean(made: Sequence[dict[str, str]], name: str) -> str:
    values = [float(row[name]) for row in made if row[name]]
    return f"{sum(values) / len(values):.4f}" if values else ""


def _interval(made: Sequence[dict[str, str]]) -> str:
    found = interval(float(row["accuracy"]) for row in made)
    return f"{found.mean:.4f} ({found.low:.4f} to {found.high:.4f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("corpora", nargs="*", choices=[[], *CONFIGS], help="corpora to train on")
    parser.add_argument("--norms", nargs="+", choices=NORMS, default=["layer"])
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=[RECIPE])
    parser.add_argument("--seeds", type=int, default=5, help="the number of runs of each")
    parser.add_argument("--table", action="store_true", help="print the tables")
    given = parser.parse_args()
    for corpus in given.corpora:
        for seed in range(given.seeds):
            for norm in given.norms:
                for variant in given.variants:
                    key = (corpus, norm, variant, str(seed))
                    made = [
                        tuple(row[name] for name in COLUMNS[:4])
                        for row in rows_so_far(ROOT / RESULTS)
                    ]
                    if key not in made:
                        make(corpus, norm, variant, seed)
    if given.table:
        print(tables(rows_so_far(ROOT / RESULTS)))


if __name__ == "__main__":
    main()
