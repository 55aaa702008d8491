"""Advice on training normalised LSTMs, measured on a small task of real data.

``taskset -c 1 nice -n 10 python benchmarks/how_to_train.py`` makes the runs that are missing in
``results/how_to_train.csv``, in about twelve minutes on one core; it can be interrupted and
resumed.
``--table gain`` prints a table of ``docs/how_to_train.md`` or ``docs/later_norms.md``, which a test
compares with the file. ``--tables later`` makes the runs of one table only.

The task is scikit-learn's handwritten digits, 8 x 8 pixels each, read two pixels at a time: 32
steps of 2 inputs, less the mean and divided by the standard deviation of the training part. An LSTM
of 64 units classifies the last state, or a GRU in "gru_lr" and "gru_gain". A run differs from the
basis in one setting, or in two for "clip_high", "eps" and the tables of the GRU. In "eps" the
pixels are not standardised, so the inputs of the first steps are exactly 0, as those of padding
are.

Axes: B images, T = 32 steps, I = 2 inputs, H = 64 units, G = 4 gates of an LSTM.
"""

from __future__ import annotations

import argparse
import csv
import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from statistics import mean, stdev

import torch
from torch import Tensor, nn

import seqnorm

RESULTS = Path("results/how_to_train.csv")
SEEDS = (1, 2, 3)
EPOCHS, BATCH, UNITS, TESTED = 20, 64, 64, 450
NORMS = ("none", "layer", "batch")
# Norms without a preset, and layers with normalised weights: see ``later``.
LATER = ("rms of 1/16", "dynamic_tanh", "dynamic_erf", "weight norm", "spectral norm")
LATER += ("standardised weights", "layer and standardised weights")


@dataclass(frozen=True)
class Setting:
    """One way to train; "" leaves an option of the norm's scheme as it is published.

    Args:
        norm: "none", the name of a scheme, or one of ``LATER``.
        gain: initial gain of every norm.
        forget_bias: initial bias of the forget gate.
        hidden_init: initialisation of W_hh, "uniform" or "orthogonal".
        eps: the number that is added to the variance.
        lr: Adam's learning rate.
        clip: largest norm of the gradient, or "" for no clipping.
        precision: dtype of autocast, or "float32" for no autocast.
        inputs: "standardised", or "raw" for pixels from 0 to 1.
        layer: "LSTM" or "GRU".
    """

    norm: str
    gain: str = ""
    forget_bias: str = ""
    hidden_init: str = "uniform"
    eps: str = ""
    lr: str = "0.01"
    clip: str = "1"
    precision: str = "float32"
    inputs: str = "standardised"
    layer: str = "LSTM"


# The tables of the page: the norms, the setting that varies, and its values.
TABLES: dict[str, tuple[tuple[str, ...], str, tuple[str, ...]]] = {
    "gain": (("layer", "rms", "batch"), "gain", ("0.1", "0.3", "1")),
    "forget_bias": (NORMS, "forget_bias", ("0", "1", "2")),
    "hidden_init": (NORMS, "hidden_init", ("uniform", "orthogonal")),
    "lr": (NORMS, "lr", ("0.001", "0.003", "0.01", "0.03", "0.1")),
    "clip": (NORMS, "clip", ("", "1", "0.1")),
    "clip_high": (NORMS, "clip", ("", "1", "0.1")),
    "inputs": (NORMS, "inputs", ("standardised", "raw")),
    "eps": (("layer", "batch"), "eps", ("1e-12", "1e-05", "0.001")),
    "precision": (NORMS, "precision", ("float32", "bfloat16")),
    "gru_lr": (NORMS, "lr", ("0.001", "0.003", "0.01", "0.03", "0.1")),
    "gru_gain": (("layer", "rms", "batch"), "gain", ("0.1", "0.3", "1")),
    "later": (("none", "layer", "rms", *LATER), "lr", ("0.003", "0.01", "0.03")),
}
HIGH = "0.03"  # the learning rate of "clip_high"
WORDS = {
    "gain": "gain {}",
    "forget_bias": "forget bias {}",
    "hidden_init": "{}",
    "lr": "learning rate {}",
    "clip": "clipped at {}",
    "eps": "eps {}",
    "inputs": "{} inputs",
    "precision": "{}",
}
COLUMNS = (
    *(field.name for field in fields(Setting)),
    *("seed", "accuracy", "first_gradient", "largest_gradient", "finite", "seconds", "torch"),
)


