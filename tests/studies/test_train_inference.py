"""The study of the statistics of training and inference: random draws, a tiny run, the verdict."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from tuned import tuned

from seqnorm.studies.configuration import load
from seqnorm.studies.remedied_training import REMEDIES
from seqnorm.studies.table import Table, run_id
from seqnorm.studies.texts import at_random, load_texts
from seqnorm.studies.train_inference import verdict
from seqnorm.studies.train_inference.measures import ASKED, COMPANY, KINDS, companions, pools
from seqnorm.studies.train_inference.study import TrainInference, look_steps

FULL = load(TrainInference)


def tiny(corpus: Path, **changed: Any) -> TrainInference:
    study = load(TrainInference, quick=True)
    assert isinstance(study, TrainInference)
    small = {
        "corpus": str(corpus),
        "train_documents": 40,
        "test_documents": 24,
        "max_length": 6,
        "embedding_size": 4,
        "hidden_size": 4,
        "epochs": 1,
        "batch_sizes": (16,),
        "seeds": 2,
        "looks": 3,
        "look_documents": 12,
        "estimate_documents": 20,
        "targets": 5,
    }
    return dataclasses.replace(study, **(small | changed))


@pytest.mark.parametrize("norm", ["batch", "batch_pooled", *REMEDIES, "layer", "none"])
def test_a_run(norm: str, corpus: Path) -> None:
    study = tiny(corpus, norms=(norm,))
    setting, *_ = study.settings(Table())
    outcome = study.run(setting)
    again = study.run(setting)
    assert outcome == again
    missing = set(study.measures) - set(outcome.values)
    anew = {f"{what}_{kind}" for what in ("loss", "accuracy") for kind in ("average", "population")}
    assert missing == (set() if norm.startswith("batch") else anew)
    points = {name: [x for x, _ in curve] for name, curve in outcome.curves.items()}
    # Three looks in three steps.
    assert points == {name: [1 / 3, 1.0] for name in ("loss_running", "loss_batch")}
    if not norm.startswith("batch") or norm == "batch_frozen":
        for size in ASKED:
            for company in COMPANY:
                assert outcome.values[f"changed_{company}_{size}"] == 0
                assert outcome.values[f"logit_{company}_{size}"] < 1e-6
            assert outcome.values[f"loss_batch{size}"] == pytest.approx(
                outcome.values["loss_running"]
            )
    assert outcome.values["logit_running"] < 1e-6


def test_rates_are_chosen_on_validation_with_other_seeds(corpus: Path) -> None:
    study = tiny(corpus, norms=("batch", "layer"), rates=(0.1, 0.2), tuning_runs=2)
    first = list(study.settings(Table()))
    assert {setting["stage"] for setting in first} == {"tune"}
    assert len(first) == 2 * 2 * 2
    done = tuned(study, lambda setting: {"val_accuracy": -abs(float(str(setting["rate"])) - 0.2)})
    settings = study.settings(done.where(norm="layer"))
    then = [setting for setting in settings if setting["stage"] == "run"]
    assert [(s["norm"], s["rate"], s["seed"]) for s in then] == [
        ("layer", 0.2, 0),
        ("layer", 0.2, 1),
    ]
    assert set(study.run(first[0]).values) == {"val_accuracy"}


def test_the_same_weights_and_order_for_every_norm(corpus: Path) -> None:
    study = tiny(corpus)
    found = []
    for norm in ("layer", "none"):
        texts = load_texts(str(corpus), "data", 6, 100, at_random, (40, None, 24))
        torch.manual_seed(3)
        found.append(study.classifier(norm, texts).recurrent.weight_hh_l0)
    assert torch.equal(*found)


def test_wrong_configurations_are_refused(corpus: Path) -> None:
    with pytest.raises(ValueError, match="batch_sizes are among"):
        tiny(corpus, batch_sizes=(8,))
    with pytest.raises(ValueError, match="must be at least 1"):
        tiny(corpus, looks=0)


def test_companions() -> None:
    lengths = [5, 1, 9, 3, 7, 2, 8, 4, 6, 10]
    found = pools(lengths, 0.3)
    assert {name: sorted(lengths[i] for i in pool) for name, pool in found.items()} == {
        "short": [1, 2, 3],
        "long": [8, 9, 10],
    }
    draw = torch.Generator().manual_seed(0)
    chosen = companions([1, 0], found["short"], 2, draw)
    assert [len(set(others)) for others in chosen] == [2, 2]
    for target, others in zip((1, 0), chosen):
        assert set(others) <= set(found["short"]) - {target}
    many = companions([1], found["short"], 5, draw)[0]
    assert sorted(many.count(index) for index in set(many)) == [2, 3]


def test_looks_are_denser_at_the_start() -> None:
    assert look_steps(100, 4) == {6, 25, 56, 100}
    assert look_steps(2, 4) == {1, 2}


def synthetic(worse: float, moved: float = 0.0, sizes: tuple[int, ...] = (64, 4)) -> Table:
    """Make BatchNorm's running statistics worse by this in every comparison, up to noise."""
    rows: list[dict[str, Any]] = []
    curves = {}
    for norm in ("batch", "batch_pooled", "layer", "none"):
        for size in sizes:
            for seed in range(5):
                setting = {"stage": "run", "norm": norm, "batch": size, "rate": 0.1, "seed": seed}
                run = run_id(setting, TrainInference.factors)
                noise = 1e-3 * (seed - 2)
                of_batch = norm.startswith("batch")
                row: dict[str, Any] = {"run": run, **setting}
                for kind in KINDS:
                    if kind in ("population", "average") and not of_batch:
                        continue
                    extra = worse + noise if of_batch and kind == "running" else 0.0
                    row[f"loss_{kind}"] = 0.5 + extra
                    row[f"accuracy_{kind}"] = 0.9 - extra
                for asked in ASKED:
                    for company in COMPANY:
                        row[f"changed_{company}_{asked}"] = 0.1 * of_batch + noise * of_batch
                        row[f"logit_{company}_{asked}"] = 2.0 if of_batch else moved
                row["changed_running"] = row["logit_running"] = 0.0
                rows.append(row)
                curves[run, "loss_running"] = [(0.5, 1.2), (1.0, 0.7 + worse)]
                curves[run, "loss_batch"] = [(0.5, 1.0), (1.0, 0.7)]
    return Table(rows, curves)


