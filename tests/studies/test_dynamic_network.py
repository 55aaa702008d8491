"""The study of networks unrolled to another length each time: measures, tiny runs, verdict."""

from __future__ import annotations

import dataclasses
import random
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
import torch
from torch import Tensor
from tuned import tuned

from seqnorm.models import TextClassifier
from seqnorm.studies.configuration import load
from seqnorm.studies.dynamic_network import measures
from seqnorm.studies.dynamic_network.study import SITES, DynamicNetwork
from seqnorm.studies.table import Setting, Table, run_id
from seqnorm.studies.texts import Part, evenly, load_texts


def tiny(corpus: Path, **changed: Any) -> DynamicNetwork:
    study = load(DynamicNetwork, quick=True)
    assert isinstance(study, DynamicNetwork)
    small = {
        "corpora": (str(corpus),),
        "tails": (str(corpus),),
        "longest": str(corpus),
        "epochs": {str(corpus): 1},
        "documents": {str(corpus): 80},
        "tested": 30,
        "sampled": 40,
        "vocabulary": 20,
        "steps": 9,
        "cut": 4,
        "bounds": (3, 4, 6, 8),
        "batch": 8,
        "epochs_cut": 1,
        "embedding": 4,
        "hidden": 4,
        "drawn": 2,
    }
    return dataclasses.replace(study, **(small | changed))


def classifier(part: Part, norm: str | None = "batch") -> TextClassifier:
    options = {"max_steps": max(part.lengths)} if norm == "batch" else None
    return TextClassifier(
        *(20, 3),
        norm=norm,
        norm_options=options,
        embedding_size=3,
        hidden_size=4,
        bidirectional=False,
        pooling="last",
        pool_embeddings=False,
    )


@pytest.fixture
def part() -> Part:
    draw = random.Random(1)
    lengths = [draw.randrange(1, 9) for _ in range(70)]
    tokens = [[draw.randrange(1, 20) for _ in range(length)] for length in lengths]
    return Part(tokens, [draw.randrange(3) for _ in lengths])


@pytest.mark.parametrize("size", [1, 2, 5])
def test_rows_alive(size: int) -> None:
    lengths = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5]
    shuffled = list(lengths)
    random.Random(7).shuffle(shuffled)
    rows, alone = measures.rows_alive(lengths, size, seed=7)
    found = [shuffled[i : i + size] for i in range(0, len(shuffled), size)]
    found = [batch for batch in found if len(batch) == size]
    counts = [[sum(length > t for length in batch) for t in range(9)] for batch in found]
    assert rows == pytest.approx([mean(column) for column in zip(*counts)])
    tokens = sum(map(sum, counts))
    assert alone == pytest.approx(sum(row.count(1) for row in counts) / tokens)
    if size == 1:
        assert alone == 1


def input_terms(model: TextClassifier, part: Part) -> list[Tensor]:
    """Compute W_ih x of the documents that reach each step, in float64."""
    weight = model.recurrent.weight_ih_l0.double()
    vectors = model.embedding.weight.double()
    return [
        torch.stack([weight @ vectors[tokens[t]] for tokens in part.tokens if len(tokens) > t])
        for t in range(max(part.lengths))
    ]


@torch.no_grad()
def test_the_population_is_that_of_all_documents(part: Part) -> None:
    model = classifier(part)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = measures.tables_of(measures.population(model, part))
    assert set(found) == {"norm_ih", "norm_hh", "norm_cell"}
    for t, rows in enumerate(input_terms(model, part)):
        table = found["norm_ih"]
        assert int(table.count[t]) == len(rows)
        torch.testing.assert_close(
            table.running_mean[t].double(), rows.mean(0), rtol=1e-5, atol=1e-7
        )
        torch.testing.assert_close(table.running_var[t].double(), rows.var(0), rtol=1e-5, atol=1e-9)
    after = model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


