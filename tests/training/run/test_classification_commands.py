"""The commands of classifiers, from the help to the files of a run."""

from __future__ import annotations

import csv
import io
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from small_runs import SMALL, assert_picture
from zipped import zipped

from seqnorm.datasets import TextBatch, Tokenizer
from seqnorm.training import TextClassification, TextData
from seqnorm.training.results.scores import accuracy

Command = Callable[..., None]
RUN = Path("runs/tiny/version_0")
BEST = RUN / "checkpoints" / "best.ckpt"
OPTION = "--model.norm_options.max_steps=50"


@pytest.fixture
def trained(corpus: Path, run_seqnorm: Command, capsys: pytest.CaptureFixture[str]) -> Path:
    """Train a model and return the folder of its run; out.txt has the output."""
    run_seqnorm(
        "fit",
        "--data.corpus",
        corpus,
        *SMALL,
        "--trainer.max_epochs=12",
        "--model.lr=0.05",
        "--model.norm=batch",
        "--model.length_edges=[4,8]",
        "--run.results=results/text.csv",
        "--seed_everything=7",
    )
    Path("out.txt").write_text(capsys.readouterr().out, encoding="utf-8")
    return RUN.absolute()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            (),
            (
                "fit Train a",
                "validate Evaluate a",
                "test Evaluate a",
                "info Show versions",
                "seqnorm fit --help",
            ),
        ),
        (
            ("fit",),
            ("--model.hidden_size", "features of one direction", "--data.max_length", "--run.name"),
        ),
        (("fit",), ("--trainer.max_epochs", "--seed_everything", "The highest learning rate")),
        (
            ("test",),
            ("Evaluate a checkpoint", "--ckpt_path", "--data.corpus", "--trainer.accelerator"),
        ),
        (("predict",), ("--ckpt_path", "--input", "--format", "one document a line")),
    ],
)
def test_help(
    arguments: tuple[str, ...],
    expected: tuple[str, ...],
    run_seqnorm: Command,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as stop:
        run_seqnorm(*arguments, "--help")
    assert stop.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for words in expected:
        assert words in text
    # Arguments that the corpus and the tokenizer decide are not options.
    for words in ("--model.tokenizer", "--model.classes", "--model.pad_id", "--data.seed "):
        assert words not in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("fit", "--model.hiden_size=3"), "hiden_size"),
        (("fit", "--config=wrong.yaml"), "hiden_size"),
        (("fit", "--config=missing.yaml"), "missing.yaml"),
        (("fit", "--model.hidden_size=many"), "model.hidden_size"),
        (("fit", "--model.schedule=step"), "model.schedule"),
        (("fit", "--run.monitor=test_accuracy"), "run.monitor"),
        (("fit", "--ckpt_path=missing.ckpt"), "there is no checkpoint 'missing.ckpt'"),
        (("test",), "test needs --ckpt_path"),
        (("validate",), "validate needs --ckpt_path"),
        (("predict",), "ckpt_path"),
        (("predict", "--ckpt_path=missing.ckpt"), "there is no checkpoint 'missing.ckpt'"),
        (("fit", "--data.corpus=nope.csv"), "nope.csv is neither a corpus"),
        (("fit", "--data.corpus=small.csv", "--model.norm=layr"), "did you mean 'layer'"),
        (("fit", "--data.corpus=small.csv", "--model.norm=null", OPTION), "without a norm"),
        (
            ("fit", "--data.corpus=small.csv", OPTION.replace("steps", "step")),
            "no field 'max_step'",
        ),
        (("fit", "--data.corpus=small.csv", "--trainer.accelerator=abacus"), "abacus"),
        (
            ("fit", "--data.corpus=small.csv", "--model.norm=batch", "--run.ema_decay=0.9"),
            "set --run.reestimate true",
        ),
    ],
)
def test_what_is_refused(
    arguments: tuple[str, ...],
    message: str,
    run_seqnorm: Command,
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("wrong.yaml").write_text("model:\n  hiden_size: 3\n")
    Path("small.csv").write_text("text,label\n" + "".join(f"w v{n},c{n % 2}\n" for n in range(20)))
    with pytest.raises(SystemExit) as stop:
        run_seqnorm(*arguments)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert message in error[error.index("error:") :]
    assert "Traceback" not in error


def test_what_a_run_leaves(trained: Path) -> None:
    with (trained / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    (test,) = [float(row["test_accuracy"]) for row in rows if row["test_accuracy"]]
    assert test > 0.7
    assert f"test: accuracy {test:.4f}" in Path("out.txt").read_text(encoding="utf-8")
    epochs = rows[:-1]
    assert [int(row["epoch"]) for row in epochs] == list(range(1, len(epochs) + 1))
    assert [int(row["step"]) for row in epochs] == [3 * (n + 1) for n in range(len(epochs))]
    assert float(epochs[-1]["train_loss"]) < float(epochs[0]["train_loss"])
    assert all(float(row["val_accuracy"]) <= 1 for row in epochs)
    assert float(epochs[-1]["lr"]) < float(epochs[0]["lr"]) == pytest.approx(0.05)
    config = yaml.safe_load((trained / "config.yaml").read_text())
    assert config["model"]["norm"] == "batch"
    assert config["seed_everything"] == 7
    assert not config.keys() & {"ckpt_path", "config"}
    tokenizer = Tokenizer.from_json((trained / "tokenizer.json").read_text("utf-8"))
    assert tokenizer.vocabulary == TextData(config["data"]["corpus"]).tokenizer.vocabulary
    assert list(trained.glob("events.out.tfevents.*"))
    assert_picture(trained / "learning_curve.png")
    assert_picture(trained / "confusion_matrix.png")
    with open("results/text.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["cell"], row["norm"], row["seed"]) == ("lstm", "batch", "7")
    assert float(row["test_accuracy"]) == pytest.approx(test, abs=1e-4)
    assert 0 < int(row["epochs"]) <= 12
    assert "--model.lr=0.05" in row["config"]


def test_test_and_validate_need_the_checkpoint_alone(
    trained: Path, run_seqnorm: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = torch.load(BEST, weights_only=True)
    model = TextClassification.load_from_checkpoint(BEST).eval()
    data = TextData(**checkpoint["datamodule_hyper_parameters"])
    BEST.rename("moved.ckpt")
    trained.rename("gone")
    for command, part in (("test", "test"), ("validate", "validation")):
        capsys.readouterr()
        run_seqnorm(command, "--ckpt_path=moved.ckpt")
        # Compute the scores document by document.
        confusion = torch.zeros(3, 3, 3)
        documents = data._documents[part]
        for text, label in zipped(documents.texts, documents.labels):
            (tokens,) = data.tokenizer.encode([text])
            logits = model(torch.tensor([tokens]), torch.tensor([len(tokens)]))
            bucket = (len(tokens) > 4) + (len(tokens) > 8)
            confusion[bucket, label, int(logits.argmax())] += 1
        table = capsys.readouterr().out
        assert confusion.sum((1, 2)).count_nonzero() > 1
        rows = {"all": confusion.sum(0), **dict(zip(("0-4", "5-8", ">8"), confusion))}
        for name, counts in rows.items():
            if counts.sum() == 0:
                continue
            (line,) = [line for line in table.splitlines() if line.startswith(f"│ {name} ")]
            cells = [cell.strip() for cell in line.strip("│").split("│")]
            assert cells[1] == str(int(counts.sum()))
            assert cells[2] == f"{accuracy(counts):.4f}"
    assert not Path("runs/tiny/version_0").exists()
    assert not Path("lightning_logs").exists()


def test_predict(
    trained: Path,
    run_seqnorm: Command,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    BEST.rename("moved.ckpt")
    lines = ["corn wheat crop", "", "team GOAL match", "unheard-of words", "tariff deal"]
    Path("texts.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    model = TextClassification.load_from_checkpoint("moved.ckpt").eval()
    expected = []
    for line in lines:
        (tokens,) = model.tokenizer.encode([line])
        logits = model(torch.tensor([tokens], dtype=torch.int64), torch.tensor([len(tokens)]))
        expected.append(logits.softmax(-1)[0].tolist())
    names = ["grain", "sport", "trade"]
    capsys.readouterr()
    run_seqnorm("predict", "--ckpt_path=moved.ckpt", "--input=texts.txt", "--batch_size=2")
    table = list(csv.reader(io.StringIO(capsys.readouterr().out), delimiter="\t"))
    assert table[0] == ["label", *names]
    assert len(table) == len(lines) + 1
    for (label, *numbers), chances in zipped(table[1:], expected):
        assert [float(number) for number in numbers] == pytest.approx(chances, abs=2e-6)
        assert label == names[chances.index(max(chances))]
    assert [table[row][0] for row in (1, 3, 5)] == names
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(lines)))
    run_seqnorm("predict", "--ckpt_path=moved.ckpt", "--format=jsonl", "--output=labels.jsonl")
    objects = [json.loads(line) for line in Path("labels.jsonl").read_text().splitlines()]
    assert [found["label"] for found in objects] == [row[0] for row in table[1:]]
    assert list(objects[0]["probabilities"]) == names
    assert sum(objects[0]["probabilities"].values()) == pytest.approx(1, abs=1e-6)


def test_predict_into_its_input(
    trained: Path, run_seqnorm: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    """The output replaces the file when it is complete, and never after an error."""
    predict = ("predict", "--ckpt_path", BEST, "--batch_size=1")
    Path("texts.txt").write_bytes(b"corn\n\xe9\n")
    Path("labels.tsv").write_text("old")
    for output in ("labels.tsv", "texts.txt"):
        with pytest.raises(SystemExit):
            run_seqnorm(*predict, "--input=texts.txt", f"--output={output}")
    assert Path("labels.tsv").read_text() == "old"
    assert Path("texts.txt").read_bytes() == b"corn\n\xe9\n"
    Path("texts.txt").write_text("corn\nteam\n")
    Path("link.txt").symlink_to("texts.txt")
    run_seqnorm(*predict, "--input=link.txt", "--output=link.txt")
    rows = Path("texts.txt").read_text().splitlines()
    assert [row.split("\t")[0] for row in rows] == ["label", "grain", "sport"]
    assert Path("link.txt").is_symlink()
    with pytest.raises(SystemExit):
        run_seqnorm(*predict, "--input=texts.txt", "--output=missing/labels.tsv")
    error = capsys.readouterr().err.splitlines()[-1]
    assert "No such file or directory" in error
    assert error.endswith("missing/labels.tsv'")
    assert not list(Path().glob(".*"))


@pytest.mark.skipif(os.name != "posix", reason="/dev/stdout")
def test_predict_into_what_is_no_file(
    corpus: Path, run_seqnorm: Callable[..., None], tmp_path: Path
) -> None:
    run_seqnorm("fit", "--data.corpus", corpus, *SMALL)
    (tmp_path / "texts.txt").write_text("corn\nteam\n", "utf-8")
    best = Path("runs/tiny/version_0/checkpoints/best.ckpt").absolute()
    predict = [sys.executable, str(Path(__file__).parents[3] / "train.py"), "predict"]
    predict += [f"--ckpt_path={best}", f"--input={tmp_path / 'texts.txt'}", "--output=/dev/stdout"]
    piped = subprocess.run(predict, stdout=subprocess.PIPE, check=True, text=True).stdout
    assert len(piped.splitlines()) == 3
    subprocess.run(
        ["bash", "-c", f"{shlex.join(predict[:-1])} --output >(cat > piped.txt); wait"],
        cwd=tmp_path,
        check=True,
    )
    for _ in range(100):  # cat may not have finished
        if (tmp_path / "piped.txt").read_text() == piped:
            break
        time.sleep(0.1)
    assert (tmp_path / "piped.txt").read_text() == piped
    with (tmp_path / "all.txt").open("a+") as file:  # /dev/stdout appends to it
        file.write("before\n")
        file.flush()
        subprocess.run(predict, stdout=file, check=True)
        file.seek(0)
        assert file.read() == f"before\n{piped}"


def test_predict_without_its_input(
    trained: Path, run_seqnorm: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        run_seqnorm("predict", "--ckpt_path", BEST, "--input=missing.txt")
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: there is no input file 'missing.txt'\n"


def test_two_runs_have_two_folders_and_are_equal(corpus: Path, run_seqnorm: Command) -> None:
    for _ in range(2):
        run_seqnorm("fit", "--data.corpus", corpus, *SMALL, "--trainer.max_epochs=2")
    one, two = (
        torch.load(f"runs/tiny/version_{n}/checkpoints/last.ckpt", weights_only=True)["state_dict"]
        for n in (0, 1)
    )
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_every_epoch_has_an_order_of_its_own(
    corpus: Path, run_seqnorm: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders: dict[int, list[int]] = {}
    train = TextClassification.training_step

    def step(self: TextClassification, batch: TextBatch) -> torch.Tensor:
        orders.setdefault(self.current_epoch, []).extend(batch.indices.tolist())
        return train(self, batch)

    monkeypatch.setattr(TextClassification, "training_step", step)
    run_seqnorm("fit", "--data.corpus", corpus, *SMALL, "--trainer.max_epochs=2")
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(81))
    assert orders[0] != orders[1]


def test_without_a_test_part_the_validation_part_is_shown(
    corpus: Path,
    run_seqnorm: Command,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = ("--trainer.max_epochs=6", "--run.ema_decay=0.5", "--model.lr=0.1")
    run_seqnorm("fit", "--data.corpus", corpus / "train.csv", *SMALL, *options)
    assert "There is no test part" in caplog.text
    assert_picture(Path("runs/train/version_0/confusion_matrix.png"))
    (shown,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("│ all")]
    checkpoint = "--ckpt_path=runs/train/version_0/checkpoints/best.ckpt"
    run_seqnorm("validate", checkpoint)
    assert shown in capsys.readouterr().out  # the average of the best epoch
    with pytest.raises(SystemExit) as stop:
        run_seqnorm("test", checkpoint)
    assert stop.value.code == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"error: {corpus / 'train.csv'} has no test part: set test_fraction")


@pytest.mark.parametrize("form", ["option", "object", "file"])
def test_options_of_the_norm(form: str, corpus: Path, run_seqnorm: Command) -> None:
    Path("norm.yaml").write_text("model:\n  norm_options: {max_steps: 50, eps: 1.0e-3}\n")
    arguments = {
        "option": (OPTION, "--model.norm_options.eps=1e-3"),
        "object": ('--model.norm_options={"max_steps": 50, "eps": 1e-3}',),
        "file": ("--config=norm.yaml",),
    }
    options = (*SMALL, "--trainer.max_epochs=1", "--model.norm=batch")
    run_seqnorm("fit", *arguments[form], "--data.corpus", corpus, *options)
    model = TextClassification.load_from_checkpoint(BEST)
    norm = model.network.recurrent.norm.hidden
    assert (norm.max_steps, norm.eps) == (50, 1e-3)


def test_the_average_is_what_is_tested(corpus: Path, run_seqnorm: Command) -> None:
    run_seqnorm(
        "fit", "--data.corpus", corpus, *SMALL, "--trainer.max_epochs=2", "--run.ema_decay=0.9"
    )
    checkpoint = torch.load(BEST, weights_only=True)
    average, current = checkpoint["state_dict"], checkpoint["current_model_state"]
    assert not torch.equal(average["network.head.weight"], current["network.head.weight"])
    model = TextClassification.load_from_checkpoint(BEST)
    assert torch.equal(model.network.head.weight, average["network.head.weight"])


def test_the_message_without_lightning() -> None:
    code = "import sys; sys.modules['lightning'] = None; import seqnorm.training"
    root = Path(__file__).parents[3]
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)
    assert run.returncode == 1
    assert "needs the module lightning, which is not installed: pip install" in run.stderr
