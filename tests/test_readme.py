"""The README is short, its tables are those of the results, and its commands are the gate's."""

from __future__ import annotations

import re

from pages import DOCS, README, blocks, links, marked, read

from seqnorm.training.results.classification_table import markdown

TEXT = read(README)
MOST_LINES = 120


def test_it_is_short() -> None:
    assert len(TEXT.splitlines()) <= MOST_LINES


def test_it_has_one_picture_and_ten_lines_of_code() -> None:
    assert len(re.findall(r"^!\[", TEXT, re.MULTILINE)) == 1
    (code,) = blocks(README, "python")
    assert len([line for line in code.splitlines() if line]) <= 10


def test_it_leads_to_the_list_of_all_pages() -> None:
    assert "docs/index.md" in links(README)


def test_the_table_is_made_from_the_results() -> None:
    results = README.parent / "results" / "text_classification.csv"
    assert marked(README, "results") == markdown(results)


def test_all_commands_set_up_from_constraints() -> None:
    commands = re.findall(r"^python3 -m venv .*$", TEXT, re.MULTILINE)
    found = [(c.split(" && ")[-1], re.findall(r"-c (\S+)", c)) for c in commands]
    assert found == [
        ("seqnorm fit", ["constraints.txt"]),
        ("python -m pytest", ["constraints.txt"]),
        ("python -m pytest", ["constraints-torchtext.txt"]),
    ]


def test_the_pages_quote_the_same_commands() -> None:
    """The pages on testing and on torchtext repeat two of the three."""
    of_readme = set(re.findall(r"^python3 -m venv .*$", TEXT, re.MULTILINE))
    for name in ("testing.md", "torchtext.md"):
        (command,) = re.findall(r"^python3 -m venv .*$", read(DOCS / name), re.MULTILINE)
        assert command in of_readme
