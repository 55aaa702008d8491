"""The norms of one recurrent cell as modules, and their work during one pass over time.

A site module holds parameters and tables. ``start`` returns the function that a pass calls, and
``SiteRun.close`` writes the statistics of all steps into the tables at once.

Axes: n rows alive at a step, F = features of the site, T steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ..statistics.moments import Moments, affine, moments, normalise, units_of_part, widen
from ..statistics.processes import sharing, union
from ..statistics.renormalization import Before, Renormalization
from ..statistics.running_table import RunningTable
from .scheme import WITHIN, Norm, changed


class SiteNorm(nn.Module):
    """Parameters of one norm: ``weight`` (F,) and ``bias`` (F,), or ``None``.

    Attributes:
        frozen: true if ``freeze_statistics`` keeps the running statistics.
        own: names of further parameters, which may be ``None`` too.
    """

    weight: nn.Parameter | None
    bias: nn.Parameter | None
    frozen = False
    own: tuple[str, ...] = ()

    def __init__(
        self,
        norm: Norm,
        features: int,
        hidden_size: int,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        self.norm = norm
        self.features = features
        self._bound = 1.0 / math.sqrt(hidden_size)
        for name, initial in (("weight", norm.gain), ("bias", norm.bias)):
            value = None if initial is None else torch.empty(features, device=device, dtype=dtype)
            self.register_parameter(name, None if value is None else nn.Parameter(value))

    @property
    def learns(self) -> bool:
        """True if a norm of the batch now normalises by the batch and updates its table."""
        return self.training and not self.frozen

    def reset_parameters(self) -> None:
        for parameter, initial in ((self.weight, self.norm.gain), (self.bias, self.norm.bias)):
            if parameter is None or initial is None:
                continue
            if isinstance(initial, str):
                nn.init.uniform_(parameter, -self._bound, self._bound)
            else:
                nn.init.constant_(parameter, initial)

    def holding(self, weight: Tensor | None, bias: Tensor | None, *own: Tensor | None) -> SiteNorm:
        """Return this norm in its present mode with other parameters and the same table.

        By the time that a norm is computed once more, its module may hold other parameters: those
        of ``torch.func.functional_call``, or new ones of a parametrisation.
        """
        kind: type[SiteNorm] = parametrize.type_before_parametrizations(self)
        other = kind.__new__(kind)
        other.__dict__.update(self.__dict__)
        given = {"weight": weight, "bias": bias, **dict(zip(self.own, own))}
        other.__dict__["_parameters"] = given
        # The given parameters are computed already.
        others = {name: m for name, m in self._modules.items() if name != "parametrizations"}
        other.__dict__["_modules"] = others
        return other

    def start(
        self, batch_sizes: Sequence[int], first: int = 0, totals: Sequence[int] | None = None
    ) -> SitePass:
        """Begin a pass over steps first, first + 1, ... with these numbers of rows.

        Args:
            totals: rows of each step in all processes that share statistics, if they do.
        """
        return SitePass(self)

    def extra_repr(self) -> str:
        shown = {"kind": self.norm.kind} | changed(self.norm)
        words = [f"{k}={v!r}" for k, v in shown.items()] + ["frozen"] * self.frozen
        return ", ".join([str(self.features), *words])


class SitePass:
    """One norm during one pass over time."""

    def __init__(self, site: SiteNorm) -> None:
        self._site = site

    def __call__(self, x: Tensor, t: int) -> Tensor:
        """Normalise the rows (n, F) of step t."""
        out: Tensor = self._site(x)
        return out

    def whole(self, rows: Tensor) -> Tensor:
        """Normalise the rows (N, F) of all steps of the pass."""
        return self(rows, 0)

    def close(self) -> None:
        """Write the statistics that the pass has gathered."""


def normalise_units(
    x: Tensor, norm: Norm, sizes: Sequence[int], weight: Tensor | None, bias: Tensor | None
) -> Tensor:
    """Compute LayerNorm or RMSNorm of rows (..., F) over sets of ``sizes`` units."""
    wide = widen(x)
    if len(sizes) == 1 and norm.kind == "layer" and norm.eps_on == "var":
        # One fused kernel computes the same numbers as below.
        weight = None if weight is None else widen(weight)
        bias = None if bias is None else widen(bias)
        return F.layer_norm(wide, list(sizes), weight, bias, norm.eps).to(x.dtype)

    done = []
    for block in blocks(wide, sizes):
        mean, var, _ = moments_of_block(block, norm)
        done.append(normalise(block, mean, var, norm.eps, eps_on=norm.eps_on).flatten(-2))
    return affine(joined(done), weight, bias).to(x.dtype)


def blocks(x: Tensor, sizes: Sequence[int]) -> list[Tensor]:
    """Divide rows (..., F) into blocks (..., s, units), each of s sets of equal size."""
    if len(set(sizes)) == 1:
        return [x.unflatten(-1, (len(sizes), sizes[0]))]
    return [part.unsqueeze(-2) for part in x.split(list(sizes), -1)]


def joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, -1)


def moments_of_block(block: Tensor, norm: Norm) -> Moments:
    """Return the moments (..., s, 1) of each set of a block (..., s, units)."""
    seen = block
    if norm.part is not None:
        seen = block[..., : units_of_part(norm.part, block.shape[-1])]
    return moments(seen, (-1,), centred=norm.kind == "layer")


class FeatureNorm(SiteNorm):
    """LayerNorm or RMSNorm of a row over sets of its own units, without running statistics.

    Args:
        sizes: units of each set, together F.
    """

    def __init__(
        self, norm: Norm, sizes: tuple[int, ...], hidden_size: int, **factory: Any
    ) -> None:
        super().__init__(norm, sum(sizes), hidden_size, **factory)
        self.sizes = sizes
        self.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        """Normalise rows (..., F)."""
        return normalise_units(x, self.norm, self.sizes, self.weight, self.bias)


class BatchSiteNorm(SiteNorm):
    """BatchNorm with separate statistics for every time step, under the rules of ``RunningTable``.

    Gain and bias are shared over time. "batch_pooled" is a single step that holds all rows.

    Attributes:
        renormalization: the correction of Batch Renormalization, or ``None``.
    """

    def __init__(self, norm: Norm, features: int, hidden_size: int, **factory: Any) -> None:
        super().__init__(norm, features, hidden_size, **factory)
        steps = 1 if norm.over_time else norm.max_steps
        self.table = RunningTable(
            features, steps, norm.momentum, norm.min_count, norm.beyond, **factory
        )
        self.renormalization: Renormalization | None = None
        if norm.r_max is not None and norm.d_max is not None:
            self.renormalization = Renormalization(norm.r_max, norm.d_max, **factory)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        super().reset_parameters()
        self.table.reset()
        if self.renormalization is not None:
            self.renormalization.reset()

    def check(self, steps: int, first: int) -> None:
        """Raise IndexError if the table refuses a step of a pass."""
        if self.norm.over_time:
            steps, first = min(steps, 1), 0
        self.table.check(steps, first, self.learns)

    def start(
        self, batch_sizes: Sequence[int], first: int = 0, totals: Sequence[int] | None = None
    ) -> SitePass:
        return BatchPass(self, batch_sizes, first, totals)


class BatchPass(SitePass):
    """BatchNorm during one pass.

    A backend that computes many steps at once reads the statistics of the table from ``given`` and
    hands over those of the batch to ``gather``.

    Attributes:
        first: the first step.
        end: the first step that is normalised by the table.
    """

    _site: BatchSiteNorm

    def __init__(
        self,
        site: BatchSiteNorm,
        batch_sizes: Sequence[int],
        first: int,
        totals: Sequence[int] | None = None,
    ) -> None:
        learns = site.learns
        self._processes = sharing(site.table.processes, learns)
        rows = batch_sizes if totals is None or self._processes is None else totals
        if site.norm.over_time:  # one step that holds all rows
            batch_sizes, rows, first = [sum(batch_sizes)], [sum(rows)], 0
        self._site = site
        self._sizes = list(batch_sizes)
        self._rows = list(rows)
        self.first = first
        self.end = first
        if learns:
            # Steps with enough rows come first, because later ones have fewer rows.
            enough = sum(n >= site.norm.min_count for n in self._rows)
            self.end = max(first, min(first + enough, site.table.max_steps))
        self._others = first + len(batch_sizes) - self.end
        self._own: list[tuple[Tensor, Tensor]] = []
        self._open = self._learns = learns
        self._before: list[Before] | None = None
        self._table: tuple[Tensor, Tensor] | None = None
        self._shared: list[tuple[Tensor, Tensor]] = []

    def __call__(self, x: Tensor, t: int) -> Tensor:
        site, norm = self._site, self._site.norm
        wide = widen(x)
        correction: tuple[Tensor, Tensor] | None = None
        if t < self.end:
            mean, var = self._of_the_batch(wide, t)
            correction = self._correction(mean, var, t)
            self.gather(mean.detach(), var.detach())
        else:
            mean, var = (moment[t - self.end] for moment in self.given())
        y = normalise(wide, mean, var, norm.eps, eps_on=norm.eps_on)
        if correction is not None:
            r, d = correction
            y = torch.addcmul(d, y, r)
        return affine(y, site.weight, site.bias).to(x.dtype)

    def _of_the_batch(self, x: Tensor, t: int) -> tuple[Tensor, Tensor]:
        """Return mean and variance (1, F) of step t, whose rows (n, F) in this process are x."""
        if self._shared:
            return self._shared[t - self.first]
        own = moments(x, (0,))
        if self._processes is not None:
            own = union(own, self._processes)
        return own.mean, own.var

    def _correction(self, mean: Tensor, var: Tensor, t: int) -> tuple[Tensor, Tensor] | None:
        """Return r and d (1, F) of step t, whose rows have this mean and variance (1, F)."""
        site, norm = self._site, self._site.norm
        if site.renormalization is None:
            return None
        if self._before is None:  # the table is updated after the last of these steps
            whole = site.renormalization.before(
                site.table, self.first, self.end, norm.eps, norm.eps_on
            )
            self._before = whole.steps()
        here = self._before[t - self.first]
        return site.renormalization.correction(mean, var, here, norm.eps, norm.eps_on)

    def correcting(self, start: int, end: int) -> Tensor | None:
        """Return what corrects steps start to end - 1 of the pass, or ``None``.

        Returns:
            (end - start, 4, F): the running mean and 1 / deviation, and the limits of r and d.
        """
        site, norm = self._site, self._site.norm
        if site.renormalization is None:
            return None
        first = self.first
        whole = site.renormalization.before(site.table, first, self.end, norm.eps, norm.eps_on)
        parts = (whole.mean, whole.scale, whole.most_r, whole.most_d)
        return torch.stack([part[start:end].expand_as(whole.mean[start:end]) for part in parts], 1)

    def given(self) -> tuple[Tensor, Tensor]:
        """Return the table's mean and variance (., F) of the steps from ``end`` on."""
        if self._table is None:
            self.close()  # a cell, step by step, would write before it reads too
            self._table = self._site.table.read(self._others, self.end, self._learns)
        return self._table

    def gather(self, mean: Tensor, var: Tensor) -> None:
        """Gather the moments (., F) of the next steps before ``end``."""
        self._own.append((mean, var))

    def whole(self, rows: Tensor) -> Tensor:
        steps = rows.split(self._sizes)
        if self._processes is not None and self.end > self.first:
            own = [moments(widen(x), (0,)) for x in steps[: self.end - self.first]]
            # One exchange serves all steps.
            shared = union(Moments(*(torch.cat(parts) for parts in zip(*own))), self._processes)
            self._shared = list(zip(shared.mean.split(1), shared.var.split(1)))
        done = [self(x, t) for t, x in enumerate(steps, self.first)]
        return torch.cat(done) if done else rows

    def close(self) -> None:
        if not self._open:
            return
        self._open = False
        table = self._site.table
        if self._own:
            means, variances = (
                torch.cat(found) if len(found) > 1 else found[0] for found in zip(*self._own)
            )
        else:
            means = variances = table.running_mean[:0]
        count = torch.tensor(self._rows, dtype=torch.int64, device=means.device)
        table.update(means, variances, count, self.first, enough=True)
        self._own.clear()


class SiteRun:
    """All norms of one direction during one pass over time: ``run(site, x, t)``."""

    def __init__(self, passes: dict[str, SitePass]) -> None:
        self._passes = passes
        self._met: set[str] = set()

    def __call__(self, site: str, x: Tensor, t: int) -> Tensor:
        """Normalise x (n, F) at a site; a site without a norm leaves it unchanged."""
        self._met.add(site)
        found = self._passes.get(site)
        return x if found is None else found(x, t)

    def unmet(self) -> list[str]:
        """Return the sites of norms within a step at which nothing was normalised."""
        return [site for site in WITHIN if site in self._passes and site not in self._met]

    def of(self, site: str) -> SitePass | None:
        """Return the pass of the norm at one site."""
        return self._passes.get(site)

    def whole(self, site: str, rows: Tensor) -> Tensor:
        """Normalise the rows (N, F) of all steps at a site outside of the recurrence."""
        found = self._passes.get(site)
        return rows if found is None else found.whole(rows)

    def close(self) -> None:
        for site in self._passes.values():
            site.close()
