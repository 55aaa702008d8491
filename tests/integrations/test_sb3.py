"""Policies for RecurrentPPO, compared with those of sb3-contrib and with its loop over steps.

Axes: T steps, B sequences, I = input size, H = hidden size, L = layers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tolerances import GRADIENTS, SINGLE, VALUES, assert_close, assert_equal
from torch import Tensor, nn
from zipped import zipped

import seqnorm

contrib: Any = pytest.importorskip("sb3_contrib", reason="sb3-contrib is not installed")
gymnasium: Any = pytest.importorskip("gymnasium", reason="gymnasium is not installed")
numpy: Any = pytest.importorskip("numpy")

from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy  # noqa: E402

from seqnorm.integrations import sb3  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # warnings of the libraries

I, H, L, T, B = 3, 5, 2, 8, 4  # noqa: E741  the axes' letters
SMALL = {"lstm_hidden_size": 8, "net_arch": [8]}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "two LSTMs": {},
    "a shared LSTM": {"shared_lstm": True, "enable_critic_lstm": False},
    "an LSTM of the actor": {"enable_critic_lstm": False},
    "two layers": {"n_lstm_layers": 2},
}
NORMS = ["layer", "rms", "ba2016"]


class Looped(sb3.NormalisedLstmPolicy):  # type: ignore[misc]  # untyped
    """A normalised policy with sb3-contrib's loop over steps."""

    _process_sequence = staticmethod(RecurrentActorCriticPolicy._process_sequence)


def drawn(share: float = 0.4) -> tuple[Tensor, tuple[Tensor, Tensor], Tensor]:
    """Return features (B * T, I), states (L, B, H), and beginnings of episodes (B * T,)."""
    x = torch.randn(B * T, I, dtype=torch.float64, requires_grad=True)
    h, c = (torch.randn(L, B, H, dtype=torch.float64, requires_grad=True) for _ in "hc")
    return x, (h, c), (torch.rand(B * T) < share).double()


def results(process: Any, layer: nn.Module, given: tuple[Any, ...], seed: int) -> list[Tensor]:
    """Return outputs, states, and gradients of all leaves under random cotangents."""
    x, states, starts = given
    output, final = process(x, states, starts, layer)
    torch.manual_seed(seed)
    loss = sum((value * torch.randn(value.shape).double()).sum() for value in (output, *final))
    leaves = [x, *states, *layer.parameters()]
    return [output, *final, *torch.autograd.grad(loss, leaves, materialize_grads=True)]


def assert_like(found: list[Tensor], right: list[Tensor]) -> None:
    for number, (one, two) in enumerate(zipped(found, right)):
        assert_close(one.detach(), two.detach(), VALUES if number < 3 else GRADIENTS)


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_without_a_norm_it_computes_what_sb3_does(share: float) -> None:
    theirs = nn.LSTM(I, H, L).double()
    ours = seqnorm.LSTM.from_torch(theirs)
    given = drawn(share)
    right = results(RecurrentActorCriticPolicy._process_sequence, theirs, given, 1)
    assert_like(results(sb3.NormalisedLstmPolicy._process_sequence, ours, given, 1), right)


@pytest.mark.parametrize("norm", NORMS)
def test_with_a_norm_it_is_the_masked_loop(norm: str) -> None:
    layer = seqnorm.LSTM(I, H, L, norm=norm).double()
    for parameter in layer.parameters():
        nn.init.normal_(parameter, 0.0, 0.5)
    given = drawn()
    right = results(RecurrentActorCriticPolicy._process_sequence, layer, given, 1)
    assert_like(results(sb3.NormalisedLstmPolicy._process_sequence, layer, given, 1), right)


def test_a_batch_is_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = seqnorm.LSTM(I, H, L, norm="layer").double()
    calls: list[Any] = []
    forward = layer.forward
    monkeypatch.setattr(layer, "forward", lambda *a, **k: calls.append(a) or forward(*a, **k))
    sb3.NormalisedLstmPolicy._process_sequence(*drawn(), layer)
    assert len(calls) == 1


def learned(policy: Any, seed: int = 3, **options: Any) -> Any:
    """Return a model after two rounds of training."""
    settings = {"n_steps": 32, "batch_size": 48, "n_epochs": 2, "device": "cpu", "seed": seed}
    model = contrib.RecurrentPPO(
        policy, "CartPole-v1", **settings, policy_kwargs={**SMALL, **options}
    )
    return model.learn(64)


def assert_same_policy(found: Any, right: Any) -> None:
    for (name, one), (other, two) in zipped(
        found.policy.named_parameters(), right.policy.named_parameters()
    ):
        assert name == other
        assert_close(one.detach(), two.detach(), SINGLE, name)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_training_without_a_norm_is_that_of_sb3(name: str) -> None:
    found = learned(sb3.NormalisedLstmPolicy, norm=None, **ARCHITECTURES[name])
    assert_same_policy(found, learned("MlpLstmPolicy", **ARCHITECTURES[name]))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_training_with_a_norm_is_that_of_the_loop(name: str) -> None:
    found = learned(sb3.NormalisedLstmPolicy, norm="layer", **ARCHITECTURES[name])
    assert isinstance(found.policy.lstm_actor, seqnorm.LSTM)
    assert found.policy.lstm_actor.norm is not None
    assert_same_policy(found, learned(Looped, norm="layer", **ARCHITECTURES[name]))


