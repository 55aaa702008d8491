"""Scoring and continuing texts with a trained language model."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from typing import Literal

import torch

from .language import LanguageModelling
from .lines import opened
from .restoring import restored

# Tokens that are read at once where the state carries all that matters.
_PIECE = 1024


def predict(
    ckpt_path: str,
    input: str = "-",
    output: str = "-",
    format: Literal["tsv", "jsonl"] = "tsv",
    what: Literal["score", "continue"] = "score",
    length: int = 200,
    temperature: float = 1.0,
    top_k: int | None = None,
    seed: int = 0,
    device: str = "cpu",
) -> None:
    """Scores lines of text, or continues them.

    Every line is a text of its own. Scores are -log p of its tokens and of its end, in nats.

    Args:
        ckpt_path: a checkpoint; nothing else of the training is needed.
        input: a file with one text a line, or - for standard input.
        output: a file to write one line a text to, which is there once all are, or - for standard
            output.
        format: tsv (scores with a header: perplexity, bits a character, scores of the tokens with
            spaces between; or the line and its continuation as text), or jsonl (an object a line).
        what: score, or continue.
        length: most tokens of a continuation.
        temperature: the lower, the more probable are the tokens drawn.
        top_k: draw from the k most probable tokens; 1 always takes the most probable; null draws
            from all.
        seed: of the draws; a line's depend on it, and on the line's number.
        device: cpu, cuda, ...
    """
    model, data = restored(LanguageModelling, ckpt_path, device)
    window = data.get("window") if data.get("mode") == "stream" else None
    with opened(input, output) as (texts, out):
        if format == "tsv" and what == "score":
            print("perplexity", "bits_per_character", "scores", sep="\t", file=out)
        for number, text in enumerate(texts):
            if what == "score":
                print(_score_line(model, text, window, format), file=out)
                continue
            found = continuation(model, text, length, window, temperature, top_k, (seed, number))
            whole = {"text": text, "continuation": found}
            as_json = json.dumps(whole, ensure_ascii=False)
            print(as_json if format == "jsonl" else _joined(model, text, found), file=out)


def _joined(model: LanguageModelling, text: str, found: str) -> str:
    between = " " if model.tokenizer.level == "word" and text and found else ""
    return f"{text}{between}{found}".replace("\n", " ")


def _score_line(
    model: LanguageModelling, text: str, window: int | None, format: Literal["tsv", "jsonl"]
) -> str:
    tokens = encode(model, text)
    nats = score(model, tokens, window)
    read = torch.tensor(tokens, device=model.device)
    characters = int(model.characters(read[:-1], read[1:]).sum())
    # A line without tokens is nothing to predict for a model of one endless text.
    perplexity = float(torch.tensor(nats).double().mean().exp())
    bits = sum(nats) / math.log(2) / characters if characters else math.nan
    if format == "tsv":
        return f"{perplexity:.6g}\t{bits:.6g}\t{' '.join(f'{value:.6g}' for value in nats)}"
    names = [model.tokenizer.vocabulary[token] for token in tokens[1:]]
    return json.dumps(
        {
            "perplexity": perplexity if nats else None,
            "bits_per_character": bits if characters else None,
            "tokens": names,
            "scores": nats,
        },
        ensure_ascii=False,
    )


def encode(model: LanguageModelling, text: str) -> list[int]:
    """The tokens of a text, the end of the text before in front of them, and its own behind."""
    (tokens,) = model.tokenizer.documents([text])
    return tokens if model.ends else tokens[:-1]


def score(model: LanguageModelling, tokens: Sequence[int], window: int | None) -> list[float]:
    """-log p of all ``tokens`` but the first, in nats, each after those before it.

    A long text is read in pieces, in bounded memory: in windows, from whose beginnings BatchNorm
    counts its steps, or else of any length (see ``seqnorm.models.LanguageModel``).
    """
    text = torch.tensor(tokens, device=model.device)
    states, found = None, []
    with torch.inference_mode():
        for start in range(0, len(tokens) - 1, window or _PIECE):
            piece = text[start : start + (window or _PIECE) + 1]
            nats, states = model.network.surprisal(
                piece[None, :-1],
                piece[None, 1:],
                torch.tensor([len(piece) - 1]),
                states,
                start if window is None else 0,
            )
            found += nats.tolist()
    return found


def continuation(
    model: LanguageModelling,
    text: str,
    length: int,
    window: int | None,
    temperature: float,
    top_k: int | None,
    seed: tuple[int, int],
) -> str:
    """What the model draws to go on from ``text``, to its end or for ``length`` tokens."""
    tokenizer = model.tokenizer
    (tokens,) = tokenizer.documents([text])
    generator = torch.Generator(model.device)
    # A string is hashed by SHA-512, so near seeds and lines have nothing in common.
    generator.manual_seed(random.Random(f"{seed[0]}:{seed[1]}").getrandbits(63))
    drawn = model.network.generate(
        tokens[:-1],
        length,
        generator=generator,
        window=window,
        temperature=temperature,
        top_k=top_k,
        never=[tokenizer.unk_id] if model.ends else [tokenizer.unk_id, tokenizer.eos_id],
        stop=tokenizer.eos_id,
    )
    return tokenizer.decode(drawn)
