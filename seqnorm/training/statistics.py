"""What the statistics of BatchNorm rest on while anyone's model is trained."""

from __future__ import annotations

import functools
import inspect
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.hooks import RemovableHandle

from seqnorm.nn.statistics import RunningTable
from seqnorm.nn.statistics.masks import position_mask
from seqnorm.nn.statistics.moments import moments
from seqnorm.nn.statistics.processes import sharing, union

from .averaging import unheeded
from .pictures import statistics_map
from .seen import Site, Trouble, troubles


class NormStatistics(Callback):
    """Watches the statistics of every norm that averages over the batch, and changes nothing.

    It takes part in training of any LightningModule with such norms of this library in it, or with
    ``torch.nn.BatchNorm1d`` to ``3d``. For each of them (a *site*) it logs once an epoch,
    under ``norm/<site>/``, over the steps and batches that it looked at:

    =================  ======================================================================
    rows_mean          rows that a step's statistics rest on, sequences still running at it
                       (pooled over time: all their frames; in torch's norms: elements a
                       channel)
    rows_min           fewest rows of a step
    drift_mean         ``|m - M| / sqrt(V)``, on average: by how many standard deviations the
                       batch's mean m is off the running mean M, which inference will use
    drift_var          ``|log(v / V)|``, on average, for the variances
    under_min_count    part of the steps that had too few rows and were read from the table
    past_table         part of the steps that lie beyond the table
    =================  ======================================================================

    At the end of training it draws rows and drift of all steps and sites as
    ``norm_statistics.png`` into the folder of the logger. It warns, once of each site and trouble,
    where statistics are not to be trusted, and says what to do; at the start already where weights
    are averaged and the tables of every time step would not be those of the average.

    Of n independent rows alone drift_mean is ``0.8 / sqrt(n)`` and drift_var ``1.1 / sqrt(n - 1)``;
    what is above that comes from weights that move faster than the averages follow, or from batches
    that differ.

    Args:
        every_n_steps: every which batch is looked at. A look costs about twice as much as the
            update of the tables that it looks at, so at every tenth batch far less than 1 %.
        min_rows: warn of steps with fewer rows on average. The standard deviation of a variance
            taken from n normal rows is ``sqrt(2 / (n - 1))`` of it: at 8 rows half.
        max_drift: warn of steps whose mean is off by more standard deviations on average: at 0.5
            inference shifts a feature by half of its spread against what training saw.
        tolerated: part of a site's steps that may have a trouble without a warning; 5 % are a rare
            long sequence.
        picture: whether to draw.

    Raises:
        ValueError: an argument out of range.
    """

    def __init__(
        self,
        *,
        every_n_steps: int = 10,
        min_rows: float = 8.0,
        max_drift: float = 0.5,
        tolerated: float = 0.05,
        picture: bool = True,
    ) -> None:
        if every_n_steps < 1:
            raise ValueError(f"every_n_steps must be at least 1, got {every_n_steps}")
        if min_rows < 0 or max_drift < 0:
            raise ValueError(
                f"min_rows and max_drift must be at least 0, got {min_rows} and {max_drift}"
            )
        if not 0 <= tolerated < 1:
            raise ValueError(f"tolerated is a part from 0 to below 1, got {tolerated}")
        self.every_n_steps = every_n_steps
        self.min_rows = min_rows
        self.max_drift = max_drift
        self.tolerated = tolerated
        self.picture = picture
        self.sites: dict[str, Site] = {}
        self._epoch: dict[str, Site] = {}
        self._resumed: dict[str, Site] = {}  # those of an epoch that a run goes on inside of
        self._handles: list[RemovableHandle] = []
        self._looking = False
        self._warned: set[str] = set()

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        trouble = unheeded(trainer.callbacks, pl_module)  # type: ignore[attr-defined]  # set by a connector
        if trouble is not None:
            rank_zero_warn(trouble)
        # Late enough for models that are built in configure_model, and for copies of the model
        # (of averaged weights) to have been made without hooks.
        self._remove_hooks()
        for name, module in pl_module.named_modules():
            if isinstance(module, RunningTable):
                name = name.rpartition(".")[0] or name
                steps, least = module.max_steps, module.min_count
                hook = functools.partial(self._table_updated, name)
                self._handles.append(module.register_update_hook(hook))
            elif isinstance(module, _BatchNorm) and module.running_mean is not None:
                steps, least = 1, 2
                torch_hook = functools.partial(self._torch_called, name)
                handle = module.register_forward_pre_hook(torch_hook, with_kwargs=True)
                self._handles.append(handle)
            else:
                continue
            self.sites[name] = _of_steps(self.sites.get(name), steps)
            self.sites[name].min_count = least
            self._epoch[name] = _of_steps(self._resumed.pop(name, None), steps)
        if not self._handles:
            rank_zero_info(
                "NormStatistics has nothing to watch: no norm in this model averages over the "
                "batch (LayerNorm, RMSNorm and the like need no statistics of others)"
            )

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._looking = batch_idx % self.every_n_steps == 0

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        # What comes between batches is not training: validation, statistics taken anew.
        self._looking = False

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        values: dict[str, float] = {}
        for name, site in self._epoch.items():
            values |= {f"norm/{name}/{key}": v for key, v in site.summary().items()}
            self.sites[name].add(site)
            self._epoch[name] = Site.empty(len(site.passes))
        pl_module.log_dict(values, sync_dist=False, rank_zero_only=True)
        if not self._is_trial(trainer):  # a few batches say too little
            for trouble in self._troubles():
                rank_zero_warn(trouble)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._remove_hooks()
        seen = {name: site for name, site in self.sites.items() if site.passes.any()}
        if not (self.picture and seen and trainer.loggers) or self._is_trial(trainer):
            return
        folder = trainer.log_dir  # asked for by every process, for they agree on it
        if folder is not None and trainer.is_global_zero:
            Path(folder).mkdir(parents=True, exist_ok=True)
            rows = {name: site.rows_mean() for name, site in seen.items()}
            drift = {name: site.drift_mean() for name, site in seen.items()}
            statistics_map(rows, drift, Path(folder) / "norm_statistics.png")

    def on_exception(self, *args: Any) -> None:
        self._remove_hooks()

    def state_dict(self) -> dict[str, Any]:
        """What was seen so far, so that a resumed run's picture shows all of it."""
        return {
            "sites": {name: site.tensors() for name, site in self.sites.items()},
            "epoch": {name: site.tensors() for name, site in self._epoch.items()},
            "warned": sorted(self._warned),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from there."""
        self.sites = {name: Site(**tensors) for name, tensors in state_dict["sites"].items()}
        epoch = state_dict.get("epoch", {})
        self._resumed = {name: Site(**tensors) for name, tensors in epoch.items()}
        self._warned = set(state_dict["warned"])

    @staticmethod
    def _is_trial(trainer: Trainer) -> bool:
        return bool(trainer.fast_dev_run)  # type: ignore[attr-defined]  # set by a connector

    def _remove_hooks(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._looking = False

    def _table_updated(
        self, name: str, table: RunningTable, mean: Tensor, var: Tensor, rows: Tensor, first: int
    ) -> None:
        if self._looking:
            known = (table.running_mean, table.running_var, table.count)
            self._epoch[name].see(mean, var, rows, first, known, table.min_count)

    def _torch_called(
        self, name: str, module: _BatchNorm, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        known = (module.running_mean, module.running_var, module.num_batches_tracked)
        if not (self._looking and module.training and all(part is not None for part in known)):
            return
        # Those of this library take a mask besides.
        given = inspect.signature(module.forward).bind(*args, **kwargs).arguments
        x, mask = next(iter(given.values())).detach(), given.get("mask")
        found = moments(
            x,
            [dim for dim in range(x.dim()) if dim != 1],
            None if mask is None else position_mask(mask, x),
        )
        processes = sharing(getattr(module, "processes", None), training=True)
        if processes is not None:  # every process looks at the same batches
            found = union(found._replace(n=found.n[:, :1]), processes)
        mean, var = found.mean.reshape(1, -1), found.var.reshape(1, -1)
        rows = found.n.reshape(-1)[:1]
        steps = tuple(part[None] for part in known if part is not None)
        self._epoch[name].see(mean, var, rows, 0, (steps[0], steps[1], steps[2]), 2)

    def _troubles(self) -> list[str]:
        """A message for each kind of trouble that is new at a site, about the worst such site."""
        found: dict[str, list[tuple[Trouble, str]]] = {}
        for name, site in self.sites.items():
            for trouble in troubles(site, self.min_rows, self.max_drift, self.tolerated):
                if f"{name} {trouble.kind}" not in self._warned:
                    self._warned.add(f"{name} {trouble.kind}")
                    found.setdefault(trouble.kind, []).append((trouble, name))
        messages = []
        for of_a_kind in found.values():
            worst, where = max(of_a_kind, key=lambda pair: pair[0].size)
            others = [name for _, name in of_a_kind if name != where]
            also = f" (and no worse at {', '.join(others)})" if others else ""
            messages.append(f"{where}{also}: {worst.message}")
        return messages


def _of_steps(kept: Site | None, steps: int) -> Site:
    """What was kept of a site, if it has as many steps as then."""
    return kept if kept is not None and len(kept.passes) == steps else Site.empty(steps)
