"""``seqnorm.load``: trained models in Python."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import seqnorm
from seqnorm.datasets import LanguageTokenizer, Tokenizer
from seqnorm.training import LanguageModelling, TextClassification
from seqnorm.training.checkpoints.checkpoint_file import AtomicCheckpointIO
from seqnorm.training.prediction.loaded import LoadedClassifier, LoadedLanguageModel

TOKENIZER = Tokenizer.train(["corn wheat", "goal team"]).to_json()


@pytest.fixture
def classifier(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    model = TextClassification(TOKENIZER, ("grain", "sport"), embedding_size=4, hidden_size=4)
    stored = {"state_dict": model.state_dict(), "hyper_parameters": dict(model.hparams)}
    data = {"datamodule_hyper_parameters": {"max_length": 2}}
    AtomicCheckpointIO().save_checkpoint({**stored, **data}, tmp_path / "a.ckpt")
    return tmp_path / "a.ckpt"


@pytest.fixture
def language_model(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    tokenizer = LanguageTokenizer.learn(["abcdefgh "]).to_json()
    model = LanguageModelling(tokenizer, embedding_size=4, hidden_size=4)
    stored = {"state_dict": model.state_dict(), "hyper_parameters": dict(model.hparams)}
    AtomicCheckpointIO().save_checkpoint(stored, tmp_path / "b.ckpt")
    return tmp_path / "b.ckpt"


def test_a_classifier(classifier: Path) -> None:
    loaded = seqnorm.load(classifier, task="classification")
    assert isinstance(loaded, LoadedClassifier)
    assert repr(loaded) == "LoadedClassifier(classes=('grain', 'sport'))"
    texts = ["corn wheat", "", "goal", "goal corn team"]
    found = loaded.predict(iter(texts), batch_size=3)
    for text, (label, probabilities) in zip(texts, found):
        (tokens,) = loaded.model.tokenizer.encode([text], 2)
        with torch.no_grad():
            logits = loaded.model(
                torch.tensor([tokens], dtype=torch.int64), torch.tensor([len(tokens)])
            )
        expected = logits.softmax(-1)[0].tolist()
        assert list(probabilities) == ["grain", "sport"]
        assert list(probabilities.values()) == pytest.approx(expected, abs=1e-6)
        assert probabilities[label] == max(probabilities.values())
    assert len(found) == 4
    assert loaded.predict([]) == []
    assert not loaded.model.training


def test_a_language_model(language_model: Path) -> None:
    loaded = seqnorm.load(language_model, task="language")
    assert isinstance(loaded, LoadedLanguageModel)
    (found,) = loaded.predict(["abc"])
    assert found.tokens[:3] == ["a", "b", "c"]
    assert len(found.tokens) == len(found.scores) == 4
    assert found.perplexity == pytest.approx(math.exp(sum(found.scores) / 4))
    assert loaded.continue_text("abc", 9) == loaded.continue_text("abc", 9)
    assert len(loaded.continue_text("abc", 9)) <= 9
    assert "tokens)" in repr(loaded)


def test_what_is_refused(classifier: Path, language_model: Path) -> None:
    loaded = seqnorm.load(classifier, task="classification")
    with pytest.raises(TypeError, match=r"write \[text\] for a single one"):
        loaded.predict("corn")
    with pytest.raises(TypeError, match="text 1 is 5, not a string"):
        loaded.predict(["corn", 5])  # type: ignore[list-item]  # which is what is refused
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        loaded.predict(["corn"], batch_size=0)
    with pytest.raises(ValueError, match="holds a model of the task language, not of classificat"):
        seqnorm.load(language_model, task="classification")
    with pytest.raises(ValueError, match=r"there is no checkpoint .*none\.ckpt"):
        seqnorm.load("none.ckpt")
    with pytest.raises(ValueError, match="there is no device 'abacus'"):
        seqnorm.load(classifier, device="abacus")


def test_without_the_packages_of_training() -> None:
    code = "import sys; sys.modules['lightning'] = None; import seqnorm; seqnorm.LSTM; seqnorm.load"
    root = Path(__file__).parents[3]
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)
    assert "needs the module lightning, which is not installed: pip install" in run.stderr
