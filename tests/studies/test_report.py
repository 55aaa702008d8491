"""The HTML page of all studies: whole, self-contained, escaped, and the same for one table."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from toy_study import Toy

from seqnorm.studies import Finding, Table, commands, interval, report
from seqnorm.studies.registry import STUDIES
from seqnorm.studies.runner import StudyError, make_runs

VOID = {"meta", "br", "link", "img"}


class Strict(HTMLParser):
    """Parser that notes ids and links, and checks that every element is closed in its place."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self._attributes(attrs)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._attributes(attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def _attributes(self, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id":
                self.ids.append(str(value))
            if name in ("href", "src", "xlink:href"):
                self.links.append(str(value))

    def handle_data(self, data: str) -> None:
        self.text += data


class Loud(Toy):
    """Toy whose words are markup unless they are escaped."""

    title = "Limits <script>alert(1)</script> & more"

    def findings(self, table: Table) -> list[Finding]:
        return [Finding(f"quantity {n} <b>", interval([1.0, 2.0])) for n in range(13)]

    def template(self) -> str:
        return super().template().replace("two norms", "<b>two</b> norms")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    every = dict(STUDIES)
    STUDIES.clear()
    STUDIES["toy"] = Loud
    monkeypatch.setattr(report, "load", lambda kind, quick: kind(2, [0.1]))
    make_runs(Toy(2, [0.1]), tmp_path, say=lambda line: None)
    yield tmp_path
    # monkeypatch would restore them in the reverse order.
    STUDIES.clear()
    STUDIES.update(every)


def parsed(page: str) -> Strict:
    parser = Strict()
    parser.feed(page)
    parser.close()
    assert parser.open == []
    return parser


def test_the_page_is_whole_and_needs_no_network(folder: Path) -> None:
    raw = report.html(folder)
    page = parsed(raw)
    text = " ".join(page.text.split())
    for part in (
        "Is it one?",
        "It is one, by 20 points.",
        "Errors of <b>two</b> norms.",
        "seqnorm study toy",
    ):
        assert part in text
    assert "6 runs" in text
    assert "quantity 12 <b>" in text
    outside = [link for link in page.links if not link.startswith(("#", "data:"))]
    assert outside == []
    assert not re.search(r"url\((?!#)|@import|<script", raw)
    assert [name for name, count in Counter(page.ids).items() if count > 1] == []
    missing = {link[1:] for link in page.links if link.startswith("#")} - set(page.ids)
    assert missing == set()


def test_text_of_results_is_escaped(folder: Path) -> None:
    raw = report.html(folder)
    assert "Errors of &lt;b&gt;two&lt;/b&gt; norms." in raw
    assert "Limits &lt;script&gt;alert(1)&lt;/script&gt; &amp; more" in raw
    assert "quantity 3 &lt;b&gt;" in raw


def test_the_same_tables_give_the_same_page(folder: Path) -> None:
    assert report.html(folder) == report.html(folder)


def test_quick_results_say_so(folder: Path) -> None:
    assert "Made with" not in report.html(folder)
    raw = report.html(folder, quick=True)
    assert "Made with <code>--quick</code>" in raw
    assert "seqnorm study toy --quick" in raw


def test_a_study_without_results_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = type("Other", (Toy,), {"name": "other"})
    monkeypatch.setitem(STUDIES, "other", other)
    text = parsed(report.html(folder)).text
    assert "No results yet: seqnorm study other" in text


def test_no_results_at_all_are_an_error(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path_factory.mktemp("empty")
    with pytest.raises(StudyError, match="has no tables of studies"):
        report.html(empty)
    with pytest.raises(SystemExit) as exit:
        commands.main(["report", "--results", str(empty)])
    assert exit.value.code == 1
    assert "has no tables of studies" in capsys.readouterr().err
