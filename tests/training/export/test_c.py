"""The recurrent layer of a trained model as a header in C."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from seqnorm import RecurrentLayer
from seqnorm.datasets import Tokenizer
from seqnorm.export import to_c
from seqnorm.training import TextClassification
from seqnorm.training.checkpoints.checkpoint_file import AtomicCheckpointIO, read_checkpoint
from seqnorm.training.checkpoints.stored_model import stored_model
from seqnorm.training.export.formats import export


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    tokenizer = Tokenizer.train(["corn and wheat", "a goal"]).to_json()
    model = TextClassification(tokenizer, ("grain", "sport"), hidden_size=6, embedding_size=5)
    content = {
        "state_dict": model.state_dict(),
        "hyper_parameters": dict(model.hparams),
        "datamodule_hyper_parameters": {},
    }
    path = tmp_path_factory.mktemp("classifier") / "best.ckpt"
    AtomicCheckpointIO().save_checkpoint(content, path)
    return path


def test_the_command_writes_the_layer(
    checkpoint: Path, tmp_path: Path, run_seqnorm: Callable[..., None]
) -> None:
    run_seqnorm("export", str(checkpoint), "--to", "model.h")
    written = next(tmp_path.rglob("model.h")).read_text()
    model = stored_model(TextClassification, read_checkpoint(checkpoint)).eval()
    (layer,) = [module for module in model.modules() if isinstance(module, RecurrentLayer)]
    (path,) = to_c(layer, tmp_path / "again.h")
    again = path.read_text()
    assert written == again.replace("again", "model").replace("AGAIN", "MODEL")


@pytest.mark.parametrize(
    ("options", "message"),
    [({"step": True}, "leave out --step"), ({"int8": True}, "leave out --int8")],
)
def test_refuses(checkpoint: Path, options: dict[str, bool], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        export(read_checkpoint(checkpoint), str(tmp_path / "model.h"), **options)
    assert not list(tmp_path.iterdir())


def test_an_unknown_ending_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"one of \.onnx, \.h"):
        export(read_checkpoint(checkpoint), str(tmp_path / "model.pt2"))
