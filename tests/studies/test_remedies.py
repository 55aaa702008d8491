"""The study of remedies: tiny runs, its configuration, figures and numbers."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from tuned import tuned

from seqnorm.studies.configuration import load
from seqnorm.studies.remedies.study import FAMILY, Remedies, error
from seqnorm.studies.table import Table, run_id
from seqnorm.studies.texts import in_order, logits, with_statistics

FULL = load(Remedies)
assert isinstance(FULL, Remedies)


def tiny(corpus: Path, **changed: Any) -> Remedies:
    study = load(Remedies, quick=True)
    assert isinstance(study, Remedies)
    small = {"corpus": str(corpus), "documents": 40, "tested": 24, "epochs": 1, "tokens": 4}
    small |= {"whole": 9, "hidden": 4, "batches": [8, 2], "vocabulary": 100}
    return dataclasses.replace(study, **(small | changed))


@pytest.mark.parametrize("norm", FULL.norms)
def test_a_run(norm: str, corpus: Path) -> None:
    study = tiny(corpus)
    setting = {"stage": "run", "norm": norm, "batch": 8, "rate": 1e-2, "seed": 0}
    outcome = study.run(setting)
    assert outcome == study.run(setting)
    missing = set(study.measures) - set(outcome.values)
    assert missing == (set() if norm in FAMILY else {"error_anew", "error_whole_anew"})
    assert set(study.run({**setting, "stage": "tune"}).values) == {"validation_error", "loss"}


def test_errors_are_those_of_beginnings_and_of_whole_documents(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = tiny(corpus)
    data = study.texts()
    model = study.model("batch", data, seed=0)
    monkeypatch.setattr(study.__class__, "model", lambda *_: model)
    setting = {"stage": "run", "norm": "batch", "batch": 8, "rate": 1e-2, "seed": 0}
    found = study.run(setting).values
    long = [i for i, tokens in enumerate(data.test.tokens) if len(tokens) > 4]
    assert 0 < len(long) < len(data.test)
    anew = with_statistics(model, data.train, in_order(data.train))
    for name, network, steps in (
        ("error_beginning", model, 4),
        ("error_whole", model, 9),
        ("error_whole_anew", anew, 9),
    ):
        wrong = 0
        for i in long:
            part = data.test.take([i]).head(steps)
            wrong += int(logits(network, part, in_order(part)).argmax()) != part.labels[0]
        assert found[name] == pytest.approx(wrong / len(long)), name
    assert found["error"] == error(model, data.test.head(4))


def test_one_seed_gives_the_same_first_matrices(corpus: Path) -> None:
    study = tiny(corpus)
    data = study.texts()
    models = [study.model(norm, data, seed=3) for norm in ("layer", "dynamic_tanh", "none")]
    for name in ("weight_ih_l0", "weight_hh_l0"):
        first, *others = (getattr(model.recurrent, name) for model in models)
        assert all(torch.equal(first, other) for other in others)
    assert all(torch.equal(models[0].head.weight, model.head.weight) for model in models[1:])
    sites = str(models[1].recurrent.norm)
    assert sites.count("dynamic_tanh") == 3


def test_rates_are_chosen_for_every_norm_and_batch(corpus: Path) -> None:
    study = tiny(corpus, rates=[0.1, 0.2], norms=["batch", "layer"])
    best = {8: 0.2, 2: 0.1}
    done = tuned(
        study,
        lambda setting: {
            "validation_error": abs(float(str(setting["rate"])) - best[int(str(setting["batch"]))])
        },
    )
    runs = [setting for setting in study.settings(done) if setting["stage"] == "run"]
    assert {(s["batch"], s["rate"]) for s in runs} == set(best.items())
    assert len(runs) == 2 * 2 * study.seeds


def test_wrong_configurations_are_refused(corpus: Path) -> None:
    for batches in ([2, 8], [8, 1]):
        with pytest.raises(ValueError, match="batches must fall from the largest to 2 or more"):
            tiny(corpus, batches=batches)
    with pytest.raises(ValueError, match="tokens must be from 2 to below whole=9"):
        tiny(corpus, tokens=9)


def synthetic(harm: float) -> Table:
    """Make BatchNorm this much worse than all others in every measure, up to noise."""
    rows: list[dict[str, Any]] = []
    for norm in FULL.norms:
        for size in FULL.batches:
            for seed in range(5):
                setting = {"stage": "run", "norm": norm, "batch": size, "rate": 0.1, "seed": seed}
                row: dict[str, Any] = {"run": run_id(setting, Remedies.factors), **setting}
                row |= dict.fromkeys(("error", "error_anew", "error_beginning"), 0.1)
                row |= dict.fromkeys(("error_whole", "error_whole_anew"), 0.1)
                if norm == "batch":
                    row["error"] += harm + 1e-3 * seed
                    row["error_whole"] += 2 * harm + 1e-3 * seed
                rows.append(row)
    return Table(rows)


def test_findings_and_figures() -> None:
    found = {finding.quantity: finding for finding in FULL.findings(synthetic(0.2))}
    small = found["batch 2: test error, BatchNorm minus LayerNorm"]
    assert small.interval.mean == pytest.approx(20.2)
    assert small.outcome == "as predicted"
    assert found["batch 2: test error, RMSNorm minus LayerNorm"].outcome == "no difference shown"
    whole = "trained on 50 tokens, batch 64, BatchNorm: error on whole documents minus that on "
    assert found[f"{whole}their beginnings"].interval.mean == pytest.approx(40.2)
    anew = found["batch 2, BatchNorm: running statistics minus statistics taken anew"]
    assert anew.interval.mean == pytest.approx(20.2)
    drawn = FULL.figures(synthetic(0.2))
    assert list(drawn) == ["choices", "batches", "longer"]
    choices = drawn["choices"].axes
    assert [len(axes.get_yticks()) for axes in choices] == [len(FULL.norms)] * 3
    written = [text.get_text() for text in choices[1].texts]
    assert written == ["30.2", *["10.0"] * (len(FULL.norms) - 1)]
    # A table without runs leaves gaps.
    assert list(FULL.figures(Table())) == list(drawn)
