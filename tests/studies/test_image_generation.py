"""The study of image generation: its losses and crops, tiny runs, its figures and verdict."""

from __future__ import annotations

import dataclasses
import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor
from tuned import tuned
from zipped import zipped

from seqnorm.studies.configuration import load
from seqnorm.studies.image_generation import data, losses
from seqnorm.studies.image_generation.data import CONTRASTS
from seqnorm.studies.image_generation.study import ImageGeneration
from seqnorm.studies.image_generation.training import thin
from seqnorm.studies.image_generation.verdict import ALL, NORMS, OF_ALL, by_seed
from seqnorm.studies.table import Table, Value, run_id
from seqnorm.studies.tuning import tuning_seeds

TINY: dict[str, Any] = {
    "seeds": 1,
    "styles": ["brick", "gravel"],
    "steps": 4,
    "steps_of_all": 4,
    "batch": 2,
    "size": 32,
    "side": 36,
    "texture_side": 40,
    "width": 2,
    "blocks": 1,
    "judged": 8,
}


@pytest.fixture
def noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put pictures of noise under every name."""

    def load_noise(names: tuple[str, ...]) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(3)
        return {name: torch.rand(3, 44, 60, generator=generator) for name in names}

    monkeypatch.setattr(data, "load", load_noise)


def tiny(**changed: Any) -> ImageGeneration:
    loaded = load(ImageGeneration, quick=True)
    assert isinstance(loaded, ImageGeneration)
    return dataclasses.replace(loaded, **(TINY | changed))


def test_gram_and_losses_equal_loops() -> None:
    features = [torch.randn(2, 3, 4, 5), torch.randn(2, 3, 2, 2)]
    others = [torch.randn(1, 3, 6, 6), torch.randn(1, 3, 3, 3)]
    target = [losses.gram(f) for f in others]
    for f in (*features, *others):
        grams = losses.gram(f)
        for n in range(len(f)):
            for c in range(3):
                for d in range(3):
                    products = [
                        float(f[n, c, y, x] * f[n, d, y, x])
                        for y in range(f.shape[2])
                        for x in range(f.shape[3])
                    ]
                    assert float(grams[n, c, d]) == pytest.approx(
                        sum(products) / len(products), abs=1e-5
                    )
    found = losses.style_loss(features, target)
    for n in range(2):
        parts = []
        for f, t in zipped(features, target):
            g = losses.gram(f[n : n + 1])[0]
            parts.append(float(((g - t[0]) ** 2).sum() / (t[0] ** 2).sum()))
        assert float(found[n]) == pytest.approx(sum(parts) / 2, rel=1e-5)
    content = losses.content_loss(features, [f + 0.5 for f in features], unit=0.1)
    assert content.tolist() == pytest.approx([2.5, 2.5], rel=1e-4)
    assert losses.mean_square(features) == pytest.approx(float((features[1] ** 2).mean()))
    with pytest.raises(ValueError, match="blank"):
        losses.mean_square([torch.zeros(1, 3, 2, 2)])


def test_a_style_is_at_no_distance_from_itself_and_grey_at_one() -> None:
    features = losses.RandomFeatures()
    picture = torch.rand(1, 3, 40, 40)
    target = [losses.gram(f) for f in features(picture)]
    assert losses.style_loss(features(picture), target).item() == 0
    grey = losses.style_loss(features(torch.full((1, 3, 40, 40), 0.5)), target).item()
    assert grey == pytest.approx(1, abs=1e-4)
    # Brightness is in the colours alone: the filters do not see it.
    lighter = features(picture + 0.1)
    for before, after in zipped(features(picture), lighter):
        torch.testing.assert_close(before[:, :-3], after[:, :-3], rtol=0, atol=1e-4)
        torch.testing.assert_close(before[:, -3:] + 0.1, after[:, -3:])


def test_crops_are_pieces_of_their_pictures() -> None:
    pictures = [torch.full((3, 9, 12), value) for value in (0.1, 0.2, 0.3)]
    generator = torch.Generator().manual_seed(0)
    found = data.crops(pictures, 8, generator)
    assert found.shape == (3, 3, 8, 8)
    assert found[:, 0, 0, 0].tolist() == pytest.approx([0.1, 0.2, 0.3])
    ramp = torch.arange(9 * 12.0).view(1, 9, 12).expand(3, 9, 12)
    corners = {int(c[0, 0, 0]) for c in data.crops([ramp] * 200, 8, generator)}
    assert corners == {12 * y + x for y in range(2) for x in range(5)}
    assert torch.equal(data.middle(ramp, 3), ramp[:, 3:6, 4:7])
    assert data.shrink(torch.rand(3, 90, 60), 30).shape == (3, 45, 30)


def test_fading_keeps_the_mean_of_each_colour() -> None:
    pictures = torch.rand(2, 3, 5, 5)
    faded = data.fade(pictures, 0.25)
    torch.testing.assert_close(faded.mean((2, 3)), pictures.mean((2, 3)))
    torch.testing.assert_close(faded.std((2, 3)), pictures.std((2, 3)) / 4)


def test_a_png_shows_pictures_side_by_side() -> None:
    pictures = torch.tensor([0.0, 0.6, 1.0]).view(3, 1, 1, 1).expand(3, 3, 2, 4)
    with Image.open(io.BytesIO(data.to_png(pictures))) as image:
        assert image.size == (12, 2)
        assert [image.getpixel((x, 1)) for x in (0, 5, 11)] == [(v, v, v) for v in (0, 153, 255)]


def test_a_curve_is_thinned_to_means() -> None:
    assert thin([1.0, 3.0, 5.0, 7.0, 9.0], 3) == [(2, 2.0), (4, 6.0), (5, 9.0)]
    assert thin([1.0], 3) == [(1, 1.0)]


@pytest.mark.usefixtures("noise")
def test_runs_end_to_end(tmp_path: Path) -> None:
    made = tiny()
    settings = [setting for setting in made.settings(Table()) if setting["style"] != "gravel"]
    assert [setting["norm"] for setting in settings] == list(NORMS)
    rows: list[dict[str, Any]] = []
    curves = {}
    (tmp_path / made.name).mkdir()
    for setting in settings:
        outcome = made.run(setting)
        assert set(outcome.values) == set(made.measures)
        assert all(math.isfinite(value) for value in outcome.values.values())
        run = run_id(setting, made.factors)
        rows.append({"run": run} | setting | outcome.values)
        curves |= {(run, name): list(points) for name, points in outcome.curves.items()}
        for name, content in outcome.files.items():
            (tmp_path / made.name / name).write_bytes(content)
    table = Table(rows, curves, tmp_path / made.name)
    for row in rows:
        assert row["mates_inference"] < 1e-6
        if row["norm"] == "batch":
            assert row["mates"] > 1e-4
        else:
            assert row["mates"] < 1e-6
            assert row["batch_style"] == pytest.approx(row["test_style"], rel=1e-4)
            assert row["alone_style"] == pytest.approx(row["test_style"], rel=1e-4)
        if row["norm"] not in ("none", "batch"):
            assert row["contrast"] < 0.1 * row["between"]
        assert row["test_style"] <= row["worst_style"]
        total = row["test_style"] + made.content_weight * row["test_content"]
        assert row["test_total"] == pytest.approx(total, rel=1e-4)
        faint = dict(table.curve(row, "contrast"))
        assert list(faint) == list(CONTRASTS)
        assert faint[0.25] == pytest.approx(row["faint_style"])
        assert faint[1.0] == pytest.approx(row["test_style"])
        for name in ("train_style", "train_content", "test_style", "test_content"):
            assert [step for step, _ in table.curve(row, name)] == [1, 2, 3, 4]
    for norm, style in [("batch", "brick"), ("adaptive", "gravel")]:
        with Image.open(tmp_path / made.name / f"{norm}_{style}.png") as image:
            assert image.size == (7 * 32, 32)
    figures = made.figures(table)
    assert list(figures) == ["pictures", "contrast", "losses", "dependence", "training"]
    # Style, content and five norms for brick; for gravel the runs of one style are missing.
    assert sum(len(axes.images) for axes in figures["pictures"].axes) == 7 + 4
    for name, drawn in figures.items():
        drawn.savefig(tmp_path / f"{name}.png")


@pytest.mark.usefixtures("noise")
def test_a_run_made_again_is_the_same() -> None:
    made = tiny(rates=[0.001, 0.01], judged=4)
    setting = {"stage": "tune", "norm": "batch", "style": "brick", "rate": 0.01, "seed": 1000}
    first = made.run(setting)
    assert made.run(setting) == first
    assert not first.curves
    assert not first.files


def test_the_rate_is_the_one_with_the_least_validation_loss() -> None:
    made = tiny(rates=[0.001, 0.01], tune_seeds=1)
    assert not [s for s in made.settings(Table()) if s["stage"] == "run"]
    best = {"batch": 0.01}
    done = tuned(
        made,
        lambda s: {"validation": abs(float(str(s["rate"])) - best.get(str(s["norm"]), 0.001))},
    )
    chosen = {
        (s["norm"], s["style"]): s["rate"] for s in made.settings(done) if s["stage"] == "run"
    }
    assert len(chosen) == 8
    assert all(rate == (0.01 if norm == "batch" else 0.001) for (norm, _), rate in chosen.items())
    assert {row["seed"] for row in done} == set(tuning_seeds(1))


def made_up(changed: Mapping[str, Mapping[str, float]], seeds: int = 5) -> Table:
    """Make runs with all measures 0.5 but those changed for a norm, with a little noise."""
    made = tiny()
    rows: list[dict[str, Value]] = []
    for norm in NORMS:
        for style in [ALL] if norm in OF_ALL else made.styles:
            for seed in range(seeds):
                setting = {"stage": "run", "norm": norm, "style": style, "rate": 0.1, "seed": seed}
                values = {
                    name: changed.get(norm, {}).get(name, 0.5)
                    + 0.001 * ((7 * seed + len(name) + 3 * len(norm)) % 5 - 2)
                    for name in made.measures
                }
                rows.append({"run": run_id(setting, made.factors)} | setting | values)
    return Table(rows)


WORSE = {
    "batch": {
        "test_style": 0.9,
        "contrast": 0.7,
        "mates": 0.6,
        "test_content": 0.4,
        "test_total": 0.8,
        "batch_style": 0.7,
    }
}


@pytest.mark.parametrize(
    ("changed", "held"),
    [(WORSE, {1, 4, 5, 7, 9, 12}), ({}, {11, 13})],
)
def test_the_verdict_follows_the_table(
    changed: Mapping[str, Mapping[str, float]], held: set[int]
) -> None:
    text = tiny().text(made_up(changed))
    assert {number for number, claim in enumerate(text.claims) if claim.holds} == held
    assert text.verdict.count("\n\n") == 3
    if 1 in held:
        assert "worse than InstanceNorm (style loss 0.90 against 0.50" in text.verdict


def test_findings_of_a_table_and_of_none() -> None:
    made = tiny()
    told = made.findings(made_up(WORSE))
    found = {f.quantity: f for f in told}
    assert len(found) == len(told)
    assert told[0].quantity.startswith(
        "style loss of test photographs, BatchNorm minus InstanceNorm"
    )
    assert len(told) == 10
    whole = found["style loss of test photographs, BatchNorm minus InstanceNorm, mean over styles"]
    assert whole.interval.mean == pytest.approx(0.4, abs=0.01)
    assert whole.outcome == "as predicted"
    assert whole.interval.n == 5
    assert all(f.outcome == "too few runs to say" for f in made.findings(Table()))
    assert list(made.figures(Table()))[:2] == ["pictures", "contrast"]


def test_means_over_styles_need_every_style() -> None:
    rows = [
        {"norm": "batch", "style": style, "seed": seed, "run": "", "m": value}
        for style, seed, value in [("brick", 0, 1.0), ("gravel", 0, 2.0), ("brick", 1, 9.0)]
    ]
    assert by_seed(Table(rows), "batch", ["brick", "gravel"], "m") == {0: 1.5}
    assert by_seed(Table(rows), "batch", ["brick"], "m") == {0: 1.0, 1: 9.0}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"styles": ["brick", "rocket"]},
            r"unknown styles \['rocket'\]: write some of brick",
        ),
        ({"test": ["lena"]}, r"unknown photographs \['lena'\]: write some of"),
        ({"test": ["coffee"]}, "name one twice"),
        ({"rates": []}, "rates must name at least one"),
        ({"judged": 5}, "two batches of 2 or more, all full"),
    ],
)
def test_bad_configurations(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny(**changed)
