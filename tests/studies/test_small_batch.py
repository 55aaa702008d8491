"""The study of small batches: its data and runs on tiny data, its figures and its verdict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tuned import tuned

from seqnorm.studies.configuration import load
from seqnorm.studies.runner import StudyError
from seqnorm.studies.small_batch import data, study, verdict
from seqnorm.studies.small_batch.measures import measure_text
from seqnorm.studies.small_batch.study import SmallBatch
from seqnorm.studies.small_batch.training import Run
from seqnorm.studies.table import Table, Value
from seqnorm.studies.texts import Part, Texts

FULL = load(SmallBatch)


def tiny(**changed: Any) -> SmallBatch:
    """Return a configuration that runs in a second."""
    values: dict[str, Any] = {
        **vars(FULL),
        "seeds": 1,
        "image_norms": ["batch", "group"],
        "image_batches": [4, 2, 1],
        "image_count": 8,
        "image_epochs": 2,
        "image_rates": [0.1, 0.01],
        "image_groups": [2],
        "width": 4,
        "text_norms": ["batch", "layer", "none"],
        "text_batches": [4, 2, 1],
        "text_count": 12,
        "text_epochs": 2,
        "text_rates": [0.01],
        "text_groups": [2],
        "hidden": 4,
    }
    return SmallBatch(**{**values, **changed})


@pytest.fixture
def images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the fetched images by a few small ones."""
    monkeypatch.setattr(data, "VALIDATION", 6)
    monkeypatch.setattr(data, "TEST", 10)
    generator = torch.Generator().manual_seed(1)
    digits = torch.rand(30, 28, 28, generator=generator)
    photographs = [torch.rand(40, 30, generator=generator) for _ in range(2)]
    task = data.DigitsOnPhotographs(digits, torch.arange(30) % 10, photographs, 8)
    monkeypatch.setattr(study, "load_images", lambda *_: task)


@pytest.fixture
def texts(monkeypatch: pytest.MonkeyPatch) -> Texts:
    """Replace the fetched documents by a few short ones."""
    generator = torch.Generator().manual_seed(1)
    train, validation, test = (
        Part(
            [torch.randint(2, 9, (3 + i % 3,), generator=generator).tolist() for i in range(count)],
            [i % 3 for i in range(count)],
        )
        for count in (12, 5, 7)
    )
    documents = Texts(train, validation, test, vocabulary=9, classes=3)
    monkeypatch.setattr(study, "load_texts", lambda *_: documents)
    return documents


def row(setting: Any, **measures: float) -> dict[str, Value]:
    return {"run": str(setting), **setting, **measures}


@pytest.mark.usefixtures("images", "texts")
def test_tunes_and_then_runs_every_part_the_same_twice() -> None:
    made = tiny()
    first = [setting for setting in made.settings(Table()) if setting["part"] == "images"]
    assert {setting["stage"] for setting in first} == {"tune"}
    done = tuned(made, lambda setting: made.run(setting).values)
    reported = [setting for setting in made.settings(done) if setting["stage"] == "run"]
    counts = {part: sum(s["part"] == part for s in reported) for part in made_parts(reported)}
    assert counts == {
        "images": 6,
        "images_ghost": 1,
        "text": 9,
        "text_ghost": 1,
        "text_one_row": 1,
    }
    for setting in reported:
        values = made.run(setting).values
        assert set(values) <= set(made.measures)
        assert 0 <= values["error"] <= 1
        again = setting["batch"] != 1 or setting["part"] == "images"
        fresh = "error_reestimated" in values
        assert fresh == (setting["norm"] == "batch" and again), setting
        assert made.run(setting).values == values


def made_parts(reported: list[Any]) -> list[str]:
    return list(dict.fromkeys(setting["part"] for setting in reported))


def test_the_rate_is_the_one_with_the_least_validation_error() -> None:
    made = tiny(text_norms=[], image_norms=["group"])
    errors = {0.1: 0.4, 0.01: 0.2, 0.001: 0.3}
    done = tuned(made, lambda s: {"validation_error": errors[float(str(s["rate"]))]})
    reported = [setting for setting in made.settings(done) if setting["stage"] == "run"]
    assert [setting["batch"] for setting in reported] == [4, 2, 1]
    assert {setting["rate"] for setting in reported} == {0.01}


