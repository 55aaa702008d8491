"""One's own data through the commands: train, test on a new file, label a table, rare classes."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
import yaml
from small_runs import SMALL

import seqnorm
from seqnorm.training.checkpoints.checkpoint_file import read_checkpoint

Command = Callable[..., None]
WORDS = {"good": ("fine", "great", "lovely"), "bad": ("poor", "dull", "awful")}


def reviews(count: int, start: int = 0) -> list[tuple[str, str]]:
    draw = random.Random(start)
    found = []
    for number in range(start, start + count):
        label = ("good", "bad")[number % 2]
        words = draw.choices(WORDS[label], k=2) + draw.choices(("a", "film", "and"), k=4)
        draw.shuffle(words)
        found.append((f"{' '.join(words)} no{number}", label))
    return found


def write(
    name: str,
    rows: Sequence[tuple[str, str]],
    header: tuple[str, str] = ("review", "stars"),
    delimiter: str = ",",
) -> None:
    with open(name, "w", newline="", encoding="utf-8-sig") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(("id", *header))
        writer.writerows((number, *row) for number, row in enumerate(rows))


@pytest.fixture
def best(run_seqnorm: Command, caplog: pytest.LogCaptureFixture) -> str:
    """Train on reviews.csv and return the option of the best checkpoint."""
    write("reviews.csv", reviews(80), delimiter=";")
    run_seqnorm("fit", "reviews.csv", *SMALL, "--trainer.max_epochs=8", "--model.lr=0.05")
    shown = caplog.text
    assert "reviews.csv: text column 'review', label column 'stars'; set with" in shown
    assert "class  train  validation\nbad       36           4\ngood      36           4" in shown
    assert "Tokens of a training document: median 7, " in shown
    assert "Everything that the run writes is in runs/reviews/version_0" in shown
    return "--ckpt_path=runs/reviews/version_0/checkpoints/best.ckpt"


def last_error(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err.splitlines()[-1]


def test_a_run_on_a_file_without_an_option(best: str) -> None:
    path = Path("runs/reviews/version_0")
    config = yaml.safe_load((path / "config.yaml").read_text())
    assert config["data"]["corpus"] == "reviews.csv"
    assert config["data"]["text_column"] is None, "the configuration has what was given"
    checkpoint = read_checkpoint(path / "checkpoints" / "best.ckpt")
    assert checkpoint.data["text_column"] == "review"
    assert checkpoint.data["label_column"] == "stars"
    assert checkpoint.hyper_parameters["class_counts"] == [36, 36]
    with (path / "classes.csv").open(newline="") as file:
        assert [row["class"] for row in csv.DictReader(file)] == ["bad", "good"]
    model = seqnorm.load(path / "checkpoints" / "best.ckpt", task="classification")
    assert [found.label for found in model.predict(["great fine", "dull"])] == ["good", "bad"]


def test_a_new_file_is_tested_as_a_whole(
    best: str, run_seqnorm: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = reviews(30, 80)
    write("new.csv", [*rows, rows[0]])  # a duplicate counts
    capsys.readouterr()
    run_seqnorm("test", "new.csv", best)
    assert "│ all    │        31 │" in capsys.readouterr().out
    run_seqnorm("validate", best, "--data.corpus=new.csv")
    assert "│ all    │        31 │" in capsys.readouterr().out
    write("one.csv", [row for row in rows if row[1] == "bad"])
    run_seqnorm("test", "one.csv", best)
    assert "│ all    │        15 │" in capsys.readouterr().out
    objects = [{"review": text, "stars": label} for text, label in rows]
    Path("new.json").write_text(json.dumps(objects))
    run_seqnorm("test", "new.json", best)
    assert "│ all    │        30 │" in capsys.readouterr().out


def test_new_files_that_do_not_fit(
    best: str, run_seqnorm: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = reviews(10, 80)
    write("strange.csv", [*rows, ("fine", "fair"), ("dull", "none")])
    write("other.csv", rows, ("words", "stars"))
    write("whole.csv", rows)
    for arguments, message in (
        (
            ("strange.csv",),
            "strange.csv has classes that the checkpoint was not trained on: fair, none; it knows "
            "bad, good",
        ),
        (("other.csv",), "no column 'review'; there are 'id', 'words', 'stars'; name the right"),
        (("reviews.csv",), "reviews.csv has no test part: set test_fraction before training"),
        (("whole.csv", "--data.test_fraction=0.1"), "whole.csv is evaluated as a whole; leave"),
    ):
        with pytest.raises(SystemExit) as stop:
            run_seqnorm("test", *arguments, best)
        assert stop.value.code == 2
        assert message in last_error(capsys)
    run_seqnorm("test", "other.csv", best, "--data.text_column=words")
    assert "│ all    │        10 │" in capsys.readouterr().out


def test_a_table_is_labelled(
    best: str, run_seqnorm: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = reviews(10, 80)
    write("new.csv", rows, ("review", "label"))
    run_seqnorm("predict", "new.csv", "-o", "out.csv", best)
    with open("out.csv", newline="") as file:
        found = list(csv.DictReader(file))
    assert [(row["review"], row["label"]) for row in found] == rows
    for row in found:
        assert row["predicted_label"] == max(WORDS, key=lambda name: float(row[name]))
    # The last digits of the training differ between processors and versions of torch.
    assert sum(row["predicted_label"] == row["label"] for row in found) >= 7
    assert list(found[0]) == ["id", "review", "label", "predicted_label", "bad", "good"]
    with pytest.raises(SystemExit) as stop:
        run_seqnorm("predict", "new.csv", best, "--data.text_column=words")
    assert stop.value.code == 2
    assert "no column 'words'; there are 'id', 'review', 'label'" in last_error(capsys)


@pytest.fixture
def unequal(run_seqnorm: Command) -> Path:
    """Write 2,000 documents of one class and 60 of another, which share their words."""
    draw = random.Random(0)
    rows = []
    for number in range(2060):
        rare = number < 60
        words = [f"w{draw.randrange(40)}" for _ in range(draw.randrange(3, 9))]
        words += draw.choices(("win", "prize", "cash"), k=3 if rare else int(draw.random() < 0.3))
        draw.shuffle(words)
        rows.append((" ".join(words) + f" n{number}", "spam" if rare else "ham"))
    draw.shuffle(rows)
    write("mail.csv", rows, ("message", "kind"))
    return Path("mail.csv")


UNEQUAL = ("--data.test_fraction=0.2", "--data.min_frequency=2", "--trainer.max_epochs=6", *SMALL)
UNEQUAL += ("--model.hidden_size=16", "--model.pooling=mean", "--model.norm=layer")
UNEQUAL += ("--model.embedding_size=64",)


def test_a_rare_class(
    unequal: Path,
    run_seqnorm: Command,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run_seqnorm("fit", unequal, *UNEQUAL)
    assert (
        "The classes are unequal, from 43 to 1,440 training documents, so the best" in caplog.text
    )
    assert (
        "Never predicted: spam (documents: 12); --model.class_weights balanced weig" in caplog.text
    )
    shown = capsys.readouterr().out
    assert "│ spam  │        12 │         0 │    0.0000 │ 0.0000 │ 0.0000 │" in shown
    assert "accuracy 0.9709, macro F1 0.4926" in shown
    caplog.clear()
    run_seqnorm("fit", unequal, *UNEQUAL, "--model.class_weights=balanced")
    assert "Never predicted" not in caplog.text
    with open("runs/mail/version_1/classes.csv", newline="") as file:
        _, spam = csv.DictReader(file)
    assert float(spam["f1"]) > 0.3
    stored = torch.load("runs/mail/version_1/checkpoints/best.ckpt", weights_only=True)
    assert stored["hyper_parameters"]["class_weights"] == "balanced"
    assert stored["hyper_parameters"]["class_counts"] == [1440, 43]
    run_seqnorm(
        "predict",
        unequal,
        "-o",
        "out.csv",
        "--ckpt_path",
        "runs/mail/version_1/checkpoints/best.ckpt",
    )


def test_a_monitor_that_is_set(
    unequal: Path, run_seqnorm: Command, caplog: pytest.LogCaptureFixture
) -> None:
    short = ("--trainer.max_epochs=1", "--trainer.limit_train_batches=2")
    run_seqnorm("fit", unequal, *UNEQUAL, *short, "--run.monitor=val_accuracy")
    assert "The classes are unequal" not in caplog.text


def test_weights_of_a_run_that_is_resumed(
    run_seqnorm: Command, crash_at: Callable[[int | None], None]
) -> None:
    write("reviews.csv", [*reviews(40), *[row for row in reviews(60, 40) if row[1] == "bad"]])
    options = (*SMALL, "--trainer.max_epochs=3", "--model.class_weights=balanced")
    run_seqnorm("fit", "reviews.csv", *options)
    crash_at(4)
    with pytest.raises(Exception):  # noqa: B017, PT011  the error of the fixture
        run_seqnorm("fit", "reviews.csv", *options)
    crash_at(None)
    run_seqnorm("fit", "--ckpt_path=runs/reviews/version_1/checkpoints/last.ckpt")
    whole, resumed = (
        torch.load(f"runs/reviews/version_{n}/checkpoints/last.ckpt", weights_only=True)
        for n in (0, 1)
    )
    for name, tensor in whole["state_dict"].items():
        assert torch.equal(tensor, resumed["state_dict"][name]), name


def test_a_language_model_of_a_table(
    run_seqnorm: Command, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """It needs no labels, and reads the same column to predict."""
    write("reviews.csv", reviews(60))
    options = ("--task=language", "--data.batch_size=4", "--data.window=20")
    run_seqnorm("fit", "reviews.csv", *options, *SMALL, "--trainer.max_epochs=1")
    assert "reviews.csv: text column 'review'; set with --data.text_column" in caplog.text
    best = "--ckpt_path=runs/reviews/version_0/checkpoints/best.ckpt"
    write("new.csv", reviews(5, 60))
    run_seqnorm("predict", "new.csv", "-o", "out.csv", best)
    with open("out.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[2:] == ["stars", "perplexity", "bits_per_character", "scores"]
    assert all(float(row["perplexity"]) > 1 for row in rows)
    run_seqnorm("predict", "new.csv", "-o", "out.jsonl", best, "--what=continue", "--length=5")
    objects = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    assert list(objects[0]) == ["id", "review", "stars", "continuation"]
    capsys.readouterr()
    run_seqnorm("test", "new.csv", best)
    assert "new.csv test: perplexity" in capsys.readouterr().out


@pytest.mark.parametrize(
    "command", [("fit", "--folds=2"), ("sweep", "--trials=2", "--space={model.norm: [rms, none]}")]
)
def test_several_runs_tell_the_columns_once(
    command: tuple[str, ...], run_seqnorm: Command, caplog: pytest.LogCaptureFixture
) -> None:
    write("reviews.csv", reviews(40))
    run_seqnorm(command[0], "reviews.csv", *command[1:], *SMALL, "--trainer.max_epochs=1")
    assert caplog.text.count("reviews.csv: text column 'review', label column 'stars'") == 1
    caplog.clear()
    run_seqnorm("fit", "reviews.csv", *SMALL, "--trainer.max_epochs=1")
    assert caplog.text.count("text column 'review'") == 1, "another command tells them again"
