"""Score or continue texts with a trained language model."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, Union

import torch

from ..checkpoints.checkpoint_file import Checkpoint, Trained
from ..checkpoints.stored_model import stored_model, stored_size
from ..tasks.language import LanguageModelling
from .onnx_file import OnnxFile
from .onnx_models import OnnxLanguageModel
from .outputs import Format, format_of, repeats_lines, writing
from .sources import opened
from .text_lines import printing

Model = Union[LanguageModelling, OnnxLanguageModel]

# The number of tokens that are read at once if the length of a piece has no influence.
_PIECE = 1024


def predict(
    checkpoint: Checkpoint | OnnxFile,
    input: str = "-",
    output: str = "-",
    format: Format | None = None,
    text_column: str | None = None,
    delimiter: str | None = None,
    quotes: Literal["enclose", "literal"] | None = None,
    what: Literal["score", "continue"] = "score",
    length: int = 200,
    temperature: float = 1.0,
    top_k: int | None = None,
    seed: int = 0,
    device: str = "cpu",
) -> None:
    """Score texts, or continue them.

    Every row or line is a text of its own. Scores are -log p of its tokens and of its end, in nats.

    Args:
        checkpoint: The checkpoint or the ONNX file of the model.
        input: A table by its ending (.csv, .tsv, .jsonl, .json, .parquet), another file with one
            text a line, a folder of .txt files, or - for standard input, line by line.
            seqnorm predict FILE is short for seqnorm predict --input FILE.
        output: A file for the rows of the table with the scores or continuations, replaced when all
            are done, or - for standard output. -o is short for it.
        format: The format of the output: tsv or csv (a header, then columns: perplexity, bits a
            character and the scores of the tokens, separated by spaces), jsonl (an object a line),
            json or parquet; null for that of the output's name, or tsv. Lines of text are repeated
            in a column text with csv, json or parquet, or, if format is null, in an output whose
            name has the ending of a table; otherwise output k belongs to line k. Such a line is
            printed with its continuation, as text, or with jsonl as an object.
        text_column: The column of the texts; null for that of the training, or a guess.
        delimiter: The character that separates the fields of .csv and .tsv files; null for a guess.
        quotes: The meaning of quotation marks in such files: enclose a field, or literal; null for
            that of the training.
        what: The task: score the texts, or continue them.
        length: The largest number of tokens of a continuation.
        temperature: The lower it is, the more probable are the tokens that are drawn.
        top_k: Draw from the k most probable tokens; 1 always takes the most probable one; null
            draws from all.
        seed: The seed of the draws, together with the number of the line.
        device: The device of the model: cpu, cuda, ...
    """
    model: Model
    if isinstance(checkpoint, OnnxFile):
        model = OnnxLanguageModel(checkpoint, device)
    else:
        model = stored_model(LanguageModelling, checkpoint, device)
    window = window_of(checkpoint)

    def continued(text: str, number: int) -> str:
        return continuation(model, text, length, window, temperature, top_k, (seed, number))

    with opened(input, checkpoint, text_column, delimiter, quotes) as source:
        printed = format_of(output, format) == "tsv" and not repeats_lines(output, format)
        if what == "continue" and source.is_lines and printed:
            with printing(output) as file:
                for number, text in enumerate(source.texts()):
                    source.taken()
                    found = continued(text, number)
                    between = " " if model.tokenizer.level == "word" and text and found else ""
                    print(f"{text}{between}{found}".replace("\n", " "), file=file)
            return
        flat = nested = ["continuation"]
        if what == "continue" and source.is_lines and not repeats_lines(output, format):
            nested = ["text", "continuation"]
        elif what == "score":
            flat = ["perplexity", "bits_per_character", "scores"]
            nested = ["perplexity", "bits_per_character", "tokens", "scores"]
        with writing(source, output, format, flat, nested, ".6g") as out:
            for number, text in enumerate(source.texts()):
                if what == "score":
                    out.write(*_values(scored(model, text, window)))
                else:
                    found = continued(text, number)
                    out.write([found], [text, found][-len(nested) :])


class Score(NamedTuple):
    """The scores of a text.

    Attributes:
        perplexity: The exponential of the mean score, NaN for a text without tokens to predict.
        bits_per_character: The sum of the scores in bits, divided by the number of characters.
        tokens: The tokens.
        scores: The score -log p in nats of each token, given those before it.
    """

    perplexity: float
    bits_per_character: float
    tokens: list[str]
    scores: list[float]


def window_of(trained: Trained) -> int | None:
    """Return the tokens of a window, if a model was trained on windows that all begin at step 0."""
    in_windows = trained.data.get("mode") == "stream"
    in_windows = in_windows and not trained.data.get("reset_at_documents")
    return stored_size(trained, "window") if in_windows else None


def scored(model: Model, text: str, window: int | None) -> Score:
    """Return the scores of a text."""
    tokens = encode(model, text)
    nats = score(model, tokens, window)
    read = torch.tensor(tokens, device=model.device)
    characters = int(model.characters(read[:-1], read[1:]).sum())
    # For a model of one endless text, an empty line has no token to predict: NaN.
    perplexity = float(torch.tensor(nats).double().mean().exp())
    bits = sum(nats) / math.log(2) / characters if characters else math.nan
    names = [model.tokenizer.vocabulary[token] for token in tokens[1:]]
    return Score(perplexity, bits, names, nats)


def _values(found: Score) -> tuple[list[Any], list[Any]]:
    """Return the scores as columns, and as an object."""
    shown = " ".join(f"{value:.6g}" for value in found.scores)
    numbers = [None if math.isnan(value) else value for value in found[:2]]
    return [*found[:2], shown], [*numbers, found.tokens, found.scores]


def encode(model: Model, text: str) -> list[int]:
    """Return the tokens of a text, after the end of the text before and, if texts end, its own."""
    (tokens,) = model.tokenizer.documents([text])
    return tokens if model.ends else tokens[:-1]


def score(model: Model, tokens: Sequence[int], window: int | None) -> list[float]:
    """Return -log p in nats of all ``tokens`` but the first, each given those before it.

    A long text is read in pieces, in bounded memory. The pieces are windows, if BatchNorm counts
    its steps from their beginnings, or have any length (see ``seqnorm.models.LanguageModel``).
    """
    text = torch.tensor(tokens, device=model.device)
    states: Any = None
    found: list[float] = []
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
    model: Model,
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
