"""Layers that are also ``torch.nn.RNNBase``, for code that derives from it or checks for it.

They compute the same as ``seqnorm.LSTM``, ``GRU`` and ``RNN``, and are subclasses of both
families::

    import seqnorm.integrations.torch_rnn as torch_rnn

    # torchrl packs trajectories for an nn.LSTM, and passes a mask to any other layer.
    lstm = torch_rnn.LSTM(8, 32, batch_first=True, norm="layer")
    policy = torchrl.modules.LSTMModule(lstm=lstm, in_key="observation", out_key="features")

    # pytorch-forecasting has a class of its own with more methods: one layer can be both.
    class LSTM(pytorch_forecasting.models.nn.rnn.LSTM, torch_rnn.LSTM):
        pass

    network.rnn = LSTM.from_torch(network.rnn, norm="layer")

``seqnorm.LSTM`` itself is not a ``torch.nn.LSTM``, because some code replaces each of those by a
computation of its own from the weights alone, and the norm would be lost silently. Such code may
receive the layers of this module. It reads ``_flat_weights`` or ``_all_weights``, and a layer with
a norm, zoneout or weight drop refuses these with a message. Code that copies all parameters into a
layer of its own (torchrl's ``make_python_based``) fails if the norm has parameters, but does not
fail otherwise.

Statistics of every step (``norm="batch"``) count from the beginning of each call, so a policy that
is called once for each step needs another norm.
"""

from __future__ import annotations

from torch import nn

from seqnorm import nn as ours
from seqnorm.nn.layers.layer import RecurrentLayer


class _Both(RecurrentLayer):
    """A layer without the list of weights that torch's class keeps beside its parameters."""

    __setstate__ = nn.Module.__setstate__
    _apply = nn.Module._apply
    _replicate_for_data_parallel = nn.Module._replicate_for_data_parallel

    def _init_flat_weights(self) -> None:
        """Do nothing, as ``_update_flat_weights``: weights are read at every call."""

    _update_flat_weights = _init_flat_weights

    def _weights_have_changed(self) -> bool:
        return False


class LSTM(_Both, ours.LSTM, nn.LSTM):  # type: ignore[misc,override]  # two families
    """``seqnorm.LSTM`` that is also a ``torch.nn.LSTM``."""


class GRU(_Both, ours.GRU, nn.GRU):  # type: ignore[misc,override]  # two families
    """``seqnorm.GRU`` that is also a ``torch.nn.GRU``."""


class RNN(_Both, ours.RNN, nn.RNN):  # type: ignore[misc,override]  # two families
    """``seqnorm.RNN`` that is also a ``torch.nn.RNN``."""
