"""The page on time series is right: its table, its options, its numbers and its example."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from statistics import mean, stdev

import pytest

from seqnorm.command.early import known_options
from seqnorm.datasets import Scaling, SeriesLayout, load_series
from seqnorm.datasets.series.containers import LABELS, TARGETS
from seqnorm.datasets.series.files import ENDINGS
from seqnorm.datasets.series.tables import IDS, TIMES
from seqnorm.training import SeriesClassification
from seqnorm.training.checkpoints.checkpoint_file import AtomicCheckpointIO
from seqnorm.training.results.rows import read_rows
from seqnorm.training.results.series_table import markdown

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "time_series.md").read_text(encoding="utf-8")
RESULTS = ROOT / "results" / "series.csv"


def test_the_table_is_made_from_the_results() -> None:
    (table,) = re.findall(r"<!-- series -->\n(.*?)<!-- end of series -->", PAGE, re.DOTALL)
    assert table.strip() == markdown(RESULTS)
    assert table.count(" | 5 |") == 4


def test_what_it_says_about_the_differences() -> None:
    """The two better models are about a point ahead, and the other two are not told apart."""
    scores: dict[tuple[str, str], list[float]] = {}
    chosen = {("lstm", "none"): "0.01"}
    for row in read_rows(RESULTS):
        key = (row["cell"], row["norm"])
        if row["seed"] != "0" and row["lr"] == chosen.get(key, "0.03"):
            scores.setdefault(key, []).append(float(row["test_accuracy"]))
    assert {len(values) for values in scores.values()} == {5}
    means = {key: mean(values) for key, values in scores.items()}
    for better in (("gru", "layer"), ("lstm", "batch")):
        for other in (("lstm", "layer"), ("lstm", "none")):
            assert 0.007 < means[better] - means[other] < 0.013
    assert abs(means["lstm", "layer"] - means["lstm", "none"]) < 0.005
    assert all(0.004 < stdev(values) < 0.01 for values in scores.values())
    seconds = sum(float(row["seconds"]) for row in read_rows(RESULTS))
    assert 240 < seconds < 360


def test_the_names_that_are_guessed() -> None:
    for option, names in (
        ("id_column", IDS),
        ("time_column", TIMES),
        ("label_column", LABELS),
        ("target_columns '[height, weight]'", TARGETS),
    ):
        assert f"| `--data.{option}` | {', '.join(names)} |" in PAGE
    named = re.findall(r"^\| (`\..*?) \|", PAGE, re.MULTILINE)
    assert set(re.findall(r"`(\.\w+)`", " ".join(named))) == set(ENDINGS)


def test_its_options_exist() -> None:
    lines = re.findall(r"^seqnorm (.*?)(?:  #.*)?$", PAGE, re.MULTILINE)
    assert len(lines) >= 7
    for line in lines:
        command, *words = shlex.split(line)
        known = known_options(command)
        options = [word[2:].split("=")[0] for word in words if word.startswith("--")]
        assert options
        assert set(options) <= known
    quoted = set(re.findall(r"`--((?:data|model|task)[\w.]*)", PAGE))
    assert quoted <= known_options("fit")
    assert len(quoted) >= 9


def test_its_examples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, loading = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=tmp_path, check=True)
    corpus = load_series(tmp_path / "walks.npz", layout=SeriesLayout())
    assert len(corpus.train.ids) == 60
    assert corpus.classes == ("falls", "rises")
    assert corpus.features == ("0", "1")
    for values, label in zip(corpus.train.values, corpus.train.labels):
        assert label == ("rises" if values[-1, 0] > values[0, 0] else "falls")
    made = SeriesClassification(
        Scaling.none(corpus.features).to_json(), corpus.classes, hidden_size=4
    )
    stored = {"state_dict": made.state_dict(), "hyper_parameters": dict(made.hparams)}
    path = tmp_path / "runs/sensors/version_0/checkpoints/best.ckpt"
    path.parent.mkdir(parents=True)
    AtomicCheckpointIO().save_checkpoint(stored, path)
    given = {"first": corpus.train.values[0], "second": corpus.train.values[1].numpy()}
    monkeypatch.chdir(tmp_path)
    exec(loading, given)  # the page's own code
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "The columns of an array are ('0', '1')"
    assert [line.split()[0] in corpus.classes for line in shown[1:]] == [True, True]


@pytest.mark.network
def test_its_numbers_of_steps(tmp_path: Path) -> None:
    corpus = load_series("japanese_vowels", root=tmp_path)
    assert corpus.test is not None
    lengths = corpus.train.lengths
    counts = [sum(length >= steps for length in lengths) for steps in (7, 20, 25, 26, 27)]
    assert counts == [270, 43, 3, 1, 0]
    assert sum(length > 26 for length in corpus.test.lengths) == 1
    assert max(corpus.test.lengths) == 29
