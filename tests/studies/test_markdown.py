"""The page in docs/ and the README's key figures are made from the committed tables."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from seqnorm.studies import commands
from seqnorm.studies.markdown import key_figures, page, studies
from seqnorm.studies.registry import STUDIES

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "results" / "studies"
PAGE = ROOT / "docs" / "limitations.md"


def test_all_studies_have_results_of_five_seeds() -> None:
    found = {study.name: table for study, table in studies(RESULTS)}
    assert list(found) == list(STUDIES)
    for name, table in found.items():
        reported = [row for row in table if row.get("stage", "run") == "run"]
        assert len({row["seed"] for row in reported}) >= 5, name


def test_the_page_is_that_of_the_results() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(RESULTS, PAGE)


def test_the_figures_of_the_page_exist() -> None:
    links = re.findall(r"^!\[.*\]\((.*)\)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(links) > len(STUDIES)
    assert [link for link in links if not (PAGE.parent / link).is_file()] == []


def test_the_key_figures_in_the_readme_are_those_of_the_results() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (table,) = re.findall(r"<!-- studies -->\n(.*?)<!-- end of studies -->", readme, re.DOTALL)
    assert table.strip() == key_figures(RESULTS)


def test_every_study_has_key_figures_and_not_too_many() -> None:
    for study, table in studies(RESULTS):
        keys = [finding for finding in study.findings(table) if finding.key]
        assert 3 <= len(keys) <= 10, study.name


def test_the_command_line_writes_the_page(tmp_path: Path) -> None:
    place = tmp_path / "page.md"
    commands.main(["report", "--results", str(RESULTS), "--markdown", str(place)])
    assert place.read_text(encoding="utf-8") == page(RESULTS, place)


def test_markdown_of_a_single_study_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        commands.main(["small_batch", "--markdown", "page.md"])
    assert "--markdown belongs to the report" in capsys.readouterr().err
