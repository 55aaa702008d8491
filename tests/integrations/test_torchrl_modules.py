"""Normalised modules for torchrl, compared with torchrl's own and with a loop over steps.

Axes: T steps, B environments, I = observation, H = hidden size, L = layers, D = directions.
"""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import torch
from tolerances import GRADIENTS, SINGLE, VALUES, assert_close
from torch import Tensor, nn
from zipped import zipped

import seqnorm

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    theirs: Any = pytest.importorskip("torchrl.modules", reason="torchrl is not installed")
    tensordict: Any = pytest.importorskip("tensordict")

from seqnorm.integrations import torchrl as ours

pytestmark = pytest.mark.filterwarnings("ignore")  # warnings of the library

I, H, L, T, B = 3, 5, 2, 9, 4  # noqa: E741  the axes' letters
KINDS = ("LSTM", "GRU")
KEYS = {"in_key": "observation", "out_key": "features"}


def module(kind: str, **options: Any) -> Any:
    """Return a module of ours with random parameters in float64."""
    found = getattr(ours, f"{kind}Module")(I, H, L, **KEYS, **options).double()
    for parameter in found.parameters():
        nn.init.normal_(parameter, 0.0, 0.5)
    return found


def as_torchrl(found: Any, kind: str) -> Any:
    """Return torchrl's module with the layer of a module without a norm."""
    layer = getattr(found, kind.lower()).to_torch()
    return getattr(theirs, f"{kind}Module")(**{kind.lower(): layer}, **KEYS)


def drawn(found: Any, *shape: int, stored: bool = True, share: float = 0.3) -> Any:
    """Return observations, beginnings of trajectories, and states of every step."""
    states = found.in_keys[1:-1] if stored else []
    options = {"dtype": torch.float64, "requires_grad": True}
    entries = {key: torch.randn(*shape, *size(found), **options) for key in states}
    entries["observation"] = torch.randn(*shape, I, **options)
    begins = torch.rand(*shape, 1) < share
    return tensordict.TensorDict({"is_init": begins, **entries}, batch_size=shape)


def size(found: Any) -> tuple[int, int]:
    layer = found._layer
    return (1 + layer.bidirectional) * layer.num_layers, layer.hidden_size


def results(call: Any, found: Any, given: Any, seed: int) -> list[Tensor]:
    """Return the written entries, and gradients of all leaves under random cotangents."""
    written = call(given.copy())
    values = [written[key] for key in found.out_keys]
    torch.manual_seed(seed)
    loss = sum((value * torch.randn(value.shape).double()).sum() for value in values)
    leaves = [given[key] for key in found.in_keys[:-1] if key in given.keys()]  # noqa: SIM118  not a mapping
    leaves += list(found.parameters())
    return [*values, *torch.autograd.grad(loss, leaves, materialize_grads=True)]


def assert_like(found: list[Tensor], right: list[Tensor], values: int) -> None:
    for number, (one, two) in enumerate(zipped(found, right)):
        tolerance = VALUES if number < values else GRADIENTS
        assert_close(one.detach(), two.detach(), tolerance, str(number))


@pytest.mark.parametrize("recurrent", [True, False])
@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(B, T), (T,), (2, 3, T), (B, 1)])
def test_without_a_norm_it_computes_what_torchrl_does(
    shape: tuple[int, ...], kind: str, bidirectional: bool, stored: bool, recurrent: bool
) -> None:
    found = module(kind, bidirectional=bidirectional)
    right = as_torchrl(found, kind)
    given = drawn(found, *shape, stored=stored)
    with theirs.set_recurrent_mode(recurrent):
        expected = results(right, right, given, 1)
        assert_like(results(found, found, given, 1), expected, len(found.out_keys))


def test_a_projection() -> None:
    found = module("LSTM", proj_size=2)
    right = as_torchrl(found, "LSTM")
    given = drawn(found, B, T, stored=False)
    with theirs.set_recurrent_mode(True):
        expected = results(right, right, given, 1)
        assert_like(results(found, found, given, 1), expected, 3)


