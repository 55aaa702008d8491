"""The interface of recurrent layers and cells to torch's tools, apart from their calls."""

from __future__ import annotations

import inspect
from typing import Any, ClassVar

from torch import Tensor, nn

from ..autocast import is_autocast
from ..backends.cpu.prepared import Prepared
from ..check import changed_options, check_flag, check_probability, refuse_scripting, warn
from ..recurrence.direction import Direction, small_batch
from ..recurrence.int8 import dtype_of, misfit
from ..recurrence.presets import described
from ..recurrence.scheme import NormScheme
from ..recurrence.site_norms import SiteNorm
from ..recurrence.step import Step
from ..statistics.report import Report, report
from .arguments import check_zoneout, explaining, refuse_states

# The format of state dicts, which grows when a later version names or shapes something otherwise.
FORMAT = 1
# Options by which parameters and submodules are made.
_FIXED = (
    *("input_size", "hidden_size", "num_layers", "proj_size", "bias", "bidirectional", "norm"),
    *("nonlinearity", "num_heads", "heads", "learn_initial_state"),
)
_WEIGHTS = ("_all_weights", "_flat_weights", "_flat_weights_names")


class TorchTools(nn.Module):
    """The part that layers and cells share: their descriptions, and explained refusals."""

    step: Step
    input_size: int
    hidden_size: int
    norm: NormScheme | None
    over_batch: bool
    counts_steps: bool
    learn_initial_state: bool
    _warned: bool
    _prepared: Prepared | None
    quantised = False  # set by ``quantize_``
    _options: ClassVar[tuple[str, ...]]

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "__init__" in vars(cls):
            cls.__init__ = explaining(cls.__init__)  # type: ignore[method-assign]

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _FIXED and name in self.__dict__ and value != getattr(self, name):
            kind = type(self).__name__
            raise AttributeError(
                f"{kind}: {name} cannot be changed, because the parameters were made for "
                f"{name}={getattr(self, name)!r}; build another {kind}"
            )
        if name in ("dropout", "recurrent_dropout"):
            check_probability(name, value)
            value = float(value)
        elif name == "zoneout":
            value = check_zoneout(self.step, value)
        elif name == "batch_first":
            value = check_flag(name, value)
        # torch's own layers, which may be bases too, would keep a list of the weights here.
        nn.Module.__setattr__(self, name, value)

    __prepare_scriptable__ = refuse_scripting
    _version = FORMAT  # torch saves it beside the tensors

    def _load_from_state_dict(
        self, state_dict: Any, prefix: str, local_metadata: Any, *args: Any, **kwargs: Any
    ) -> None:
        version = local_metadata.get("version") or FORMAT  # a file of tensors alone has none
        if version > FORMAT:
            *_, error_msgs = args
            error_msgs.append(
                f"{prefix or 'the state dict'} has format {version}, and this seqnorm reads up to "
                f"{FORMAT}: load it with a newer version"
            )
            return
        wrong = misfit(self, state_dict, prefix)
        if wrong is not None:
            *_, error_msgs = args
            error_msgs.append(wrong)
            return
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args, **kwargs)

    def _refuse_training(self) -> None:
        """Raise RuntimeError in training mode, which weights of int8 do not have."""
        if self.training:
            raise RuntimeError(
                f"this {type(self).__name__} has weights of int8 and only computes in inference: "
                "call model.eval(); to train, build the model anew and load weights in floating "
                "point"
            )

    def directions(self) -> list[Direction]:
        """Return the parameters and norms of each layer and direction."""
        raise NotImplementedError

    def _warn_of_few_rows(self, rows: list[int]) -> None:
        """Warn once if no step of a training batch has enough rows for statistics."""
        message = None if self._warned else small_batch(self.norm, rows)
        norms = [site for site in self.children() if isinstance(site, SiteNorm)]
        if message is not None and any(site.learns and site.norm.over_batch for site in norms):
            self._warned = True
            warn(message)

    def report(self) -> Report:
        """Return the number of rows behind the running statistics of every step."""
        return report(self)

    def extra_repr(self) -> str:
        norm = [] if self.norm is None else [f"norm={described(self.norm, self.step)}"]
        return ", ".join(self._described() + norm)

    def _described(self) -> list[str]:
        """Return the arguments of the constructor that a printed module shows, but the norm."""
        of_any_step = "step" in inspect.signature(type(self)).parameters
        parts = [self.step.name] if of_any_step else []
        parts.append(f"{self.input_size}, {self.hidden_size}")
        return parts + changed_options(self, self._options)

    @property
    def qconfig(self) -> Any:
        """The configuration of ``torch.ao.quantization``, which cannot quantise the module."""
        if "qconfig" not in self.__dict__:
            raise AttributeError("qconfig")
        return self.__dict__["qconfig"]

    @qconfig.setter
    def qconfig(self, value: Any) -> None:
        # torch marks every module of a model and then leaves alone those that it does not know.
        if "qconfig" not in self.__dict__:
            name = type(self).__name__
            also = "; with norm=None, to_torch() gives a layer that can be quantised"
            warn(
                f"seqnorm.{name} stays as it is, in floating point: torch.ao.quantization has no "
                f"quantised form of it{also if hasattr(self, 'to_torch') else ''}"
            )
        self.__dict__["qconfig"] = value

    @qconfig.deleter
    def qconfig(self) -> None:
        self.__dict__.pop("qconfig", None)


