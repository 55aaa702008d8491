"""The options of a sweep: those of a new one, checked, and those of one that is continued."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import optuna
from lightning.pytorch.cli import LightningArgumentParser
from optuna.samplers import RandomSampler

from seqnorm.files import write_atomically

from ..errors import OF_INPUTS
from ..run.config_files import check_config
from ..run.fit import build, plain_config, training_parser
from ..run.loggers import check_loggers
from ..run.quiet import warn_of_slowness
from ..run.run_folder import HIGHER_IS_BETTER
from ..run.task import TASKS, Task
from ..run.trainer import make_trainer
from ..run.yaml_texts import dump, keep_texts, load
from .space import Space, read_space
from .trials import hushed

OWN = ("space", "trials", "hours", "resume")
TRIALS = 20
# The options of a sweep that is continued.
OF_RESUMED = ("--resume", "--trials", "--hours")
# So many draws from the space are built before the first trial, if the first one fails.
TRIED = 10


@dataclass
class Sweep:
    """A sweep: its task, its options and its folder."""

    task: Task
    parser: LightningArgumentParser
    config: dict[str, Any]
    stated: dict[str, Any]  # the space as it was written
    space: Space
    trials: int
    monitor: str = ""
    has_test: bool = False
    path: Path = Path()

    @property
    def higher(self) -> bool:
        """True if higher values of the monitored quantity are better."""
        return self.monitor in HIGHER_IS_BETTER


def sweep_parser(task: Task) -> LightningArgumentParser:
    """Return the parser of the command."""
    words = (
        f"Search for options of a {task.model}: each trial is a run of fit with other options, "
        "which is validated but not tested. seqnorm sweep FILE is short for seqnorm sweep "
        "--data.corpus FILE. The options of fit are those of all trials."
    )
    parser = training_parser("sweep", words, task)
    parser.add_argument(
        "--space",
        type=Optional[str],
        default=None,
        help="The options to search over: a file or YAML that maps each option to a list of "
        "choices, or to a range {low: 1e-4, high: 1e-2, log: true}; or the name of a shipped "
        "space. null for the shipped one of the task.",
    )
    parser.add_argument(
        "--trials",
        type=Optional[int],
        default=None,
        help=f"The number of trials, with those before an interruption; null for {TRIALS}.",
    )
    parser.add_argument(
        "--hours",
        type=Optional[float],
        default=None,
        help="No trial begins after so many hours; null for no limit.",
    )
    parser.add_argument(
        "--resume",
        type=Optional[str],
        default=None,
        help="The folder of a sweep to continue, as runs/r8/sweep_0. Its options are those of its "
        "beginning; only --trials and --hours may be given beside it. Several processes may "
        "continue one sweep at the same time.",
    )
    return parser


def _parse(parser: LightningArgumentParser, arguments: Sequence[str]) -> Any:
    keep_texts(parser)
    options = parser.parse_args(list(arguments))
    if options.trials is not None and options.trials < 1:
        raise ValueError(f"--trials must be at least 1, not {options.trials}")
    if options.hours is not None and not options.hours > 0:
        raise ValueError(f"--hours must be above 0, not {options.hours}")
    return options


def new_sweep(task: Task, arguments: Sequence[str]) -> tuple[Sweep, float | None]:
    """Return the sweep that the arguments describe, and its limit in hours.

    Everything that every trial would fail with is found here.
    """
    parser = sweep_parser(task)
    options = _parse(parser, arguments)
    if options.resume is not None:
        raise ValueError(f"give --resume {options.resume} on the command line")
    config = {k: v for k, v in plain_config(parser, options).items() if k not in OWN}
    if config["trainer"]["fast_dev_run"]:
        raise ValueError("a sweep compares validations, and trainer.fast_dev_run has none")
    if config["trainer"]["devices"] == "auto":
        config["trainer"]["devices"] = 1
    stated = read_space(options.space, config["task"])
    space = Space(stated, parser, config)
    sweep = Sweep(task, parser, config, stated, space, options.trials or TRIALS)
    _check(sweep)
    base = task.run(folder=config["run"]["folder"], name=config["run"]["name"])
    sweep.path = _new_folder(base.place(config["data"]["corpus"]))
    stated_by = {"trials": sweep.trials, "monitor": sweep.monitor, "has_test": sweep.has_test}
    content = {**stated_by, "space": stated, "config": sweep.config}
    write_atomically(sweep.path / "sweep.yaml", dump(content))
    return sweep, options.hours


def _new_folder(base: Path) -> Path:
    number = 0
    while True:
        path = base / f"sweep_{number}"
        try:
            path.mkdir(parents=True)
            return path
        except FileExistsError:
            number += 1


def continued_sweep(folder: Path, arguments: Sequence[str]) -> tuple[Sweep, float | None]:
    """Return the sweep in a folder, and its limit in hours."""
    names = [word.partition("=")[0] for word in arguments if word.startswith("-")]
    asked = {"-h", "--help"}.intersection(names)
    if (others := [name for name in names if name not in OF_RESUMED]) and not asked:
        raise ValueError(
            f"leave out {', '.join(others)}: a sweep that is continued has the options of its "
            "beginning, so that its trials can be compared; only --trials and --hours may be given"
        )
    file = folder / "sweep.yaml"
    if not file.is_file():
        raise ValueError(f"{folder} is not the folder of a sweep: it has no sweep.yaml")
    check_config(file)
    stored = load(file.read_text(encoding="utf-8"))
    try:
        config, stated = stored["config"], stored["space"]
        task = TASKS[config["task"]]
        about = {name: stored[name] for name in ("monitor", "has_test")}
        count = int(stored["trials"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{file} is not what a sweep has written there: {error!r}") from error
    parser = sweep_parser(task)
    options = _parse(parser, arguments)
    space = Space(stated, parser, config)
    count = options.trials or count
    return Sweep(task, parser, config, stated, space, count, path=folder, **about), options.hours


def _check(sweep: Sweep) -> None:
    """Build the first trial, or another one of the space, to find an error of every trial.

    The quantity that the trials are compared by is chosen here, too.

    Raises:
        ValueError: The error of the first trial, if every trial has one.
    """
    space, parser = sweep.space, sweep.parser
    drawn = optuna.create_study(sampler=RandomSampler(seed=0))
    first: Exception | None = None
    for number in range(TRIED):
        params = drawn.ask(space.distributions).params
        config = space.configured({**params, **space.given()} if number == 0 else params)
        try:
            if number == 0:
                made = build(sweep.task, parser, parser.parse_args(["--config", dump(config)]))
            else:
                with hushed():
                    made = build(sweep.task, parser, parser.parse_args(["--config", dump(config)]))
            break
        except OF_INPUTS as error:
            first = first or error
    else:
        assert first is not None
        raise first
    if made.trainer.logger is None:
        check_loggers(made.run.loggers)
    with hushed():
        changed = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        trainer = make_trainer({**made.trainer.as_dict(), **changed}, made.model)
    if trainer.world_size > 1:
        raise ValueError(
            f"a trial trains in one process, not in {trainer.world_size}: set --trainer.devices 1, "
            "and begin seqnorm sweep --resume FOLDER in further processes, which share the trials"
        )
    if trainer.limit_val_batches == 0:
        raise ValueError("a sweep compares validations: trainer.limit_val_batches must not be 0")
    warn_of_slowness(trainer)
    sweep.monitor = made.run.monitor
    sweep.has_test = made.data.has_test
    sweep.config["run"]["monitor"] = sweep.monitor  # the same in all trials