def looped(found: Any, given: Any) -> Any:
    """Compute a batch step by step, with the stored state where a trajectory begins."""
    layer, states = found._layer, found.in_keys[1:-1]
    begins = given["is_init"].clone()
    begins[:, 0] = True
    outputs: dict[Any, list[Tensor]] = {key: [] for key in found.out_keys}
    state: Any = [0.0 for _ in states]
    for t in range(T):
        flags = begins[:, t, 0][None, :, None]
        fresh = [given[key][:, t].transpose(0, 1) for key in states]
        state = [torch.where(flags, new, old) for new, old in zipped(fresh, state)]
        output, state = layer(
            given["observation"][:, t : t + 1], tuple(state) if len(state) > 1 else state[0]
        )
        state = state if isinstance(state, tuple) else (state,)
        ends = begins[:, t + 1] if t + 1 < T else torch.ones_like(begins[:, t])
        outputs[found.out_keys[0]].append(output[:, 0])
        for key, part in zipped(found.out_keys[1:], state):
            outputs[key].append(part.transpose(0, 1) * ends[:, :, None])
    for key, parts in outputs.items():
        given.set(key, torch.stack(parts, 1))
    return given


@pytest.mark.parametrize("norm", ["layer", "rms"])
@pytest.mark.parametrize("kind", KINDS)
def test_with_a_norm_it_is_the_loop(kind: str, norm: str) -> None:
    found = module(kind, norm=norm)
    given = drawn(found, B, T)
    right = results(lambda one: looped(found, one), found, given, 1)
    with theirs.set_recurrent_mode(True):
        assert_like(results(found, found, given, 1), right, len(found.out_keys))


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_steps_of_a_rollout_are_the_whole(kind: str, learned: bool) -> None:
    """A primer stores zeros where trajectories begin; they mean the initial state."""
    found = module(kind, norm="layer", learn_initial_state=learned)
    given = drawn(found, B, T, stored=False)
    given["is_init"][:, 0] = True
    stored: dict[str, list[Tensor]] = {key: [] for key in found.in_keys[1:-1]}
    steps = []
    state = {key: torch.zeros(B, *size(found)).double() for key in stored}
    for t in range(T):
        begins = given["is_init"][:, t, :, None]
        state = {key: torch.where(begins, 0.0, part) for key, part in state.items()}
        for key, part in state.items():
            stored[key].append(part)
        step = found(tensordict.TensorDict({**dict(given[:, t].items()), **state}, [B]))
        steps.append(step["features"])
        state = {key: step["next", key] for key in stored}
    for key, parts in stored.items():
        given[key] = torch.stack(parts, 1).detach()
    with theirs.set_recurrent_mode(True):
        whole = found(given)
    assert_close(whole["features"], torch.stack(steps, 1), VALUES)
    torch.manual_seed(1)
    cotangents = torch.randn(B, T, H).double()
    losses = [(one * cotangents).sum() for one in (whole["features"], torch.stack(steps, 1))]
    gradients = [torch.autograd.grad(loss, list(found.parameters())) for loss in losses]
    for one, two in zipped(*gradients):
        assert_close(one, two, GRADIENTS)


