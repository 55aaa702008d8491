"""Draws and scores of a model of texts that end, and of one endless text."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from seqnorm.datasets import LanguageTokenizer
from seqnorm.training import LanguageModelling
from seqnorm.training.checkpoints.checkpoint_file import AtomicCheckpointIO, read_checkpoint
from seqnorm.training.prediction.language import continuation, encode, predict

TOKENIZER = LanguageTokenizer.learn(["abcdefgh "])


def model(ends: bool, **biases: float) -> LanguageModelling:
    """Return an untrained model, with ``biases`` added to the logits of some tokens."""
    torch.manual_seed(0)
    made = LanguageModelling(TOKENIZER.to_json(), ends=ends, embedding_size=4, hidden_size=4).eval()
    with torch.no_grad():
        for name, bias in biases.items():
            made.network.decoder.bias[getattr(TOKENIZER, f"{name}_id")] += bias
    return made


def drawn(made: LanguageModelling, length: int = 50) -> str:
    return continuation(made, "abc", length, None, 1.0, None, (0, 0))


def test_what_is_never_drawn() -> None:
    text = drawn(model(True, unk=50.0, eos=-50.0))
    assert len(text) == 50
    assert set(text) <= set("abcdefgh ")
    assert drawn(model(True, eos=50.0)) == ""
    # A model of one endless text never draws an end.
    text = drawn(model(False, unk=60.0, eos=50.0))
    assert len(text) == 50
    assert set(text) <= set("abcdefgh ")


def test_an_endless_text_is_scored_without_an_end() -> None:
    tokens = TOKENIZER.encode(["abc"])[0]
    assert encode(model(True), "abc") == [TOKENIZER.eos_id, *tokens, TOKENIZER.eos_id]
    assert encode(model(False), "abc") == [TOKENIZER.eos_id, *tokens]


def predicted(tmp_path: Path, texts: str, made: LanguageModelling, **options: Any) -> list[Any]:
    checkpoint = {"state_dict": made.state_dict(), "hyper_parameters": dict(made.hparams)}
    AtomicCheckpointIO().save_checkpoint(checkpoint, tmp_path / "a.ckpt")
    (tmp_path / "texts.txt").write_text(texts)
    files = {"input": str(tmp_path / "texts.txt"), "output": str(tmp_path / "out.jsonl")}
    predict(read_checkpoint(tmp_path / "a.ckpt"), format="jsonl", **files, **options)
    return [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]


def test_scores_of_an_endless_text(tmp_path: Path) -> None:
    whole, empty = predicted(tmp_path, "abc\n\n", model(False))
    assert whole["tokens"] == ["a", "b", "c"]
    bits = sum(whole["scores"]) / math.log(2) / 3
    assert whole["bits_per_character"] == pytest.approx(bits)
    assert empty == {"perplexity": None, "bits_per_character": None, "tokens": [], "scores": []}


def test_every_line_has_draws_of_its_own(tmp_path: Path) -> None:
    found = predicted(tmp_path, "abc\n" * 4, model(True, eos=-50.0), what="continue", length=30)
    assert len({line["continuation"] for line in found}) == 4
