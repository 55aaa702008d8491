"""The torchtext pipeline: its tokens, vocabularies and data sets, and errors without torchtext."""

from __future__ import annotations

import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
from torchtext_here import WHY_NOT, needs_torchtext

from seqnorm.datasets import (
    DatasetError,
    Tokenizer,
    TorchtextTokenizer,
    load_corpus,
    load_texts,
    read_lines,
    tokenizer_from_json,
)
from seqnorm.datasets import torchtext_corpora as corpora

TEXTS = [
    "Hello, world!  It's fine...",
    "hello WORLD again\n\nhello",
    "",
    "na\u0308ive caf\u00e9\t12 %% :)",
    "<pad> and <unk>",
]


@pytest.mark.skipif(not WHY_NOT, reason="torchtext is there")
@pytest.mark.parametrize(
    "ask",
    [
        lambda: TorchtextTokenizer.train(["a"]),
        lambda: tokenizer_from_json(json.dumps(STORED)),
        lambda: load_corpus("torchtext:IMDB"),
    ],
)
def test_elsewhere_the_error_names_the_extra(ask: Any) -> None:
    with pytest.raises(ModuleNotFoundError, match=r"torch 2\.3.*seqnorm\[train,torchtext\]"):
        ask()


STORED = {
    "pipeline": "torchtext",
    "tokens": "word",
    "lowercase": True,
    "vocabulary": ["<pad>", "<unk>", "corn"],
}


@needs_torchtext
@pytest.mark.parametrize("options", [{}, {"vocab_size": 6}, {"min_frequency": 2}])
@pytest.mark.parametrize("lowercase", [True, False])
@pytest.mark.parametrize("kind", ["word", "character"])
def test_equals_the_default_pipeline(kind: Any, lowercase: bool, options: dict[str, int]) -> None:
    ours = Tokenizer.train(TEXTS, kind=kind, lowercase=lowercase, **options)
    theirs = TorchtextTokenizer.train(TEXTS, tokens=kind, lowercase=lowercase, **options)
    assert theirs.vocabulary == ours.vocabulary
    assert len(theirs) == len(ours)
    for max_length in (None, 1, 3):
        texts = [*TEXTS, "never seen before"]
        assert theirs.encode(texts, max_length) == ours.encode(texts, max_length)


@needs_torchtext
@pytest.mark.parametrize(
    ("text", "ours", "theirs"),
    [
        ("x\u0331y", ["x\u0331y"], ["x", "\u0331", "y"]),
        ("x\u200dy", ["x\u200dy"], ["x", "\u200d", "y"]),
        ("x\u203fy", ["x\u203fy"], ["x", "\u203f", "y"]),
        ("x\u00b2", ["x", "\u00b2"], ["x\u00b2"]),
    ],
)
def test_where_it_differs_from_the_default_pipeline(
    text: str, ours: list[str], theirs: list[str]
) -> None:
    assert sorted(Tokenizer.train([text]).vocabulary[2:]) == sorted(ours)
    assert sorted(TorchtextTokenizer.train([text]).vocabulary[2:]) == sorted(theirs)


@needs_torchtext
def test_basic_english_and_its_way_into_a_checkpoint() -> None:
    tokenizer = TorchtextTokenizer.train(TEXTS, tokens="basic_english")
    assert tokenizer.vocabulary[:4] == ["<pad>", "<unk>", ".", "hello"]
    (numbers,) = tokenizer.encode(["hello . unheard"])
    assert numbers == [3, 2, 1]
    # Markup in a text is not padding.
    assert tokenizer.encode(["<pad> hello <unk> <PAD>"]) == [[1, 3, 1, 1]]
    for again in (tokenizer_from_json(tokenizer.to_json()), pickle.loads(pickle.dumps(tokenizer))):
        assert isinstance(again, TorchtextTokenizer)
        assert again.encode(TEXTS) == tokenizer.encode(TEXTS)
        assert again.to_json() == tokenizer.to_json()