def settings(table: str) -> Iterator[Setting]:
    """Yield the settings of a table, row by row."""
    norms, varied, values = TABLES[table]
    for norm in norms:
        for value in values:
            setting = replace(Setting(norm), **{varied: value})
            if table == "clip_high":
                setting = replace(setting, lr=HIGH)
            elif table == "eps":
                setting = replace(setting, inputs="raw")
            elif table.startswith("gru_"):
                setting = replace(setting, layer="GRU")
            yield setting


def network(setting: Setting) -> tuple[nn.LSTM | nn.GRU | seqnorm.LSTM | seqnorm.GRU, nn.Linear]:
    """Return the recurrent layer and its head."""
    if setting.layer == "GRU":
        if setting.norm == "none":
            return nn.GRU(2, UNITS, batch_first=True), nn.Linear(UNITS, 10)
        changes = {"gain": float(setting.gain)} if setting.gain else {}
        scheme = seqnorm.preset(setting.norm, "GRU", **changes)
        return seqnorm.GRU(2, UNITS, batch_first=True, norm=scheme), nn.Linear(UNITS, 10)
    if setting.norm in LATER:
        return later(setting.norm), nn.Linear(UNITS, 10)
    lstm: nn.LSTM | seqnorm.LSTM
    if setting.norm == "none":
        lstm = nn.LSTM(2, UNITS, batch_first=True)
        with torch.no_grad():
            if setting.hidden_init == "orthogonal":
                for block in lstm.weight_hh_l0.chunk(4):
                    nn.init.orthogonal_(block)
            if setting.forget_bias:
                lstm.bias_ih_l0[UNITS : 2 * UNITS] = float(setting.forget_bias)
                lstm.bias_hh_l0[UNITS : 2 * UNITS] = 0.0
    else:
        options: dict[str, object] = {"hidden_init": setting.hidden_init}
        options |= {"gain": float(setting.gain)} if setting.gain else {}
        options |= {"eps": float(setting.eps)} if setting.eps else {}
        if setting.forget_bias:
            options["gate_bias"] = (("f", float(setting.forget_bias)),)
        scheme = seqnorm.preset(setting.norm, "LSTM", **options)
        lstm = seqnorm.LSTM(2, UNITS, batch_first=True, norm=scheme)
    return lstm, nn.Linear(UNITS, 10)


def later(name: str) -> seqnorm.LSTM:
    """Return an LSTM with one of the norms of ``LATER``.

    Norms of activations stand at the sites of the preset "layer" or "rms". The standardised weights
    are W_hh, with a gain if there is no such norm.
    """
    scheme = None
    if name == "rms of 1/16":
        scheme = seqnorm.preset("rms", "LSTM", part=1 / 16)
    elif name.startswith("dynamic"):
        norm = seqnorm.Norm(name)
        scheme = seqnorm.NormScheme(input=norm, hidden=norm, cell=norm)
    elif name.startswith("layer"):
        scheme = seqnorm.preset("layer", "LSTM")
    lstm = seqnorm.LSTM(2, UNITS, batch_first=True, norm=scheme)
    if name == "weight norm":
        for weight in ("weight_ih_l0", "weight_hh_l0"):
            nn.utils.parametrizations.weight_norm(lstm, weight)
    elif name == "spectral norm":
        nn.utils.parametrizations.spectral_norm(lstm, "weight_hh_l0")
    elif name.endswith("standardised weights"):
        # With two inputs, a row of W_ih has nothing but its sign left.
        gain = "unit" if scheme is None else None
        seqnorm.weight_standardisation(lstm, "weight_hh", gain=gain)
    return lstm


