from __future__ import annotations

import json
import pickle
import subprocess
import sys
import warnings
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqnorm.datasets import Tokenizer, default_kind
from seqnorm.datasets.tokenizing import Kind

KINDS = get_args(Kind)
TEXTS = ["The cat sat.", "the dog sat, the dog ran", "a  café\n\n", "cafe\u0301 cafe\u0301", ""]
CHINESE = ["这个东西真心很赞", "房间太小\uff0c隔音也不好。"]


@pytest.fixture(params=KINDS)
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return Tokenizer.train(TEXTS, kind=request.param)


def tokens(tokenizer: Tokenizer, text: str) -> list[str]:
    vocabulary = tokenizer.vocabulary
    return [vocabulary[number] for number in tokenizer.encode([text])[0]]


def test_words() -> None:
    tokenizer = Tokenizer.train(TEXTS)
    assert tokens(tokenizer, "The DOG, unseen") == ["the", "dog", ",", "<unk>"]
    assert tokenizer.vocabulary[:4] == ["<pad>", "<unk>", "caf\xe9", "the"]
    assert tokens(tokenizer, "cafe\u0301") == tokens(tokenizer, "caf\xe9") == ["caf\xe9"]


def test_characters() -> None:
    tokenizer = Tokenizer.train(TEXTS, kind="character")
    assert tokens(tokenizer, " Sat \n\t ran!") == [*"sat", " ", *"ran", "<unk>"]
    assert tokens(tokenizer, "cafe\u0301") == ["c", "a", "f", "\xe9"]
    chinese = Tokenizer.train(CHINESE, kind="character")
    assert tokens(chinese, "房间好") == ["房", "间", "好"]


def test_byte_pairs_write_every_text() -> None:
    tokenizer = Tokenizer.train(TEXTS * 5, kind="bpe", vocab_size=275)
    assert len(tokenizer) == 275
    assert len(tokens(tokenizer, "the dog")) == 2
    assert tokenizer.unk_id not in tokenizer.encode(["这 \U0001f600 unseen"])[0]


def test_case_is_kept_on_request() -> None:
    tokenizer = Tokenizer.train(["The the"], lowercase=False)
    assert {"The", "the"} < set(tokenizer.vocabulary)


def test_special_tokens_come_first_and_are_nothing_in_a_text(tokenizer: Tokenizer) -> None:
    assert tokenizer.vocabulary[tokenizer.pad_id] == "<pad>"
    assert tokenizer.vocabulary[tokenizer.unk_id] == "<unk>"
    assert len(tokenizer.vocabulary) == len(set(tokenizer.vocabulary)) == len(tokenizer)
    for copy in (
        tokenizer,
        Tokenizer.from_json(tokenizer.to_json()),
        pickle.loads(pickle.dumps(tokenizer)),
    ):
        numbers = copy.encode(["the <pad> cat<pad>", "<pad>", "<unk>"])
        assert all(tokenizer.pad_id not in row for row in numbers)
        assert len(numbers[1]) > 1
        assert len(numbers[2]) > 1


@pytest.mark.parametrize("kind", KINDS)
def test_markup_in_training_texts_does_not_move_the_special_tokens(kind: Kind) -> None:
    tokenizer = Tokenizer.train(["<pad> <unk> <pad>"] * 9, kind=kind)
    assert tokenizer.vocabulary[:2] == ["<pad>", "<unk>"]
    assert tokenizer.pad_id not in tokenizer.encode(["<pad> <unk>"])[0]


