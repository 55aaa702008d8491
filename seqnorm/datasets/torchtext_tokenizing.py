"""Texts to lists of token numbers, with torchtext.

The same interface as `seqnorm.datasets.tokenizing.Tokenizer`, made of torchtext's `get_tokenizer`,
`build_vocab_from_iterator` and `transforms`. A text is put into Unicode form NFC, its case lowered
if asked to, and its white space taken as one space, as there. With the tokens "word" and
"character" vocabularies and numbers then are those of `Tokenizer` too, but where the two libraries
disagree on what a letter is: a combining mark that no single character contains, a joining
character (U+200C, U+200D) and a connector other than the underscore are part of a word for
`Tokenizer` alone, a superscript digit or a fraction for Python alone, which also lowers a Greek
sigma at the end of a word by its place.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from seqnorm.datasets.tokenizing import PAD, UNK
from seqnorm.datasets.torchtext_support import import_torchtext

Tokens = Callable[[str], list[str]]
_WORDS = re.compile(r"\w+|[^\w\s]+")
# What `Tokenizer` has too, as the callables that `get_tokenizer` takes.
_OWN: dict[str, Tokens] = {"word": _WORDS.findall, "character": list}


class TorchtextTokenizer:
    """A trained vocabulary: number 0 pads, 1 stands for everything unknown.

    Make one with `TorchtextTokenizer.train`, or `tokenizer_from_json`.
    """

    pad_id = 0
    unk_id = 1

    def __init__(self, tokens: str, lowercase: bool, vocabulary: Sequence[str]) -> None:
        if list(vocabulary[:2]) != [PAD, UNK]:
            raise ValueError(f"a vocabulary begins with {PAD} and {UNK}, not {vocabulary[:2]}")
        if len(set(vocabulary)) != len(vocabulary):
            raise ValueError("a vocabulary has every token once")
        torchtext = import_torchtext("a tokenizer of the torchtext pipeline")
        self.tokens = tokens
        self.lowercase = lowercase
        self._split = _splitter(tokens)
        ordered = dict.fromkeys(vocabulary[2:], 1)
        self._vocab = torchtext.vocab.vocab(ordered, specials=[PAD, UNK])
        self._vocab.set_default_index(self.unk_id)
        self._transforms = torchtext.transforms

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        *,
        tokens: str = "word",
        vocab_size: int | None = None,
        min_frequency: int = 1,
        lowercase: bool = True,
    ) -> TorchtextTokenizer:
        """Trains a vocabulary of at most `vocab_size` tokens, the two special ones included.

        Args:
            tokens: "word" or "character", as of `Tokenizer`, or what torchtext's `get_tokenizer`
                takes: "basic_english", or a name for which it needs a package, as "spacy".

        Raises ValueError for unknown tokens and for sizes that leave no room, ModuleNotFoundError
        where torchtext, or a package that the tokens need, cannot be loaded.
        """
        if vocab_size is not None and vocab_size < 3:
            raise ValueError(f"vocab_size for {tokens!r} must be at least 3: {vocab_size}")
        if min_frequency < 1:
            raise ValueError(f"min_frequency must be at least 1, not {min_frequency}")
        torchtext = import_torchtext("the torchtext pipeline")
        split = _splitter(tokens)
        vocab = torchtext.vocab.build_vocab_from_iterator(
            (split(_normal(text, lowercase)) for text in texts),
            min_freq=min_frequency,
            specials=[PAD, UNK],
            max_tokens=vocab_size,
        )
        return cls(tokens, lowercase, vocab.get_itos())

    def encode(self, texts: Sequence[str], max_length: int | None = None) -> list[list[int]]:
        """The token numbers of each text, cut after `max_length` tokens; possibly none."""
        if isinstance(texts, str):
            raise TypeError("texts must be a sequence of strings; write [text] for a single one")
        if max_length is not None and max_length < 1:
            raise ValueError(f"max_length must be at least 1 or None, not {max_length}")
        steps = [self._transforms.VocabTransform(self._vocab)]
        if max_length is not None:
            steps.append(self._transforms.Truncate(max_length))
        transform = self._transforms.Sequential(*steps)
        tokens = (self._known(_normal(text, self.lowercase)) for text in texts)
        # Of an empty list it warns that one cannot tell what it is a list of.
        return [transform(each) if each else [] for each in tokens]

    def _known(self, text: str) -> list[str]:
        # Split at spaces, markup that looks like the padding's name would be padding.
        return [UNK if token == PAD else token for token in self._split(text)]

    @property
    def vocabulary(self) -> list[str]:
        """The tokens in the order of their numbers."""
        tokens: list[str] = self._vocab.get_itos()
        return tokens

    def __len__(self) -> int:
        return len(self._vocab)

    def to_json(self) -> str:
        """Everything there is to it."""
        content = {
            "pipeline": "torchtext",
            "tokens": self.tokens,
            "lowercase": self.lowercase,
            "vocabulary": self.vocabulary,
        }
        return json.dumps(content, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> TorchtextTokenizer:
        """The tokenizer that `to_json` wrote. Raises ValueError for anything else."""
        try:
            content: dict[str, Any] = json.loads(text)
            tokens, lowercase = content["tokens"], content["lowercase"]
            vocabulary = content["vocabulary"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"not the JSON of a torchtext tokenizer: {error!r}") from error
        if not (isinstance(tokens, str) and isinstance(lowercase, bool)) or not (
            isinstance(vocabulary, list) and all(isinstance(token, str) for token in vocabulary)
        ):
            raise ValueError("not the JSON of a torchtext tokenizer: values of another type")
        return cls(tokens, lowercase, vocabulary)

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return TorchtextTokenizer.from_json, (self.to_json(),)


def _normal(text: str, lowercase: bool) -> str:
    text = " ".join(unicodedata.normalize("NFC", text).split())
    return text.lower() if lowercase else text


def _splitter(tokens: str) -> Tokens:
    from torchtext.data.utils import get_tokenizer

    try:
        split: Tokens = get_tokenizer(_OWN.get(tokens, tokens))
    except ImportError as error:
        raise ModuleNotFoundError(f"tokens {tokens!r} need a package: {error}") from error
    except ValueError as error:  # of names that it does not know it says which it knows
        raise ValueError(f"tokens of torchtext cannot be {tokens!r}: {error}") from error
    return split
