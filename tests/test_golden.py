"""State dicts that an earlier version saved load in this one, and answer the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from golden import FOLDER, MODULES, answer, build
from tolerances import VALUES, assert_close

import seqnorm
from seqnorm.nn.layers.torch_contract import FORMAT

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
