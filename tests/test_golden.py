"""State dicts that an earlier version saved load in this one, and answer the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from golden import FOLDER, MODULES, answer, build, predicted
from tolerances import VALUES, assert_close
from zipped import zipped

import seqnorm
from seqnorm.nn.layers.torch_contract import FORMAT
from seqnorm.training.checkpoints.checkpoint_file import FORMAT as CHECKPOINT_FORMAT
from seqnorm.training.checkpoints.checkpoint_file import FORMAT_KEY, read_checkpoint

FILES = sorted(FOLDER.glob("format_*.pt"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_loads_and_answers_the_same(path: Path) -> None:
    entries = torch.load(path, weights_only=True)
    assert len(entries) >= 13
    for name, args, options, state, x, expected in entries:
        module = build(name, args, options)
        module.load_state_dict(state)
        found = answer(module, x)
        assert len(found) == len(expected)
        for ours, theirs in zip(found, expected):
            assert_close(ours, theirs, VALUES)


def test_there_is_a_file_of_this_format() -> None:
    assert FILES[-1].stem == f"format_{FORMAT}"
    kept = [(name, args, options) for name, args, options, *_ in torch.load(FILES[-1])]
    assert kept == MODULES


CHECKPOINTS = sorted(FOLDER.glob("checkpoint_*.ckpt"))


def fields(table: str) -> list[list[str]]:
    return [line.split("\t") for line in table.splitlines()]


@pytest.mark.parametrize("path", CHECKPOINTS, ids=lambda path: path.stem)
def test_a_checkpoint_predicts_the_same(path: Path) -> None:
    found, expected = fields(predicted(path)), fields(path.with_suffix(".txt").read_text())
    assert len(found) == len(expected) > 2
    for ours, theirs in zipped(found, expected):
        for one, other in zipped(ours, theirs):
            try:
                assert float(one) == pytest.approx(float(other), abs=2e-4)
            except ValueError:
                assert one == other


def test_a_checkpoint_of_a_later_format(tmp_path: Path) -> None:
    contents = torch.load(CHECKPOINTS[-1], weights_only=True)
    assert contents[FORMAT_KEY] == CHECKPOINT_FORMAT == len(CHECKPOINTS)
    for version in (CHECKPOINT_FORMAT + 1, 0, "1", None):
        torch.save({**contents, FORMAT_KEY: version}, tmp_path / "later.ckpt")
        with pytest.raises(ValueError, match=f"reads up to {CHECKPOINT_FORMAT}.*newer version"):
            read_checkpoint(tmp_path / "later.ckpt")


@pytest.mark.parametrize("make", [seqnorm.LSTM, seqnorm.GRUCell])
def test_a_later_format_is_refused(make: Any) -> None:
    module = make(3, 4, norm="layer")
    state = module.state_dict()
    assert state._metadata[""]["version"] == FORMAT
    state._metadata[""]["version"] = FORMAT + 1
    with pytest.raises(RuntimeError, match=f"format {FORMAT + 1}.*reads up to {FORMAT}.*newer"):
        module.load_state_dict(state)
    del state._metadata  # as of a file that holds tensors alone
    module.load_state_dict(state)