@pytest.mark.parametrize("worse", [0.1, -0.1, 0.0])
def test_findings_and_verdict_follow_the_table(worse: float) -> None:
    table = synthetic(worse, sizes=(64, 16, 4))
    holds = {claim.text[:40]: claim.holds for claim in FULL.text(table).claims}
    assert holds["With statistics of the batch, the predic"]
    assert holds["The output of LayerNorm does not change "]
    assert holds["Running statistics, which inference uses"] == (worse < 0)
    assert not holds["Compared with statistics of the whole tr"]
    assert "in 10.0 % of cases at batch 64, 10.0 % at batch 16" in FULL.text(table).verdict
    found = {finding.quantity: finding for finding in FULL.findings(table)}
    company = found[
        "predictions changed by other documents in a batch of 4, BatchNorm minus LayerNorm"
    ]
    assert company.interval.mean == pytest.approx(10)
    assert company.outcome == "as predicted"
    served = found["test accuracy in inference, batch 64, BatchNorm minus LayerNorm"]
    assert served.interval.mean == pytest.approx(-100 * worse)
    assert served.interval.sign == -round(10 * worse)


def test_a_seed_is_one_unit_whatever_the_batch_sizes() -> None:
    moved = verdict.largest(synthetic(0.1, moved=2e-7), "layer", verdict.COMPANY).interval
    assert moved.n == 5
    assert moved.mean == 2e-7


def test_an_answer_that_changes_by_rounding_is_noticed() -> None:
    claim = FULL.text(synthetic(0.1, moved=2e-7)).claims[2]
    assert str(claim).startswith("Not confirmed by this table: “The output of LayerNorm does not")


@pytest.mark.parametrize("table", [synthetic(0.1), synthetic(0.1).where(norm="batch"), Table()])
def test_the_figures(table: Table, tmp_path: Path) -> None:
    figures = FULL.figures(table)
    assert list(figures) == ["answers", "statistics", "company", "gap"]
    for drawn in figures.values():
        drawn.savefig(tmp_path / "figure.png")
