"""NormStatistics against sums over raw rows, and without influence on training.

Axes: B rows, T steps, F features.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn
from watched import SITE, STEPS, B, Model, fit, quiet

import seqnorm
from seqnorm.training import NormStatistics, ReestimateStatistics
from seqnorm.training.callbacks.site_statistics import EPS

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),
]

Sums = dict[str, list[float]]


def moments(column: Sequence[float]) -> tuple[float, float]:
    mean = sum(column) / len(column)
    return mean, sum((value - mean) ** 2 for value in column) / max(len(column) - 1, 1)


def slow(batches: list[dict[str, Any]], steps: int) -> Sums:
    """Compute the statistics of one table row by row, from every batch and the table before it."""
    names = ("passes", "rows", "few", "compared", "mean", "var", "least")
    sums: Sums = {name: [0.0] * steps for name in names}
    sums["least"] = [math.inf] * steps
    sums["past"] = [0.0]
    for batch in batches:
        for step, rows in enumerate(batch["rows"]):
            n = len(rows)
            if step >= steps:
                sums["past"][0] += 1
                continue
            sums["passes"][step] += 1
            sums["rows"][step] += n
            sums["least"][step] = min(sums["least"][step], n)
            sums["few"][step] += n < 2
            if n < 2 or int(batch["count"][step]) == 0:
                continue
            sums["compared"][step] += 1
            drifts = []
            for f, column in enumerate(rows.double().T.tolist()):
                mean, var = moments(column)
                known, spread = float(batch["mean"][step, f]), float(batch["var"][step, f]) + EPS
                off = abs(mean - known) / math.sqrt(spread)
                drifts.append((off, abs(math.log((var + EPS) / spread))))
            for name, found in zip(("mean", "var"), zip(*drifts)):
                sums[name][step] += sum(found) / len(found)
    return sums


def of_table(model: Model, which: Sequence[int]) -> list[dict[str, Any]]:
    prefix = "norm_ih_l0.table."
    return [
        {
            "rows": model.seen[k]["rows"],
            "mean": model.seen[k]["table"][prefix + "running_mean"],
            "var": model.seen[k]["table"][prefix + "running_var"],
            "count": model.seen[k]["table"][prefix + "count"],
        }
        for k in which
    ]


def of_torch(model: Model, which: Sequence[int]) -> list[dict[str, Any]]:
    found = []
    for k in which:
        last, state = model.seen[k]["torch"]
        known = {"mean": state["running_mean"], "var": state["running_var"]}
        known = {name: value[None] for name, value in known.items()}
        found.append({"rows": [last], "count": state["num_batches_tracked"][None], **known})
    return found


def assert_same(site: Any, sums: Sums) -> None:
    for name, values in sums.items():
        expected = torch.tensor(values, dtype=torch.float64)
        found = getattr(site, name).reshape(-1)
        torch.testing.assert_close(found, expected, rtol=2e-5, atol=2e-6, msg=name)


@pytest.mark.parametrize("every", [1, 2, 3])
@pytest.mark.parametrize("norm", ["batch", "batch_pooled"])
def test_sums_are_those_of_the_raw_rows(norm: str, every: int) -> None:
    model, watch = Model(norm, max_steps=STEPS), quiet(every_n_steps=every)
    trainer = fit(model, watch)
    looked = [k for k in range(8) if k % 4 % every == 0]
    steps = 1 if norm == "batch_pooled" else STEPS
    assert_same(watch.sites[SITE], slow(of_table(model, looked), steps))
    assert_same(watch.sites["torch_norm"], slow(of_torch(model, looked), 1))
    longest = max(len(model.seen[k]["rows"]) for k in looked)
    assert int(watch.sites[SITE].longest) == longest
    # The logged values are those of the last epoch.
    last = slow(of_table(model, [k for k in looked if k >= 4]), steps)
    total = {name: sum(values) for name, values in last.items()}
    expected = {
        "rows_mean": total["rows"] / total["passes"],
        "rows_min": min(last["least"]),
        "drift_mean": total["mean"] / total["compared"],
        "drift_var": total["var"] / total["compared"],
        "under_min_count": total["few"] / total["passes"],
        "past_table": total["past"] / (total["passes"] + total["past"]),
    }
    logged = {k: float(v) for k, v in trainer.callback_metrics.items() if SITE in k}
    wanted = {f"norm/{SITE}/{name}": pytest.approx(v, rel=1e-4) for name, v in expected.items()}
    assert logged == wanted
    assert steps == 1 or total["past"] > 0
    assert steps == 1 or total["few"] > 0


class Images(LightningModule):
    def __init__(self, masked: bool, name: str = "BatchNorm2d") -> None:
        super().__init__()
        self.norm = getattr(seqnorm, name)(2)
        self.head = nn.Linear(2, 1)
        self.masked = masked
        self.seen: list[Tensor] = []
        self.known: list[tuple[Tensor, Tensor]] = []

    def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        lengths = batch[1]
        x = torch.randn(B, 2, 3, 4) * len(self.seen)
        mask = seqnorm.size_mask([[n % 3 + 1, n % 4 + 1] for n in lengths.tolist()], (3, 4))
        valid = mask if self.masked else torch.ones_like(mask)
        self.seen.append(x.movedim(1, -1)[valid[:, 0]])
        norm = self.norm
        assert norm.running_mean is not None
        assert norm.running_var is not None
        self.known.append((norm.running_mean.clone(), norm.running_var.clone()))
        x = x.masked_fill(~valid, torch.nan)
        y = norm(x, mask=mask) if self.masked else norm(x)
        return self.head(y.mean((2, 3))).square().sum()  # type: ignore[no-any-return]

    def validation_step(self, batch: tuple[Tensor, Tensor]) -> None:
        """A model without such norms has nothing to log."""

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.05)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", ["BatchNorm2d", "SwitchableNorm2d"])
def test_norms_of_images_with_a_mask(name: str, masked: bool) -> None:
    model, watch = Images(masked, name), quiet(every_n_steps=1)
    fit(model, watch)
    batches = [
        {"rows": [rows], "mean": mean[None], "var": var[None], "count": torch.tensor([k])}
        for k, (rows, (mean, var)) in enumerate(zip(model.seen, model.known))
    ]
    assert len(batches) == 8
    assert_same(watch.sites["norm"], slow(batches, 1))


@pytest.mark.parametrize("norm", ["batch", "batch_pooled"])
def test_it_changes_nothing(norm: str) -> None:
    states = []
    for callbacks in ((), (quiet(every_n_steps=1),)):
        model = Model(norm, max_steps=STEPS)
        fit(model, *callbacks)
        states.append(model.state_dict())
    without, watched = states
    assert without.keys() == watched.keys()
    for name, value in without.items():
        assert torch.equal(value, watched[name]), name


def hooks(model: Model) -> int:
    return len(model.layer.norm_ih_l0.table._hooks) + len(model.torch_norm._forward_pre_hooks)


class Interrupt(Callback):
    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        if trainer.global_step == 3:
            raise KeyError


def test_hooks_are_gone_afterwards() -> None:
    model = Model()
    assert hooks(model) == 0
    fit(model, quiet())
    assert hooks(model) == 0
    with pytest.raises(KeyError):
        fit(model, quiet(), Interrupt())
    assert hooks(model) == 0


def test_what_is_no_training_is_not_counted() -> None:
    model, watch = Model(max_steps=STEPS), quiet(every_n_steps=1)
    again = ReestimateStatistics(lambda m, batch: m(*batch))
    fit(model, watch, again, validation=True)
    assert watch.sites[SITE].passes[0] == 8
    assert watch.sites["torch_norm"].passes[0] == 8


def test_a_resumed_run_goes_on(tmp_path: Path) -> None:
    whole = quiet(every_n_steps=1)
    fit(Model(max_steps=STEPS), whole, epochs=3)
    first = Model(max_steps=STEPS)
    fit(first, quiet(every_n_steps=1), epochs=1).save_checkpoint(tmp_path / "last.ckpt")
    stored = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert "NormStatistics" in stored["callbacks"]
    watch = quiet(every_n_steps=1)
    fit(Model(max_steps=STEPS), watch, epochs=3, ckpt_path=tmp_path / "last.ckpt")
    for name in ("passes", "rows", "least", "few", "compared", "past", "longest"):
        assert torch.equal(getattr(watch.sites[SITE], name), getattr(whole.sites[SITE], name)), name
    # A table of another length starts from zero.
    other = quiet(every_n_steps=1)
    other.load_state_dict(watch.state_dict())
    fit(Model(max_steps=STEPS + 1), other, epochs=1)
    assert len(other.sites[SITE].passes) == STEPS + 1
    assert other.sites[SITE].passes[0] == 4


def caught(watch: NormStatistics, **options: Any) -> list[str]:
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always", UserWarning)
        fit(Model(**options), watch, epochs=3)
    return [str(w.message) for w in found if "norm_ih" in str(w.message) or "torch_norm" in str(w)]


def test_warnings_name_site_steps_and_remedy_once() -> None:
    few, *others = caught(
        NormStatistics(every_n_steps=1, min_rows=3, max_drift=1e9, tolerated=0.1),
        max_steps=8,
        torch_norm=False,
    )
    assert few.startswith(
        f"{SITE}: steps 2, 4-6 rest on 1.9 rows of a batch on average, fewer than"
    )
    for remedy in ("larger batches", "LayerNorm"):
        assert remedy in few
    (rare,) = others
    assert rare.startswith(f"{SITE}: 20% of all steps of all batches, among steps 4-6, had fewer")
    assert "lower min_count" not in rare  # it cannot be lower
    assert "running statistics" in rare


def test_a_warning_of_min_count() -> None:
    (few,) = caught(quiet_but(tolerated=0.3), max_steps=8, min_count=4, torch_norm=False)
    assert few.startswith(f"{SITE}: 60% of all steps of all batches, among steps 1-6, had fewer")
    assert "than min_count=4" in few
    assert "lower min_count" in few


def test_a_warning_of_a_short_table() -> None:
    (past,) = caught(quiet_but(tolerated=0.2), max_steps=3, torch_norm=False)
    assert past.startswith(
        f"{SITE}: 40% of all steps of all batches lie past the table, up to step 6"
    )
    assert "set max_steps to 7 instead of 3" in past


def test_a_warning_of_drift_of_several_sites() -> None:
    watch = NormStatistics(every_n_steps=1, min_rows=0, max_drift=0.01, tolerated=0.9)
    (drift,) = caught(watch, norm="batch_pooled")
    assert drift.startswith(f"{SITE} (and no worse at torch_norm): at all steps together the")
    for remedy in ("reestimate_statistics", "ReestimateStatistics", "larger batches", "LayerNorm"):
        assert remedy in drift


def quiet_but(**options: Any) -> NormStatistics:
    return NormStatistics(**({"every_n_steps": 1, "min_rows": 0, "max_drift": 1e9} | options))


def test_no_warning_without_trouble() -> None:
    assert not caught(quiet_but(tolerated=0.99), max_steps=8)


@pytest.mark.parametrize("fast", [False, True])
def test_the_picture(fast: bool, tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path, name="", version="run")
    fit(Model(max_steps=STEPS), quiet(), logger=logger, fast_dev_run=fast)
    picture = tmp_path / "run" / "norm_statistics.png"
    assert picture.exists() != fast
    assert fast or picture.read_bytes()[:4] == b"\x89PNG"
    assert fast or f"norm/{SITE}/drift_mean" in (tmp_path / "run" / "metrics.csv").read_text()


def test_without_a_logger_or_a_wish_there_is_no_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fit(Model(), quiet())
    fit(Model(), quiet(picture=False), logger=CSVLogger(tmp_path, name="", version="run"))
    assert not list(tmp_path.rglob("*.png"))


def test_a_model_without_such_norms(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    watch = NormStatistics()
    model = Model("layer", torch_norm=False)
    with caplog.at_level(logging.INFO):
        fit(model, watch, logger=CSVLogger(tmp_path, name="", version="run"))
    said = [record.getMessage() for record in caplog.records if "NormStat" in record.getMessage()]
    assert len(said) == 1
    assert "has nothing to watch: no norm in this model averages over the batch" in said[0]
    assert not list(tmp_path.rglob("*.png"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every_n_steps": 0}, "every_n_steps must be at least 1, got 0"),
        ({"min_rows": -1}, "min_rows and max_drift must be at least 0, got -1"),
        ({"max_drift": -0.5}, "got 8.0 and -0.5"),
        ({"tolerated": 1.0}, "tolerated must be at least 0 and below 1, got 1.0"),
    ],
)
def test_bad_arguments(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NormStatistics(**options)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--trainer.callbacks+=seqnorm.training.NormStatistics",),
        ("--config", str(Path(__file__).parents[3] / "configs" / "diagnostics.yaml")),
    ],
)
def test_from_the_command_line(
    arguments: tuple[str, ...], corpus: Path, run_seqnorm: Callable[..., None], tmp_path: Path
) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*rest on|.*had fewer rows|.*off the running mean")
        run_seqnorm(
            "fit",
            *arguments,
            "--data.corpus",
            corpus,
            "--model.norm=batch",
            "--model.embedding_size=8",
            "--model.hidden_size=8",
            "--trainer.max_epochs=2",
            "--trainer.enable_progress_bar=false",
            "--trainer.enable_model_summary=false",
            "--trainer.log_every_n_steps=1",
        )
    (picture,) = tmp_path.rglob("norm_statistics.png")
    assert picture.parent.name == "version_0"
    assert "NormStatistics" in (picture.parent / "config.yaml").read_text()