@needs_torchtext
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vocabulary": ["<unk>", "<pad>"]}, "begins with <pad> and <unk>"),
        ({"vocabulary": ["<pad>", "<unk>", "a", "a"]}, "must not repeat a token"),
        ({"vocabulary": ["<pad>", "<unk>", 3]}, "values of another type"),
        ({"lowercase": "yes"}, "values of another type"),
        ({"tokens": "none such"}, "cannot be 'none such'"),
    ],
)
def test_wrong_json(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tokenizer_from_json(json.dumps({**STORED, **change}))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": "1.0"}'])
def test_the_json_of_no_tokenizer(text: str) -> None:
    with pytest.raises(ValueError, match="not the JSON of a tokenizer"):
        tokenizer_from_json(text)


@needs_torchtext
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"vocab_size": 2}, ValueError, "vocab_size for 'word' must be at least 3"),
        ({"min_frequency": 0}, ValueError, "min_frequency must be at least 1"),
        ({"tokens": "none such"}, ValueError, "cannot be 'none such'"),
        ({"tokens": "spacy"}, ModuleNotFoundError, "'spacy' need a package"),
    ],
)
def test_wrong_arguments(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        TorchtextTokenizer.train(TEXTS, **options)


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accept files that are not the published ones."""
    cache = pytest.importorskip("torchdata.datapipes.iter.util.cacheholder")
    monkeypatch.setattr(cache, "_hash_check", lambda *_: True)


from_torchdata = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def marked(test: Any) -> Any:
    """Ignore warnings of torchdata, which leaves files to the garbage collector."""
    for mark in from_torchdata:
        test = mark(test)
    return needs_torchtext(test)


@marked
@pytest.mark.usefixtures("unchecked")
def test_ag_news_from_files_that_lie_there(tmp_path: Path) -> None:
    folder = tmp_path / "torchtext" / "datasets" / "AG_NEWS"
    folder.mkdir(parents=True)
    (folder / "train.csv").write_text(
        '"3","Oil","rises"\n"2","Cup","final"\n"4","Chips","shrink"\n'
    )
    (folder / "test.csv").write_text('"2","Goal","late"\n')
    corpus = load_corpus("torchtext:AG_NEWS", root=tmp_path)
    assert corpus.classes == ("Business", "Sci/Tech", "Sports")
    assert corpus.train.texts == ("Oil rises", "Cup final", "Chips shrink")
    assert [corpus.classes[label] for label in corpus.train.labels] == [
        "Business",
        "Sports",
        "Sci/Tech",
    ]
    assert corpus.test.texts == ("Goal late",)


@marked
@pytest.mark.usefixtures("unchecked")
def test_sst2_and_wikitext_out_of_their_archives(tmp_path: Path) -> None:
    root = tmp_path / "torchtext" / "datasets"
    for name, archive, members in (
        (
            "SST2",
            "SST-2.zip",
            {
                "SST-2/train.tsv": "sentence\tlabel\ngood fun\t1\ndull\t0\n",
                "SST-2/dev.tsv": "sentence\tlabel\nvery dull\t0\n",
            },
        ),
        (
            "WikiText2",
            "wikitext-2-v1.zip",
            {f"wikitext-2/wiki.{part}.tokens": f" = {part} = \n" for part in PARTS},
        ),
    ):
        (root / name).mkdir(parents=True)
        with zipfile.ZipFile(root / name / archive, "w") as file:
            for member, text in members.items():
                file.writestr(member, text)
    corpus = load_corpus("torchtext:SST2", root=tmp_path)
    assert corpus.classes == ("negative", "positive")
    assert corpus.test.texts == ("very dull",)
    assert read_lines("WikiText2", tmp_path) == {
        "train": [" = train = "],
        "validation": [" = valid = "],
        "test": [" = test = "],
    }
    texts = load_texts("torchtext:WikiText2", root=tmp_path)
    assert texts.parts == {
        "train": ("= train =",),
        "validation": ("= valid =",),
        "test": ("= test =",),
    }
    with pytest.raises(ValueError, match="text_column cannot be given for torchtext:WikiText2"):
        load_texts("torchtext:WikiText2", root=tmp_path, text_column="text")


PARTS = ("train", "valid", "test")


@needs_torchtext
def test_data_that_cannot_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torchtext.datasets

    def unreachable(root: str, split: str) -> Any:
        raise ConnectionError(f"no route to the server\n{root}")

    monkeypatch.setattr(torchtext.datasets, "IMDB", unreachable)
    message = r"the train part of IMDB \(ConnectionError: no route to the server\).*lie in .*IMDB$"
    with pytest.raises(DatasetError, match=message):
        load_corpus("torchtext:IMDB", root=tmp_path)


def test_names_that_there_are_not() -> None:
    with pytest.raises(DatasetError, match=r"torchtext:imdb is not a labelled data set.*AG_NEWS"):
        load_corpus("torchtext:imdb")
    with pytest.raises(DatasetError, match="not a data set of lines: PennTreebank"):
        read_lines("IMDB", "data")
    with pytest.raises(ValueError, match="text_column cannot be given"):
        load_corpus("torchtext:IMDB", text_column="review")


@needs_torchtext
def test_it_knows_data_sets_that_torchtext_has() -> None:
    import torchtext.datasets

    assert {*corpora.LABELLED, *corpora.LINES} <= set(torchtext.datasets.DATASETS)