def test_a_ghost_batch_of_all_documents_is_the_batch(texts: Texts) -> None:
    plain = measure_text(Run("batch", 4, None, 0.01, 2, 4, 0), texts)
    whole = measure_text(Run("batch", 4, 4, 0.01, 2, 4, 0), texts)
    divided = measure_text(Run("batch", 4, 2, 0.01, 2, 4, 0), texts)
    assert plain == whole
    assert plain["loss"] != divided["loss"]


def test_groups_change_nothing_without_batch_statistics(texts: Texts) -> None:
    whole = measure_text(Run("layer", 4, None, 0.01, 2, 4, 0), texts)
    divided = measure_text(Run("layer", 4, 2, 0.01, 2, 4, 0), texts)
    assert whole["loss"] == pytest.approx(divided["loss"], rel=1e-4)
    twice = measure_text(Run("layer", 1, None, 0.01, 2, 4, 0, twice=True), texts)
    once = measure_text(Run("layer", 1, None, 0.01, 2, 4, 0), texts)
    assert once["loss"] == pytest.approx(twice["loss"], rel=1e-4)


def test_images_are_turned_by_up_to_the_angle() -> None:
    generator = torch.Generator().manual_seed(0)
    picture = torch.zeros(200, 9, 9)
    picture[:, 4, 7] = 1  # three to the right of the middle
    assert torch.allclose(data.rotated(picture, 0.0, generator), picture, atol=1e-6)
    turned = data.rotated(picture, 90.0, generator)
    rows, columns = torch.meshgrid(torch.arange(9.0) - 4, torch.arange(9.0) - 4, indexing="ij")
    weight = turned.sum((1, 2))
    angle = torch.atan2(
        (turned * rows).sum((1, 2)) / weight, (turned * columns).sum((1, 2)) / weight
    )
    degrees = angle.rad2deg()
    assert -92 < degrees.min() < -75
    assert 75 < degrees.max() < 92


def test_pieces_are_found_in_their_photographs() -> None:
    photographs = [torch.arange(35.0).reshape(5, 7), 100 + torch.arange(16.0).reshape(4, 4)]
    pieces = data.random_pieces(photographs, 300, 4, torch.Generator().manual_seed(0))
    places = set()
    for piece in pieces:
        first = int(piece[0, 0])
        source = photographs[first >= 100]
        r, c = divmod(first % 100, source.shape[1])
        assert torch.equal(piece, source[r : r + 4, c : c + 4])
        places.add(first)
    assert places == {0, 1, 2, 3, 7, 8, 9, 10, 100}, "every place, and no other"


@pytest.mark.usefixtures("images")
def test_digits_are_on_top_and_parts_are_apart() -> None:
    digits = torch.arange(30.0)[:, None, None].expand(30, 28, 28) / 30
    task = data.DigitsOnPhotographs(digits, torch.arange(30), [torch.zeros(28, 28)], 14, turn=0.0)
    seen = [task.validation, task.test, task.epoch(torch.Generator().manual_seed(0))]
    assert [len(classes) for _, classes in seen] == [6, 10, 14]
    assert sorted(int(c) for _, classes in seen for c in classes) == list(range(30))
    for pixels, classes in seen:
        torch.testing.assert_close(pixels[:, 0, 14, 14] * 0.3 + 0.45, classes / 30)
    with pytest.raises(ValueError, match="at most 14 are left to train with, not 15"):
        data.DigitsOnPhotographs(digits, torch.arange(30), [torch.zeros(28, 28)], 15)


@pytest.mark.usefixtures("texts")
def test_too_few_documents_are_refused() -> None:
    with pytest.raises(ValueError, match="only 12 training documents: lower text_count"):
        tiny(text_count=13).texts()


