from __future__ import annotations

import hashlib
import logging
import re
import statistics
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from zipped import zipped

import seqnorm.datasets
from seqnorm.datasets import (
    CORPORA,
    Corpus,
    DatasetError,
    Documents,
    Package,
    corpora,
    load_corpus,
    split_validation,
)
from seqnorm.datasets.documents import Row
from seqnorm.datasets.fetching import read_members

REPOSITORY = Path(__file__).parents[2]


def texts_of(documents: Documents, classes: tuple[str, ...]) -> set[tuple[str, str]]:
    return {(text, classes[label]) for text, label in zipped(*documents)}


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a root with the archive of a corpus "tiny"; each line is a label and a text."""
    content = "".join(f"{'ab'[n % 2]} text {n // 4}\n" for n in range(80)).encode()
    archive = tmp_path / "tiny-1.0-py3-none-any.whl"
    with zipfile.ZipFile(archive, "w") as wheel:
        wheel.writestr("tiny/lines", content)
    package = Package(
        "tiny",
        "1.0",
        archive.name,
        hashlib.sha256(archive.read_bytes()).hexdigest(),
        {"tiny/lines": hashlib.sha256(content).hexdigest()},
    )

    def read_lines(contents: Mapping[str, bytes]) -> dict[str, list[Row]]:
        lines = contents["tiny/lines"].decode().splitlines()
        return {"train": [Row(line, line[0]) for line in lines]}

    source = replace(
        CORPORA["r8"], name="tiny", package=package, members=("tiny/lines",), read=read_lines
    )
    monkeypatch.setattr(corpora, "CORPORA", {"tiny": source})
    return tmp_path


def test_fetches_once_and_shows_the_notice(tiny: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    first = load_corpus("tiny", root=tiny)
    (tiny / "tiny-1.0-py3-none-any.whl").unlink()
    assert load_corpus("tiny", root=tiny) == first
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert {record.getMessage() for record in caplog.records} == {first.notice}
    for part in ("tiny 1.0", "Licence: ", "must therefore not be redistributed", "Cite: "):
        assert part in first.notice


def test_without_a_published_test_part_copies_go_before_the_split(tiny: Path) -> None:
    corpus = load_corpus("tiny", root=tiny)
    assert corpus.classes == ("a", "b")
    assert corpus.report.parts["train"].read == 80
    assert corpus.report.parts["train"].duplicate == 40
    assert corpus.report.split_off == len(corpus.test.texts) == 8
    assert Counter(corpus.test.labels) == {0: 4, 1: 4}
    assert Counter(corpus.train.labels) == {0: 16, 1: 16}
    assert not set(corpus.train.texts) & set(corpus.test.texts)
    assert corpus.validation is None


def test_arguments_for_own_files_are_refused_for_a_corpus(tiny: Path) -> None:
    with pytest.raises(ValueError, match=r"^language, test_fraction cannot be given .* './tiny'"):
        load_corpus("tiny", root=tiny, language="en", test_fraction=0.5)


def test_neither_name_nor_path() -> None:
    with pytest.raises(DatasetError, match=r"^r9 is neither a corpus \(r8, r52, 20news, imdb, mr"):
        load_corpus("r9")


def write_csv(path: Path, *rows: str) -> None:
    path.write_text("\n".join(["text,label", *rows]), encoding="utf-8")


def test_own_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_csv(tmp_path / "train.csv", "one,b", "two,a", "two,a", "three,b", "four,a")
    write_csv(tmp_path / "validation.csv", "five,a")
    write_csv(tmp_path / "test.csv", "three,b", ",a")
    corpus = load_corpus(tmp_path)
    assert corpus == Corpus(
        name=str(tmp_path),
        classes=("a", "b"),
        train=Documents(("one", "two", "four"), (1, 0, 0)),
        validation=Documents(("five",), (0,)),
        test=Documents(("three", ""), (1, 0)),
        language="und",
        report=corpus.report,
        columns=("text", "label"),
    )
    # Dropped documents are always reported.
    assert corpus.report.dropped == 2
    assert str(corpus.report) in caplog.text
    with pytest.raises(ValueError, match="has a test part of its own; leave test_fraction out"):
        load_corpus(tmp_path, test_fraction=0.5)


def test_own_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "mine.csv"
    write_csv(path, *(f"text {n},{'ab'[n % 2]}" for n in range(20)))
    path.write_text(path.read_text("utf-8").replace("text,label", "review,stars"), "utf-8")
    names: dict[str, Any] = {"text_column": "review", "label_column": "stars"}
    whole = load_corpus(str(path), **names, language="de")
    assert (whole.language, whole.test, whole.validation) == ("de", Documents((), ()), None)
    assert not caplog.records
    split = load_corpus(str(path), **names, test_fraction=0.3)
    assert Counter(split.test.labels) == {0: 3, 1: 3}
    assert texts_of(split.train, split.classes) | texts_of(split.test, split.classes) == texts_of(
        whole.train, whole.classes
    )


def test_own_files_without_two_classes(tmp_path: Path) -> None:
    write_csv(tmp_path / "one.csv", "x,a", "y,a")
    with pytest.raises(
        DatasetError,
        match=r"one.csv: the training part has only the class 'a', .*; 2 of 2 documents are left",
    ):
        load_corpus(tmp_path / "one.csv")
    write_csv(tmp_path / "two.csv", "x,a", "x,b", ",c")
    with pytest.raises(
        DatasetError, match=r"two.csv: the training part has no class.*two labels: 2"
    ):
        load_corpus(tmp_path / "two.csv")


def test_a_file_of_which_cleaning_leaves_nothing(tmp_path: Path) -> None:
    write_csv(tmp_path / "rows.csv", "x,a", "x,b", ",a", "x ,a")
    with pytest.raises(DatasetError) as caught:
        load_corpus(tmp_path / "rows.csv", test_fraction=0.5)
    assert str(caught.value) == (
        f"{tmp_path / 'rows.csv'}: the training part has no class, and at least two classes are "
        "needed; 0 of 4 documents are left after cleaning (empty: 1, text under two "
        "labels: 3)"
    )


@pytest.mark.parametrize("part", ["validation", "test"])
def test_labels_that_train_does_not_have(tmp_path: Path, part: str) -> None:
    write_csv(tmp_path / "train.csv", "one,b", "two,a")
    write_csv(tmp_path / f"{part}.csv", "three,b", "four,c")
    with pytest.raises(DatasetError, match=f"the {part} part has the label 'c', of the text 'four"):
        load_corpus(tmp_path)


def test_importing_loads_no_optional_package() -> None:
    program = (
        "import logging, sys; import seqnorm.datasets\n"
        "assert not {'tokenizers', 'pyarrow', 'lightning', 'pip'} & set(sys.modules)\n"
        "assert not logging.getLogger().handlers\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)


def test_without_tokenizers_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'seqnorm\[train\]'"):
        seqnorm.datasets.Tokenizer.train(["a"])


def test_the_registry_is_described_where_the_data_lie() -> None:
    readme = (REPOSITORY / "data" / "README.md").read_text("utf-8")
    for name, source in CORPORA.items():
        assert name == source.name
        assert f"| `{name}` | {source.package.name} {source.package.version} |" in readme
        assert f"| {source.package.filename} (" in readme
        assert source.package.sha256 in readme
        assert set(source.members) <= set(source.package.members)


# Documents read and kept in the published training part; documents in the test part; documents
# dropped for two labels, as held out, as copies; classes; quantiles 5%, 50%, 95%, 99%, 100% of the
# lengths read (characters of Chinese, else runs of letters and of punctuation). They were measured
# from the packages by a script that does not use this library.
MEASURED = {
    "r8": (5485, 5415, 2189, (10, 5, 55), 8, (12, 66, 354.6, 642.48, 964)),
    "r52": (6532, 6440, 2568, (10, 8, 74), 52, (12, 73, 367, 674.76, 1039)),
    "20news": (11293, 11262, 7528, (8, 7, 16), 20, (39, 162, 735.4, 1895.4, 11924)),
    "imdb": (25000, 24903, 4980, (0, 0, 97), 2, (76, 206, 706, 1068.01, 2803)),
    "mr": (8530, 8530, 1706, (0, 0, 0), 2, (7, 22, 41, 48, 68)),
    "zh_reviews": (35123, 17363, 3472, (225, 0, 17535), 2, (10, 48, 189, 321, 2876)),
}


@pytest.fixture(scope="session")
def fetched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.mark.network
@pytest.mark.parametrize("name", CORPORA)
def test_real_corpus(fetched: Path, name: str) -> None:
    read, kept, tested, dropped, classes, quantiles = MEASURED[name]
    corpus = load_corpus(name, root=fetched)
    report = corpus.report.parts["train"]
    assert (report.read, report.kept) == (read, kept)
    assert (report.empty, report.two_labels, report.held_out, report.duplicate) == (0, *dropped)
    assert len(corpus.test.texts) == tested
    assert len(corpus.train.texts) == kept - corpus.report.split_off
    assert len(corpus.classes) == classes
    assert set(corpus.train.labels) == set(range(classes)) >= set(corpus.test.labels)
    assert not set(corpus.train.texts) & set(corpus.test.texts)
    source = CORPORA[name]
    rows = source.read(read_members(source.package, source.members, fetched))["train"]
    token = r"." if corpus.language == "zh" else r"\w+|[^\w\s]+"
    lengths = [len(re.findall(token, row.text)) for row in rows]
    cuts = statistics.quantiles(lengths, n=100, method="inclusive")
    assert (cuts[4], cuts[49], cuts[94], cuts[98], max(lengths)) == pytest.approx(quantiles)
    train, validation = split_validation(corpus.train)
    assert len(train.texts) + len(validation.texts) == len(corpus.train.texts)
    assert set(train.labels) == set(range(classes))
