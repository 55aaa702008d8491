"""Score or continue lines of text with a trained language model."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from typing import Literal

import torch

from ..checkpoints.checkpoint_file import Checkpoint
from ..checkpoints.stored_model import stored_model, stored_size
from ..tasks.language import LanguageModelling
from .text_lines import opened

# The number of tokens that are read at once if the length of a piece has no influence.
_PIECE = 1024


def predict(
    checkpoint: Checkpoint,
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
    """Score lines of text, or continue them.

    Every line is a text of its own. Scores are -log p of its tokens and of its end, in nats.

    Args:
        checkpoint: The checkpoint of the model.
        input: A file with one text a line, or - for standard input.
        output: A file for one line a text, replaced when all are done, or - for standard output.
        format: tsv (a header, then perplexity, bits a character and the scores of the tokens,
            separated by spaces; or the line and its continuation as text), or jsonl (an object a
            line).
        what: score, or continue.
        length: Most tokens of a continuation.
        temperature: The lower it is, the more probable are the tokens that are drawn.
        top_k: Draw from the k most probable tokens; 1 always takes the most probable one; null
            draws from all.
        seed: The seed of the draws, together with the number of the line.
        device: The device of the model: cpu, cuda, ...
    """
    model = stored_model(LanguageModelling, checkpoint, device)
    window = stored_size(checkpoint, "window") if checkpoint.data.get("mode") == "stream" else None
    with opened(input, output) as (texts, out):
        if format == "tsv" and what == "score":
            print("perplexity", "bits_per_character", "scores", sep="\t", file=out)
        for number, text in enumerate(texts):
            if what == "score":
                print(_score_line(model, text, window, format), file=out)
                continue
            found = continuation(model, text, length, window, temperature, top_k, (seed, number))
            if format == "jsonl":
                line = json.dumps({"text": text, "continuation": found}, ensure_ascii=False)
            else:
                between = " " if model.tokenizer.level == "word" and text and found else ""
                line = f"{text}{between}{found}".replace("\n", " ")
            print(line, file=out)


def _score_line(
    model: LanguageModelling, text: str, window: int | None, format: Literal["tsv", "jsonl"]
) -> str:
    tokens = encode(model, text)
    nats = score(model, tokens, window)
    read = torch.tensor(tokens, device=model.device)
    characters = int(model.characters(read[:-1], read[1:]).sum())
    # For a model of one endless text, an empty line has no token to predict: NaN.
    perplexity = float(torch.tensor(nats).double().mean().exp())
    bits = sum(nats) / math.log(2) / characters if characters else math.nan
    if format == "tsv":
        return f"{perplexity:.6g}\t{bits:.6g}\t{' '.join(f'{value:.6g}' for value in nats)}"
    values = {
        "perplexity": perplexity if nats else None,
        "bits_per_character": bits if characters else None,
        "tokens": [model.tokenizer.vocabulary[token] for token in tokens[1:]],
        "scores": nats,
    }
    return json.dumps(values, ensure_ascii=False)


def encode(model: LanguageModelling, text: str) -> list[int]:
    """Return the tokens of a text, after the end of the text before and, if texts end, its own."""
    (tokens,) = model.tokenizer.documents([text])
    return tokens if model.ends else tokens[:-1]


def score(model: LanguageModelling, tokens: Sequence[int], window: int | None) -> list[float]:
    """Return -log p in nats of all ``tokens`` but the first, each given those before it.

    A long text is read in pieces, in bounded memory. The pieces are windows, if BatchNorm counts
    its steps from their beginnings, or have any length (see ``seqnorm.models.LanguageModel``).
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
    """Draw a continuation of ``text``, to its end or for ``length`` tokens."""
    tokenizer = model.tokenizer
    (tokens,) = tokenizer.documents([text])
    generator = torch.Generator(model.device)
    # Python hashes a string by SHA-512, so that similar seeds and lines draw unrelated numbers.
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
