"""Words and characters of a language model, and the ends of texts."""

from __future__ import annotations

import pickle

import pytest
import torch

from seqnorm.datasets import LanguageTokenizer, Tokenizer

TEXTS = ["the <unk> cat\tsat", "", "the end .  ", "<eos> N"]


def test_words_are_what_stands_between_white_space() -> None:
    tokenizer = LanguageTokenizer.learn(TEXTS, level="word")
    assert tokenizer.level == "word"
    assert tokenizer.vocabulary[:4] == ["<pad>", "<unk>", "<eos>", "the"]
    words = [[tokenizer.vocabulary[i] for i in ids] for ids in tokenizer.encode(TEXTS)]
    # A word that looks like the end of a text is not an end.
    assert words[1:3] == [[], ["the", "end", "."]]
    assert words[0] == ["the", "<unk>", "cat", "sat"]
    assert words[3] == ["<unk>", "N"]
    assert tokenizer.encode(["a cat <pad> <unk> x<pad>"])[0] == [
        1,
        tokenizer.vocabulary.index("cat"),
        1,
        1,
        1,
    ]
    assert sorted(tokenizer.vocabulary[3:]) == [".", "N", "cat", "end", "sat", "the"]


def test_characters() -> None:
    tokenizer = LanguageTokenizer.learn(["ab  a\tb", "Cé"], level="character")
    assert tokenizer.level == "character"
    assert sorted(tokenizer.vocabulary[3:]) == sorted(" abCé")
    (ids,) = tokenizer.encode(["b\n a e\u0301"])
    assert [tokenizer.vocabulary[i] for i in ids] == ["b", " ", "a", " ", "é"]
    assert tokenizer.decode([*ids, tokenizer.eos_id]) == "b a é\n"
    assert LanguageTokenizer.learn(["AB"], lowercase=True).vocabulary[3:] == ["a", "b"]


def test_a_stream_and_documents() -> None:
    tokenizer = LanguageTokenizer.learn(["ab", "c"])
    a, b, c = (tokenizer.encode([letter])[0][0] for letter in "abc")
    assert tokenizer.stream(["ab", "", "c"]).tolist() == [a, b, 2, 2, c, 2]
    assert tokenizer.stream(["ab", "c"], ends=False).tolist() == [a, b, c]
    assert tokenizer.stream([]).tolist() == []
    assert tokenizer.stream(["ab"] * 2500).tolist() == [a, b, 2] * 2500
    assert tokenizer.documents(["ab", ""]) == [[2, a, b, 2], [2, 2]]
    assert tokenizer.documents(["abc", "a"], max_length=2) == [[2, a, b], [2, a, 2]]


@pytest.mark.parametrize("level", ["word", "character"])
def test_characters_of_tokens(level: str) -> None:
    texts = ["the cat sat", "on", "a mat ."]
    tokenizer = LanguageTokenizer.learn(texts, level=level)  # type: ignore[arg-type]
    characters = tokenizer.characters()
    assert characters.dtype == torch.int64
    # A word counts the space before it, although the first word of a line has no such space.
    spaces = {"word": 3, "character": 0}[level]
    found = int(characters[tokenizer.stream(texts).long()].sum())
    assert found - spaces == len("\n".join(texts) + "\n")
    # An unknown character counts as one, and an unknown word as zero.
    unknown = {"word": 0, "character": 1}[level]
    assert int(characters[tokenizer.unk_id]) == unknown
    assert int(characters[tokenizer.pad_id]) == 0
    assert int(characters[tokenizer.eos_id]) == 1


def test_least_frequency_and_size() -> None:
    texts = ["a a a b b c"]
    assert LanguageTokenizer.learn(texts, level="word", min_frequency=2).vocabulary[3:] == [
        "a",
        "b",
    ]
    assert LanguageTokenizer.learn(texts, level="word", vocab_size=4).vocabulary[3:] == ["a"]


def test_it_is_written_and_read() -> None:
    tokenizer = LanguageTokenizer.learn(TEXTS, level="word")
    for other in (
        LanguageTokenizer.from_json(tokenizer.to_json()),
        pickle.loads(pickle.dumps(tokenizer)),
    ):
        assert isinstance(other, LanguageTokenizer)
        assert other.to_json() == tokenizer.to_json()
        assert other.stream(TEXTS).tolist() == tokenizer.stream(TEXTS).tolist()
    classifier = Tokenizer.train(["some words"])
    with pytest.raises(ValueError, match="it has other steps"):
        LanguageTokenizer.from_json(classifier.to_json())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"level": "bpe"}, "level must be one of word, character, not 'bpe'"),
        ({"vocab_size": 3}, "vocab_size must be at least 4"),
        ({"min_frequency": 0}, "min_frequency must be at least 1"),
    ],
)
def test_what_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LanguageTokenizer.learn(TEXTS, **options)  # type: ignore[arg-type]