def digits(inputs: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return images (B, T, I) and labels (B,) of the training part, then those of the test part."""
    from sklearn.datasets import load_digits

    found = load_digits()
    images = torch.tensor(found.images, dtype=torch.float32).flatten(1).unflatten(1, (-1, 2)) / 16
    labels = torch.tensor(found.target)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    test, train = order[:TESTED], order[TESTED:]
    if inputs == "standardised":
        images = (images - images[train].mean()) / images[train].std()
    return images[train], labels[train], images[test], labels[test]


def run(setting: Setting, seed: int, epochs: int = EPOCHS) -> dict[str, object]:
    """Train and test one network, and return its row without the setting."""
    images, labels, test_images, test_labels = digits(setting.inputs)
    torch.manual_seed(seed)
    layer, head = network(setting)
    parameters = [*layer.parameters(), *head.parameters()]
    optimiser = torch.optim.Adam(parameters, float(setting.lr))
    dtype = getattr(torch, setting.precision)

    def scores(x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype is not torch.float32):
            output, _ = layer(x)
            found: Tensor = head(output[:, -1])
        return found.float()

    start = time.process_time()
    gradients = []
    for _ in range(epochs):
        for rows in torch.randperm(len(images)).split(BATCH):
            loss = nn.functional.cross_entropy(scores(images[rows]), labels[rows])
            optimiser.zero_grad()
            loss.backward()
            largest = float(setting.clip) if setting.clip else math.inf
            gradients.append(float(nn.utils.clip_grad_norm_(parameters, largest)))
            if not math.isfinite(gradients[-1]):
                break
            optimiser.step()
        if not math.isfinite(gradients[-1]):
            break
    seconds = time.process_time() - start
    layer.eval()
    with torch.no_grad():
        right = (scores(test_images).argmax(1) == test_labels).float().mean()
    return {
        "seed": seed,
        "accuracy": f"{float(right):.4f}",
        "first_gradient": f"{gradients[0]:.4g}",
        "largest_gradient": f"{max(gradients, key=lambda g: (not math.isfinite(g), g)):.4g}",
        "finite": math.isfinite(gradients[-1]),
        "seconds": f"{seconds:.1f}",
        "torch": torch.__version__,
    }


def read(path: Path) -> list[dict[str, str]]:
    """Return the rows of a file, none if there is no file."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def of_setting(rows: Iterable[dict[str, str]], setting: Setting) -> list[dict[str, str]]:
    """Return the rows of a setting."""
    wanted = asdict(setting)
    return [row for row in rows if all(row[name] == value for name, value in wanted.items())]


def make(path: Path, tables: Iterable[str] = TABLES, epochs: int = EPOCHS) -> None:
    """Make the missing runs; each one is written as soon as it ends."""
    wanted = dict.fromkeys(setting for table in tables for setting in settings(table))
    for setting in wanted:
        made = {row["seed"] for row in of_setting(read(path), setting)}
        for seed in SEEDS:
            if str(seed) in made:
                continue
            row = {**asdict(setting), **run(setting, seed, epochs)}
            new = not path.exists()
            with path.open("a", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
                if new:
                    writer.writeheader()
                writer.writerow(row)
            print(*row.values(), flush=True)


def cell(rows: list[dict[str, str]], column: str) -> str:
    """Return the mean of a column in words; gradients as their largest value.

    Raises:
        ValueError: a seed is missing.
    """
    if sorted(row["seed"] for row in rows) != [str(seed) for seed in SEEDS]:
        raise ValueError(f"the file has not all seeds of a setting: {rows}")
    values = [float(row[column]) for row in rows]
    if column != "accuracy":
        return f"{max(values):.2g}"
    lost = sum(row["finite"] != "True" for row in rows)
    text = f"{100 * mean(values):.1f} ± {100 * stdev(values):.1f}"
    return f"{text}, {lost} of {len(rows)} stopped" if lost else text


def markdown(path: Path, table: str, column: str = "accuracy") -> str:
    """Return a table of the page: a row for each norm, a column for each value."""
    norms, varied, values = TABLES[table]
    rows = read(path)
    heads = [WORDS[varied].format(value) if value else "not clipped" for value in values]
    lines = ["| `norm` | " + " | ".join(heads) + " |", "|---" * (len(values) + 1) + "|"]
    each = settings(table)
    for norm in norms:
        cells = [cell(of_setting(rows, next(each)), column) for _ in values]
        lines.append(f"| {norm} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--table", choices=TABLES, help="print this table and make no runs")
    parser.add_argument("--tables", choices=TABLES, nargs="+", default=list(TABLES))
    parser.add_argument(
        "--column", default="accuracy", choices=("accuracy", "first_gradient", "largest_gradient")
    )
    options = parser.parse_args()
    if options.table:
        print(markdown(options.results, options.table, options.column))
        return
    torch.set_num_threads(1)
    options.results.parent.mkdir(parents=True, exist_ok=True)
    make(options.results, options.tables)


if __name__ == "__main__":
    main()
