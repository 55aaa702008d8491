"""Runs of a study: in stages, resumable, by several engines, and made once more."""

from __future__ import annotations

import csv
import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from toy_study import Toy

from seqnorm.studies import Table
from seqnorm.studies.again import run_again
from seqnorm.studies.engines import Engine
from seqnorm.studies.runner import StudyError, machine, make_runs, path_of
from seqnorm.studies.table import Setting, read

TWO = Engine(processes=2)
# Folders of the test process's own PYTHONPATH.
EXTRA = os.environ.get("PYTHONPATH", "").split(os.pathsep)


def silent(line: str) -> None:
    assert line


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "toy.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_reported_runs_come_after_those_they_depend_on(tmp_path: Path) -> None:
    table = make_runs(Toy(3, [0.1, 1.0]), tmp_path, engine=TWO, say=silent)
    assert len(table) == 2 * 2 + 2 * 3
    assert table.where(stage="run", norm="batch").distinct("rate") == [1.0]
    assert table.where(stage="run", norm="layer").distinct("rate") == [0.1]
    stages = [row["stage"] for row in rows(tmp_path)]
    assert stages == ["tune"] * 4 + ["run"] * 6
    row = table.where(stage="run", norm="layer", seed=2).rows[0]
    assert table.curve(row, "loss") == [(0.0, 1.0), (1.0, pytest.approx(row["error"]))]
    assert (tmp_path / "toy" / "layer_2.txt").read_bytes() == b"kept"
    assert not list(tmp_path.glob(".*")), "no lock and no half-written file stays behind"


def test_what_is_in_the_table_is_not_made_again(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    few, more = Toy(1, [0.1, 1.0], trace=str(trace)), Toy(3, [0.1, 1.0], trace=str(trace))
    make_runs(few, tmp_path, say=silent)
    assert len(trace.read_text().split()) == 6
    make_runs(more, tmp_path, say=silent)
    assert len(trace.read_text().split()) == 10


def test_the_number_of_processes_changes_no_number(tmp_path: Path) -> None:
    made = [
        make_runs(Toy(3, [0.1, 1.0]), tmp_path / str(n), engine=Engine(processes=n), say=silent)
        for n in (1, 3)
    ]
    one, three = ({row["run"]: row["error"] for row in table} for table in made)
    assert one == three


def test_a_failed_run_stops_no_other_and_is_named(tmp_path: Path) -> None:
    study = Toy(2, [0.1, 1.0], fail="batch")
    lines: list[str] = []
    with pytest.raises(StudyError, match=r"2 run\(s\) of toy failed") as caught:
        make_runs(study, tmp_path, say=lines.append)
    assert "run/batch/1/0: ValueError: this norm is out of order" in str(caught.value)
    assert len(read(path_of(study, tmp_path)).where(stage="run", norm="layer")) == 2
    assert sum("failed" in line for line in lines) == 2
    whole = make_runs(Toy(2, [0.1, 1.0]), tmp_path, say=silent)
    assert len(whole.where(stage="run", norm="batch")) == 2


def test_a_process_that_dies_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        StudyError, match=r"a process of toy died .* at one of: .*tune/batch/0.1/1000.*; finished"
    ):
        make_runs(Toy(1, [0.1], fail="die"), tmp_path, engine=TWO, say=silent)


def gone(pid: int) -> bool:
    """Return True when the process has ended, within 30 seconds."""
    deadline = time.monotonic() + 30
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    return not Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize("processes", [1, 2])
def test_a_killed_study_leaves_no_process_and_goes_on(tmp_path: Path, processes: int) -> None:
    trace = tmp_path / "trace"
    code = (
        "from toy_study import Toy; from seqnorm.studies.runner import make_runs; from pathlib "
        "import Path; from seqnorm.studies.engines import Engine; make_runs("
        f"Toy(1, [0.1], fail='wait', trace={str(trace)!r}), Path({str(tmp_path)!r}), "
        f"engine=Engine(processes={processes}))"
    )
    script = tmp_path / "study.py"
    script.write_text(f"if __name__ == '__main__':\n    {code}\n")
    top = Path(__file__).parents[2]
    tests = top / "tests" / "support"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (top, tests, *EXTRA)))}
    with subprocess.Popen([sys.executable, str(script)], env=environment) as process:
        deadline = time.monotonic() + 120
        while len(list(tmp_path.glob("trace.*"))) < processes and time.monotonic() < deadline:
            time.sleep(0.05)
        workers = [int(path.suffix[1:]) for path in tmp_path.glob("trace.*")]
        assert len(workers) == processes
        process.kill()
    assert all(map(gone, workers))
    assert len(make_runs(Toy(1, [0.1]), tmp_path, say=silent)) == 4


