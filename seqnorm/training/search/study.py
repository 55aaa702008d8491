"""The study of a sweep: Optuna's storage, sampler and pruner, and the trials of dead processes.

The storage is Optuna's journal, a file of lines in the folder of the sweep. It needs no database, a
killed process leaves it whole, and it works on the network file systems of clusters, where SQLite
does not.
"""

from __future__ import annotations

import uuid
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.pruners import MedianPruner
from optuna.samplers import TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, Trial, TrialState

from seqnorm.files import lock

JOURNAL = "study.journal"
# So many trials are drawn at random before the sampler learns from them.
RANDOM_TRIALS = 10
# A trial is ended if its best validation so far is worse than the median of the other trials' best
# at the same validation. This begins after so many complete trials, and in each trial after this
# part of its steps: a falling learning rate decides late, and a median of few trials is noise.
# (Hyperband would end trials by rank at set epochs, where the rate still decides, and needs more
# trials than most sweeps have.)
COMPLETE_TRIALS, WARMUP = 5, 1 / 3
# The median of a validation that fewer complete trials have reached ends no trial.
FEWEST = 3
# Values that are stored with a trial: its process, the trial that it tries again, its error, the
# trial of the same parameters whose value it has, its folder, and its seconds.
PROCESS, AGAIN, ERROR, TWIN = "process", "again", "error", "twin"
FOLDER, SECONDS = "folder", "seconds"


class SweepStudy:
    """The trials of a sweep, which several processes may run together.

    Args:
        folder: The folder of the sweep.
        distributions: The search space.
        higher: True if higher values are better.
        seed: The seed of the draws.
        first: The parameters of the first trial; those that it lacks are drawn.
    """

    def __init__(
        self,
        folder: Path,
        distributions: Mapping[str, BaseDistribution],
        *,
        higher: bool,
        seed: int,
        first: Mapping[str, Any],
    ) -> None:
        self.folder = folder
        self.distributions = dict(distributions)
        self.higher = higher
        self.seed = seed
        self._process = f"{uuid.uuid4().hex}.lock"
        self._held: IO[bytes] | None = None
        path = folder / JOURNAL
        with self._alone():
            new = not path.exists()
            processes = [each.name for each in (folder / "processes").glob("*.lock")]
            if not any([self._lives(process) for process in processes]):
                _mend(path)
            # This kind of lock exists on all systems and file systems.
            backend = JournalFileBackend(str(path), JournalFileOpenLock(str(path)))
            self.study = optuna.create_study(
                study_name=folder.name,
                storage=JournalStorage(backend),
                direction="maximize" if higher else "minimize",
                pruner=MedianPruner(COMPLETE_TRIALS, n_min_trials=FEWEST),
                load_if_exists=True,
            )
            if new and first:
                self.study.enqueue_trial(dict(first))

    @property
    def trials(self) -> list[FrozenTrial]:
        """The trials that have begun."""
        waiting = TrialState.WAITING
        return [t for t in self.study.get_trials(deepcopy=False) if t.state != waiting]

    @property
    def best(self) -> FrozenTrial | None:
        """The best complete trial, the first of equals; None if no trial is complete."""
        complete = [trial for trial in self.trials if trial.state == TrialState.COMPLETE]
        sign = -1 if self.higher else 1
        return min(complete, key=lambda trial: sign * float(trial.value or 0.0), default=None)

    def twin(self, trial: Trial) -> FrozenTrial | None:
        """Return a complete trial with the same parameters, which would have the same value."""
        complete = (each for each in self.trials if each.state == TrialState.COMPLETE)
        return next((each for each in complete if each.params == trial.params), None)

    def begin(self, count: int) -> Trial | None:
        """Begin the next trial; None if there are ``count``, without those that were interrupted.

        Each draw has random numbers of its own. A sweep that is continued therefore draws what it
        would have drawn without the interruption, and processes do not repeat one another's draws.
        """
        with self._alone():
            self._fail_interrupted()
            trials = self.trials
            if sum(not is_interrupted(trial) for trial in trials) >= count:
                return None
            if self._held is None:
                folder = self.folder / "processes"
                folder.mkdir(exist_ok=True)
                self._held = (folder / self._process).open("wb")
                lock(self._held)
            drawn = sum(AGAIN not in trial.user_attrs for trial in trials)
            seed = int(np.random.SeedSequence([self.seed, drawn]).generate_state(1)[0])
            self.study.sampler = TPESampler(
                n_startup_trials=RANDOM_TRIALS, multivariate=True, constant_liar=True, seed=seed
            )
            trial = self.study.ask(self.distributions)
            trial.set_user_attr(PROCESS, self._process)
            return trial

    def end(self, trial: Trial, state: TrialState, value: float | None, **about: Any) -> None:
        """Store the outcome of a trial, and further values ``about`` it."""
        for name, known in about.items():
            trial.set_user_attr(name, known)
        self.study.tell(trial, value if state == TrialState.COMPLETE else None, state)

    def close(self) -> None:
        """Release the lock of this process."""
        if self._held is not None:
            with self._alone():
                self._held.close()
                self._held = None
                with suppress(OSError):  # other processes have their locks there
                    (self.folder / "processes" / self._process).unlink()
                    (self.folder / "processes").rmdir()

    def _fail_interrupted(self) -> None:
        """Mark the running trials of dead processes as failed, and plan each of them once more."""
        for trial in self.trials:
            if trial.state != TrialState.RUNNING or self._lives(trial.user_attrs.get(PROCESS)):
                continue
            self.study.tell(trial.number, state=TrialState.FAIL)
            # A trial that has ended two processes would end the next one too.
            if trial.params and AGAIN not in trial.user_attrs:
                self.study.enqueue_trial(trial.params, user_attrs={AGAIN: trial.number})

    def _lives(self, process: str | None) -> bool:
        """Return whether a process still holds its lock."""
        try:
            with (self.folder / "processes" / str(process)).open("rb+") as file:
                lock(file, wait=False)
        except BlockingIOError:
            return True
        except FileNotFoundError:
            return False
        (self.folder / "processes" / str(process)).unlink(missing_ok=True)
        return False

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Let one process at a time into the block."""
        with (self.folder / "sweep.lock").open("ab") as file:
            lock(file)
            yield


def quieten_optuna() -> None:
    """Leave out Optuna's lines about trials, and its warnings of experimental arguments."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # Which arguments are experimental depends on the version.
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


def is_interrupted(trial: FrozenTrial) -> bool:
    """Return whether the process of a trial died: other failures state an error."""
    return trial.state == TrialState.FAIL and ERROR not in trial.user_attrs


def _mend(path: Path) -> None:
    """Remove a last line that a full disk or a power failure left unfinished."""
    if path.exists():
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            with path.open("rb+") as file:
                file.truncate(whole)