@pytest.mark.parametrize("kind", KINDS)
def test_an_environment_primes_it_and_a_loss_trains_it(kind: str) -> None:
    pytest.importorskip("gymnasium")
    from tensordict.nn import TensorDictModule, TensorDictSequential
    from torchrl.envs import Compose, GymEnv, InitTracker, TransformedEnv
    from torchrl.objectives import ClipPPOLoss
    from torchrl.objectives.value import GAE

    torch.manual_seed(0)
    common = getattr(ours, f"{kind}Module")(4, H, norm="layer", **KEYS)
    scores = TensorDictModule(nn.Linear(H, 2), ["features"], ["logits"])
    actor = theirs.ProbabilisticActor(
        TensorDictSequential(common, scores),
        in_keys=["logits"],
        distribution_class=theirs.OneHotCategorical,
        return_log_prob=True,
    )
    values = TensorDictModule(nn.Linear(H, 1), ["features"], ["state_value"])
    critic = TensorDictSequential(common, values)
    transforms = Compose(InitTracker(), common.make_tensordict_primer())
    environment = TransformedEnv(GymEnv("CartPole-v1"), transforms)
    environment.set_seed(0)
    with torch.no_grad():
        data = environment.rollout(100, actor, break_when_any_done=False)[None]
    assert data["is_init"].sum() > 1
    with theirs.set_recurrent_mode(True):
        again = common(data.copy())
    assert_close(again["features"], data["features"], SINGLE)

    loss = ClipPPOLoss(actor, critic)
    GAE(gamma=0.9, lmbda=0.9, value_network=critic, deactivate_vmap=True)(data)
    found = loss(data)
    assert_close(found["kl_approx"].detach(), torch.zeros(()), SINGLE)
    (found["loss_objective"] + found["loss_critic"]).backward()
    for name, parameter in common.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_a_graph_breaks_around_the_trajectories() -> None:
    torch._dynamo.reset()
    found = module("GRU", norm="layer")
    given = drawn(found, B, T).detach()
    compiled = torch.compile(copy.deepcopy(found), backend="eager")
    with theirs.set_recurrent_mode(True), torch.no_grad():
        right = found(given.copy())
        for _ in range(2):
            assert_close(compiled(given.copy())["features"], right["features"], VALUES)


def test_arguments_of_forward_may_be_tensors() -> None:
    found = module("GRU", norm="layer")
    given = drawn(found, B).detach()
    by_name = found(
        observation=given["observation"],
        recurrent_state=given["recurrent_state"],
        is_init=given["is_init"],
    )
    right = found(given)
    assert_close(by_name[0], right["features"], VALUES)


def wrong_module(kind: str = "LSTM", **options: Any) -> Any:
    return getattr(ours, f"{kind}Module")(**{**KEYS, **options})


SIZES = {"input_size": I, "hidden_size": H}
WRONG: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "no sizes": ({}, ValueError, "give input_size and hidden_size, or lstm="),
    "sizes twice": ({"lstm": seqnorm.LSTM(I, H), **SIZES}, ValueError, "leave out input_size"),
    "a norm for a layer": (
        {"lstm": seqnorm.LSTM(I, H, batch_first=True), "norm": "layer"},
        ValueError,
        "lstm has its own sizes and options: leave out norm",
    ),
    "torch's layer": ({"lstm": nn.LSTM(I, H, batch_first=True)}, TypeError, "from_torch"),
    "another order": ({"lstm": seqnorm.LSTM(I, H)}, ValueError, "batch_first=True"),
    "BatchNorm": ({"norm": "batch", **SIZES}, ValueError, 'use norm="layer"'),
    "an unknown norm": ({"norm": "layr", **SIZES}, ValueError, "layr"),
    "torchrl's kernels": ({"recurrent_backend": "scan", **SIZES}, TypeError, "recurrent_backend"),
    "two keys": ({"in_keys": ["a", "b", "c"], **SIZES}, ValueError, "in_keys or in_key"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_options(case: str) -> None:
    options, error, text = WRONG[case]
    with pytest.raises(error, match=text):
        wrong_module(**options)


def test_wrong_calls() -> None:
    found = module("LSTM")
    given = drawn(found, B, T)
    with theirs.set_recurrent_mode(True):
        with pytest.raises(ValueError, match=r"write tensordict.unsqueeze\(0\)"):
            found(given[0, 0])
        with pytest.raises(ValueError, match="give all parts, or leave all of them out"):
            found(given.copy().exclude("recurrent_state_c"))
        begins = torch.zeros(B, T, 2, dtype=torch.bool)
        with pytest.raises(ValueError, match=r"one element for each step.*\(4, 9\)"):
            found(given.copy().set("is_init", begins))
    for refuse in (found.make_python_based, found.make_cudnn_based):
        with pytest.raises(RuntimeError, match="whose norm no layer of torchrl computes"):
            refuse()
