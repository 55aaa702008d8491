"""Training of recurrent policies on CartPole without velocities, by each library.

Axes: B environments, T steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import nn

import seqnorm
from seqnorm import NormScheme

# The options that both libraries share; those of RL Baselines3 Zoo for RecurrentPPO.
B, T, EPOCHS, UNITS, GAMMA, GAE_LAMBDA, RATE, CLIP = 8, 32, 20, 64, 0.98, 0.8, 0.001, 0.2
LIMITS = [2.4, 0.21]  # the position and the angle at which an episode ends

Episodes = list[tuple[int, float]]  # the steps of all environments at its end, and its return


def without_velocities(environment: Any) -> Any:
    """Return the environment with an observation of the position and the angle alone."""
    import gymnasium

    class PositionAndAngle(gymnasium.ObservationWrapper[Any, Any, Any]):
        def __init__(self) -> None:
            super().__init__(environment)
            space = environment.observation_space
            low, high = space.low[[0, 2]], space.high[[0, 2]]
            self.observation_space = gymnasium.spaces.Box(low, high, dtype=space.dtype.type)

        def observation(self, observation: Any) -> Any:
            return observation[[0, 2]]

    return PositionAndAngle()


def scheme(norm: str | None, layer: str) -> NormScheme | None:
    """Return the scheme of an "LSTM" or a "GRU" by the name of its norm.

    "hidden" is LayerNorm without the norm of W_ih x.
    """
    if norm is None:
        return None
    found = seqnorm.preset("layer", layer)
    return replace(found, input=None) if norm == "hidden" else found


def encoder() -> nn.Module:
    """Return layers between the observation and the recurrent layer."""
    return nn.Sequential(nn.Linear(2, UNITS), nn.Tanh())


def head(outputs: int) -> nn.Module:
    """Return the layers behind the recurrent one."""
    return nn.Sequential(nn.Linear(UNITS, UNITS), nn.ReLU(), nn.Linear(UNITS, outputs))


def run_sb3(norm: str | None, encoded: bool, seed: int, steps: int) -> Episodes:
    """Train RecurrentPPO, and return its episodes."""
    from sb3_contrib import RecurrentPPO
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.torch_layers import FlattenExtractor
    from stable_baselines3.common.vec_env import VecNormalize

    from seqnorm.integrations.sb3 import NormalisedLstmPolicy

    class Encoder(FlattenExtractor):
        def __init__(self, space: Any) -> None:
            super().__init__(space)
            self._features_dim = UNITS
            self.encoder = encoder()

        def forward(self, observations: torch.Tensor) -> Any:
            return self.encoder(super().forward(observations))

    class Returns(BaseCallback):
        episodes: Episodes = []  # noqa: RUF012  one run has one class

        def _on_step(self) -> bool:
            for info in self.locals["infos"]:
                if "episode" in info:
                    self.episodes.append((self.num_timesteps, info["episode"]["r"]))
            return True

    torch.set_num_threads(1)
    environments = make_vec_env(
        "CartPole-v1", n_envs=B, seed=seed, wrapper_class=without_velocities
    )
    model = RecurrentPPO(
        NormalisedLstmPolicy,
        VecNormalize(environments, gamma=GAMMA),
        n_steps=T,
        batch_size=B * T,
        n_epochs=EPOCHS,
        gamma=GAMMA,
        gae_lambda=GAE_LAMBDA,
        learning_rate=lambda left: RATE * left,
        clip_range=lambda left: CLIP * left,
        policy_kwargs={
            "norm": scheme(norm, "LSTM"),
            "features_extractor_class": Encoder if encoded else FlattenExtractor,
            "lstm_hidden_size": UNITS,
            "net_arch": {"pi": [UNITS], "vf": [UNITS]},
            "activation_fn": nn.ReLU,
            "ortho_init": False,
        },
        seed=seed,
        device="cpu",
    )
    returns = Returns()
    model.learn(steps, returns)
    return returns.episodes


def run_torchrl(norm: str | None, encoded: bool, seed: int, steps: int) -> Episodes:
    """Train a GRU by torchrl's PPO, and return its episodes."""
    import gymnasium
    from tensordict.nn import TensorDictModule, TensorDictSequential
    from torchrl.collectors import Collector
    from torchrl.envs import (
        Compose,
        GymWrapper,
        InitTracker,
        ObservationNorm,
        RewardScaling,
        RewardSum,
        SerialEnv,
        TransformedEnv,
    )
    from torchrl.modules import OneHotCategorical, ProbabilisticActor
    from torchrl.objectives import ClipPPOLoss
    from torchrl.objectives.value import GAE

    from seqnorm.integrations.torchrl import GRUModule

    def environment() -> Any:
        return GymWrapper(without_velocities(gymnasium.make("CartPole-v1")))

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    first = encoder() if encoded else nn.Identity()
    options = {"in_key": "encoded", "out_key": "features"}
    gru = GRUModule(UNITS if encoded else 2, UNITS, norm=scheme(norm, "GRU"), **options)
    common = TensorDictModule(first, ["observation"], ["encoded"]), gru
    actor = ProbabilisticActor(
        TensorDictSequential(*common, TensorDictModule(head(2), ["features"], ["logits"])),
        in_keys=["logits"],
        distribution_class=OneHotCategorical,
        return_log_prob=True,
    )
    critic = TensorDictSequential(*common, TensorDictModule(head(1), ["features"], ["state_value"]))
    environments = TransformedEnv(
        SerialEnv(B, environment),
        Compose(
            InitTracker(),
            gru.make_tensordict_primer(),
            ObservationNorm(0.0, 1.0 / torch.tensor(LIMITS), ["observation"]),
            RewardSum(),
            RewardScaling(0.0, 1.0 - GAMMA),
        ),
    )
    environments.set_seed(seed)
    advantage = GAE(gamma=GAMMA, lmbda=GAE_LAMBDA, value_network=critic, deactivate_vmap=True)
    loss = ClipPPOLoss(actor, critic, entropy_coeff=0.0, critic_coeff=0.5, normalize_advantage=True)
    optimiser = torch.optim.Adam(loss.parameters(), RATE)
    episodes: Episodes = []
    done = 0
    for data in Collector(environments, actor, frames_per_batch=B * T, total_frames=steps):
        for step in range(T):
            ended = data["next", "done"][:, step, 0]
            for value in data["next", "episode_reward"][:, step, 0][ended].tolist():
                episodes.append((done + (step + 1) * B, value))
        left = 1.0 - done / steps
        optimiser.param_groups[0]["lr"] = RATE * left
        loss.clip_epsilon.fill_(CLIP * left)
        done += B * T
        with torch.no_grad():
            advantage(data)
        for _ in range(EPOCHS):
            found = loss(data)
            optimiser.zero_grad()
            (found["loss_objective"] + found["loss_critic"]).backward()
            nn.utils.clip_grad_norm_(loss.parameters(), 0.5)
            optimiser.step()
    return episodes


RUNS: dict[str, Callable[[str | None, bool, int, int], Episodes]] = {
    "sb3": run_sb3,
    "torchrl": run_torchrl,
}