class TorchContract(TorchTools):
    """The attributes of torch's layers that other code reads, and torch's checks of a call.

    The lists of weights are made anew at every reading, as tuples, so that writing to them raises
    an error. A layer with a norm raises RuntimeError for them, in ``hasattr`` too: torch would
    replace the message of an AttributeError.
    """

    num_layers: int
    dropout: float
    batch_first: bool
    bidirectional: bool
    proj_size: int
    zoneout: tuple[float, ...]
    recurrent_dropout: float
    suffixes: list[list[str]]
    state_sizes: tuple[int, ...]
    chunks: Any
    weight_ih_l0: nn.Parameter
    __jit_unused_properties__: ClassVar[list[str]] = ["all_weights", "mode", "qconfig", *_WEIGHTS]

    get_expected_hidden_size = nn.RNNBase.get_expected_hidden_size
    check_hidden_size = nn.RNNBase.check_hidden_size
    # torch's LSTM has others.
    check_forward_args: Any = nn.RNNBase.check_forward_args
    permute_hidden: Any = nn.RNNBase.permute_hidden

    def _names(self) -> list[list[str]]:
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
        return [
            [name + suffix for name in names if getattr(self, name + suffix, None) is not None]
            for layer in self.suffixes
            for suffix in layer
        ]

    def flatten_parameters(self) -> None:
        """Do nothing. The method exists for code that calls it on torch's layers."""

    @property
    def all_weights(self) -> list[list[nn.Parameter]]:
        """Matrices and biases of every layer and direction, as torch's layers list them."""
        return [[getattr(self, name) for name in names] for names in self._names()]

    @property
    def mode(self) -> str:
        """The name of the step, followed by its nonlinearity, as in torch's layers."""
        nonlinearity = getattr(self.step, "nonlinearity", None)
        return self.step.name + (f"_{nonlinearity.upper()}" if nonlinearity else "")

    @property
    def _all_weights(self) -> tuple[tuple[str, ...], ...]:
        self._check_plain("_all_weights")
        return tuple(map(tuple, self._names()))

    @property
    def _flat_weights_names(self) -> tuple[str, ...]:
        self._check_plain("_flat_weights_names")
        return tuple(name for names in self._names() for name in names)

    @property
    def _flat_weights(self) -> tuple[Tensor, ...]:
        self._check_plain("_flat_weights")
        return tuple(getattr(self, name) for names in self._names() for name in names)

    def __dir__(self) -> list[str]:
        # Code that reads all attributes does not expect these to raise an error.
        return [name for name in super().__dir__() if name not in _WEIGHTS]  # type: ignore[no-untyped-call]  # torch's

    def _check_plain(self, name: str) -> None:
        """Raise RuntimeError if the layer computes with more than these weights."""
        words = ("norm", "recurrent_dropout", "learn_initial_state")
        found = [word for word in words if getattr(self, word)]
        found += ["zoneout"] if any(self.zoneout) else []
        if self.step.fused is None:
            without = type(self.step).fused is not None  # torch has it, but not with heads
            heads = f" with heads={self.step.heads}" if without else ""
            found = [f"a step that torch does not have, {self.step.name}{heads}"]
        if found:
            raise RuntimeError(
                f"{name} is for code that computes torch's layer with these weights itself, and "
                f"this layer has {' and '.join(found)}, which would be left out: call the layer; "
                "all_weights lists its matrices and biases, named_parameters() all its parameters"
            )

    def _check_states_dim(self, hx: tuple[Tensor, ...], batched: bool) -> None:
        expected = 3 if batched else 2
        if all([part.dim() == expected for part in hx]):
            return
        if len(hx) == 1 and not hx[0].is_floating_point():
            refuse_states(type(self).__name__, self.step.states, hx)
        got = ", ".join(f"{part.dim()}-D" for part in hx)
        kind = "batched 3-D" if batched else "unbatched 2-D"
        which = "hx" if len(hx) == 1 else "hx and cx"
        raise RuntimeError(
            f"For {kind} input, {which} should also be {expected}-D but got ({got}) tensors"
        )

    def check_input(self, input: Tensor, batch_sizes: Tensor | None) -> None:
        """Raise the error of a call if the input does not fit, as torch's layers do.

        Args:
            input: (T, B, I) or, with ``batch_sizes``, the rows (N, I) of a ``PackedSequence``.
        """
        self._check_input(input, 3 if batch_sizes is None else 2)

    def _check_input(self, input: Tensor, dims: int) -> None:
        weight = self.weight_ih_l0
        dtype = dtype_of(self, "weight_ih_l0") if self.quantised else weight.dtype
        if input.device != weight.device:
            raise RuntimeError(
                "Input and parameter tensors are not at the same device, found input tensor at "
                f"{input.device} and parameter tensor at {weight.device}"
            )
        if input.dtype != dtype and not is_autocast(input.device.type):
            raise ValueError(
                f"RNN input dtype ({input.dtype}) does not match weight dtype ({dtype}). "
                f"Convert input: input.to({dtype}), "
                f"or convert model: model.to({input.dtype})"
            )
        if input.dim() != dims:
            raise RuntimeError(f"input must have {dims} dimensions, got {input.dim()}")
        if input.shape[-1] != self.input_size:
            raise RuntimeError(
                "input.size(-1) must be equal to input_size. "
                f"Expected {self.input_size}, got {input.shape[-1]}"
            )
