"""The operator of ``traced`` in torch's own operators, for programs that do not know this library.

Axes: T steps, B sequences, N packed rows, H units, P = size of h, G gates, F features of a norm.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ...recurrence.direction import Direction
from ...recurrence.site_norms import FeatureNorm, SiteNorm
from ...statistics.moments import affine
from .. import portable
from ..portable_norms import Affine, parts_of
from .call import BEFORE, COLUMNS, STAYS, Call, Inputs
from .states import apart, joined
from .traced import CALL, in_places, shapes_of_call

# The places of batch_sizes and of h_0 among the arguments of the operator.
SIZES, STATE = CALL - 1, CALL + Inputs._fields.index("h_0")
_TRAINING = "the program computes a model in training: call model.eval() before torch.export.export"


def decomposition(equal_lengths: bool) -> Callable[..., tuple[Tensor, ...]]:
    """Return a function of the arguments of ``seqnorm::recurrence`` that computes its results.

    Args:
        equal_lengths: true if all sequences reach all steps, so that rows need not be sorted out.

    Raises:
        ValueError: the call takes statistics of the batch or draws units.
    """

    def decomposed(*arguments: Any) -> tuple[Tensor, ...]:
        batch_sizes, given = arguments[SIZES], Inputs(*arguments[CALL:])
        call = shapes_of_call(arguments[:CALL], given)
        if call.own(given) or any(t is not None for t in given[BEFORE : STAYS + 2]):
            raise ValueError(_TRAINING)
        rows = _Rows(batch_sizes, given, equal_lengths)
        direction = portable.with_joint_biases(_direction(call, given))
        fixed = _fixed(call, given, direction)
        state = (given.h_0,) if given.c_0 is None else (given.h_0, given.c_0)
        alive = None if rows.alive is None else rows.alive[..., None]
        steps = portable.Rows(rows.padded(given.input), alive, None, 0, False)
        before = tuple([part[None] for part in apart(state, direction.step)])
        finished = given.weight_ih is None
        outputs, after = portable.run_fixed(direction, fixed, steps, before, finished)
        final = joined(tuple([part.squeeze(0) for part in after]))
        return in_places(call, given, (rows.packed(outputs), *final))

    return decomposed


class _Rows:
    """The packed rows of a call as a padded batch, by index arithmetic that holds for all lengths.

    Attributes:
        alive: (T, B), true where a sequence has a step; ``None`` if all have all steps.
    """

    def __init__(self, batch_sizes: Tensor, given: Inputs, equal_lengths: bool) -> None:
        self._steps, self._batch = batch_sizes.shape[0], given.h_0.shape[0]
        self._rows = given.input.shape[0]
        self.alive: Tensor | None = None
        if equal_lengths:
            return
        sizes = batch_sizes.to(given.input.device)
        column = torch.arange(self._batch, device=sizes.device)
        self.alive = column < sizes[:, None]
        self._place = (sizes.cumsum(0) - sizes)[:, None] + column

    def padded(self, rows: Tensor) -> Tensor:
        """Return (T, B, F) from rows (N, F)."""
        if self.alive is None:
            return rows.reshape(self._steps, self._batch, rows.shape[-1])
        index = torch.where(self.alive, self._place, 0).reshape(-1)
        return rows.index_select(0, index).reshape(self._steps, self._batch, rows.shape[-1])

    def packed(self, padded: Tensor) -> Tensor:
        """Return rows (N, F) from (T, B, F), and zeros in unused rows at the end."""
        width = padded.shape[-1]
        if self.alive is None:
            return padded.reshape(self._rows, width)
        # The padding goes to one more row, which is left out.
        index = torch.where(self.alive, self._place, self._rows).reshape(-1)
        rows = padded.new_zeros(self._rows + 1, width)
        return torch.index_put(rows, [index], padded.reshape(-1, width))[: self._rows]


def _direction(call: Call, given: Inputs) -> Direction:
    """Return the direction of a call, with the norms that its kernels compute."""
    plan = call.plan
    step, scheme = plan.step, plan.scheme
    spans = {} if scheme is None else step.spans(scheme)
    gains = (given.gain_x, given.gain_h, given.gain_c)
    biases = (given.bias_2, given.bias_3, given.bias_c)
    norms: dict[str, SiteNorm] = {}
    for site, gain, bias in zip(plan.sites, gains, biases):
        if site:
            norm = plan.norm_at(site)
            sizes = norm.sizes(step.gates, spans[site], plan.hidden_size, step.heads)
            bare = replace(norm, gain=None, bias=None)
            factory: dict[str, Any] = {"device": None, "dtype": None}
            built = (
                SiteNorm(bare, sum(sizes), plan.hidden_size, **factory)
                if norm.over_batch
                else FeatureNorm(bare, sizes, plan.hidden_size, **factory)
            )
            norms[site] = built.holding(gain, bias)
    missing = len(step.states) - len(call.zoneout)
    return Direction(
        step,
        scheme,
        given.weight_ih,  # type: ignore[arg-type]  # None beside a finished term
        given.weight_hh,
        given.bias_0,
        given.bias_1,
        given.weight_hr,
        own={},
        norms=norms,
        training=False,
        zoneout=(*call.zoneout, *(0.0,) * missing),
    )


def _fixed(call: Call, given: Inputs, direction: Direction) -> portable.Fixed:
    """Return what is the same at all steps of a direction of ``_direction``."""
    parts: dict[str, list[Affine]] = {}
    tables: portable.Tables = {}
    for site, columns in zip(call.plan.sites, given[COLUMNS:BEFORE]):
        norm = direction.norms.get(site)
        if site == "input" and given.weight_ih is None:
            continue  # the input term is finished
        if isinstance(norm, FeatureNorm):
            parts[site] = parts_of(norm)
        elif norm is not None and columns is not None:
            mean, scale = columns.unbind(1)
            scale = affine(scale, norm.weight, None)
            tables[site] = scale, affine(-mean * scale, None, norm.bias)
    return portable.Fixed.with_tables(direction, parts, tables, ())
