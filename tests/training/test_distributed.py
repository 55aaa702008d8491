"""Two processes train like one, and end together.

They run ``train.py``, which starts the second one itself.
"""

from __future__ import annotations

import csv
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import Trainer
from lightning.pytorch.plugins.layer_sync import TorchSyncBatchNorm
from small_runs import SMALL
from tolerances import VALUES, assert_close
from torch import nn
from torch.utils.data import DataLoader

import seqnorm
from seqnorm.datasets import BucketBatchSampler, TextDataset
from seqnorm.training.checkpoints.checkpoint_file import AtomicCheckpointIO
from seqnorm.training.distributed import SyncBatchNorm, end
from seqnorm.training.run.trainer import plugins

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals and process groups")

ROOT = Path(__file__).parents[2]
DDP = f"--config={ROOT / 'configs' / 'ddp.yaml'}"
# 72 documents to train on make 3 batches of 24, or 3 of 12 in each of two processes, and the union
# of these is one of those. Without dropout nothing else is drawn.
OPTIONS = (
    *SMALL,
    "--data.validation_fraction=0.2",
    "--model.norm=batch",
    "--data.max_length=5",  # every step has an exchange
    "--model.dropout=0",
    "--model.embedding_dropout=0",
    "--model.word_dropout=0",
    "--trainer.max_epochs=2",
    "--trainer.num_sanity_val_steps=0",
    "--trainer.precision=64-true",
)
SECONDS = 270


def command(corpus: Path, *arguments: str) -> list[str]:
    train = [sys.executable, str(ROOT / "train.py"), "fit", DDP, f"--data.corpus={corpus}"]
    return [*train, *OPTIONS, *arguments]


def dying(rank: int, how: str) -> list[str]:
    """Return options of a run in which a process dies or hangs."""
    die = ["--trainer.callbacks+=dying.Die", f"--trainer.callbacks.rank={rank}"]
    return ["--trainer.max_epochs=100", *die, f"--trainer.callbacks.how={how}"]


def environment() -> dict[str, str]:
    """Return an environment with one thread, and without the variables of other launchers."""
    of_others = ("LOCAL_RANK", "NODE_RANK", "RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    kept = {name: value for name, value in os.environ.items() if name not in of_others}
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "support")])
    return kept | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path}


def outcome(run: Path) -> tuple[dict[str, torch.Tensor], list[dict[str, str]]]:
    """Return the last state of a run, and its metrics."""
    state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    with (run / "metrics.csv").open(newline="") as file:
        return state, list(csv.DictReader(file))


