"""The pages: links lead somewhere, numbers are those of the results, pictures are as drawn."""

from __future__ import annotations

import csv
import importlib.util
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from statistics import geometric_mean
from typing import Any

import pytest
from pages import DOCS, PAGES, links, marked, read, rows
from source_tree import ROOT
from zipped import zipped

from seqnorm.studies.figures import NAMES
from seqnorm.studies.table import read as read_table
from seqnorm.training.results.classification_table import markdown
from seqnorm.training.results.language_table import markdown as language_models

RESULTS = ROOT / "results"
each_page = pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
NUMBER = r"[+-]?\d+\.\d+"


def load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(f"{path.stem}_of_pages", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for their annotations
    spec.loader.exec_module(module)
    return module


@each_page
def test_every_link_leads_to_a_file(page: Path) -> None:
    missing = [link for link in links(page) if not (page.parent / link).exists()]
    assert not missing


@each_page
def test_every_file_it_names_exists(page: Path) -> None:
    """A page of its own runs, such as lengths.md, may name files of the reader without a folder."""
    folders = "configs|results|docs|tests|benchmarks|seqnorm"
    names = set(re.findall(rf"`((?:{folders})/[\w./-]*\w\.\w+)`", read(page)))
    missing = [name for name in names if not (ROOT / name).is_file()]
    assert not missing


def test_the_first_page_lists_every_page() -> None:
    there = {page.name for page in DOCS.glob("*.md")} - {"index.md"}
    assert there <= set(links(DOCS / "index.md"))


def test_every_page_has_one_title_and_short_paragraphs() -> None:
    for page in PAGES:
        text = re.sub(r"```.*?```", "", read(page), flags=re.DOTALL)
        assert len(re.findall(r"^# ", text, re.MULTILINE)) == 1, page
        if page.stem in ("limitations", "bad_inputs"):  # which programs write
            continue
        for paragraph in text.split("\n\n"):
            if not paragraph.lstrip().startswith(("|", "-", "<!--", "1.")):
                assert len(paragraph.splitlines()) <= 14, (page, paragraph[:60])


def test_the_table_of_classifiers_is_made_from_the_results() -> None:
    made = markdown(RESULTS / "text_classification.csv")
    assert marked(DOCS / "classification.md", "results") == made


def test_the_table_of_language_models_is_made_from_the_results() -> None:
    made = language_models(RESULTS / "language.csv")
    assert marked(DOCS / "language_models.md", "language") == made


REMEDIES = {
    "BatchNorm": ("batch", "batch"),
    "Batch Renormalization": ("batch_renorm", "batch_renorm"),
    "BatchNorm frozen at the end": ("batch_frozen", "batch_frozen"),
    "LayerNorm, on images GroupNorm": ("layer", "group"),
}


def test_the_table_of_remedies_is_made_from_the_study() -> None:
    runs = read_table(RESULTS / "studies" / "small_batch.csv").where(stage="run", group=None)
    sizes = {"text": (64, 4, 2), "images": (32, 2, 1)}
    lines = []
    for name, norms in REMEDIES.items():
        errors = []
        for (part, batches), norm in zipped(sizes.items(), norms):
            for batch in batches:
                found = 100 * runs.by_seed("error", part=part, norm=norm, batch=batch)
                assert len(found) == 5
                errors.append(f"{found.interval.mean:.1f}")
        lines.append(f"| {name} | {' | '.join(errors)} |")
    head = "| test error in % | text, batch 64 | 4 | 2 | images, batch 32 | 2 | 1 |"
    made = "\n".join([head, f"|{'---|' * 7}", *lines])
    assert marked(DOCS / "remedies.md", "remedies") == made


def test_the_table_of_choices_is_made_from_the_study_of_remedies() -> None:
    runs = read_table(RESULTS / "studies" / "remedies.csv").where(stage="run")
    measures = [("error", 64), ("error", 8), ("error", 2), ("error_whole", 64)]
    lines = []
    for norm in runs.distinct("norm"):
        cells = []
        for measure, batch in measures:
            found = 100 * runs.by_seed(measure, norm=norm, batch=batch)
            assert len(found) == 5
            bounds = found.interval
            low, high = max(bounds.low, 0), min(bounds.high, 100)
            cells.append(f"{bounds.mean:.1f} ({low:.1f} to {high:.1f})")
        lines.append((NAMES[str(norm)], cells))
    lines.sort(key=lambda line: list(NAMES.values()).index(line[0]))
    head = "| test error in % | batch 64 | batch 8 | batch 2 | batch 64, whole documents |"
    rows = [f"| {name} | {' | '.join(cells)} |" for name, cells in lines]
    made = "\n".join([head, f"|{'---|' * 5}", *rows])
    assert marked(DOCS / "remedies.md", "choices") == made


Ratios = dict[tuple[str, ...], list[float]]
SPEEDS = {
    "LayerNorm, training": ("grid", "layer", "train"),
    "LayerNorm, inference": ("grid", "layer", "infer"),
    "BatchNorm of every step, training": ("grid", "batch", "train"),
    "BatchNorm of every step, inference": ("grid", "batch", "infer"),
    "BatchNorm pooled over time, training": ("grid", "batch_pooled", "train"),
    "LayerNorm, training, lengths like those of Reuters R8": ("ragged", "layer", "train"),
    "the same, two layers in both directions": ("ragged_deep", "layer", "train"),
}


def ratios_of(name: str) -> Ratios:
    """Return the ratios to torch's layers, by shape, norm, mode and cell."""
    ratios: defaultdict[tuple[str, ...], list[float]] = defaultdict(list)
    with (RESULTS / name).open() as file:
        for row in csv.DictReader(file):
            if row["baseline"].startswith("torch"):
                names = (row["shape"], row["norm"], row["mode"], row["cell"])
                ratios[names].append(float(row["ratio"]))
    return ratios


def test_the_speeds_are_those_of_the_results() -> None:
    wide, narrow = ratios_of("cpu_speed.csv"), ratios_of("cpu_speed_avx2.csv")
    table, slower = marked(DOCS / "speed.md", "speed"), marked(ROOT / "README.md", "speed")
    for text, names in SPEEDS.items():
        each = [
            [geometric_mean(ratios[(*names, cell)]) for cell in ("lstm", "gru")]
            for ratios in (wide, narrow)
        ]
        numbers = [f"{mean:.2f}" for means in each for mean in means]
        assert f"| {text} | {' | '.join(numbers)} |" in table
        lstm, gru = map(max, zip(*each))
        assert f"| {text} | {lstm:.2f} | {gru:.2f} |" in slower
    text = " ".join(read(DOCS / "speed.md").split())
    for norm, mode in (("layer", "train"), ("batch", "infer")):
        largest = [
            max(ratio for cell in ("lstm", "gru") for ratio in ratios["grid", norm, mode, cell])
            for ratios in (wide, narrow)
        ]
        assert "{:.2f} with AVX-512 and {:.2f} with AVX2".format(*largest) in text


def test_the_times_of_one_step_are_those_of_the_results() -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "one_step.py"), "--table"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert marked(DOCS / "speed.md", "one step") == done.stdout.strip()


