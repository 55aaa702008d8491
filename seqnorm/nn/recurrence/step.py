"""The mathematics of one recurrent step, without parameters and without time.

Axes: n rows, H = hidden_size, I = input_size, G gates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Union

import torch
from torch import Tensor

from .blocks import block_linear
from .scheme import OF_SOME_STEPS, Norm, NormScheme

State = tuple[Tensor, ...]
Normalise = Callable[[str, Tensor], Tensor]
Shape = tuple[Union[str, int], ...]

NONLINEARITIES: dict[str, Callable[[Tensor], Tensor]] = {"tanh": torch.tanh, "relu": torch.relu}

STEPS: dict[str, type[Step]] = {}  # by name
PRESETS: dict[str, dict[str, NormScheme]] = {}  # by the scheme's name and the step's

_BATCH = Norm("batch", gain=0.1, bias=None)
# Defaults for the presets of every step.
_PLAIN = {
    "layer": NormScheme(input=Norm("layer"), hidden=Norm("layer")),
    "rms": NormScheme(input=Norm("rms", bias=None), hidden=Norm("rms", bias=None)),
    "batch": NormScheme(input=_BATCH, hidden=_BATCH),
    "batch_pooled": NormScheme(input=Norm("batch_pooled", gain=0.1, bias=None)),
}


# Names of other parameters, of arguments of ``step``, and of attributes of a layer or cell.
_TAKEN = {"weight_ih", "weight_hh", "weight_hr", "bias_ih", "bias_hh", "bias", "norm", "step"}
_TAKEN |= {"x", "h", "state", "scheme", "input_size", "hidden_size", "zoneout", "training"}


class Step:
    """One step of a recurrent cell. Subclass it to add a cell of your own.

    A subclass names its gates and computes the next state. ``RecurrentLayer`` and ``RecurrentCell``
    add parameters, norms, lengths, packing, zoneout and statistics for every step.

    >>> class LeakyStep(Step):
    ...     gates = "al"
    ...
    ...     def step(self, x, h, state, norm, scheme):
    ...         a, leak = norm("sum", x + h).chunk(2, -1)
    ...         return (state[0] + leak.sigmoid() * (a.tanh() - state[0]),)
    >>> layer = seqnorm.RecurrentLayer(LeakyStep(), 16, 32, norm="layer")

    Defining a subclass with ``gates`` registers its name and its presets, which ``preset`` finds. A
    subclass of such a step is another step with another name: no fast backend of its base class
    computes it.

    Attributes:
        name: the name of its layer; by default the name of the class without "Step".
        gates: a letter for each gate, in the order in which W_ih and W_hh stack them.
        states: a letter for each part of the state; the first part is the output.
        biases: the bias vectors of a layer without a norm, from "bias_ih" and "bias_hh".
        parameters: further parameters by name, with their shapes in letters H, I and G or numbers.
            ``step`` takes them as keyword arguments. They are drawn from U(-1/sqrt(H), 1/sqrt(H))
            as all others.
        presets: schemes by name. "layer", "rms", "batch" and "batch_pooled" have defaults: norms of
            W_ih x and W_hh h ("batch_pooled": of W_ih x alone).
        fields: the fields of ``NormScheme`` that this step has and others do not: "cell" and
            "cell_state", or "update".
        zoned: the parts of the state that a single zoneout probability holds back.
        learned: the parts of the state that may begin with learned values; by default all.
        projects: whether h may be projected to fewer units (``proj_size``), because ``step`` reads
            it only by ``h``, and not by ``state[0]``.
        heads: number of equal parts of the recurrence; 0 for a step without heads. W_hh is then
            block-diagonal: unit k of any gate reads only the units of h of its own head.
        fused: torch's own function for a whole layer without a norm, or ``None``.
    """

    name: ClassVar[str]
    gates: ClassVar[str]
    states: ClassVar[str] = "h"
    biases: ClassVar[tuple[str, ...]] = ("bias_ih", "bias_hh")
    parameters: ClassVar[Mapping[str, Shape]] = {}
    own: ClassVar[tuple[str, ...]] = ()  # their names, in a form that every torch.compile follows
    presets: ClassVar[dict[str, NormScheme]] = {}
    fields: ClassVar[tuple[str, ...]] = ()
    zoned: ClassVar[str]
    learned: ClassVar[str]
    projects: bool = False
    heads: int = 0
    fused: Any = None

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if not hasattr(cls, "gates"):
            return  # a base of several steps
        if "fused" not in vars(cls):
            cls.fused = None  # a base class's function computes only the base class
        if "name" not in vars(cls):
            cls.name = cls.__name__.removesuffix("Step") or cls.__name__
        known = STEPS.get(cls.name)
        own = __name__.partition(".")[0] + "."
        if known is not None and f"{known.__module__}.".startswith(own):
            raise ValueError(
                f"{cls.name!r} is a step of this library, {known.__module__}.{known.__qualname__}: "
                f'give this one another name, as name = "My{cls.name}"'
            )
        if "zoned" not in vars(cls):
            cls.zoned = cls.states
        if "learned" not in vars(cls):
            cls.learned = cls.states
        cls._check_attributes()
        cls.own = tuple(cls.parameters)
        cls.presets = {**_PLAIN, **cls.presets}
        # A later step of the same name takes its place, as when a notebook runs a cell again.
        for schemes in PRESETS.values():
            schemes.pop(cls.name, None)
        STEPS[cls.name] = cls
        for name, scheme in cls.presets.items():
            PRESETS.setdefault(name, {})[cls.name] = scheme

    @classmethod
    def _check_attributes(cls) -> None:
        """Raise ValueError for a declaration that no layer could have."""
        for name, letters in (("gates", cls.gates), ("states", cls.states)):
            if not letters or len(set(letters)) < len(letters):
                raise ValueError(f"{name} of {cls.name} must be different letters, got {letters!r}")
        known: dict[str, tuple[Iterable[str], Iterable[str]]] = {
            "zoned": (cls.zoned, cls.states),
            "biases": (cls.biases, ("bias_ih", "bias_hh")),
            "fields": (cls.fields, OF_SOME_STEPS),
        }
        for name, (values, possible) in known.items():
            if not set(values) <= set(possible):
                listed = ", ".join(map(repr, possible))
                raise ValueError(f"{name} of {cls.name} may be of {listed}, got {values!r}")
        for name, shape in cls.parameters.items():
            if not name.isidentifier() or name in _TAKEN or name.startswith("norm_"):
                raise ValueError(f"{cls.name} cannot have a parameter of the name {name!r}")
            sizes = shape if isinstance(shape, tuple) else ()
            if not sizes or not all(
                s in ("H", "I", "G") or (type(s) is int and s > 0) for s in sizes
            ):
                raise ValueError(
                    f"the shape of {cls.name}'s parameter {name} must be a tuple of numbers and of "
                    f'the letters "H", "I" and "G", as ("H",), got {shape!r}'
                )

    def step(self, *args: Any, **kwargs: Any) -> tuple[Tensor, ...]:
        """Return the next state, ``step(x, h, state, norm, scheme, **parameters)``.

        Args:
            x: (n, G * H) the finished input term, N_input(W_ih x_t) + b.
            h: (n, G * H) the finished state term, N_hidden(W_hh h_(t-1)) + b'.
            state: the parts of the old state, (n, H) each; h is (n, P) with ``proj_size``.
            norm: ``norm("sum", x + h)`` or ``norm("cell", c)`` normalises (n, F) at that site, and
                returns its argument where the scheme has no norm.
            scheme: the norms of the layer, or ``None``.
            **parameters: the tensors that ``parameters`` declares.

        Returns:
            The parts of the new state, (n, H) each, in the order of ``states``.
        """
        raise NotImplementedError(f"{type(self).__name__} has no method step")

    def check(self, scheme: NormScheme) -> None:
        """Raise ValueError for a scheme that this step cannot have."""
        for field, (meaning, default) in OF_SOME_STEPS.items():
            if field not in self.fields and getattr(scheme, field) != default:
                raise ValueError(f"a {self.name} has no {meaning}: leave {field}={default!r}")

    def spans(self, scheme: NormScheme) -> dict[str, str]:
        """Return the gates that each norm between the terms and the state spans, by site.

        A norm of H units that belong to no gate spans "".
        """
        sites = [site for site in scheme.norms if site not in ("frame", "output")]
        return {site: "" if site == "cell" else self.gates for site in sites}

    def hidden_shape(self, hidden_size: int, width: int) -> tuple[int, ...]:
        """Return the shape of W_hh for an h of ``width`` units; heads share out its columns.

        Raises:
            ValueError: the number of heads does not divide the units, or there is a projection
                beside heads.
        """
        heads = self.heads or 1
        if heads > 1 and width != hidden_size:
            raise ValueError(
                f"a {self.name} with heads={heads} has no projection: leave proj_size=0, or heads=1"
            )
        if hidden_size % heads or width % heads:
            raise ValueError(f"heads={heads} must divide hidden_size={hidden_size}")
        return len(self.gates) * hidden_size, width // heads

    def hidden_blocks(self, weight: Tensor, hidden_size: int) -> tuple[Tensor, ...]:
        """Return the square matrices within W_hh, one for each gate, and there for each head."""
        return tuple(weight.split(hidden_size // (self.heads or 1)))

    def hidden_term(self, h: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return W_hh h (+ b) (n, G * H) for h (n, width)."""
        return block_linear(h, weight, bias, self.heads or 1)

    def from_torch(self, rows: Tensor, scheme: NormScheme | None) -> Tensor:
        """Convert rows (G * H, ...) of a matrix or bias of torch's layer to those of this step."""
        return rows


class Nonlinear(Step):
    """A step with a choice of the nonlinearity f, tanh or ReLU."""

    def __init__(self, nonlinearity: str = "tanh") -> None:
        if nonlinearity not in NONLINEARITIES:
            raise ValueError(
                f"Unknown nonlinearity {nonlinearity!r}. Select from 'tanh' or 'relu'."
            )
        self.nonlinearity = nonlinearity

    def activate(self, x: Tensor) -> Tensor:
        """Return f(x)."""
        return NONLINEARITIES[self.nonlinearity](x)