def run(arguments: list[str], folder: Path) -> tuple[int, str]:
    """Return the exit status and output of a run, and check that its processes are gone."""
    output = folder / "output.txt"
    with output.open("w") as file:  # a process left over would keep a pipe open
        process = subprocess.Popen(
            arguments,
            cwd=folder,
            env=environment(),
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            status = process.wait(SECONDS)
            gone = time.monotonic() + 30
            while is_there(process.pid):
                assert time.monotonic() < gone, f"left over:\n{output.read_text()}"
                time.sleep(0.1)
        finally:
            if is_there(process.pid):
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    return status, output.read_text()


def is_there(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_two_processes_train_as_one(
    corpus: Path, tmp_path: Path, run_seqnorm: Callable[..., None]
) -> None:
    own = shutil.copytree(corpus, tmp_path / "tiny")
    with (own / "test.csv").open("a") as file:  # the number of documents is odd
        file.write("an odd one out,grain\n")
    options = ("--run.reestimate=true", "--run.folder=two", "--data.batch_size=12")
    status, said = run(command(own, *options), tmp_path)
    assert status == 0, said
    one = ("--run.reestimate=true", "--run.folder=one", "--data.batch_size=24")
    run_seqnorm("fit", f"--data.corpus={own}", *OPTIONS, *one)
    two_state, two_metrics = outcome(tmp_path / "two" / "tiny" / "version_0")
    one_state, one_metrics = outcome(tmp_path / "one" / "tiny" / "version_0")
    assert any("running_mean" in name for name in one_state)
    assert two_state.keys() == one_state.keys()
    for name, value in one_state.items():
        tolerance = 100 * VALUES if value.is_floating_point() else 0.0
        assert_close(two_state[name], value, tolerance, name)
    assert len(two_metrics) == len(one_metrics) == 3
    for two, one_row in zip(two_metrics, one_metrics):
        assert two.keys() == one_row.keys()
        for name, value in one_row.items():
            same = two[name] == value or float(two[name]) == pytest.approx(float(value), rel=1e-6)
            assert same, name
    assert " 31 " in said, "every document of an odd number was counted once"


@pytest.mark.parametrize(
    ("rank", "how"),
    [
        (1, "kill"),
        pytest.param(0, "kill", marks=pytest.mark.whole),
        (1, "leave"),
    ],
)
def test_a_process_that_dies_ends_the_run(
    rank: int, how: str, corpus: Path, tmp_path: Path
) -> None:
    status, said = run(command(corpus, *dying(rank, how)), tmp_path)
    assert status != 0
    assert "peer" in said, "the other one found the connection lost"


@pytest.mark.parametrize("inside", [False, True])
def test_resumes_exactly_after_a_death(inside: bool, corpus: Path, tmp_path: Path) -> None:
    """Statistics are those of each process, and few rows make them normalise in training too."""
    options = ("--trainer.sync_batchnorm=false", "--run.reestimate=true", "--model.dropout=0.5")
    options += ("--data.max_length=20", "--data.batch_size=2", "--data.noise=5")
    options += ("--run.ema_decay=0.9", f"--run.save_every_n_steps={1 if inside else 'null'}")
    fit = [*command(corpus, *options, "--run.folder=whole"), "--trainer.max_epochs=5"]
    assert run(fit, tmp_path)[0] == 0
    fit = [*command(corpus, *options, *dying(1, "kill"), "--run.folder=broken")]
    fit += ["--trainer.max_epochs=5", "--trainer.callbacks.step=20"]  # an epoch has 18
    status, said = run(fit, tmp_path)
    assert status != 0, said
    last = "broken/tiny/version_0/checkpoints/last.ckpt"
    assert ("inside_epoch" in torch.load(tmp_path / last, weights_only=True)) == inside
    again = [*fit[:3], f"--ckpt_path={last}", "--trainer.callbacks=null"]
    status, said = run(again, tmp_path)
    assert status == 0, said
    whole, broken = (
        outcome(tmp_path / name / "tiny" / "version_0") for name in ("whole", "broken")
    )
    assert whole[1] == broken[1]
    assert whole[0].keys() == broken[0].keys()
    assert all(torch.equal(value, broken[0][name]) for name, value in whole[0].items())


@pytest.mark.parametrize("rank", [1, pytest.param(0, marks=pytest.mark.whole)])
def test_an_error_in_a_process_ends_the_run(rank: int, corpus: Path, tmp_path: Path) -> None:
    status, said = run(command(corpus, *dying(rank, "raise")), tmp_path)
    assert status != 0
    assert "DieError" in said


def test_a_process_that_hangs_ends_the_run(corpus: Path, tmp_path: Path) -> None:
    patience = "--trainer.strategy.init_args.timeout=0:00:20"
    status, said = run(command(corpus, *dying(1, "hang"), patience), tmp_path)
    assert status != 0
    assert "timeout" in said.lower() or "timed out" in said.lower()


LANGUAGE = (
    f"--config={ROOT / 'configs' / 'ddp.yaml'}",
    "--task=language",
    "--model.norm=layer",
    "--data.window=20",
    "--data.eval_batch_size=2",
    *SMALL,
)


@pytest.mark.parametrize(
    ("task", "what"),
    [
        pytest.param("language", "loss", marks=pytest.mark.whole),
        ("language", "gradient"),
        ("classification", "loss"),
    ],
)
def test_what_is_not_finite_in_a_process_ends_all(
    task: str, what: str, corpus: Path, lines: Path, tmp_path: Path
) -> None:
    """All processes end with the same line, and none waits for an exchange."""
    layer = "network.layers.0" if task == "language" else "network.recurrent"
    fit = command(corpus)
    if task == "language":
        fit = [*fit[:3], f"--data.corpus={lines}", *LANGUAGE]
    fit += ["--trainer.callbacks+=dying.Spoil", "--trainer.callbacks.rank=1"]
    fit += [f"--trainer.callbacks.layer={layer}", f"--trainer.callbacks.what={what}"]
    status, said = run([*fit, "--trainer.max_epochs=100"], tmp_path)
    assert status == 2, said
    assert "Traceback" not in said
    errors = {line for line in said.splitlines() if line.startswith("error:")}
    assert len(errors) == 1, said
    (error,) = errors
    begin = r"error: step 3 \(epoch \d, batch \d\): in process 1 the "
    # A norm of the batch passes the NaN on to the other process.
    end = r"; documents [\d, ]+" + ("(; in process .*)?" if task == "classification" else "")
    if task == "classification":
        begin = begin.replace("in process 1", "(in process 0 .*)?in process 1")
    if what == "loss":
        found = re.escape(f"loss is nan, first in {layer} (LSTM), from an input that was")
    else:
        found = (
            rf"gradient of network\..* is not finite, first (behind|on the way back to) {layer}.*"
        )
    assert re.fullmatch(begin + found + end, error)


def test_only_what_is_asked_for_is_synchronised() -> None:
    def kinds(given: Any, sync: bool) -> list[type]:
        return [type(plugin) for plugin in plugins({"plugins": given, "sync_batchnorm": sync})]

    assert kinds(None, False) == [AtomicCheckpointIO]
    other = TorchCheckpointIO()
    assert plugins({"plugins": other, "sync_batchnorm": False}) == [other]
    assert kinds([other], True) == [TorchCheckpointIO, SyncBatchNorm]
    assert kinds(TorchSyncBatchNorm(), True) == [TorchSyncBatchNorm, AtomicCheckpointIO]
    added = plugins({"plugins": [other], "sync_batchnorm": True})
    # Lightning accepts the plugin beside sync_batchnorm=True.
    Trainer(
        sync_batchnorm=True,
        plugins=added,
        accelerator="cpu",
        devices=2,
        strategy="ddp",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
    )


def test_the_plugin_converts_and_reverts() -> None:
    model = nn.ModuleDict({"a": seqnorm.LSTM(2, 3, norm="batch"), "b": nn.BatchNorm2d(3)})
    weight = model["b"].weight
    plugin = SyncBatchNorm()
    assert plugin.apply(model) is model
    table: Any = model["a"].norm_hh_l0.table
    assert table.processes is not None
    assert model["b"].processes is table.processes
    assert plugin.revert(model) is model
    assert table.processes is None
    assert model["b"].processes is None
    assert model["b"].weight is weight


def test_lightning_refuses_to_divide_the_buckets_again() -> None:
    """Lightning's default, use_distributed_sampler=True, raises an error that helps."""
    from lightning.pytorch.utilities.data import _update_dataloader

    sampler = BucketBatchSampler([3, 4, 5, 6], batch_size=1, num_replicas=2, rank=1)
    loader: DataLoader[Any] = DataLoader(TextDataset([[2]] * 4), batch_sampler=sampler)
    with pytest.raises(TypeError, match=r"set `Trainer\(use_distributed_sampler=False\)`"):
        _update_dataloader(loader, torch.utils.data.SequentialSampler(loader.dataset))  # type: ignore[arg-type]


def test_processes_that_do_not_end_are_killed() -> None:
    sleeps = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    done = subprocess.Popen([sys.executable, "-c", ""])
    end([sleeps, done], patience=2.0)
    assert sleeps.wait(10) != 0
    assert done.wait(10) == 0