@torch.no_grad()
def test_errors_of_statistics(part: Part) -> None:
    model = classifier(part)
    true = measures.population(model, part)
    assert measures.relative_error(true, true).equal(torch.zeros(max(part.lengths)))
    assert measures.relative_error(model, true).isnan().all(), "no step has statistics yet"
    half = measures.population(model, part.take(evenly(len(part), 35)))
    error = measures.relative_error(half, true)
    found, right = measures.tables_of(half), measures.tables_of(true)
    for t in range(max(part.lengths)):
        units = sorted(
            abs(x - y) / max(y, 1e-12)  # at step 0 all rows of W_hh h are the same, 0
            for site in found
            for x, y in zip(
                found[site].running_var[t].tolist(), right[site].running_var[t].tolist()
            )
        )
        # torch takes the lower of two middle values.
        assert error[t].item() == pytest.approx(units[(len(units) - 1) // 2], rel=1e-4, abs=1e-6)
    of_one = measures.error_of_batches(model, true, part, 16, count=3, seed=0)
    of_many = measures.error_of_batches(model, true, part, 64, count=3, seed=0)
    assert of_one[:4].mean() > of_many[:4].mean()


def test_slope() -> None:
    curve = torch.tensor([1.0, torch.nan, 3.0, 5.0])
    x, y = [0, 2, 3], [1.0, 3.0, 5.0]
    top = sum((a - mean(x)) * (b - mean(y)) for a, b in zip(x, y))
    assert measures.slope(curve) == pytest.approx(100 * top / sum((a - mean(x)) ** 2 for a in x))


def test_by_length() -> None:
    right = torch.tensor([True, False, True, True])
    found = measures.by_length(right, [1, 2, 3, 9], [2, 5, 8])
    assert found == {"length_0": 0.5, "length_1": 1.0, "length_3": 1.0}, "no document in class 2"


def test_a_head_fitted_anew_reads_what_the_state_holds(part: Part) -> None:
    model = classifier(part, None).eval()
    features = measures.pooled(model, part)
    for i, tokens in enumerate(part.tokens[:5]):
        states, _ = model.recurrent(model.embedding(torch.tensor([tokens])))
        torch.testing.assert_close(features[i], states[0, -1])
    score = features @ torch.tensor([1.0, -2.0, 0.5, 1.0])
    learnable = Part(part.tokens, (score > score.quantile(0.4)).long().tolist())
    with torch.no_grad():  # a head that always predicts the third class
        model.head.weight.zero_()
        model.head.bias.copy_(torch.tensor([0.0, 0.0, 9.0]))
    assert measures.accuracy(model, learnable) == 0
    assert measures.refitted(model, learnable, learnable, bias_alone=False) > 0.85
    alone = measures.refitted(model, learnable, learnable, bias_alone=True)
    assert alone == pytest.approx(measures.share(torch.tensor(learnable.labels) == 1))


@torch.no_grad()
def test_accuracy_by_batch_uses_the_batch_and_writes_nothing(part: Part) -> None:
    model = classifier(part).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = measures.accuracy_by_batch(model, part, len(part))
    after = model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    # In one batch of all documents its statistics are those of the population, but biased.
    biased = measures.population(model, part)
    for table in measures.tables_of(biased).values():
        n = table.count.clamp(min=2)[:, None]
        table.running_var.mul_((n - 1) / n)
    assert found == pytest.approx(measures.accuracy(biased, part), abs=2 / len(part))


def test_settings_of_the_shipped_configuration() -> None:
    study = load(DynamicNetwork)
    first = list(study.settings(Table()))
    assert {s["part"] for s in first} == {"rows", "cost", "whole", "cut"}
    assert {s["stage"] for s in first if s["part"] in ("whole", "cut")} == {"tune"}
    done = tuned(study, lambda s: {"validation": 0.5})
    then = list(study.settings(done))
    known = {run_id(s, study.factors) for s in first}
    assert known < {run_id(s, study.factors) for s in then}
    assert len({run_id(s, study.factors) for s in then}) == len(then)
    reported = [s for s in then if s["stage"] == "run" and s["part"] in ("whole", "cut")]
    assert {s["seed"] for s in reported} == set(range(study.seeds))
    smallest = min(float(str(row["rate"])) for row in done)
    assert smallest < min(study.rates), "the smaller one of equal rates is at the edge"
    assert {s["rate"] for s in reported} == {smallest}
    assert {s.get("variant") for s in reported} == {None, *study.variants}


@pytest.mark.parametrize("norm", ["batch", "batch_pooled", "layer", "none"])
def test_a_run_of_each_part(norm: str, corpus: Path) -> None:
    study = tiny(corpus, norms=(norm,), other_norms=(norm,), variants=(), cut=4)
    table = Table()
    for _ in range(2):
        known = {row["run"] for row in table}
        rows, curves = list(table.rows), dict(table.curves)
        for setting in study.settings(table):
            if (run := run_id(setting, study.factors)) in known or setting["seed"] == 1:
                continue
            outcome = study.run(setting)
            assert set(outcome.values) <= set(study.measures)
            if setting["part"] != "cost":
                assert study.run(setting).values == outcome.values
            rows.append({"run": run} | dict(setting) | dict(outcome.values))
            curves |= {(run, name): list(points) for name, points in outcome.curves.items()}
        table = Table(rows, curves)
    found = {name for row in table.rows for name in row}
    if norm == "batch":
        assert found >= set(study.measures)
    assert "table_bytes" in found
    assert ("slope_64" in found) == (norm == "batch")
    assert len(study.figures(table)) == 8
    assert study.text(table).verdict
    assert all(finding.interval.n <= 1 for finding in study.findings(table))


def test_seeds_start_alike_and_variants_keep_the_sites_they_name(corpus: Path) -> None:
    study = tiny(corpus)
    cell = study.cells[0]
    loaded = load_texts(str(corpus), "data", 9, 20, evenly, (60, 30, 30))
    base: Setting = {"cell": cell, "seed": 3, "pooling": "last"}
    models = [study.model({**base, "norm": norm}, loaded) for norm in ("batch", "layer", "none")]
    models += [study.model({**base, "norm": "batch", "variant": site}, loaded) for site in SITES]
    for name in (
        "embedding.weight",
        "recurrent.weight_ih_l0",
        "recurrent.weight_hh_l0",
        "head.bias",
    ):
        first, *others = (model.state_dict()[name] for model in models)
        assert all(first.equal(other) for other in others), name
    kept = {site: set(measures.tables_of(model)) for site, model in zip(SITES, models[3:])}
    assert kept == {
        "input": {"norm_ih"},
        "hidden": {"norm_hh"},
        "cell": {"norm_cell"},
        "no_cell": {"norm_ih", "norm_hh"},
    }


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"variants": ("gate",)}, "write some of input, hidden"),
        ({"cut": 9}, "cut must lie between"),
        ({"bounds": (3, 2, 6, 8)}, "four rising lengths"),
        ({"epochs": {}}, "epochs has no"),
        ({"documents": {}}, "documents has no"),
    ],
)
def test_a_wrong_configuration(changed: dict[str, Any], message: str, corpus: Path) -> None:
    with pytest.raises(ValueError, match=message):
        tiny(corpus, **changed)