DECISIONS = rows(marked(DOCS / "which_norm.md", "decisions"))


@pytest.mark.parametrize("row", DECISIONS, ids=[row[0][:40] for row in DECISIONS])
def test_the_numbers_of_a_decision_stand_in_one_table_of_its_source(row: list[str]) -> None:
    """The source is a page, whose tables other tests compare with the file of results."""
    found = re.fullmatch(r"\[(.*)\]\((\w+\.md)\)", row[3])
    assert found is not None, row[3]
    of_results = found[1].endswith(".csv")
    if of_results:
        assert len(list(RESULTS.rglob(found[1]))) == 1, found[1]
    # The sign depends on which of two norms is subtracted from the other.
    numbers = {number.lstrip("+-") for number in re.findall(NUMBER, row[2])}
    tables = re.findall(r"(?:^\|.*\n)+", read(DOCS / found[2]), re.MULTILINE)
    of_tables = [{n.lstrip("+-") for n in re.findall(NUMBER, table)} for table in tables]
    assert any(numbers <= there for there in of_tables), row
    assert bool(numbers) == of_results, row


how_to_train = load(ROOT / "benchmarks" / "how_to_train.py")
ADVICE = (DOCS / "how_to_train.md", DOCS / "later_norms.md")
TABLES = [
    (page, *names) for page in ADVICE for names in re.findall(r"<!-- (\w+), (\w+) -->", read(page))
]


@pytest.mark.parametrize(("page", "table", "column"), TABLES)
def test_the_tables_on_training_are_made_from_the_results(
    page: Path, table: str, column: str
) -> None:
    made = how_to_train.markdown(RESULTS / "how_to_train.csv", table, column)
    assert marked(page, f"{table}, {column}") == made


def test_every_table_on_training_is_shown() -> None:
    shown = {table for _, table, column in TABLES if column == "accuracy"}
    assert shown == set(how_to_train.TABLES)


def test_a_run_of_the_measurements(tmp_path: Path) -> None:
    """Make the runs of a table with one epoch; a missing run is made, and none is made twice."""
    path = tmp_path / "rows.csv"
    how_to_train.make(path, ["inputs"], epochs=1)
    made = path.read_text()
    assert len(made.splitlines()) == 1 + 6 * len(how_to_train.SEEDS)
    path.write_text("\n".join(made.splitlines()[:-1]) + "\n")
    how_to_train.make(path, ["inputs"], epochs=1)
    again = path.read_text().splitlines()
    timed = how_to_train.COLUMNS.index("seconds")
    for old, new in zip(made.splitlines(), again):
        assert old.split(",")[:timed] == new.split(",")[:timed]
    table = how_to_train.markdown(path, "inputs")
    assert table.count("±") == 6
    with pytest.raises(ValueError, match="not all seeds"):
        how_to_train.markdown(path, "gain")


def test_a_run_in_half_precision() -> None:
    setting = how_to_train.Setting("layer", precision="bfloat16")
    row = how_to_train.run(setting, seed=1, epochs=1)
    assert row["finite"]
    assert 0.0 <= float(row["accuracy"]) <= 1.0
    single = how_to_train.run(how_to_train.Setting("layer"), seed=1, epochs=1)
    assert row["first_gradient"] != single["first_gradient"]


def test_the_pictures_are_as_the_program_draws_them() -> None:
    drawn = load(DOCS / "pictures.py").draw()
    folder = DOCS / "pictures"
    assert {path.name for path in folder.iterdir()} == set(drawn)
    for name, picture in drawn.items():
        assert (folder / name).read_text(encoding="utf-8") == picture
