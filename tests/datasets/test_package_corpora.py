from __future__ import annotations

import pytest

from seqnorm.datasets import DatasetError
from seqnorm.datasets.documents import Row
from seqnorm.datasets.package_corpora import IMDB, MR, ZH_REVIEWS, read_tab

TAB_HEADER = b"Category\tText\nd\tstring\nclass\t\n"


def test_reads_documents_and_skips_lines_without_label() -> None:
    contents = {
        "folder/reuters-r8-train.tab": TAB_HEADER + b"\t\nearn\tfirst text\n\nacq\tsecond \n",
        "folder/reuters-r8-test.tab": TAB_HEADER + b"\nearn\tthird\n",
    }
    assert read_tab(contents) == {
        "train": [Row("first text", "earn"), Row("second ", "acq")],
        "test": [Row("third", "earn")],
    }


@pytest.mark.parametrize("line", [b"earn first", b"earn\tfirst\tsecond"])
def test_names_the_line_of_another_form(line: bytes) -> None:
    with pytest.raises(
        DatasetError, match=r"x-train.tab, line 5: the line is not one label, one TAB"
    ):
        read_tab({"x-train.tab": TAB_HEADER + b"\n" + line + b"\n"})


CSV_FILE = (
    b'text,label,source\n"so ""good"", really<br /><br />yes",1,imdb\n'
    b'"bad\nfilm",0,imdb\ndull .,0,rotten_tomatoes\n'
)


def test_rows_of_one_source() -> None:
    contents = dict.fromkeys(IMDB.members, CSV_FILE)
    assert IMDB.read(contents) == {
        "train": [Row('so "good", really  yes', "positive"), Row("bad\nfilm", "negative")]
    }
    assert MR.read(contents) == {"train": [Row("dull .", "negative")]}


def test_lines_are_labelled_by_their_file() -> None:
    contents = {
        path: ("不好\n\n" if path.endswith("neg.txt") else " 很好\u2028真的 \n好").encode()
        for path in ZH_REVIEWS.members
    }
    assert sorted(ZH_REVIEWS.read(contents)["train"]) == [
        Row("不好", "negative"),
        Row("好", "positive"),
        Row("很好\u2028真的", "positive"),
    ]
