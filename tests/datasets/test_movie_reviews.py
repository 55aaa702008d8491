from __future__ import annotations

from seqnorm.datasets.documents import Row
from seqnorm.datasets.movie_reviews import IMDB, MR

CONTENT = (
    b'text,label,source\n"so ""good"", really<br /><br />yes",1,imdb\n'
    b'"bad\nfilm",0,imdb\ndull .,0,rotten_tomatoes\n'
)


def test_rows_of_one_source() -> None:
    contents = dict.fromkeys(IMDB.members, CONTENT)
    assert IMDB.read(contents) == {
        "train": [Row('so "good", really  yes', "positive"), Row("bad\nfilm", "negative")]
    }
    assert MR.read(contents) == {"train": [Row("dull .", "negative")]}