def synthetic(study: DynamicNetwork, loss: float, own: float, growth: float) -> Table:
    """Make runs in which BatchNorm loses ``loss`` and right statistics give ``own`` back."""
    rows: list[dict[str, Any]] = []
    curves = {}

    def add(setting: dict[str, Any], **values: float) -> None:
        setting = {"stage": "run", **setting}
        noise = 0.001 * (setting["seed"] % 3)
        rows.append(
            {"run": run_id(setting, study.factors)}
            | setting
            | {name: value + noise for name, value in values.items()}
        )

    for corpus, seed in product(study.tails, range(5)):
        add({"part": "rows", "corpus": corpus, "seed": seed}, alone_64=0.02, alone_4=0.3)
        for size in (64, 16, 4):
            name = (str(rows[-1]["run"]), f"rows_{size}")
            curves[name] = [(0.0, float(size)), (50.0, size / 2), (200.0, size / 10)]
    for corpus, cell, norm, seed in product(study.corpora, study.cells, study.norms, range(5)):
        batch = norm == "batch"
        for pooling, variant in product(study.poolings, (None, *study.variants)):
            if variant and not batch:
                continue
            of = {"variant": variant}
            of |= {"corpus": corpus, "cell": cell, "norm": norm, "pooling": pooling, "seed": seed}
            lengths = {f"length_{i}": 0.9 - 0.02 * i - loss * batch for i in range(5)}
            errors = {"error_early": 0.1, "error_late": 0.2, "rows_first": 1000, "rows_last": 100}
            slopes = {f"slope_{n}": growth * (1 + seed / 9) for n in ("running", "64", "16", "4")}
            add(
                {"part": "whole", **of},
                accuracy=0.9,
                **lengths,
                **(slopes | {"accuracy_population": 0.9 + own} | errors if batch else {}),
            )
            for name in ("running", "64", "16", "4") if batch else ():
                curves[str(rows[-1]["run"]), f"error_{name}"] = [(0.0, 0.1), (200.0, 0.1 + growth)]
            lost = 0.9 - loss * batch * (0.5 if variant else 1.0) - 0.002 * seed
            remedies = ("accuracy_population", "accuracy_own", "accuracy_batch")
            given = dict.fromkeys(remedies, lost + own + 0.002 * (seed - 2))
            given |= {"shift_input": 0.1, "ratio_input": 0.9, "shift_cell": 0.1, "ratio_cell": 0.9}
            given |= {"accuracy_cut_population": 0.9, "accuracy_again_population": 0.88}
            add(
                {"part": "cut", **of},
                accuracy=lost,
                accuracy_cut=0.9,
                accuracy_again=0.9,
                accuracy_tail=0.8,
                accuracy_bias=lost + loss / 2,
                accuracy_head=0.89,
                accuracy_cut_head=0.9,
                **(given if batch else {}),
            )
    for norm, seed in product(study.norms, range(5)):
        of = {"corpus": study.longest, "cell": study.cells[0], "norm": norm, "seed": seed}
        bytes_kept = 4e6 if norm == "batch" else 0
        values = {"alone_long": 0.5, "padded_bytes": 3e8} | (
            {"updated_steps": 400} if norm == "batch" else {}
        )
        add({"part": "cost", **of}, parameters=1000, table_bytes=bytes_kept, **values)
        curves[str(rows[-1]["run"]), "seconds"] = [(400.0, 0.1), (11000.0, 1.0)]
    return Table(rows, curves)