def test_texts_without_tokens_give_empty_lists(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode(["", " \n\t\u3000", "the"])[:2] == [[], []]
    assert tokenizer.encode([]) == []


def test_max_length_cuts(tokenizer: Tokenizer) -> None:
    whole = tokenizer.encode(TEXTS)
    assert tokenizer.encode(TEXTS, max_length=2) == [numbers[:2] for numbers in whole]
    assert max(map(len, whole)) > 2


def test_encodes_more_texts_than_one_piece(tokenizer: Tokenizer) -> None:
    texts = [f"the cat {number}" for number in range(2500)]
    encoded = tokenizer.encode(texts)
    assert len(encoded) == 2500
    assert encoded[1700] == tokenizer.encode([texts[1700]])[0]


def test_json_and_pickle_give_it_back(tokenizer: Tokenizer) -> None:
    for copy in (
        Tokenizer.from_json(tokenizer.to_json()),
        pickle.loads(pickle.dumps(tokenizer)),
    ):
        assert copy.vocabulary == tokenizer.vocabulary
        assert copy.encode([*TEXTS, *CHINESE]) == tokenizer.encode([*TEXTS, *CHINESE])
        assert copy.to_json() == tokenizer.to_json()


@pytest.mark.parametrize("kind", KINDS)
def test_another_process_trains_the_same(kind: Kind) -> None:
    texts = [f"{a}{b} {b}{a}" for a in "abcdefgh" for b in "abcdefgh"]
    program = (
        "import sys; from seqnorm.datasets import Tokenizer\n"
        f"sys.stdout.write(Tokenizer.train({texts!r}, kind={kind!r}, vocab_size=300).to_json())"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    expected = json.loads(Tokenizer.train(texts, kind=kind, vocab_size=300).to_json())
    assert json.loads(run.stdout) == expected


def test_vocabulary_limits() -> None:
    texts = ["a a a b b c"]
    assert Tokenizer.train(texts, vocab_size=4).vocabulary == ["<pad>", "<unk>", "a", "b"]
    assert Tokenizer.train(texts, min_frequency=3).vocabulary == ["<pad>", "<unk>", "a"]
    many = Tokenizer.train([" ".join(f"word{number}" for number in range(40_000))])
    assert len(many) == 40_002


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "words"}, "kind must be one of word, character, bpe, not 'words'"),
        ({"vocab_size": 2}, "vocab_size for 'word' must be at least 3: 2"),
        ({"kind": "bpe", "vocab_size": 257}, "vocab_size for 'bpe' must be at least 258"),
        ({"min_frequency": 0}, "min_frequency must be at least 1"),
    ],
)
def test_bad_training_arguments(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Tokenizer.train(TEXTS, **options)


def test_bad_encoding_arguments() -> None:
    tokenizer = Tokenizer.train(TEXTS)
    with pytest.raises(TypeError, match=r"write \[text\]"):
        tokenizer.encode("the")
    with pytest.raises(ValueError, match="max_length must be at least 1"):
        tokenizer.encode(["the"], max_length=0)


def test_foreign_json() -> None:
    with pytest.raises(ValueError, match="not the JSON of a tokenizer"):
        Tokenizer.from_json("{}")
    document = json.loads(Tokenizer.train(TEXTS).to_json())
    document["added_tokens"] = []
    document["model"]["vocab"] = {"<unk>": 0, "the": 1}
    with pytest.raises(ValueError, match="must have <pad> as number 0 and <unk> as 1"):
        Tokenizer.from_json(json.dumps(document))


def test_words_of_a_script_without_spaces_are_warned_of() -> None:
    with pytest.warns(UserWarning, match="use kind='character' or kind='bpe'"):
        Tokenizer.train(CHINESE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Tokenizer.train(CHINESE, kind="character")
        Tokenizer.train([*TEXTS * 3, "真"])


@pytest.mark.parametrize(
    ("language", "kind"),
    [("en", "word"), ("und", "word"), ("zh", "character"), ("zh-Hant", "character")],
)
def test_default_kind(language: str, kind: str) -> None:
    assert default_kind(language) == kind


def test_a_tokenizer_has_a_padding_token_and_a_length() -> None:
    tokenizer = Tokenizer.train(TEXTS)
    assert tokenizer.pad_id == 0
    assert len(tokenizer) > 2


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_encodes_within_the_vocabulary(text: str) -> None:
    for tokenizer in ANY:
        (numbers,) = tokenizer.encode([text])
        assert all(1 <= number < len(tokenizer) for number in numbers)


ANY = [Tokenizer.train(TEXTS, kind=kind) for kind in KINDS]
