"""An interrupted and resumed run on series ends like an uninterrupted one."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from resumed_runs import assert_same, last, outcome
from small_runs import CrashError
from small_series import SMALL, make, write_long

OPTIONS = (
    *SMALL,
    "--data.feature_columns=[x,y]",
    "--data.batch_size=20",
    "--trainer.max_epochs=4",
    "--run.patience=10",
    "--model.dropout=0.3",
    "--model.input_dropout=0.1",
    "--model.zoneout=0.1",
)
VARIANTS = {
    "classes": ("--task=series_classification", "--model.norm=layer"),
    "average": (
        "--task=series_classification",
        "--model.norm=batch",
        "--run.reestimate=true",
        "--run.ema_decay=0.9",
    ),
    "targets": (
        "--task=series_regression",
        "--data.target_columns=[slope]",
        "--model.norm=batch",
    ),
}


@pytest.fixture
def own(tmp_path: Path) -> Path:
    folder = tmp_path / "own"
    folder.mkdir()
    write_long(folder / "train.csv", make(66))
    write_long(folder / "test.csv", make(20, 1))
    return folder


@pytest.mark.parametrize("variant", VARIANTS)
def test_resumes_exactly_after_crashes(
    variant: str,
    own: Path,
    run_seqnorm: Callable[..., None],
    crash_at: Callable[[int | None], None],
) -> None:
    arguments = ("fit", "--data.corpus", own, *OPTIONS, *VARIANTS[variant])
    whole, broken = Path("runs/whole/version_0"), Path("runs/broken/version_0")
    run_seqnorm(*arguments, "--run.name=whole", "--run.results=whole.csv")
    assert outcome(whole)["last"]["global_step"] == 12
    crash_at(4)  # in the middle of the second epoch
    with pytest.raises(CrashError):
        run_seqnorm(*arguments, "--run.name=broken", "--run.results=broken.csv")
    crash_at(9)  # before the first step of the fourth
    with pytest.raises(CrashError):
        run_seqnorm("fit", "--ckpt_path", last(broken))
    crash_at(None)
    run_seqnorm("fit", "--ckpt_path", last(broken))
    assert outcome(whole)["last"]["epoch"] == 3
    assert_same(outcome(broken), outcome(whole))
    run_seqnorm("fit", "--ckpt_path", last(broken))
    rows = []
    for name in ("whole.csv", "broken.csv"):
        with open(name, newline="") as file:
            (row,) = csv.DictReader(file)
        rows.append({key: value for key, value in row.items() if key.startswith(("test", "val"))})
    assert rows[0] == rows[1]


def exchanged(text: str) -> str:
    """Exchange the labels of the same series."""
    return text.replace(",up,", ",-,").replace(",down,", ",up,").replace(",-,", ",down,")


SCALE = "of other features or another scale of them than"
ORDER = "series, labels or their order in the"
CHANGES: dict[str, tuple[Callable[[str], str], str, str]] = {
    # The change, and the errors of a changed training and test part, or "".
    "labels": (exchanged, f"{ORDER} train, validation parts", f"{ORDER} test part"),
    "order of steps": (lambda text: text.replace("s3,0,", "s3,99,"), SCALE, f"{ORDER} test part"),
    "numbers": (lambda text: text.replace(".1", ".2"), SCALE, f"{ORDER} test part"),
    "times": (lambda text: text.replace("s3,0,", "s3,-1,"), "", ""),
    "ids": (lambda text: text.replace("s1,", "s1b,"), "", ""),
}


@pytest.mark.parametrize("part", ["train", "test"])
@pytest.mark.parametrize("change", CHANGES)
def test_other_data(
    change: str,
    part: str,
    own: Path,
    run_seqnorm: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Numbers, answers and their order must be the same; ids and the scale of times may differ."""
    function, of_train, of_test = CHANGES[change]
    options = (*OPTIONS, *VARIANTS["classes"], "--trainer.max_epochs=1")
    run_seqnorm("fit", "--data.corpus", own, *options)
    path = last(Path("runs/own/version_0"))
    shutil.copy(path, path.with_name("kept.ckpt"))
    text = (own / f"{part}.csv").read_text()
    assert function(text) != text
    (own / f"{part}.csv").write_text(function(text))
    resume = ("fit", "--ckpt_path", path, "--trainer.max_epochs=2")
    message = of_train if part == "train" else of_test
    if not message:
        run_seqnorm(*resume)
        return
    with pytest.raises(SystemExit) as stop:
        run_seqnorm(*resume)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
    assert path.read_bytes() == path.with_name("kept.ckpt").read_bytes()