@pytest.mark.parametrize(
    ("loss", "own", "growth", "held"),
    [
        (0.1, -0.05, 0.05, {"The variance", "Other", "New", "Trained"}),
        (0.1, 0.05, 0.05, {"The variance", "New", "Trained"}),
        (-0.1, 0.0, -0.05, set()),
    ],
)
def test_the_verdict_follows_the_table(
    loss: float, own: float, growth: float, held: set[str]
) -> None:
    study = load(DynamicNetwork)
    assert isinstance(study, DynamicNetwork)
    table = synthetic(study, loss, own, growth)
    starts = {
        start: next(claim for claim in study.text(table).claims if claim.text.startswith(start))
        for start in ("The variance", "Other", "New", "Trained with BatchNorm")
    }
    assert {start.split(" w")[0] for start, claim in starts.items() if claim.holds} == held
    found = study.findings(table)
    quantities = [finding.quantity for finding in found]
    assert len(set(quantities)) == len(quantities) == 10, "five of each corpus"
    more = found[3]
    assert more.quantity.endswith("BatchNorm's change minus LayerNorm's, r8, LSTM, last pooling")
    assert more.interval.mean == pytest.approx(-100 * loss)


def test_figures_of_a_table_and_of_none(corpus: Path, tmp_path: Path) -> None:
    study = tiny(corpus)
    for table in (synthetic(study, 0.1, 0.02, 0.05), Table()):
        for name, drawn in study.figures(table).items():
            drawn.savefig(tmp_path / f"{name}.png")
