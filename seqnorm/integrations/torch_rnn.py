"""Layers that are ``torch.nn.RNNBase`` too, for code that derives from it or tests for it.

They compute what ``seqnorm.LSTM``, ``GRU`` and ``RNN`` do, and are subclasses of both families::

    import seqnorm.integrations.torch_rnn as torch_rnn

    # torchrl packs trajectories for an nn.LSTM, and would give any other layer a mask.
    lstm = torch_rnn.LSTM(8, 32, batch_first=True, norm="layer")
    policy = torchrl.modules.LSTMModule(lstm=lstm, in_key="observation", out_key="features")

    # pytorch-forecasting has a class of its own, with more methods: one layer can be all of it.
    class LSTM(pytorch_forecasting.models.nn.rnn.LSTM, torch_rnn.LSTM):
        pass

    network.rnn = LSTM.from_torch(network.rnn, norm="layer")

``seqnorm.LSTM`` itself is no ``torch.nn.LSTM``, because some code replaces every one of those by a
computation of its own from the weights alone, and a norm would be lost without a word. Such code
may meet the layers here. It reads ``_flat_weights`` or ``_all_weights``, and a layer with a norm,
zoneout or weight drop refuses these with a sentence that says so. Code that copies all parameters
into a layer of its own (torchrl's ``make_python_based``) fails on the parameters of the norm, but
not on a norm that has none.

Statistics of every step (``norm="batch"``) count from the beginning of each call, so a policy that
is called once for each step needs another norm.
"""

from __future__ import annotations

from torch import nn

from seqnorm import nn as ours
from seqnorm.nn.layers.layer import RecurrentLayer


class _Both(RecurrentLayer):
    """torch's class keeps a list of the weights beside the module; these have none."""

    __setattr__ = nn.Module.__setattr__
    __setstate__ = nn.Module.__setstate__
    _apply = nn.Module._apply
    _replicate_for_data_parallel = nn.Module._replicate_for_data_parallel

    def _init_flat_weights(self) -> None:
        """Does nothing, as ``_update_flat_weights``: weights are read at every call."""

    _update_flat_weights = _init_flat_weights

    def _weights_have_changed(self) -> bool:
        return False


class LSTM(_Both, ours.LSTM, nn.LSTM):  # type: ignore[misc,override]  # two families
    """``seqnorm.LSTM`` that is a ``torch.nn.LSTM`` as well."""


class GRU(_Both, ours.GRU, nn.GRU):  # type: ignore[misc,override]  # two families
    """``seqnorm.GRU`` that is a ``torch.nn.GRU`` as well."""


class RNN(_Both, ours.RNN, nn.RNN):  # type: ignore[misc,override]  # two families
    """``seqnorm.RNN`` that is a ``torch.nn.RNN`` as well."""
