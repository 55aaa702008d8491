"""torchrl's recurrent modules with normalised layers and trajectories that end early.

Axes: T steps, B environments, I = observation, H = hidden size, L = layers.
"""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from tolerances import SINGLE, assert_close
from torch import Tensor, nn

from seqnorm.integrations import torch_rnn

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    modules: Any = pytest.importorskip("torchrl.modules")
    tensordict: Any = pytest.importorskip("tensordict")

pytestmark = pytest.mark.filterwarnings("ignore")  # warnings of the library

I, H, L, T, B = 3, 8, 2, 12, 4  # noqa: E741  the axes' letters
STATES = {"LSTM": ["h", "c"], "GRU": ["h"]}


def around(layer: nn.Module, kind: str, **options: Any) -> Any:
    keys = STATES[kind]
    return getattr(modules, f"{kind}Module")(
        **{kind.lower(): layer},
        in_keys=["observation", *keys],
        out_keys=["features", *(("next", key) for key in keys)],
        **options,
    )


def rollout() -> tuple[Tensor, Tensor]:
    """Return observations (B, T, I), and a mask (B, T, 1) of the beginnings of trajectories."""
    begins = torch.zeros(B, T, 1, dtype=torch.bool)
    for environment, step in ((0, 0), (1, 0), (2, 0), (3, 0), (1, 5), (2, 3), (2, 9)):
        begins[environment, step] = True
    return torch.randn(B, T, I), begins


def whole(module: Any, x: Tensor, begins: Tensor) -> Tensor:
    given = tensordict.TensorDict({"observation": x, "is_init": begins}, batch_size=[B, T])
    with modules.set_recurrent_mode(True):
        found: Tensor = module(given)["features"]
    return found


@pytest.mark.parametrize("norm", [None, "layer", "batch"])
@pytest.mark.parametrize("kind", STATES)
def test_a_module_trains(kind: str, norm: str | None) -> None:
    layer = getattr(torch_rnn, kind)(I, H, L, batch_first=True, norm=norm)
    module, head = around(layer, kind), nn.Linear(H, 1)
    x, begins = rollout()
    target = x.cumsum(1)[..., :1].tanh()
    optimiser = torch.optim.Adam([*module.parameters(), *head.parameters()], 1e-2)
    losses = []
    for _ in range(40):
        optimiser.zero_grad()
        loss = (head(whole(module, x, begins)) - target).square().mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    for key, parameter in layer.named_parameters():
        assert parameter.grad is not None, key


@pytest.mark.parametrize("norm", [None, "layer"])
@pytest.mark.parametrize("kind", STATES)
def test_steps_of_a_rollout_are_the_whole(kind: str, norm: str | None) -> None:
    """Calls for single steps, as in a collector, give the same as one call on the rollout."""
    layer = getattr(torch_rnn, kind)(I, H, L, batch_first=True, norm=norm).eval()
    module = around(layer, kind)
    x, begins = rollout()
    expected = whole(module, x, begins)
    state = {key: torch.zeros(B, L, H) for key in STATES[kind]}
    for t in range(T):
        given = {"observation": x[:, t], "is_init": begins[:, t], **state}
        step = module(tensordict.TensorDict(given, batch_size=[B]))
        assert_close(step["features"], expected[:, t], SINGLE)
        state = {key: step["next", key] for key in STATES[kind]}


@pytest.mark.parametrize("kind", STATES)
def test_a_norm_is_not_left_out_by_what_computes_from_weights(kind: str) -> None:
    x, begins = rollout()
    plain = getattr(torch_rnn, kind)(I, H, L, batch_first=True)
    expected = whole(around(plain, kind), x, begins)
    assert_close(whole(around(plain, kind, recurrent_backend="scan"), x, begins), expected, SINGLE)
    layer = getattr(torch_rnn, kind)(I, H, L, batch_first=True, norm="layer")
    with pytest.raises(RuntimeError, match="this layer has norm, which would be left out"):
        whole(around(layer, kind, recurrent_backend="scan"), x, begins)
    with pytest.raises(TypeError):
        around(layer, kind).make_python_based()
