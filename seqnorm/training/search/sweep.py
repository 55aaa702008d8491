"""The options of a sweep: those of a new one, checked, and those of one that is continued."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from lightning.pytorch.cli import LightningArgumentParser

from seqnorm.files import next_folder, write_atomically

from ..run.config_files import check_config
from ..run.fit import plain_config, training_parser
from ..run.run_folder import HIGHER_IS_BETTER
from ..run.task import TASKS, Task
from ..run.yaml_texts import dump, keep_texts, load
from .check import check_data, check_trials, read_data
from .space import Space, read_space

OWN = ("space", "trials", "hours", "resume")
TRIALS = 20
# The options of a sweep that is continued.
OF_RESUMED = ("--resume", "--trials", "--hours")


@dataclass(frozen=True)
class Sweep:
    """A sweep: its task, its options and its folder."""

    task: Task
    parser: LightningArgumentParser
    config: dict[str, Any]
    space: Space
    trials: int
    monitor: str
    has_test: bool
    path: Path

    @property
    def higher(self) -> bool:
        """True if higher values of the monitored quantity are better."""
        return self.monitor in HIGHER_IS_BETTER

    @property
    def no_test(self) -> str | None:
        """A sentence that says how to get a test part; None if there is one."""
        if self.has_test:
            return None
        if "test_fraction" in self.config["data"]:
            return "There is no test part; --data.test_fraction 0.2 would split one off."
        return f"There is no test part; {self.task.data.no_test}."


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

    Raises:
        ValueError: The options are not those of a sweep, or trials cannot be built.
    """
    parser = sweep_parser(task)
    options = _parse(parser, arguments)
    if options.resume is not None:
        raise ValueError(f"give --resume {options.resume} on the command line")
    config = {k: v for k, v in plain_config(parser, options).items() if k not in OWN}
    if config["trainer"]["fast_dev_run"]:
        raise ValueError("a sweep compares validations, and trainer.fast_dev_run has none")
    if config["data"].get("validation") == "nothing":
        raise ValueError("a sweep compares validations, and data.validation nothing has none")
    if config["run"]["results"] is not None:
        raise ValueError(
            "a sweep tests no trial, so that run.results would get no row: set it to null, and "
            "give --run.results to seqnorm fit, which tests the best options"
        )
    if config["trainer"]["devices"] == "auto":
        config["trainer"]["devices"] = 1
    stated = read_space(options.space, config["task"])
    space = Space(stated, parser, config)
    made = check_trials(task, parser, space)
    config["run"]["monitor"] = made.run.monitor  # the same in all trials
    # Options of the data in the space, as the features of series, may change the examples.
    given = not any(name.startswith("data.") for name in stated)
    state = made.data.state_dict() if given else read_data(task, parser, config)
    trials, has_test = options.trials or TRIALS, made.data.has_test
    base = task.run(folder=config["run"]["folder"], name=config["run"]["name"])
    path = next_folder(base.place(config["data"]["corpus"]), "sweep")
    about = {"trials": trials, "monitor": made.run.monitor, "has_test": has_test, "data": state}
    write_atomically(path / "sweep.yaml", dump({**about, "space": stated, "config": config}))
    sweep = Sweep(task, parser, config, space, trials, made.run.monitor, has_test, path)
    return sweep, options.hours


def continued_sweep(folder: Path, arguments: Sequence[str]) -> tuple[Sweep, float | None]:
    """Return the sweep in a folder, and its limit in hours.

    Raises:
        ValueError: There is no such sweep, there are other options, or the data have changed or
            cannot be read.
    """
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
        monitor, has_test = str(stored["monitor"]), bool(stored["has_test"])
        count, state = int(stored["trials"]), stored["data"]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{file} is not what a sweep has written there: {error!r}") from error
    parser = sweep_parser(task)
    options = _parse(parser, arguments)
    space = Space(stated, parser, config)
    check_data(task, parser, config, state, folder)
    count = options.trials or count
    return Sweep(task, parser, config, space, count, monitor, has_test, folder), options.hours
