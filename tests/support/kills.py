r"""Kill a training run again and again, resume it, and compare it with one that was never killed.

    python tests/support/kills.py                      20 kills of one process, and 5 late ones
    python tests/support/kills.py --kills 3 --seed 7   fewer, at other moments
    python tests/support/kills.py --processes 2        two processes, all killed at once
    python tests/support/kills.py --epochs 20 --late 0 --documents 300 -- \
        --run.save_every_n_steps=2 --data.batch_size=8  with checkpoints inside epochs

Moments are drawn: half of them at any time since the start, imports and set-up included, half
after the first checkpoint that a process writes; and, after these, some when all epochs are over,
in the test of the best one. SIGKILL leaves no time for anything. A run without a checkpoint starts
anew, others go on from last.ckpt. At the end both checkpoints, the rows of metrics.csv and the row
of results must be equal to the last digit; else the status is 1.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[2]
# Everything with a state: dropout of every kind, statistics, an average of the weights.
OPTIONS = (
    "--model.embedding_size=8",
    "--model.hidden_size=8",
    "--model.norm=batch",
    "--model.dropout=0.5",
    "--model.zoneout=0.1",
    "--model.recurrent_dropout=0.1",
    "--model.word_dropout=0.1",
    "--run.reestimate=true",
    "--run.ema_decay=0.9",
    "--run.monitor=val_loss",
    "--run.patience=1000",
    "--run.name=run",
    "--run.results=results.csv",
    "--trainer.log_every_n_steps=1",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
)
# The parts of a checkpoint that must be equal; the rest is times and paths.
RESUMED = (
    "epoch",
    "global_step",
    "state_dict",
    "current_model_state",
    "optimizer_states",
    "lr_schedulers",
)
RESULTS = ("corpus", "cell", "norm", "seed", "test_accuracy", "test_macro_f1", "epochs")
CLASSES = {
    "grain": ("corn", "crop", "wheat"),
    "sport": ("goal", "match", "team"),
    "trade": ("deal", "export", "tariff"),
}


def write_corpus(folder: Path, documents: int) -> None:
    """Make a folder with a training part, and a test part of a third of its size."""
    folder.mkdir()
    draw = random.Random(0)
    for part, count in (("train", documents), ("test", documents // 3)):
        with (folder / f"{part}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("text", "label"))
            for number in range(count):
                label = sorted(CLASSES)[number % 3]
                words = draw.choices(CLASSES[label], k=2)
                words += [f"w{draw.randrange(20)}" for _ in range(draw.randrange(12))]
                draw.shuffle(words)
                writer.writerow((f"{' '.join(words)} {part}{number}", label))


class Job:
    """One call of ``train.py fit`` in ``folder``, with all processes that it starts."""

    def __init__(self, folder: Path, arguments: Sequence[str], log: Path) -> None:
        self.log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, str(ROOT / "train.py"), "fit", *arguments],
                cwd=folder,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def kill(self) -> bool:
        """Kill all processes and return whether they were still running."""
        running = self.process.poll() is None
        if running:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        return running

    def finish(self) -> None:
        if self.process.wait() != 0:
            raise RuntimeError(
                f"status {self.process.returncode}:\n{self.log.read_text(errors='replace')[-4000:]}"
            )


def outcome(folder: Path) -> dict[str, Any]:
    """Return all that must be equal of a finished run."""
    run = folder / "runs" / "run" / "version_0"
    found: dict[str, Any] = {}
    for name in ("best", "last"):
        checkpoint = torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)
        found[name] = {key: checkpoint.get(key) for key in RESUMED}
    with (run / "metrics.csv").open(newline="") as file:
        found["metrics"] = list(csv.DictReader(file))
    with (folder / "results.csv").open(newline="") as file:
        found["results"] = [{key: row[key] for key in RESULTS} for row in csv.DictReader(file)]
    return found


def differences(one: Any, other: Any, place: str = "run") -> list[str]:
    """Return the places where two outcomes differ in any bit."""
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return [] if torch.equal(one, other) else [place]
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        pairs = [(one[key], other[key], f"{place}.{key}") for key in one]
    elif isinstance(one, (list, tuple)) and isinstance(other, type(one)) and len(one) == len(other):
        pairs = [(*pair, f"{place}[{index}]") for index, pair in enumerate(zip(one, other))]
    else:
        return [] if one == other else [place]
    return [found for pair in pairs for found in differences(*pair)]


def kill_at_a_random_moment(
    job: Job, checkpoints: Path, draw: random.Random, startup: float
) -> str | None:
    """Kill the run and return where it was; None if it had ended."""
    last = checkpoints / "last.ckpt"
    before = last.stat().st_mtime_ns if last.exists() else 0
    begun = time.time_ns()

    def written() -> bool:
        return last.exists() and last.stat().st_mtime_ns > before

    if draw.random() < 0.5:
        time.sleep(draw.uniform(0.0, startup))
    else:
        while not written() and job.process.poll() is None:
            time.sleep(0.001)
        time.sleep(draw.uniform(0.0, 0.5))
    if not job.kill():
        return None
    # A file that an earlier process left is older.
    unfinished = checkpoints.glob(".*.unfinished")
    if any(file.stat().st_mtime_ns > begun for file in unfinished):
        return "while it wrote a checkpoint"
    if not written():
        return "before its first checkpoint"
    return "between two checkpoints"


def trained(run: Path, epochs: int) -> bool:
    """Return whether all epochs are over: metrics.csv has a row of each."""
    metrics = run / "metrics.csv"
    return metrics.exists() and len(metrics.read_text().splitlines()) > epochs


def kill_in_its_test(
    job: Job, run: Path, epochs: int, draw: random.Random, startup: float, ending: float
) -> str | None:
    """Kill the run after its last epoch, within the ``ending`` seconds that the rest takes."""
    late = startup if trained(run, epochs) else 0.0
    while not trained(run, epochs) and job.process.poll() is None:
        time.sleep(0.001)
    time.sleep(draw.uniform(late, late + ending))
    return "when all epochs were over" if job.kill() else None


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--kills", type=int, default=20, help="how many to survive")
    parser.add_argument("--late", type=int, default=5, help="how many more after the last epoch")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--epochs", type=int, default=120, help="of the run")
    parser.add_argument("--documents", type=int, default=90, help="to train on")
    parser.add_argument("--processes", type=int, default=1, help="that train together")
    parser.add_argument("options", nargs="*", help="more of train.py fit, behind --")
    options = parser.parse_args(arguments)
    draw = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as temporary:
        top = Path(temporary)
        corpus = top / "tiny"
        write_corpus(corpus, options.documents)
        fit = [*OPTIONS, f"--data.corpus={corpus}", f"--trainer.max_epochs={options.epochs}"]
        fit += options.options
        if options.processes > 1:
            fit += ["--trainer.accelerator=cpu", "--trainer.strategy=ddp"]
            fit += [f"--trainer.devices={options.processes}"]
        folders = {name: top / name for name in ("whole", "broken")}
        for folder in folders.values():
            folder.mkdir()
        begun = time.monotonic()
        whole = Job(folders["whole"], fit, top / "whole.log")
        first = folders["whole"] / "runs" / "run" / "version_0" / "checkpoints" / "last.ckpt"
        while not first.exists() and whole.process.poll() is None:
            time.sleep(0.01)
        startup = time.monotonic() - begun
        while not trained(first.parents[1], options.epochs) and whole.process.poll() is None:
            time.sleep(0.01)
        over = time.monotonic()
        whole.finish()
        took, ending = time.monotonic() - begun, time.monotonic() - over
        print(
            f"uninterrupted: {took:.1f} s, the first checkpoint after {startup:.1f}, the last "
            f"{ending:.1f} s before the end",
            flush=True,
        )
        moments: Counter[str] = Counter()
        inside = 0
        run = folders["broken"] / "runs" / "run" / "version_0"
        for number in range(options.kills + options.late + 1):
            resumed = run / "checkpoints" / "last.ckpt"
            if resumed.exists():
                inside += "inside_epoch" in torch.load(resumed, weights_only=True)
                job = Job(folders["broken"], ["--ckpt_path", str(resumed)], top / "broken.log")
            else:
                if run.exists():
                    run.rename(top / f"nothing_{sum(moments.values())}")
                job = Job(folders["broken"], fit, top / "broken.log")
            if number == options.kills + options.late:
                job.finish()
                break
            if number < options.kills:
                moment = kill_at_a_random_moment(job, run / "checkpoints", draw, startup)
            else:
                moment = kill_in_its_test(job, run, options.epochs, draw, startup, ending)
            if moment is None and number >= options.kills:
                job.finish()  # a run that had ended is resumed next
                continue
            if moment is None:
                job.finish()
                print(f"It ended after {sum(moments.values())} kills: take more --epochs")
                return 2
            moments[moment] += 1
            print(f"kill {sum(moments.values())}: {moment}", flush=True)
        found = differences(*(outcome(folder) for folder in folders.values()))
        rows = outcome(folders["broken"])["metrics"]
    for place in found:
        print(f"differs: {place}")
    where = ", ".join(f"{count} {moment}" for moment, count in moments.items())
    print(
        f"{sum(moments.values())} kills ({where}), {inside} times gone on inside an epoch; "
        f"{len(rows)} rows of metrics and all else ",
        end="",
    )
    print(f"{len(found)} differences" if found else "equal to the last digit")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
