"""Encoding of texts as lists of token numbers, with torchtext; and the choice of a library.

The interface is that of `seqnorm.datasets.tokenizing.Tokenizer`, made of torchtext's
`get_tokenizer`, `build_vocab_from_iterator` and `transforms`. As there, a text is put into Unicode
form NFC, converted to lower case on request, and runs of white space become one space. With the
tokens "word" and "character", the vocabularies and numbers are also those of `Tokenizer`, unless
the two libraries classify a character differently. A combining mark that no single character
contains, a joining character (U+200C, U+200D) and a connector other than the underscore belong to
a word for `Tokenizer` alone. A superscript digit or a fraction belongs to a word for Python alone,
which also lowers a Greek sigma at the end of a word to its final form.
"""

from __future__ import annotations

import importlib
import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from types import ModuleType
from typing import Any, Literal, Union

import torch

from .tokenizing import PAD, UNK, Kind, Tokenizer, check_sizes, check_texts

Pipeline = Literal["tokenizers", "torchtext"]
Tokens = Callable[[str], list[str]]
_WORDS = re.compile(r"\w+|[^\w\s]+")
# Kinds that `Tokenizer` has as well, as callables for `get_tokenizer`.
_OWN: dict[str, Tokens] = {"word": _WORDS.findall, "character": list}


def import_torchtext(what: str, *parts: str) -> ModuleType:
    """Import torchtext with these parts and those for tokens; `what` names the user of it.

    Raises ModuleNotFoundError, which names the extra to install, if it is missing or cannot be
    loaded with the installed torch.
    """
    try:
        torchtext = importlib.import_module("torchtext")
    except (ImportError, OSError) as error:  # OSError: its library lacks symbols of torch
        missing = isinstance(error, ModuleNotFoundError) and error.name == "torchtext"
        reason = "it is not installed" if missing else f"it cannot be loaded ({error})"
        raise ModuleNotFoundError(
            f"{what} needs torchtext 0.18, which works with torch 2.3 alone; here is torch "
            f"{torch.__version__}, and {reason}. Install it in an environment of its own: "
            "pip install -c constraints-torchtext.txt 'seqnorm[train,torchtext]'",
            name="torchtext",
        ) from error
    # Each import of a part warns that torchtext is no longer developed, as docs/torchtext.md says.
    torchtext.disable_torchtext_deprecation_warning()
    for part in ("data.utils", "transforms", "vocab", *parts):
        importlib.import_module(f"torchtext.{part}")
    return torchtext


class TorchtextTokenizer:
    """A trained vocabulary: token 0 is padding, and token 1 stands for everything unknown.

    Make one with `TorchtextTokenizer.train` or `tokenizer_from_json`.
    """

    pad_id = 0
    unk_id = 1

    def __init__(self, tokens: str, lowercase: bool, vocabulary: Sequence[str]) -> None:
        if list(vocabulary[:2]) != [PAD, UNK]:
            raise ValueError(f"a vocabulary begins with {PAD} and {UNK}, not {vocabulary[:2]}")
        if len(set(vocabulary)) != len(vocabulary):
            raise ValueError("a vocabulary must not repeat a token")
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
        """Train a vocabulary of at most `vocab_size` tokens, including the two special ones.

        Args:
            tokens: The kind of tokens: "word" or "character", as in `Tokenizer`, or an argument of
                torchtext's `get_tokenizer`: "basic_english", or a name that needs a package, such
                as "spacy".

        Raises ValueError for unknown tokens and for sizes that leave no room for tokens, and
        ModuleNotFoundError if torchtext, or a package that the tokens need, cannot be loaded.
        """
        check_sizes(f"vocab_size for {tokens!r}", vocab_size, 3, min_frequency)
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
        """Return the token numbers of each text, cut after `max_length` tokens; possibly empty."""
        check_texts(texts, max_length)
        steps = [self._transforms.VocabTransform(self._vocab)]
        if max_length is not None:
            steps.append(self._transforms.Truncate(max_length))
        transform = self._transforms.Sequential(*steps)
        tokens = (self._known(_normal(text, self.lowercase)) for text in texts)
        # torchtext warns of an empty list, because it cannot determine the type of its elements.
        return [transform(each) if each else [] for each in tokens]

    def _known(self, text: str) -> list[str]:
        # Tokens that split at spaces would turn markup that looks like padding into padding.
        return [UNK if token == PAD else token for token in self._split(text)]

    @property
    def vocabulary(self) -> list[str]:
        """The tokens in the order of their numbers."""
        tokens: list[str] = self._vocab.get_itos()
        return tokens

    def __len__(self) -> int:
        return len(self._vocab)

    def to_json(self) -> str:
        """Return the whole tokenizer."""
        content = {
            "pipeline": "torchtext",
            "tokens": self.tokens,
            "lowercase": self.lowercase,
            "vocabulary": self.vocabulary,
        }
        return json.dumps(content, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> TorchtextTokenizer:
        """Return the tokenizer that `to_json` wrote; raise ValueError for anything else."""
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
    except ValueError as error:  # its message lists the known names
        raise ValueError(f"tokens of torchtext cannot be {tokens!r}: {error}") from error
    return split


AnyTokenizer = Union[Tokenizer, TorchtextTokenizer]


def tokenizer_from_json(text: str) -> AnyTokenizer:
    """Return the tokenizer, of either pipeline, whose `to_json` wrote the text.

    Raises ValueError for anything else, and ModuleNotFoundError if its library cannot be loaded.
    """
    try:
        content = json.loads(text)
    except ValueError as error:
        raise ValueError(f"not the JSON of a tokenizer: {error}") from error
    if isinstance(content, dict) and content.get("pipeline") == "torchtext":
        return TorchtextTokenizer.from_json(text)
    return Tokenizer.from_json(text)


def torchtext_tokens(tokens: str | None, kind: Kind) -> str:
    """Return the tokens into which torchtext splits a text: `tokens`, or a kind of `Tokenizer`.

    Raises ValueError for byte-pair encoding, which torchtext does not train.
    """
    if tokens is None and kind == "bpe":
        raise ValueError(
            "the torchtext pipeline cannot train byte-pair encoding: set data.kind to word or "
            "character, or data.pipeline to tokenizers"
        )
    return kind if tokens is None else tokens
