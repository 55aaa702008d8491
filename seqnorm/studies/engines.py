"""Engines that make several runs at once: processes of this machine, or Dask or Ray over machines.

All of them are backends of joblib.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import joblib
from joblib.externals.loky import get_reusable_executor

from seqnorm.extra import explained

T = TypeVar("T")
ENGINES = ("loky", "dask", "ray")


@dataclass(frozen=True)
class Engine:
    """A backend of joblib that makes runs.

    Args:
        name: "loky" for processes of this machine, "dask" or "ray" for a cluster: that of
            ``DASK_SCHEDULER_ADDRESS`` or ``RAY_ADDRESS``, or else one started on this machine. Ray
            is handed to joblib as it is and has not been tested.
        processes: runs at once of loky, or of a cluster that is started. A single run of loky is
            made in this process.
    """

    name: str = "loky"
    processes: int = 1

    @contextmanager
    def started(self) -> Iterator[int]:
        """Start the engine and yield the number of runs at once; leave no process behind.

        Raises:
            ModuleNotFoundError: the package of the engine is missing.
            ValueError: a worker of the cluster has several threads.
        """
        start = {"loky": self._loky, "dask": self._dask, "ray": self._ray}[self.name]
        with start() as jobs, joblib.parallel_config(self.name, n_jobs=jobs):
            yield joblib.effective_n_jobs(jobs)

    def results(self, function: Callable[..., T], calls: Iterable[tuple[Any, ...]]) -> Iterator[T]:
        """Yield the results of calls as they come, while the engine is started.

        No more calls are handed over than can run at once, so an interruption takes effect soon.
        """
        parallel = joblib.Parallel(
            return_as="generator_unordered", pre_dispatch="n_jobs", batch_size=1
        )
        yield from parallel(joblib.delayed(function)(*call) for call in calls)

    @contextmanager
    def _loky(self) -> Iterator[int]:
        try:
            yield self.processes
        finally:
            if self.processes > 1:
                get_reusable_executor().shutdown(kill_workers=True)

    @contextmanager
    def _dask(self) -> Iterator[int]:
        with explained("the engine", "pip install 'dask[distributed]'"):
            import dask
            from distributed import Client
        own = partial(Client, threads_per_worker=1, dashboard_address=None)
        # A running cluster has its own number of workers.
        running = dask.config.get("scheduler-address", None)
        with Client() if running else own(n_workers=self.processes) as client:
            if set(client.nthreads().values()) - {1}:
                # Two runs in one process would draw from one generator of random numbers.
                raise ValueError("start workers with one thread: dask worker --nthreads 1")
            yield -1

    @contextmanager
    def _ray(self) -> Iterator[int]:
        with explained("the engine", "pip install ray"):
            import ray
            from ray.util.joblib import register_ray
        own: dict[str, Any] = {} if "RAY_ADDRESS" in os.environ else {"num_cpus": self.processes}
        with ray.init(**own):
            register_ray()
            yield -1
