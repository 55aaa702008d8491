"""``check_step`` passes a right step and finds each kind of wrong one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import seqnorm
from seqnorm.nn.layers.cells.gru import GRUStep
from seqnorm.testing import check_step

pytestmark = pytest.mark.usefixtures("forgotten_steps")


def step_of(body: Any, **attributes: Any) -> seqnorm.Step:
    made: Any = type("MadeStep", (seqnorm.Step,), {"gates": "h", "step": body, **attributes})
    step: seqnorm.Step = made()
    return step


def right(self: Any, x: Tensor, h: Tensor, state: Any, norm: Any, scheme: Any) -> Any:
    return (norm("sum", x + h).tanh(),)


def test_a_right_step_and_what_is_reported() -> None:
    before = torch.get_rng_state()
    done = check_step(step_of(right), lambda x, h, state: ((x + h).tanh(),))
    assert torch.equal(torch.get_rng_state(), before)
    assert done[0] == "values against the oracle"
    assert "first and second derivatives, norm=None" in done
    assert "poisoned padding, norm='batch_pooled'" in done
    assert len(done) == len(set(done)) == 41


def test_a_wrong_value() -> None:
    with pytest.raises(AssertionError, match="Made: h is not the oracle's"):
        check_step(step_of(right), lambda x, h, state: ((x + h).sigmoid(),))


def test_a_wrong_derivative() -> None:
    def body(self: Any, x: Tensor, h: Tensor, *_: Any) -> Any:
        return ((x.detach() + h).tanh(),)

    with pytest.raises(AssertionError, match="first and second derivatives, norm=None"):
        check_step(step_of(body))


def test_rows_that_know_of_each_other() -> None:
    def body(self: Any, x: Tensor, h: Tensor, *_: Any) -> Any:
        return ((x + h + h.mean(0)).tanh(),)

    with pytest.raises(AssertionError, match="ragged sequences, norm=None"):
        check_step(step_of(body))


def test_a_step_with_a_memory_of_its_own() -> None:
    def body(self: Any, x: Tensor, h: Tensor, *_: Any) -> Any:
        self.calls = getattr(self, "calls", 0) + 1
        return ((x + h).tanh() * (1 + self.calls % 7),)

    with pytest.raises(AssertionError, match=r"Made: .*norm=None"):
        check_step(step_of(body))


def test_the_steps_of_the_library_pass() -> None:
    """Batch Renormalization too, whose corrections are constants for gradients."""
    done = check_step(GRUStep(), hidden_size=2)
    assert any("derivatives, norm='batch_renorm'" in check for check in done)
