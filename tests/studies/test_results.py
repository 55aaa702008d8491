"""The pages with the results of the studies, and the verdicts, against the committed tables."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from pages import DOCS, marked

from seqnorm.studies import Study, Table, commands
from seqnorm.studies.registry import STUDIES
from seqnorm.studies.report import markdown, row, studies
from seqnorm.studies.table import ABOUT

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "results" / "studies"
PAGE = DOCS / "limitations.md"
FOUND, MISSING = studies(RESULTS)
each_study = pytest.mark.parametrize(("study", "table"), FOUND, ids=[s.name for s, _ in FOUND])


def test_all_studies_have_results_of_five_seeds() -> None:
    assert not MISSING
    assert [study.name for study, _ in FOUND] == list(STUDIES)
    for study, table in FOUND:
        assert len(table.where(stage="run").distinct("seed")) >= 5, study.name


@each_study
def test_every_claim_of_a_verdict_holds_for_the_table(study: Study, table: Table) -> None:
    text = study.text(table)
    assert len(text.claims) > 5
    assert [claim.text for claim in text.claims if not claim.holds] == []
    assert str(text.claims[0]) == text.headline
    assert all(str(claim) in text.verdict for claim in text.claims[1:])


@each_study
def test_a_difference_that_another_table_lacks_is_not_claimed(study: Study, table: Table) -> None:
    """Give all runs of a seed the same numbers: no norm or batch size is better than another."""
    told = {"run", *study.factors, *ABOUT}
    rows = [
        {n: value if n in told else 0.5 + 0.01 * int(str(row["seed"])) for n, value in row.items()}
        for row in table
    ]
    text = study.text(Table(rows, table.curves))
    words = re.compile(
        r"\b((?<!gets )worse|better|more|lower|higher|larger|smaller|loses|rises|change is)\b"
    )
    held = [claim.text for claim in text.claims if claim.holds]
    assert [claim for claim in held if words.search(claim)] == []
    for claim in text.claims:
        if not claim.holds:
            words = f"Not confirmed by this table: “{claim.text.split('{')[0]}"
            assert words in f"{text.headline} {text.verdict}"


@each_study
def test_a_table_without_runs_confirms_nothing(study: Study, table: Table) -> None:
    text = study.text(Table())
    assert not any(claim.holds for claim in text.claims)
    said = f"{text.headline} {text.verdict}"
    assert said.count("Not confirmed by this table") == len(text.claims)


@each_study
def test_every_figure_has_a_caption(study: Study, table: Table) -> None:
    captions = study.text(table).captions
    assert list(study.figures(table)) == list(captions)
    assert all(len(caption) > 150 for caption in captions.values())


def test_the_headlines_have_the_numbers_of_the_tables() -> None:
    """The three sentences, with numbers computed here from the rows of the tables."""
    found = {study.name: (study.text(table).headline, table) for study, table in FOUND}

    def mean(name: str, measure: str, **of: Any) -> float:
        rows = found[name][1].where(stage="run", **of).rows
        assert len(rows) == 5
        return 100 * sum(float(row[measure]) for row in rows) / 5

    text: dict[str, Any] = {"part": "text"}
    few, many = (
        mean("small_batch", "error", **text, norm="batch", batch=size)
        - mean("small_batch", "error", **text, norm="layer", batch=size)
        for size in (2, 64)
    )
    sentence = found["small_batch"][0]
    assert f"BatchNorm makes {few:.0f} more mistakes in 100 documents than LayerNorm" in sentence
    assert f"on batches of 64 it makes {-many:.0f} fewer" in sentence
    r8 = {"part": "cut", "corpus": "r8", "cell": "lstm", "pooling": "last", "variant": None}
    more = {
        norm: mean("dynamic_network", "accuracy_cut", norm=norm, **r8)
        - mean("dynamic_network", "accuracy", norm=norm, **r8)
        for norm in ("batch", "layer")
    }
    sentence = found["dynamic_network"][0]
    assert f"BatchNorm makes {more['batch']:.1f} more mistakes in 100" in sentence
    assert f"LayerNorm makes {more['layer']:.1f} more" in sentence
    changed = mean("train_inference", "changed_random_4", norm="batch", batch=4)
    assert f"for {changed:.0f} of 100 documents" in found["train_inference"][0]


def test_the_page_is_that_of_the_results() -> None:
    assert PAGE.read_text(encoding="utf-8") == markdown(RESULTS, PAGE)


def test_the_figures_of_the_page_exist() -> None:
    links = re.findall(r"^!\[.*\]\((.*)\)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(links) > len(STUDIES)
    assert [link for link in links if not (PAGE.parent / link).is_file()] == []


def test_the_key_figures_on_the_page_of_norms_are_those_of_the_results() -> None:
    titles = "| study | quantity | mean | 95 % interval | seeds | outcome |"
    rows = [
        f"| {study.name} {row(finding)}"
        for study, numbers in FOUND
        for finding in study.findings(numbers)
        if finding.key
    ]
    table = [titles, f"|{6 * '---|'}", *rows]
    assert marked(DOCS / "which_norm.md", "studies").splitlines() == table


def test_every_study_has_key_figures_and_not_too_many() -> None:
    for study, table in FOUND:
        keys = [finding for finding in study.findings(table) if finding.key]
        assert 3 <= len(keys) <= 10, study.name


def test_the_command_line_writes_the_page(tmp_path: Path) -> None:
    place = tmp_path / "page.md"
    commands.main(["report", "--results", str(RESULTS), "--markdown", str(place)])
    assert place.read_text(encoding="utf-8") == markdown(RESULTS, place)


def test_markdown_of_a_single_study_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        commands.main(["small_batch", "--markdown", "page.md"])
    assert "--markdown belongs to the report" in capsys.readouterr().err
