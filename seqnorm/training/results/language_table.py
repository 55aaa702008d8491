"""The table of the results of language models.

``python -m seqnorm.training.results.language_table results/language.csv`` prints it as Markdown.

Each norm has a learning rate of its own, chosen by runs with seed 0. They try ``RATES`` and, as
long as the highest rate is the best, the next one, which is about three times higher. The rate with
the smallest validation loss is chosen, and the table shows the runs of all other seeds at that
rate. Runs belong to one group if their command lines differ only in the rate, the seed, and options
that change no number.
"""

from __future__ import annotations

import math
import shlex
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from .rows import RUN_COLUMNS, read_rows, spread

RATES = (0.003, 0.01, 0.03)
HIGHER = (0.1, 0.3, 1.0)
LABELS = ("corpus", "mode", "level", "cell", "norm")
SCORES = ("test_perplexity", "test_bits_per_character")
COLUMNS = (*LABELS, "lr", "seed", "val_loss", *SCORES, *RUN_COLUMNS)
# Options that may differ between the runs of a group.
_APART = {
    "--model.lr",
    "--seed_everything",
    "--run.results",
    "--run.folder",
    "--run.name",
    "--trainer.enable_progress_bar",
    "--trainer.enable_model_summary",
}


def setting(command: str) -> tuple[str, ...]:
    """Return the options of a command line, each with its value, that define its group."""
    options: list[list[str]] = []
    for word in shlex.split(command):
        if word.startswith("--"):
            options.append(word.split("=", 1))
        elif options:
            options[-1].append(word)
    # The order of configurations matters, because later ones override earlier ones.
    options.sort(key=lambda option: [] if option[0] == "--config" else option)
    return tuple(shlex.join(option) for option in options if option[0] not in _APART)


def next_rate(losses: Mapping[float, float]) -> float | None:
    """Return the learning rate to try after those in ``losses``, or None if no more are needed.

    Args:
        losses: The validation losses by learning rate.
    """
    for rate in RATES:
        if rate not in losses:
            return rate
    best = best_rate(losses)
    return next((rate for rate in HIGHER if best == max(losses) < rate), None)


def best_rate(losses: Mapping[float, float]) -> float:
    """Return the learning rate with the smallest loss; NaN counts as the greatest loss."""
    return min(losses, key=lambda rate: math.inf if math.isnan(losses[rate]) else losses[rate])


def next_run(rows: Sequence[Mapping[str, str]], seeds: Sequence[str]) -> tuple[float, str] | None:
    """Return learning rate and seed of the first missing run of a group, or None if all exist.

    Args:
        rows: The rows of the group.
        seeds: The seeds to run at the best rate.
    """
    losses = losses_of(rows)
    rate = next_rate(losses)
    if rate is not None:
        return rate, "0"
    best = best_rate(losses)
    made = {row["seed"] for row in rows if float(row["lr"]) == best}
    return next(((best, seed) for seed in seeds if seed not in made), None)


def make_missing(
    read: Callable[[], Sequence[Mapping[str, str]]],
    options: Callable[[float, str], list[str]],
    run: Callable[[list[str]], None],
    seeds: Sequence[str],
) -> None:
    """Make the missing runs of a group, see ``next_run``.

    Args:
        read: The function that returns the rows of the group.
        options: The function that returns the options of ``seqnorm fit`` for a learning rate and a
            seed.
        run: The function that makes a run with these options.
        seeds: The seeds to run at the best rate.

    Raises:
        RuntimeError: A run has left no row.
    """
    rows = read()
    while (missing := next_run(rows, seeds)) is not None:
        arguments = options(*missing)
        run(arguments)
        before, rows = rows, read()
        if len(rows) == len(before):
            raise RuntimeError(f"train.py fit {' '.join(arguments)} wrote no row")


def losses_of(rows: Sequence[Mapping[str, str]]) -> dict[float, float]:
    """Return the validation losses of the rates that seed 0 has tried."""
    return {float(row["lr"]): float(row["val_loss"]) for row in rows if row["seed"] == "0"}


def markdown(path: str | Path) -> str:
    """Return the table of the results in ``path``: mean and standard deviation over seeds.

    If groups differ in their options only, a further column shows the options.

    Raises:
        ValueError: A group of runs is incomplete: a rate has not been tried, or only seed 0 has run
            at the best rate.
    """
    groups: defaultdict[tuple[str, ...], list[dict[str, str]]] = defaultdict(list)
    for row in read_rows(path):
        labels = tuple(row[name] for name in LABELS)
        groups[(*labels, " ".join(setting(row["config"])))].append(row)
    apart = len({group[:-1] for group in groups}) < len(groups)
    columns = [*LABELS, "lr", "test perplexity", "bits a character", "runs"]
    columns += ["options"] if apart else []
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    for whole, rows in groups.items():
        group, options = (whole, whole[-1:]) if apart else (whole[:-1], ())
        losses = losses_of(rows)
        if (missing := next_rate(losses)) is not None:
            raise ValueError(f"{' '.join(group)}: no run with seed 0 tries lr {missing:g}")
        lr = best_rate(losses)
        final = [row for row in rows if row["seed"] != "0" and float(row["lr"]) == lr]
        if not final:
            raise ValueError(f"{' '.join(group)}: no run with another seed than 0 at lr {lr:g}")
        figures = [spread([float(row[name]) for row in final]) for name in SCORES]
        fields = [*whole[:-1], f"{lr:g}", *figures, str(len(final)), *options]
        lines.append(f"| {' | '.join(fields)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(markdown(sys.argv[1]))
