"""Report which rows BatchNorm's statistics rest on while a model is trained."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor
from torch.nn.modules.batchnorm import _NormBase
from torch.utils.hooks import RemovableHandle

from seqnorm.nn.statistics import RunningTable
from seqnorm.nn.statistics.masks import position_mask
from seqnorm.nn.statistics.moments import moments
from seqnorm.nn.statistics.processes import sharing, union
from seqnorm.nn.statistics.tracking import TRACKING, given_to

from ..results.pictures import statistics_map
from .reestimate import stale_statistics
from .site_statistics import SiteStatistics, Trouble, troubles


class NormStatistics(Callback):
    """Watch the statistics of every norm that averages over the batch, without changing a number.

    The callback works with any LightningModule that contains such norms of this library, or
    ``torch.nn.BatchNorm1d`` to ``3d``. For each of them (a *site*) it logs once an epoch, under
    ``norm/<site>/``, over the steps and batches that it inspected:

    =================  ======================================================================
    rows_mean          average number of rows that the statistics of a step rest on: the
                       sequences that still run at the step (pooled over time: all their
                       frames; in torch's norms: the elements of a channel)
    rows_min           smallest number of rows of a step
    drift_mean         average of ``|m - M| / sqrt(V)``, the distance in standard deviations
                       between a batch's mean m and the running mean M used in inference
    drift_var          average of ``|log(v / V)|``, the same for the variances
    under_min_count    part of the steps that had too few rows and used the table
    past_table         part of the steps that lie beyond the table
    =================  ======================================================================

    At the end of training it draws the rows and the drift of all steps and sites into
    ``norm_statistics.png`` in the logger's folder. It warns once of each problem at a site, and
    says how to solve it. At the start it warns if weights are averaged and the tables of every time
    step would not be those of the average.

    With n independent rows, drift_mean is ``0.8 / sqrt(n)`` and drift_var ``1.1 / sqrt(n - 1)`` by
    chance. Larger values come from weights that move faster than the running averages follow, or
    from batches that differ.

    Args:
        every_n_steps: Inspect one batch in so many. An inspection costs about twice as much as the
            update of the tables; for one batch in ten that is far less than 1 % of the time.
        min_rows: Warn of steps with fewer rows on average. The variance of n normal rows has a
            relative standard deviation of ``sqrt(2 / (n - 1))``, which is a half at 8 rows.
        max_drift: Warn of steps whose mean drifts by more standard deviations on average. At 0.5,
            inference shifts a feature by half of its spread compared to training.
        tolerated: The part of a site's steps that may have a problem without a warning. 5 % allow
            for rare long sequences.
        picture: Draw the picture.

    Raises:
        ValueError: An argument is out of range.
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
            raise ValueError(f"tolerated must be at least 0 and below 1, got {tolerated}")
        self.every_n_steps = every_n_steps
        self.min_rows = min_rows
        self.max_drift = max_drift
        self.tolerated = tolerated
        self.picture = picture
        self.sites: dict[str, SiteStatistics] = {}
        self._epoch: dict[str, SiteStatistics] = {}
        self._resumed: dict[str, SiteStatistics] = {}  # of the epoch in which a run is resumed
        self._handles: list[RemovableHandle] = []
        self._looking = False
        self._warned: set[str] = set()

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        trouble = stale_statistics(trainer.callbacks, pl_module)  # type: ignore[attr-defined]  # set by a connector
        if trouble is not None:
            rank_zero_warn(trouble)
        # By now models are built that are built in configure_model, and copies of the model (of
        # averaged weights) have been made without hooks.
        self._remove_hooks()
        for name, module in pl_module.named_modules():
            if isinstance(module, RunningTable):
                name = name.rpartition(".")[0] or name
                steps, least = module.max_steps, module.min_count
                handle = module.register_update_hook(partial(self._table_updated, name))
            elif isinstance(module, TRACKING) and module.running_mean is not None:
                steps, least = 1, 2
                hook = partial(self._torch_called, name)
                handle = module.register_forward_pre_hook(hook, with_kwargs=True)
            else:
                continue
            self._handles.append(handle)
            self.sites[name] = _of_steps(self.sites.get(name), steps)
            self.sites[name].min_count = least
            self._epoch[name] = _of_steps(self._resumed.pop(name, None), steps)
        if not self._handles:
            rank_zero_info(
                "NormStatistics has nothing to watch: no norm in this model averages over the "
                "batch (LayerNorm and RMSNorm use each example's own statistics)"
            )

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._looking = batch_idx % self.every_n_steps == 0

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        # Validation and re-estimation run between batches, and are not inspected.
        self._looking = False

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        values: dict[str, float] = {}
        for name, site in self._epoch.items():
            values |= {f"norm/{name}/{key}": v for key, v in site.summary().items()}
            self.sites[name].add(site)
            self._epoch[name] = SiteStatistics.empty(len(site.passes))
        pl_module.log_dict(values, sync_dist=False, rank_zero_only=True)
        if not self._is_trial(trainer):  # a few batches are too few to judge by
            for trouble in self._troubles():
                rank_zero_warn(trouble)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._remove_hooks()
        seen = {name: site for name, site in self.sites.items() if site.passes.any()}
        if not (self.picture and seen and trainer.loggers) or self._is_trial(trainer):
            return
        folder = trainer.log_dir  # every process asks, because they agree on it
        if folder is not None and trainer.is_global_zero:
            Path(folder).mkdir(parents=True, exist_ok=True)
            rows = {name: site.rows_mean() for name, site in seen.items()}
            drift = {name: site.drift_mean() for name, site in seen.items()}
            statistics_map(rows, drift, Path(folder) / "norm_statistics.png")

    def on_exception(self, *args: Any) -> None:
        self._remove_hooks()

    def state_dict(self) -> dict[str, Any]:
        """Return the statistics so far, so that a resumed run's picture shows all of them."""
        return {
            "sites": {name: site.tensors() for name, site in self.sites.items()},
            "epoch": {name: site.tensors() for name, site in self._epoch.items()},
            "warned": sorted(self._warned),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue the statistics of a checkpoint."""
        self.sites, self._resumed = (
            {name: SiteStatistics(**tensors) for name, tensors in sites.items()}
            for sites in (state_dict["sites"], state_dict.get("epoch", {}))
        )
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
        self, name: str, module: _NormBase, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        known = (module.running_mean, module.running_var, module.num_batches_tracked)
        if not (self._looking and module.training and all(part is not None for part in known)):
            return
        x, mask = given_to(module, args, kwargs)
        x = x.detach()
        averaged = [dim for dim in range(x.dim()) if dim != 1]
        found = moments(x, averaged, None if mask is None else position_mask(mask, x))
        processes = sharing(getattr(module, "processes", None), training=True)
        if processes is not None:  # all processes inspect the same batches
            found = union(found._replace(n=found.n[:, :1]), processes)
        mean, var = found.mean.reshape(1, -1), found.var.reshape(1, -1)
        table = tuple(part[None] for part in known if part is not None)
        self._epoch[name].see(mean, var, found.n.reshape(-1)[:1], 0, table, 2)

    def _troubles(self) -> list[str]:
        """Return a message for each new kind of problem, about the site where it is worst."""
        found: dict[str, dict[str, Trouble]] = {}
        for name, site in self.sites.items():
            for trouble in troubles(site, self.min_rows, self.max_drift, self.tolerated):
                if f"{name} {trouble.kind}" not in self._warned:
                    self._warned.add(f"{name} {trouble.kind}")
                    found.setdefault(trouble.kind, {})[name] = trouble
        messages = []
        for of_a_kind in found.values():
            worst = max(of_a_kind, key=lambda name: of_a_kind[name].size)
            others = ", ".join(name for name in of_a_kind if name != worst)
            also = f" (and no worse at {others})" if others else ""
            messages.append(f"{worst}{also}: {of_a_kind[worst].message}")
        return messages


def _of_steps(kept: SiteStatistics | None, steps: int) -> SiteStatistics:
    """Return the statistics of a resumed site, unless its number of steps has changed."""
    return kept if kept is not None and len(kept.passes) == steps else SiteStatistics.empty(steps)