def test_dask_makes_the_same_rows_and_leaves_no_process(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    one = make_runs(Toy(1, [0.1]), tmp_path / "one", say=silent)
    before = children()
    engine = Engine("dask", processes=2)
    made = make_runs(Toy(1, [0.1]), tmp_path / "dask", engine=engine, say=silent)
    assert {row["run"]: row["error"] for row in made} == {row["run"]: row["error"] for row in one}
    assert all(map(gone, children() - before))


def test_a_running_cluster_of_dask_makes_the_runs(tmp_path: Path) -> None:
    """Its address is in DASK_SCHEDULER_ADDRESS, which dask reads as it starts."""
    distributed = pytest.importorskip("distributed")
    dask = pytest.importorskip("dask")
    before = children()
    options = {"threads_per_worker": 1, "dashboard_address": None}
    with (
        distributed.LocalCluster(n_workers=1, **options) as cluster,
        dask.config.set({"scheduler-address": cluster.scheduler_address}),
    ):
        made = make_runs(Toy(1, [0.1]), tmp_path, engine=Engine("dask", processes=4), say=silent)
    assert len(made) == 4
    assert all(map(gone, children() - before))


@pytest.mark.parametrize(
    ("name", "module", "install"),
    [("dask", "distributed", r"'dask\[distributed\]'"), ("ray", "ray", "ray")],
)
def test_a_missing_engine_says_how_to_install_it(
    name: str, module: str, install: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ModuleNotFoundError, match=f"module {module}, .*: pip install {install}"):
        make_runs(Toy(1, [0.1]), tmp_path, engine=Engine(name), say=silent)


def children() -> set[int]:
    """Return the processes of this one, but for Python's own tracker of shared resources."""
    lists = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    found = [pid for path in lists for pid in path.read_text().split()]
    commands = {int(pid): Path(f"/proc/{pid}/cmdline").read_bytes() for pid in found}
    return {pid for pid, command in commands.items() if b"resource_tracker" not in command}


def test_a_run_made_again_is_compared(tmp_path: Path) -> None:
    study = Toy(2, [0.1])
    make_runs(study, tmp_path, say=silent)
    lines: list[str] = []
    assert run_again(study, tmp_path, {"stage": "run", "seed": 1}, lines.append)
    assert len(lines) == 4, "a line for each run and one for its error"
    assert "every digit must be the same" in lines[0]
    assert not run_again(Toy(2, [0.1], noise=0.5), tmp_path, {"seed": 1, "norm": "layer"}, silent)
    with pytest.raises(StudyError, match="has no run with"):
        run_again(study, tmp_path, {"seed": 7}, silent)


def test_a_run_of_another_machine_is_compared_within_a_tolerance(tmp_path: Path) -> None:
    make_runs(Toy(1, [0.1], noise=0.02), tmp_path, say=silent)
    path = path_of(Toy(1, [0.1]), tmp_path)
    path.write_text(path.read_text().replace(machine(), "x86_64 AVX999 torch 9"))
    lines: list[str] = []
    only: Setting = {"stage": "run", "norm": "batch"}
    assert run_again(Toy(1, [0.1], noise=0.01), tmp_path, only, lines.append)
    assert (
        f"stored on x86_64 AVX999 torch 9; this is {machine()}: numbers may differ by" in lines[0]
    )
    assert lines[1].endswith("now: within the tolerance")
    assert not run_again(Toy(1, [0.1], noise=1.0), tmp_path, only, lines.append)
    assert lines[-1].endswith("now: DIFFERS")


def test_only_some_runs(tmp_path: Path) -> None:
    table = make_runs(Toy(2, [0.1, 1.0]), tmp_path, only={"norm": "layer"}, say=silent)
    assert table.distinct("norm") == ["layer"]
    assert len(table) == 4


def test_two_writers_of_one_table_are_refused(tmp_path: Path) -> None:
    with (tmp_path / ".toy.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(StudyError, match="another process is writing"):
            make_runs(Toy(1, [0.1]), tmp_path, say=silent)
    assert len(make_runs(Toy(1, [0.1]), tmp_path, say=silent)) == 4


def test_an_unknown_measure_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Toy, "measures", ("error",))
    with pytest.raises(StudyError, match=r"measured .*score"):
        make_runs(Toy(1, [0.1]), tmp_path, say=silent)


def test_progress_tells_the_time_left(tmp_path: Path) -> None:
    lines: list[str] = []
    make_runs(Toy(1, [0.1]), tmp_path, say=lines.append)
    assert lines[0].startswith("toy tune/batch/0.1/1000: 0 s; less than a minute left")
    assert lines[-1].endswith("none left of this stage")


def test_an_empty_table_is_empty(tmp_path: Path) -> None:
    assert read(tmp_path / "nothing.csv") == Table([], {})