def test_every_parameter_is_trained() -> None:
    options = {"lstm_kwargs": {"learn_initial_state": True}}
    policy = learned(sb3.NormalisedLstmPolicy, **options).policy
    optimised = {id(p) for group in policy.optimizer.param_groups for p in group["params"]}
    assert optimised == {id(p) for p in policy.parameters()}
    for layer in (policy.lstm_actor, policy.lstm_critic):
        assert layer.h_0.abs().sum() > 0, "learned from zeros"


def test_episodes_begin_with_the_learned_state() -> None:
    layer = seqnorm.LSTM(I, H, L, norm="layer", learn_initial_state=True).double()
    for parameter in layer.parameters():
        nn.init.normal_(parameter, 0.0, 0.5)

    def loop(x: Tensor, states: Any, starts: Tensor, layer: Any) -> Any:
        rows, flags = x.view(B, T, I), starts.view(B, T)[:, :, None]
        outputs = []
        for t in range(T):
            own = (layer.h_0[:, None], layer.c_0[:, None])
            states = [torch.where(flags[:, t] > 0, new, old) for new, old in zipped(own, states)]
            output, states = layer(rows[:, t][None], tuple(states))
            outputs.append(output[0])
        return torch.stack(outputs, 1).flatten(0, 1), states

    given = drawn()
    right = results(loop, layer, given, 1)
    assert_like(results(sb3.NormalisedLstmPolicy._process_sequence, layer, given, 1), right)


@pytest.mark.parametrize("begins", [None, False])
def test_predictions_begin_with_the_learned_state(begins: bool | None) -> None:
    options = {"lstm_kwargs": {"learn_initial_state": True}}
    policy = learned(sb3.NormalisedLstmPolicy, **options).policy
    x = numpy.ones((2, 4), dtype="float32")
    told = None if begins is None else numpy.zeros(2, dtype=bool)
    _, found = policy.predict(x, episode_start=told, deterministic=True)
    zeros = tuple(numpy.zeros((1, 2, 8), dtype="float32") for _ in "hc")
    _, right = policy.predict(x, zeros, numpy.ones(2, dtype=bool), deterministic=True)
    _, other = policy.predict(x, zeros, numpy.zeros(2, dtype=bool), deterministic=True)
    for one, two, three in zipped(found, right, other):
        assert numpy.array_equal(one, two)
        assert not numpy.array_equal(one, three)
    _, single = policy.predict(x[0], deterministic=True)
    assert_close(torch.tensor(single[0][:, 0]), torch.tensor(found[0][:, 0]), SINGLE)


def test_a_saved_model_acts_the_same(tmp_path: Path) -> None:
    model = learned(sb3.NormalisedLstmPolicy, norm="rms", lstm_kwargs={"zoneout": 0.1})
    model.save(tmp_path / "model.zip")
    loaded = contrib.RecurrentPPO.load(tmp_path / "model.zip", device="cpu")
    assert loaded.policy.lstm_actor.zoneout == (0.1, 0.1)
    x, state = numpy.linspace(-1, 1, 8, dtype="float32").reshape(2, 4), None
    for _ in range(3):
        _, right = model.predict(x, state, deterministic=True)
        _, found = loaded.predict(x, state, deterministic=True)
        for one, two in zipped(found, right):
            assert_equal(torch.tensor(one), torch.tensor(two))
        state = right


@pytest.mark.parametrize("kind", ["images", "dictionaries"])
def test_other_observations(kind: str) -> None:
    spaces = gymnasium.spaces
    image = spaces.Box(0, 255, (3, 36, 36), dtype=numpy.uint8)
    space = image if kind == "images" else spaces.Dict({"a": image, "b": spaces.Box(-1, 1, (2,))})
    name = "CnnLstmPolicy" if kind == "images" else "MultiInputLstmPolicy"
    theirs = contrib.RecurrentPPO.policy_aliases[name]
    options: Any = {**SMALL, "features_extractor_kwargs": {}}
    if kind == "images":
        options["features_extractor_kwargs"] = {"features_dim": 8}
    given = space, spaces.Discrete(2), lambda left: 1e-3
    torch.manual_seed(0)
    right = theirs(*given, **options)
    torch.manual_seed(0)
    found = getattr(sb3, f"Normalised{name}")(*given, norm=None, **options)
    x = {key: value[None] for key, value in space.sample().items()} if kind != "images" else None
    x = space.sample()[None] if x is None else x
    (action, state), (expected, other) = (
        policy.predict(x, deterministic=True) for policy in (found, right)
    )
    assert numpy.array_equal(action, expected)
    for one, two in zipped(state, other):
        assert_close(torch.tensor(one), torch.tensor(two), SINGLE)
    assert getattr(sb3, f"Normalised{name}")(*given, **options).lstm_actor.norm is not None


WRONG: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "BatchNorm": ({"norm": "batch"}, ValueError, 'use norm="layer"'),
    "BatchNorm over time": ({"norm": "batch_pooled"}, ValueError, "which steps are padding"),
    "a wrong name": ({"norm": "layr"}, ValueError, "layr"),
    "both directions": ({"lstm_kwargs": {"bidirectional": True}}, ValueError, "read the future"),
    "a projection": ({"lstm_kwargs": {"proj_size": 2}}, ValueError, "states h and c of one size"),
    "a norm among options": ({"lstm_kwargs": {"norm": "rms"}}, ValueError, "dict.norm="),
    "an unknown option": ({"lstm_kwargs": {"zone": 0.1}}, TypeError, "zone"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_options(case: str) -> None:
    options, error, text = WRONG[case]
    with pytest.raises(error, match=text):
        contrib.RecurrentPPO(sb3.NormalisedLstmPolicy, "CartPole-v1", policy_kwargs=options)