def made_up(**errors: float) -> Table:
    """Make a table of five seeds with errors by norm; BatchNorm's grow with small statistics."""
    rows: list[dict[str, Value]] = []
    growth = errors.get("growth", 0.0)

    def add(part: str, norm: str, batch: int, group: int | None = None) -> None:
        size = group or batch
        for seed in range(5):
            error = errors.get(norm, 0.2) + (growth / size if norm == "batch" else 0.0)
            error += 0.01 * seed + 0.001 * ((seed * 7 + size) % 3)
            setting = {"part": part, "norm": norm, "batch": batch, "group": group, "seed": seed}
            values = {"error": error, "loss": error, "error_reestimated": error - 0.001}
            rows.append(row({**setting, "stage": "run"}, **values))

    for part, rival in verdict.RIVALS.items():
        for batch in (32, 2, 1):
            for norm in ("batch", rival, "instance" if part == "images" else "none"):
                add(part, norm, batch)
        for group in (16, 2):
            add(f"{part}_ghost", "batch", 32, group)
    add("text_one_row", "batch", 1)
    return Table(rows)


def test_the_verdict_says_what_the_table_does_not_confirm() -> None:
    worse = FULL.text(made_up(growth=0.4))
    assert (
        "With one image at a time BatchNorm is 40.0 points worse than GroupNorm." in worse.verdict
    )
    unlike = "“BatchNorm is better than GroupNorm at batch 32, 16, 8 and 4"
    assert f"Not confirmed by this table: {unlike}" in worse.verdict
    equal = FULL.text(made_up())
    assert not any(claim.holds for claim in equal.claims if "worse" in claim.text)


def test_findings_begin_with_the_answer() -> None:
    told = [finding.quantity for finding in FULL.findings(made_up(growth=0.4))]
    assert len(set(told)) == len(told)
    assert [what.split(":")[0] for what in told[:5]] == [
        "images",
        "images, batch 2",
        "images, batch 32",
        "images, BatchNorm, batch 32",
        "images, batch 1",
    ]
    assert told[9].endswith("single row minus LayerNorm")


def test_findings_know_what_was_predicted() -> None:
    found = {f.quantity: f for f in FULL.findings(made_up(growth=0.4))}
    small = found["images, batch 2: test error, BatchNorm minus GroupNorm"]
    assert small.outcome == "as predicted"
    assert small.interval.mean == pytest.approx(20.0)
    assert small.interval.n == 5
    assert found["images, batch 32: test error, BatchNorm minus GroupNorm"].expected == 0
    ghost = found[
        "text, BatchNorm, batch 32: test error, statistics of 2 documents minus statistics of all "
        "32"
    ]
    assert ghost.interval.mean == pytest.approx(18.75, abs=0.2)
    assert any("single row minus LayerNorm" in what for what in found)


def test_figures_are_drawn_of_any_runs(tmp_path: Path) -> None:
    whole = made_up(growth=0.4)
    for table in (Table(), Table(whole.rows[:7]), whole):
        for name, drawn in FULL.figures(table).items():
            drawn.savefig(tmp_path / f"{name}.png")
    assert {path.stem for path in tmp_path.iterdir()} == {
        "mistakes",
        "images",
        "text",
        "ghost",
        "online",
    }
    left = FULL.figures(whole)["images"].axes[0]
    labels = [container.get_label() for container in left.containers]
    assert labels == ["BatchNorm", "GroupNorm", "InstanceNorm", "BatchNorm, statistics taken anew"]
    heights = left.containers[0].lines[0].get_ydata()  # type: ignore[attr-defined]  # an errorbar
    assert heights == pytest.approx([42.1, 23.4], abs=0.3)


def test_the_configurations_can_be_read() -> None:
    assert FULL.seeds >= 5
    quick = load(SmallBatch, quick=True)
    assert isinstance(quick, SmallBatch)
    assert quick.image_count < FULL.image_count  # type: ignore[attr-defined]  # load gives a Study
    with pytest.raises(ValueError, match=r"image_batches must fall .* got \[2, 4\]"):
        tiny(image_batches=[2, 4])
    with pytest.raises(ValueError, match=r"text_groups \[3\] do not divide the batch 4"):
        tiny(text_groups=[3])


def test_a_wrong_configuration_is_named(tmp_path: Path) -> None:
    file = tmp_path / "small_batch.yaml"
    file.write_text("seeds: 1\n")
    with pytest.raises(StudyError, match=r"small_batch\.yaml"):
        load(SmallBatch, config=file)
