"""Policies for RecurrentPPO of sb3-contrib, with a normalised LSTM::

    from sb3_contrib import RecurrentPPO
    from seqnorm.integrations.sb3 import NormalisedLstmPolicy

    options = dict(norm="layer", lstm_hidden_size=64)
    model = RecurrentPPO(NormalisedLstmPolicy, "CartPole-v1", policy_kwargs=options)
    model.learn(100_000)

They are the policies of sb3-contrib with ``seqnorm.LSTM`` in the place of ``torch.nn.LSTM``.
Without a norm they compute the same. sb3-contrib calls the LSTM once for each step as soon as an
episode begins in a batch. These policies make one call, with ``resets=`` where episodes begin.

This module needs stable-baselines3 and sb3-contrib: ``pip install 'seqnorm[rl]'``.

Axes: T steps, B environments or sequences, I = input_size, H = hidden_size, L = num_layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from seqnorm import nn as ours
from seqnorm.extra import explained
from seqnorm.nn.recurrence.windows import refuse_window

with explained(__name__, "pip install 'seqnorm[rl]'"):
    import numpy
    from sb3_contrib.common.recurrent.policies import (
        RecurrentActorCriticCnnPolicy,
        RecurrentActorCriticPolicy,
        RecurrentMultiInputActorCriticPolicy,
    )

__all__ = ["NormalisedCnnLstmPolicy", "NormalisedLstmPolicy", "NormalisedMultiInputLstmPolicy"]

# Options of a layer that a policy sets itself, or for which RecurrentPPO has no place.
_REFUSED = {
    "num_layers": "n_lstm_layers sets it",
    "hidden_size": "lstm_hidden_size sets it",
    "norm": "the policy takes it, policy_kwargs=dict(norm=...)",
    "batch_first": "the policy chooses the order of the axes",
    "bidirectional": "a policy cannot read the future",
    "proj_size": "RecurrentPPO keeps states h and c of one size",
}


class _Normalised:
    """The LSTM of a recurrent policy, exchanged.

    Args:
        norm: ``None``, the name of a preset of the LSTM, or a ``NormScheme``.
        lstm_kwargs: further options of ``seqnorm.LSTM``.
        arguments, options: those of the policy of sb3-contrib.
    """

    lstm_actor: ours.LSTM
    lstm_critic: ours.LSTM | None

    def __init__(
        self,
        *arguments: Any,
        norm: str | ours.NormScheme | None = "layer",
        lstm_kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        given = dict(lstm_kwargs or {})
        for name in given.keys() & _REFUSED.keys():
            raise ValueError(f"leave {name} out of lstm_kwargs: {_REFUSED[name]}")
        super().__init__(*arguments, **options)
        self.lstm_kwargs = given
        policy: Any = self
        for name in ("lstm_actor", "lstm_critic"):
            old = getattr(policy, name)
            if old is not None:
                setattr(policy, name, _exchanged(old, norm, given))
        # The optimiser of the base class has the parameters of the old layers.
        rate = policy.optimizer.defaults["lr"]
        policy.optimizer = policy.optimizer_class(
            policy.parameters(), lr=rate, **policy.optimizer_kwargs
        )

    @staticmethod
    def _process_sequence(
        features: Tensor,
        lstm_states: tuple[Tensor, Tensor],
        episode_starts: Tensor,
        layer: ours.LSTM,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Return the outputs (B * T, H) and the states after the last step.

        Args:
            features: (B * T, I), sequence by sequence.
            lstm_states: h and c, (L, B, H) each.
            episode_starts: (B * T,), 1 where an episode begins, otherwise 0.
        """
        sequences = lstm_states[0].shape[1]
        x = features.reshape(sequences, -1, layer.input_size).transpose(0, 1)
        resets = episode_starts.reshape(sequences, -1).T != 0
        output, states = layer(x, lstm_states, resets=resets)
        return output.transpose(0, 1).flatten(0, 1), states

    def predict(
        self,
        observation: Any,
        state: tuple[Any, ...] | None = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[Any, tuple[Any, ...] | None]:
        """Return actions for observations, and the new states.

        Args:
            observation: a numpy array, or a dictionary of them, of one or several environments.
            state: h and c, (L, B, H) each. If None, all episodes begin.
            episode_start: (B,), true where an episode begins.
            deterministic: if true, the most probable action is taken.
        """
        if state is None and self.lstm_actor.learn_initial_state:
            policy: Any = self
            tensors, _ = policy.obs_to_tensor(observation)
            first = next(iter(tensors.values())) if isinstance(tensors, dict) else tensors
            episode_start = numpy.ones(len(first), dtype=bool)
        found: tuple[Any, Any] = super().predict(  # type: ignore[misc]  # of the policy
            observation, state, episode_start, deterministic
        )
        return found


def _exchanged(
    old: torch.nn.LSTM, norm: str | ours.NormScheme | None, options: Mapping[str, Any]
) -> ours.LSTM:
    """Return a layer in the place of ``old``; without a norm and options, with its weights.

    Raises:
        ValueError: the norm has statistics over the batch, or over several steps.
    """
    sizes = old.input_size, old.hidden_size, old.num_layers
    if norm is None and not options:
        # A run with a seed is then the same as with the policy of sb3-contrib.
        with torch.random.fork_rng(devices=[]):
            return ours.LSTM.from_torch(old)
    layer = ours.LSTM(*sizes, norm=norm, **options)
    if layer.over_batch:
        raise ValueError(
            "BatchNorm needs to know at which step an episode is and which steps are padding, and "
            'RecurrentPPO tells a policy neither: use norm="layer" or norm="rms"'
        )
    refuse_window(layer.norm, "a policy acts by calls of one step", "leave window=None")
    return layer


class NormalisedLstmPolicy(_Normalised, RecurrentActorCriticPolicy):  # type: ignore[misc]  # untyped
    """sb3-contrib's ``MlpLstmPolicy`` with ``seqnorm.LSTM``.

    An element of ``episode_starts`` that is 1 sets the state before that step to the initial one,
    which is zero, or learned with ``lstm_kwargs=dict(learn_initial_state=True)``.

    Args:
        norm: ``None``, the name of a preset of the LSTM, or a ``NormScheme``. Its statistics must
            not be over the batch.
        lstm_kwargs: further options of ``seqnorm.LSTM``: ``bias``, ``dropout``, ``zoneout``,
            ``recurrent_dropout``, ``learn_initial_state``.
        arguments, options: those of ``MlpLstmPolicy``, such as ``lstm_hidden_size``,
            ``n_lstm_layers``, ``shared_lstm`` and ``enable_critic_lstm``.

    Raises:
        TypeError, ValueError: the norm or an option of the layer is invalid.
    """


class NormalisedCnnLstmPolicy(_Normalised, RecurrentActorCriticCnnPolicy):  # type: ignore[misc]  # untyped
    """sb3-contrib's ``CnnLstmPolicy``, for images, as ``NormalisedLstmPolicy``."""


class NormalisedMultiInputLstmPolicy(_Normalised, RecurrentMultiInputActorCriticPolicy):  # type: ignore[misc]  # untyped
    """sb3-contrib's ``MultiInputLstmPolicy``, for dictionaries, as ``NormalisedLstmPolicy``."""
