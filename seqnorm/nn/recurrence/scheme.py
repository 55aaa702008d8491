"""Descriptions of normalised cells: where norms stand, and which set S each averages over.

``Norm`` describes one site, and ``NormScheme`` the sites of a cell. Both are immutable and hold no
tensors. The presets are values of ``NormScheme``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

from ..check import (
    check_eps,
    check_number,
    check_positive,
    check_renormalization,
    check_table,
    choose,
    nearest,
)
from .kinds import DYNAMIC, check_joint, check_own_fields, fields_without, refuse

KINDS = ("layer", "rms", "batch", "batch_pooled", *DYNAMIC)
SITES = ("input", "hidden", "sum", "cell", "frame", "output")
# Sites that only the mathematics of a step can reach.
WITHIN = ("sum", "candidate", "cell")
TABLE_FIELDS = ("momentum", "max_steps", "min_count", "beyond", "r_max", "d_max")
# Fields of ``NormScheme`` that only some steps have: their meaning and their default.
OF_SOME_STEPS: dict[str, tuple[str, Any]] = {
    "cell": ("cell state to normalise", None),
    "cell_state": ("cell state to feed back", "raw"),
    "update": ("update gate z", "keep"),
}


def of_fields(of: Norm | NormScheme) -> dict[str, Any]:
    """Return all fields with their values."""
    return {field.name: getattr(of, field.name) for field in fields(of)}


def changed(of: Norm | NormScheme) -> dict[str, Any]:
    """Return the fields that differ from their defaults."""
    values = of_fields(of)
    return {f.name: values[f.name] for f in fields(of) if values[f.name] != f.default}


@dataclass(frozen=True)
class Norm:
    """One normalisation: ``y = gain * (x - mean) / sqrt(var + eps) + bias`` over a set S.

    Args:
        kind: "layer": S is the units of one row; "rms": the same, and the mean is not subtracted;
            "batch": S is the rows of one time step; "batch_pooled": S is all rows of all steps;
            "dynamic_tanh", "dynamic_erf": S is empty, ``y = gain * tanh(alpha * x) + bias`` and
            ``gain * erf(alpha * x + shift) + bias``, see ``DynamicTanh`` and ``DynamicErf``.
        sets: division of the units of the gates into sets, for "layer" and "rms" only: "joint" (one
            set for all gates), "separate" (one for each gate), "heads" (one for each head of a cell
            that has heads), a number of equal sets as in GroupNorm, or spelled gates, as
            ``("rz", "n")`` for the GRU of Ba et al. 2016 (gates are ``ifgo`` and ``rzn``). With
            "separate" and spelled gates, units that belong to no gate are one set.
        gain: initial value of the learned gain, "uniform" to draw it from U(-1/sqrt(H), 1/sqrt(H)),
            or ``None`` for no gain.
        bias: the same for the learned bias.
        eps: added to the variance.
        eps_on: "std" adds eps to the standard deviation instead.
        momentum, max_steps, min_count, beyond: options of the running statistics of "batch" and
            "batch_pooled"; see ``RunningTable``.
        r_max, d_max: limits of Batch Renormalization for "batch" and "batch_pooled", 1 <= r_max and
            0 <= d_max; ``None`` for plain BatchNorm. ``set_renormalization`` changes them later.
        alpha, shift: initial values of the learned numbers of "dynamic_tanh" (which has no shift)
            and "dynamic_erf", one for all units of the norm.
        part: for "rms", the part of the units of each set, counted from its first one, whose mean
            square divides all units of the set; see ``RMSNorm``.
        window: for "layer" and "rms", the number of steps in S, the present one and those before
            it; see below. ``None`` or 1 for the present step alone.

    Batch Renormalization (Ioffe 2017, arXiv 1702.03275, section 3) corrects the value by the
    batch's mean m and deviation s towards the value by the running M and S, which inference has::

        r = clip(s / S, 1 / r_max, r_max)        d = clip((m - M) / S, -d_max, d_max)
        y = gain * ((x - m) / s * r + d) + bias

    r and d are constants for gradients. M and S are those before the update by this batch. S is the
    root of the running variance + eps, where the paper has a running average of the deviations
    themselves; ours is larger where batches differ in their variances, and unbiased, so that few
    rows do not make it smaller. A step that has no running statistics yet has r = 1 and d = 0.

    A window of k steps is Assorted-Time Normalization (Pospisil et al. 2022, arXiv 2209.14439): the
    sets of a step t contain their units at the steps t - k + 1 to t of the same sequence, in the
    direction of travel, fewer at its beginning. With m_s and v_s, mean and variance of step s::

        mean_t = average of m_s        var_t = average of v_s + (m_s - mean_t)^2

    The window begins anew with each call of a layer, and with each reset.

    Raises:
        TypeError, ValueError: a field is invalid.
    """

    kind: str = "layer"
    sets: str | int | tuple[str, ...] = "joint"
    gain: float | str | None = 1.0
    bias: float | str | None = 0.0
    eps: float = 1e-5
    eps_on: str = "var"
    momentum: float | None = 0.1
    max_steps: int = 512
    min_count: int = 2
    beyond: str = "last"
    r_max: float | None = None
    d_max: float | None = None
    alpha: float = 0.5
    shift: float = 0.0
    part: float | None = None
    window: int | None = None

    def __post_init__(self) -> None:
        refuse(self.kind)
        choose("kind", self.kind, KINDS)
        choose("eps_on", self.eps_on, ("var", "std"))
        for name in ("gain", "bias"):
            if isinstance(value := getattr(self, name), str):
                choose(name, value, ("uniform",))
            elif value is not None:
                check_number(name, value)
        check_eps(self.eps)
        check_own_fields(self)
        steps, count = check_table(self.max_steps, self.momentum, self.min_count, self.beyond)
        object.__setattr__(self, "max_steps", steps)
        object.__setattr__(self, "min_count", count)
        for field in () if self.over_batch else fields(Norm):
            if field.name in TABLE_FIELDS and getattr(self, field.name) != field.default:
                where = "empty" if self.kind in DYNAMIC else "within one example"
                raise ValueError(
                    f"{field.name} belongs to running statistics, and {self.kind!r} has none, as "
                    f"its set is {where}: leave it out"
                )
        check_renormalization(self.r_max, self.d_max)
        if isinstance(self.sets, list):  # as YAML gives it
            object.__setattr__(self, "sets", tuple(self.sets))
        if not isinstance(self.sets, (str, tuple)):
            if isinstance(self.sets, bool) or not hasattr(self.sets, "__index__"):
                raise TypeError(
                    f"sets should be a word, a number or gates, got {type(self.sets).__name__}"
                )
            object.__setattr__(self, "sets", check_positive("sets", self.sets))
        if isinstance(self.sets, str):
            choose("sets", self.sets, ("joint", "separate", "heads"))
        check_joint(self)

    def __repr__(self) -> str:
        options = [f"{k}={v!r}" for k, v in changed(self).items() if k != "kind"]
        return f"Norm({', '.join([repr(self.kind), *options])})"

    @property
    def over_batch(self) -> bool:
        """True if S contains the batch axis, and so the norm has running statistics."""
        return self.kind in ("batch", "batch_pooled")

    @property
    def over_time(self) -> bool:
        """True if S contains the time axis, so that the whole sequence must be known."""
        return self.kind == "batch_pooled"

    @property
    def reaches_back(self) -> bool:
        """True if S contains earlier steps of its sequence."""
        return self.window is not None and self.window > 1

    def sizes(self, gates: str, span: str, units: int, heads: int = 0) -> tuple[int, ...]:
        """Return the number of units of each set, in order.

        Args:
            gates: all gates of the cell.
            span: the gates of the site; "" for units that belong to no gate.
            units: units of each gate, or of a site without gates.
            heads: number of heads of the cell, 0 for a cell without heads.

        Raises:
            ValueError: ``sets`` does not divide the gates, or a set has one element.
        """
        total = max(len(span), 1) * units
        if isinstance(self.sets, int) or self.sets == "heads":
            if self.sets == "heads" and heads == 0:
                raise ValueError(
                    'sets="heads": this cell has no heads; write sets=4 for four equal sets, say'
                )
            count = max(len(span), 1) * heads if self.sets == "heads" else int(self.sets)
            if total % count:
                raise ValueError(f"sets={self.sets!r} must divide the {total} units of the norm")
            sizes = (total // count,) * count
        elif not span or self.over_batch or self.sets == "joint":
            sizes = (total,)
        else:
            sizes = tuple(len(part) * units for part in self._divided(gates, span))
        if self.kind == "layer" and min(sizes) == 1 and not self.reaches_back:
            raise ValueError(
                "a LayerNorm set of one unit is always normalised to 0 (hidden_size=1, in the cell "
                "state or with one set for each gate): use a larger hidden_size, or fewer sets"
            )
        return sizes

    def _divided(self, gates: str, span: str) -> list[str]:
        parts = tuple(gates) if isinstance(self.sets, str) else tuple(self.sets)  # type: ignore[arg-type]
        inside = [part for part in parts if part and part in span]
        if "".join(parts) != gates:
            raise ValueError(
                f"sets={self.sets!r} must divide the gates {gates!r} in their order, as "
                f"{tuple(filter(None, (gates[:-1], gates[-1])))!r} does"
            )
        if "".join(inside) != span:
            raise ValueError(
                f"sets={self.sets!r}: in a norm of the sum, the candidate {gates[-1]!r} holds "
                f"the reset gate and needs a set of its own, as in {(gates[:-1], gates[-1])!r}"
            )
        return inside


@dataclass(frozen=True)
class NormScheme:
    """The places of the norms in a recurrent cell.

    With ``x = N_input(W_ih x_t)``, ``h = N_hidden(W_hh h_(t-1))`` and gates ``a = x + h + b``::

        LSTM:  c_t = sigmoid(f) * c_(t-1) + sigmoid(i) * tanh(g)
               h_t = sigmoid(o) * tanh(N_cell(c_t))
        GRU:   n = tanh(x_n + sigmoid(r) * h_n)
               h_t = z * h_(t-1) + (1 - z) * n

    With ``sum``, ``a = N_sum(W_ih x_t + W_hh h_(t-1) + b)`` instead. In a GRU with ``sets="joint"``
    over the sum (the only choice of "batch"), r is unknown before the norm. It multiplies the whole
    normalised candidate there, n = tanh(sigmoid(r) * a_n), as in Dreamer's GRU. With smaller sets,
    n = tanh(N(x_n + sigmoid(r) * h_n)).

    Args:
        input, hidden: separate norms of the two terms.
        sum: norm of their sum, instead.
        cell: norm of the LSTM's cell state.
        frame: norm of x_t itself, before W_ih (pre-norm).
        output: norm of a layer's outputs h_t (post-norm). The recurrence carries on the h_t before
            this norm, and so does the final state.
        cell_state: "raw" carries on c_t, "normalised" carries on N_cell(c_t).
        bias_ih, bias_hh: places of torch's two bias vectors: "outside" (added after the norm),
            "inside" (before it), "both" (the same vector twice), ``None`` (no such vector).
        bias_init: their initial value, or "uniform" for torch's U(-1/sqrt(H), 1/sqrt(H)).
        gate_bias: initial bias of single gates, as ``(("f", 1.0),)``: the sum of all biases that
            reach the gate.
        update: "keep": z = 1 keeps the old state of a GRU, as in torch; "write": z = 1 takes the
            candidate, as in Ba et al. 2016 (eq. 28) and Dreamer.
        hidden_init: initialisation of W_hh: "uniform" as in torch, "orthogonal" or "identity" for
            the square block of each gate.

    Raises:
        TypeError, ValueError: a field or a combination of fields is invalid.
    """

    input: Norm | None = None
    hidden: Norm | None = None
    sum: Norm | None = None
    cell: Norm | None = None
    frame: Norm | None = None
    output: Norm | None = None
    cell_state: str = "raw"
    bias_ih: str | None = "outside"
    bias_hh: str | None = None
    bias_init: float | str = 0.0
    gate_bias: tuple[tuple[str, float], ...] = ()
    update: str = "keep"
    hidden_init: str = "uniform"

    def __post_init__(self) -> None:
        gate_bias: Any = self.gate_bias  # YAML gives a mapping or lists
        pairs = gate_bias.items() if isinstance(gate_bias, dict) else gate_bias
        object.__setattr__(self, "gate_bias", tuple(tuple(pair) for pair in pairs))
        self._check_fields()
        self._check_combination()

    def _check_fields(self) -> None:
        for site in SITES:
            norm = getattr(self, site)
            if norm is not None and not isinstance(norm, Norm):
                raise TypeError(
                    f"{site} must be a Norm or None, got {type(norm).__name__}: "
                    f'write {site}=Norm("layer")'
                )
        choose("cell_state", self.cell_state, ("raw", "normalised"))
        choose("update", self.update, ("keep", "write"))
        choose("hidden_init", self.hidden_init, ("uniform", "orthogonal", "identity"))
        for name in ("bias_ih", "bias_hh"):
            if getattr(self, name) is not None:
                choose(name, getattr(self, name), ("outside", "inside", "both"))
        if isinstance(self.bias_init, str):
            choose("bias_init", self.bias_init, ("uniform",))
        else:
            check_number("bias_init", self.bias_init)
        for pair in self.gate_bias:
            if len(pair) != 2:
                raise ValueError(f'gate_bias holds pairs as ("f", 1.0), got {pair!r}')
            check_number(f"gate_bias of {pair[0]!r}", pair[1])

    def _check_combination(self) -> None:
        if self.sum is not None and (self.input is not None or self.hidden is not None):
            raise ValueError(
                "sum excludes input and hidden: the terms are normalised apart or summed"
            )
        places = {"bias_ih": self.bias_ih, "bias_hh": self.bias_hh}
        for name, place in places.items():
            if self.sum is not None and place not in ("inside", None):
                raise ValueError(
                    f'{name}={place!r} with a norm of the sum: write {name}="inside" or None (the '
                    "norm's own bias stands outside)"
                )
        gate_norms = [norm for norm in (self.input, self.hidden, self.sum) if norm is not None]
        reached = any(place in ("outside", "both") for place in places.values())
        if self.gate_bias and not reached and all(norm.bias is None for norm in gate_norms):
            raise ValueError(
                f"gate_bias names gate {self.gate_bias[0][0]!r}, but no bias reaches it after the "
                'norms: set bias_ih="outside" or a norm with a bias'
            )
        if self.cell_state == "normalised" and self.cell is None:
            raise ValueError('cell_state="normalised" needs a norm of the cell: set cell=Norm(...)')
        for site, norm in self.norms.items():
            if norm.over_time and site not in ("input", "frame", "output"):
                raise ValueError(
                    f"{site}=Norm({norm.kind!r}): a set over time inside the recurrence would read "
                    'the future; "batch_pooled" can stand at input, frame and output, use "batch" '
                    "(statistics of every step of their own) here"
                )

    @cached_property
    def text(self) -> str:
        """The scheme as JSON, for graphs of torch.export, which store no Python objects."""
        norms = {site: changed(norm) for site, norm in self.norms.items()}
        return json.dumps(changed(self) | norms, default=float)  # any number: numpy's, a Fraction

    @classmethod
    def from_text(cls, text: str) -> NormScheme:
        """Return the scheme with this ``text``."""
        values = json.loads(text)
        norms = {site: Norm(**values[site]) for site in SITES if site in values}
        return cls(**values | norms)

    @cached_property
    def norms(self) -> dict[str, Norm]:
        """The norms of the scheme by site."""
        sites = {name: getattr(self, name) for name in SITES}
        return {name: norm for name, norm in sites.items() if norm is not None}

    @staticmethod
    def place_of(scheme: NormScheme | None, bias: str) -> str | None:
        """Return the place of "bias_ih" or "bias_hh", which is "outside" without a scheme."""
        place: str | None = "outside" if scheme is None else getattr(scheme, bias)
        return place

    def __repr__(self) -> str:
        return f"NormScheme({', '.join(f'{k}={v!r}' for k, v in changed(self).items())})"

    def replace(self, **changes: Any) -> NormScheme:
        """Return a copy with other fields of the scheme, or fields of ``Norm`` at all its sites.

        >>> scheme = preset("ba2016", "LSTM").replace(eps=1e-3, cell_state="normalised")

        Fields that some kinds of norms lack change only the norms that have them.

        Raises:
            TypeError: a field is unknown.
            ValueError: no norm of the scheme has the field.
        """
        own = {field.name for field in fields(NormScheme)}
        of_norm = {field.name for field in fields(Norm)}
        for name in changes:
            if name not in own | of_norm:
                raise TypeError(f"no field {name!r}{nearest(name, own | of_norm)}")
        to_norms = {name: changes.pop(name) for name in list(changes) if name not in own}
        to_tables = {name: to_norms.pop(name) for name in TABLE_FIELDS if name in to_norms}
        changed = replace(self, **changes)
        if to_tables and not any(norm.over_batch for norm in changed.norms.values()):
            raise ValueError(
                f"{', '.join(sorted(to_tables))}: no norm of this scheme has running statistics"
            )
        kind = to_norms.get("kind")
        foreign = {site: fields_without(kind or n.kind) for site, n in changed.norms.items()}
        for name in to_norms:
            if changed.norms and all(name in others for others in foreign.values()):
                raise ValueError(f"{name}: no norm of this scheme has this field")
        sites: dict[str, Any] = {}
        for site, norm in changed.norms.items():
            own_changes = {k: v for k, v in to_norms.items() if k not in foreign[site]}
            sites[site] = replace(norm, **own_changes, **(to_tables if norm.over_batch else {}))
        return replace(changed, **sites)
