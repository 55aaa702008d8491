"""Training by the torchtext pipeline, and with pretrained vectors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from small_runs import SMALL
from torchtext_here import WHY_NOT, needs_torchtext
from zipped import zipped

from seqnorm.training import TextClassification, TextData
from seqnorm.training.tasks.starting_embedding import StartEmbedding

CONFIG = Path(__file__).parents[3] / "configs" / "data" / "torchtext.yaml"


@needs_torchtext
def test_batches_are_those_of_the_default_pipeline(corpus: Path) -> None:
    ours, theirs = TextData(str(corpus)), TextData(str(corpus), pipeline="torchtext")
    for data in (ours, theirs):
        data.setup("fit")
        data.setup("test")
    assert theirs.tokenizer.vocabulary == ours.tokenizer.vocabulary
    for loader in ("train_dataloader", "val_dataloader", "test_dataloader"):
        for a, b in zipped(getattr(ours, loader)(), getattr(theirs, loader)()):
            assert all(torch.equal(x, y) for x, y in zipped(a, b))


@needs_torchtext
def test_fit_and_predict(corpus: Path, run_seqnorm: Callable[..., None], tmp_path: Path) -> None:
    options = (*SMALL, "--trainer.max_epochs=1")
    run_seqnorm("fit", f"--config={CONFIG}", "--data.corpus", corpus, *options)
    (checkpoint,) = tmp_path.rglob("best.ckpt")
    (tmp_path / "lines.txt").write_text("corn and wheat\n\n")
    out = tmp_path / "out.tsv"
    run_seqnorm(
        *("predict", f"--ckpt_path={checkpoint}", f"--input={tmp_path / 'lines.txt'}"),
        f"--output={out}",
    )
    lines = out.read_text().splitlines()
    assert lines[0].split("\t") == ["text", "label", "grain", "sport", "trade"]
    assert len(lines) == 3
    run_seqnorm("test", f"--ckpt_path={checkpoint}", "--trainer.enable_progress_bar=false")


@pytest.mark.skipif(not WHY_NOT, reason="torchtext is there")
def test_elsewhere_one_line_names_the_extra(
    corpus: Path, run_seqnorm: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        run_seqnorm("fit", f"--config={CONFIG}", "--data.corpus", corpus, *SMALL)
    assert stop.value.code not in (0, None)
    assert "seqnorm[train,torchtext]" in capsys.readouterr().err


def test_tokens_of_torchtext_for_another_pipeline(corpus: Path) -> None:
    with pytest.raises(ValueError, match=r"set data\.pipeline torchtext"):
        TextData(str(corpus), torchtext_tokens="basic_english")
    with pytest.raises(ValueError, match="cannot train byte-pair encoding"):
        _ = TextData(str(corpus), pipeline="torchtext", kind="bpe").tokenizer


def start(data: TextData, size: int = 4) -> tuple[TextClassification, torch.Tensor]:
    """Return a model before training, and the embedding that was drawn for it."""
    model = TextClassification(
        data.tokenizer_json, data.classes, embedding_size=size, hidden_size=4, embedding="normal"
    )
    trainer = SimpleNamespace(datamodule=data)
    before = model.network.embedding.weight.detach().clone()
    StartEmbedding().setup(trainer, model, "fit")  # type: ignore[arg-type]
    return model, before


@pytest.mark.parametrize(
    "pipeline", ["tokenizers", pytest.param("torchtext", marks=needs_torchtext)]
)
def test_embeddings_start_with_vectors(pipeline: str, corpus: Path, tmp_path: Path) -> None:
    """All vectors are scaled by one factor to the root mean square of drawn ones."""
    path = tmp_path / "vectors.txt"
    path.write_text("corn 1 2 3 4\nteam -4 3 -2 1\nunheard 1 1 1 1\n")
    data = TextData(str(corpus), vectors=str(path), pipeline=pipeline)  # type: ignore[arg-type]
    model, before = start(data)
    weight = model.network.embedding.weight.detach()
    numbers = [data.tokenizer.vocabulary.index(word) for word in ("corn", "team")]
    found, expected = weight[numbers], torch.tensor([[1.0, 2, 3, 4], [-4, 3, -2, 1]])
    factor = model.network.embedding_std / 7.5**0.5
    torch.testing.assert_close(found, expected * factor)
    others = [number for number in range(len(weight)) if number not in numbers]
    assert torch.equal(weight[others], before[others])
    with pytest.raises(ValueError, match=r"--model\.embedding_size 4"):
        start(data, size=5)
