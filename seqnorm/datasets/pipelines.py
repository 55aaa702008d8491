"""The names of the libraries that encode texts, and their tokenizers read from checkpoints."""

from __future__ import annotations

import json
from typing import Literal, Union

from seqnorm.datasets.tokenizing import Kind, Tokenizer
from seqnorm.datasets.torchtext_tokenizing import TorchtextTokenizer

Pipeline = Literal["tokenizers", "torchtext"]
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
