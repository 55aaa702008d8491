"""Runs of a study: in stages, resumable, shared among machines, merged, made again."""

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
from seqnorm.studies.runner import Share, StudyError, make_runs, merge, path_of, run_again
from seqnorm.studies.table import read


def silent(line: str) -> None:
    assert line


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "toy.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_reported_runs_come_after_those_they_depend_on(tmp_path: Path) -> None:
    table = make_runs(Toy(3, [0.1, 1.0]), tmp_path, processes=2, say=silent)
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
        make_runs(Toy(3, [0.1, 1.0]), tmp_path / str(n), processes=n, say=silent) for n in (1, 3)
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


def test_a_process_that_dies_is_told_of(tmp_path: Path) -> None:
    with pytest.raises(
        StudyError, match=r"a process of toy died .* at one of: tune/batch/0.1/1000; what"
    ):
        make_runs(Toy(1, [0.1], fail="die"), tmp_path, say=silent)


def test_a_killed_study_leaves_no_process_and_goes_on(tmp_path: Path) -> None:
    code = (
        "from toy_study import Toy; from seqnorm.studies.runner import make_runs; from pathlib "
        f"import Path; make_runs(Toy(1, [0.1], fail='wait'), Path({str(tmp_path)!r}))"
    )
    script = tmp_path / "study.py"
    script.write_text(f"if __name__ == '__main__':\n    {code}\n")
    top = Path(__file__).parents[2]
    tests = top / "tests" / "support"
    environment = os.environ | {"PYTHONPATH": f"{top}{os.pathsep}{tests}"}
    with subprocess.Popen([sys.executable, str(script)], env=environment) as process:
        started = tmp_path / "waiting"
        deadline = time.monotonic() + 120
        while not started.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        worker = int(started.read_text())
        process.kill()
    while Path(f"/proc/{worker}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{worker}").exists()
    assert len(make_runs(Toy(1, [0.1]), tmp_path, say=silent)) == 4


def test_shares_are_disjoint_and_merge_to_the_whole(tmp_path: Path) -> None:
    study = Toy(2, [0.1, 1.0])
    first, second = tmp_path / "first", tmp_path / "second"
    for folder, share in ((first, Share(1, 2)), (second, Share(2, 2))):
        made = make_runs(study, folder, share=share, say=silent)
        assert {row["stage"] for row in made} == {"tune"}, "half of them decides nothing"
        assert len(made) == 2
    merge(study, first, [second], say=silent)
    assert len(read(path_of(study, first))) == 4
    merge(study, second, [first], say=silent)
    for folder, share in ((first, Share(1, 2)), (second, Share(2, 2))):
        make_runs(study, folder, share=share, say=silent)
    table = merge(study, first, [second], say=silent)
    assert len(table) == 8
    assert (first / "toy" / "batch_1.txt").exists()
    row = table.where(stage="run", norm="batch", seed=1).rows[0]
    assert len(table.curve(row, "loss")) == 2
    assert len(merge(study, first, [second], say=silent)) == 8, "merging twice adds nothing"


def test_merging_refuses_what_contradicts(tmp_path: Path) -> None:
    for name, noise in (("a", 0.01), ("b", 0.02)):
        make_runs(Toy(1, [0.1], noise=noise), tmp_path / name, say=silent)
    before = (tmp_path / "a" / "toy.csv").read_bytes()
    with pytest.raises(StudyError, match="came out differently"):
        merge(Toy(1, [0.1]), tmp_path / "a", [tmp_path / "b"], say=silent)
    assert (tmp_path / "a" / "toy.csv").read_bytes() == before


def test_a_run_made_again_is_compared(tmp_path: Path) -> None:
    study = Toy(2, [0.1])
    make_runs(study, tmp_path, say=silent)
    lines: list[str] = []
    assert run_again(study, tmp_path, {"stage": "run", "seed": 1}, lines.append)
    assert len(lines) == 2
    assert not run_again(Toy(2, [0.1], noise=0.5), tmp_path, {"seed": 1, "norm": "layer"}, silent)
    with pytest.raises(StudyError, match="has no run with"):
        run_again(study, tmp_path, {"seed": 7}, silent)


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


@pytest.mark.parametrize("text", ["", "2", "0/2", "3/2", "a/b", "-1/2", "1/2/3"])
def test_a_share_is_a_fraction(text: str) -> None:
    with pytest.raises(ValueError, match="written as 2/3"):
        Share.parse(text)
    assert Share.parse("2/3") == Share(2, 3)


def test_progress_tells_the_time_left(tmp_path: Path) -> None:
    lines: list[str] = []
    make_runs(Toy(1, [0.1]), tmp_path, say=lines.append)
    assert lines[0].startswith("toy tune/batch/0.1/1000: 0 s; less than a minute left")
    assert lines[-1].endswith("none left of this stage")


def test_an_empty_table_is_empty(tmp_path: Path) -> None:
    assert read(tmp_path / "nothing.csv") == Table([], {})
