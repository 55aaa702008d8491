"""The commands of language models, from a configuration to scores and continuations."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from lightning.pytorch import Trainer
from small_runs import SMALL, assert_picture

from seqnorm.training import LanguageData, LanguageModelling
from seqnorm.training.checkpoints.checkpoint_file import AtomicCheckpointIO, read_checkpoint
from seqnorm.training.prediction.language import encode, score
from seqnorm.training.run.main import named_in

Command = Callable[..., None]
RUN = Path("runs/lines/version_0")
BEST = RUN / "checkpoints" / "best.ckpt"
TASK = ("fit", "--task=language", *SMALL)


@pytest.fixture
def trained(lines: Path, run_seqnorm: Command, capsys: pytest.CaptureFixture[str]) -> Path:
    """Train a model and return the folder of its run; out.txt has the output."""
    run_seqnorm(
        *TASK,
        "--data.corpus",
        lines,
        "--data.batch_size=4",
        "--data.window=12",
        "--trainer.max_epochs=8",
        "--model.lr=0.05",
        "--model.norm=batch",
        "--model.zoneout=[0.1, 0.0]",
        "--run.results=results/language.csv",
        "--seed_everything=7",
    )
    Path("out.txt").write_text(capsys.readouterr().out, encoding="utf-8")
    return RUN.absolute()


def test_the_task_of_a_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("language.yaml").write_text("task: language\nmodel: {lr: 1.0}\n")
    Path("other.yaml").write_text("model: {lr: 1.0}\n")
    Path("classification.yaml").write_text("task: classification\n")
    Path("broken.yaml").write_text("task: [")
    Path("resumed.yaml").write_text("ckpt_path: last.ckpt\n")
    for arguments, expected in (
        ("", (None, None)),
        ("--task language", ("language", None)),
        ("--task=language --config classification.yaml", ("language", None)),
        ("--config language.yaml", ("language", None)),
        ("--config=language.yaml --config other.yaml --model.lr=3", ("language", None)),
        ("--config language.yaml --config classification.yaml", ("classification", None)),
        ("--config other.yaml", (None, None)),
        ("--config broken.yaml --config missing.yaml", (None, None)),
        ("--ckpt_path best.ckpt", (None, "best.ckpt")),
        ("--ckpt_path=best.ckpt --config resumed.yaml", (None, "best.ckpt")),
        ("--config resumed.yaml", (None, "last.ckpt")),
        ("--ckpt_path null", (None, None)),
        ("--task", (None, None)),
    ):
        assert named_in(arguments.split()) == (*expected, None), arguments
    assert named_in(["--onnx", "model.onnx", "--task=language"]) == ("language", None, "model.onnx")


@pytest.mark.parametrize(
    ("parameters", "task"), [({}, "language"), ({"classes": ["a"]}, "classification")]
)
def test_the_task_of_a_checkpoint(parameters: dict[str, object], task: str, tmp_path: Path) -> None:
    """The hyper-parameters decide, whatever else a checkpoint holds."""
    content = {"hyper_parameters": {"tokenizer": "", **parameters}, "state_dict": {}}
    torch.save({"config": {"task": "other"}, **content}, tmp_path / "a.ckpt")
    assert read_checkpoint(tmp_path / "a.ckpt").task == task


@pytest.mark.parametrize(
    ("arguments", "expected", "not_there"),
    [
        (
            ("fit", "--task=language", "--help"),
            (
                "--model.weight_drop",
                "--data.window",
                "tokens of a stream",
                "--run.monitor",
                "--run.patience",
            ),
            ("--model.tokenizer", "--model.pad_id", "--data.seed ", "--model.ends", "pooling"),
        ),
        (("fit", "--help"), ("--model.pooling", "--task"), ("--data.window",)),
    ],
)
def test_help(
    arguments: tuple[str, ...],
    expected: tuple[str, ...],
    not_there: tuple[str, ...],
    run_seqnorm: Command,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as stop:
        run_seqnorm(*arguments)
    assert stop.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for words in expected:
        assert words in text
    for words in not_there:
        assert words not in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--model.pooling=mean",), "pooling"),
        (("--model.norm=layr",), "did you mean 'layer'"),
        (("--model.layer_dropout=0.1",), "num_layers=1: use output_dropout"),
        (("--data.corpus=ptb",), "data/ptb/ptb.train.txt, data/ptb/ptb.valid.txt, data/ptb/ptb.te"),
        (("--data.corpus=wikitext2",), "data/wikitext-2/wiki.train.tokens, "),
        (("--data.corpus=text8",), "here: data/text8/text8"),
        (("--data.corpus=nope",), "nope is neither a corpus"),
        (("--model.cell=gru", "--model.zoneout=[0.1, 0.2]"), "a pair is for an LSTM's (h, c)"),
        (("--data.window=0",), "window must be at least 1, got 0"),
        (("--data.mode=documents", "--data.reset_at_documents=true"), "leave one of them out"),
        (("--data.batch_size=5000",), "1021 tokens do not suffice for 5000 rows"),
        (("--run.monitor=val_accuracy",), "run.monitor"),
        (("--model.norm=batch", "--run.ema_decay=0.9"), "set --run.reestimate true"),
    ],
)
def test_what_is_refused(
    arguments: tuple[str, ...],
    message: str,
    lines: Path,
    run_seqnorm: Command,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as stop:
        run_seqnorm(*TASK, "--data.corpus", lines, *arguments)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert message in error[error.index("error:") :]
    assert "Traceback" not in error


def test_one_text_has_no_documents_to_begin_with(
    run_seqnorm: Command, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("data/text8").mkdir(parents=True)
    Path("data/text8/text8").write_text("corn and wheat and corn " * 80)
    monkeypatch.setattr("seqnorm.datasets.language_texts._TEXT8_HELD_OUT", 200)
    with pytest.raises(SystemExit):
        run_seqnorm(*TASK, "--data.corpus=text8", "--data.reset_at_documents=true")
    assert "there is no document to begin with" in capsys.readouterr().err


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_a_stream_with_resets_is_tested_as_documents_are(
    norm: str, lines: Path, run_seqnorm: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    run_seqnorm(
        *TASK,
        *("--data.corpus", lines, "--data.batch_size=4", "--data.window=7"),
        *("--data.reset_at_documents=true", "--model.norm", norm, "--trainer.max_epochs=2"),
        *("--model.lr=0.05", "--run.results=language.csv"),
    )
    with Path("language.csv").open(newline="") as file:
        assert [row["mode"] for row in csv.DictReader(file)] == ["stream, resets"]
    found = []
    for mode in ("stream", "documents"):
        reset = "true" if mode == "stream" else "false"
        capsys.readouterr()
        run_seqnorm(
            *("test", "--ckpt_path", BEST, "--data.mode", mode),
            *("--data.reset_at_documents", reset),
        )
        found.append(re.search(r"perplexity [\d.]+", capsys.readouterr().out))
    assert found[0] is not None
    assert found[1] is not None
    assert found[0][0] == found[1][0]


def test_what_a_run_leaves(trained: Path) -> None:
    with (trained / "metrics.csv").open(newline="") as file:
        *epochs, last = list(csv.DictReader(file))
    printed = Path("out.txt").read_text(encoding="utf-8")
    assert f"test: perplexity {float(last['test_perplexity']):.4f}, " in printed
    assert float(epochs[-1]["val_loss"]) < 0.7 * float(epochs[0]["val_loss"])
    assert float(epochs[0]["val_perplexity"]) == pytest.approx(
        math.exp(float(epochs[0]["val_loss"])), rel=1e-5
    )
    config = yaml.safe_load((trained / "config.yaml").read_text())
    assert config["model"]["zoneout"] == [0.1, 0.0]
    model = LanguageModelling.load_from_checkpoint(trained / "checkpoints" / "best.ckpt")
    assert model.network.layers[0].zoneout == (0.1, 0.0)
    assert (config["task"], config["data"]["window"]) == ("language", 12)
    assert_picture(trained / "learning_curve.png")
    tested = json.loads((trained / "test.json").read_text())
    assert tested["perplexity"] == pytest.approx(float(last["test_perplexity"]), rel=1e-5)
    assert tested["tokens"] == tested["characters"]
    with open("results/language.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    expected = ["stream", "character", "lstm", "batch", "0.05", "7"]
    assert [row[name] for name in ("mode", "level", "cell", "norm", "lr", "seed")] == expected
    assert float(row["test_perplexity"]) == pytest.approx(tested["perplexity"], abs=1e-4)
    best = min(float(epoch["val_loss"]) for epoch in epochs)
    assert float(row["val_loss"]) == pytest.approx(best, abs=1e-4)
    assert "--model.lr=0.05" in row["config"]


def test_test_and_validate_need_the_checkpoint_alone(
    trained: Path, lines: Path, run_seqnorm: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    tested = json.loads((trained / "test.json").read_text())
    BEST.rename("moved.ckpt")
    trained.rename("gone")
    capsys.readouterr()
    run_seqnorm("test", "--ckpt_path=moved.ckpt")
    printed = capsys.readouterr().out
    bits = tested["bits_per_character"]
    assert f"perplexity {tested['perplexity']:.4f}, {bits:.4f} bits a character" in printed
    run_seqnorm("validate", "--ckpt_path=moved.ckpt")
    assert "lines validation: perplexity" in capsys.readouterr().out
    assert not Path("runs/lines/version_0").exists()


def test_scores(
    trained: Path,
    run_seqnorm: Command,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    texts = ["corn and goal", "", "zzz corn and goal corn and team and wheat", "wheat"]
    Path("texts.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
    model = LanguageModelling.load_from_checkpoint(BEST).eval()
    capsys.readouterr()
    run_seqnorm("predict", "--ckpt_path", BEST, "--input=texts.txt")
    header, *table = list(csv.reader(io.StringIO(capsys.readouterr().out), delimiter="\t"))
    assert header == ["perplexity", "bits_per_character", "scores"]
    assert len(table) == len(texts)
    for text, (perplexity, bits, scores) in zip(texts, table):
        # Compute the scores in windows of twelve tokens with a carried state.
        tokens = encode(model, text)
        states, nats = None, []
        for start in range(0, len(tokens) - 1, 12):
            piece = tokens[start : start + 13]
            logits, states = model(torch.tensor([piece[:-1]]), None, states)
            chances = logits[0].log_softmax(-1)
            nats += [-chances[k, token].item() for k, token in enumerate(piece[1:])]
        assert len(nats) == len(text) + 1
        assert [float(value) for value in scores.split()] == pytest.approx(nats, rel=1e-4)
        mean = math.fsum(nats) / len(nats)
        assert float(perplexity) == pytest.approx(math.exp(mean), rel=1e-4)
        assert float(bits) == pytest.approx(mean / math.log(2), rel=1e-4)
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(texts)))
    run_seqnorm("predict", "--ckpt_path", BEST, "--format=jsonl", "--output=scores.jsonl")
    objects = [json.loads(line) for line in Path("scores.jsonl").read_text().splitlines()]
    assert objects[0]["tokens"] == [*"corn and goal", "<eos>"]
    assert objects[2]["tokens"][:3] == ["<unk>"] * 3
    assert [f"{found['perplexity']:.6g}" for found in objects] == [row[0] for row in table]


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_a_long_text_is_scored_in_pieces(
    norm: str, lines: Path, run_seqnorm: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--data.mode=documents", "--trainer.max_epochs=1", f"--model.norm={norm}")
    run_seqnorm(*TASK, "--data.corpus", lines, *options)
    # In double and of some pieces only, because BatchNorm of few rows magnifies rounding errors of
    # every step, and the kernels round otherwise for a few rows than for many.
    model = LanguageModelling.load_from_checkpoint(BEST).eval().double()
    tokens = encode(model, "corn and goal " * 4)
    whole = score(model, tokens, len(tokens))
    monkeypatch.setattr("seqnorm.training.prediction.language._PIECE", 7)
    assert score(model, tokens, None) == pytest.approx(whole, rel=1e-4)


def test_continuations(
    trained: Path, run_seqnorm: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("prompts.txt").write_text("corn and\n\nteam\n", encoding="utf-8")

    def drawn(*options: str) -> list[str]:
        capsys.readouterr()
        arguments = ("--input=prompts.txt", "--what=continue", *options)
        run_seqnorm("predict", "--ckpt_path", BEST, *arguments)
        return capsys.readouterr().out.splitlines()

    first = drawn("--length=30")
    assert drawn("--length=30") == first
    assert len(first) == 3
    assert first[0].startswith("corn and")
    assert all(len(line) <= len("corn and") + 30 for line in first)
    assert drawn("--length=30", "--seed=1") != first
    greedy = drawn("--top_k=1", "--length=30")
    assert greedy == drawn("--temperature=1e-5", "--length=30", "--seed=5")
    (line, *_) = drawn("--format=jsonl", "--top_k=1", "--length=30")
    found = json.loads(line)
    assert found["text"] == "corn and"
    assert found["text"] + found["continuation"] == greedy[0]
    assert drawn("--length=0") == ["corn and", "", "team"]


def test_words(lines: Path, run_seqnorm: Command, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--data.mode=documents", "--data.level=word", "--trainer.max_epochs=4")
    run_seqnorm(*TASK, "--data.corpus", lines, *options, "--model.lr=0.05")
    Path("prompts.txt").write_text("corn and\n", encoding="utf-8")
    capsys.readouterr()
    run_seqnorm("predict", "--ckpt_path", BEST, "--input=prompts.txt", "--what=continue")
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("corn and")
    assert set(line.split()) <= {"corn", "crop", "wheat", "and", "goal", "match", "team"}
    run_seqnorm("predict", "--ckpt_path", BEST, "--input=prompts.txt")
    scores = capsys.readouterr().out.splitlines()[1].split("\t")
    nats = [float(value) for value in scores[2].split()]
    assert len(nats) == 3
    assert float(scores[1]) == pytest.approx(sum(nats) / math.log(2) / len("corn and\n"), rel=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--input=missing.txt",), "there is no input file 'missing.txt'"),
        (("--what=continue", "--temperature=0"), "temperature must be above 0"),
        (("--what=continue", "--top_k=0"), "top_k must be at least 1"),
    ],
)
def test_predictions_that_are_refused(
    arguments: tuple[str, ...],
    message: str,
    lines: Path,
    run_seqnorm: Command,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run_seqnorm(*TASK, "--data.corpus", lines, "--trainer.max_epochs=1")
    monkeypatch.setattr(sys, "stdin", io.StringIO("corn\n"))
    with pytest.raises(SystemExit) as stop:
        run_seqnorm("predict", "--ckpt_path", BEST, *arguments)
    assert stop.value.code == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert message in error


def test_without_a_test_part_the_validation_part_is_shown(
    lines: Path,
    run_seqnorm: Command,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "own").mkdir()
    text = (lines / "train.txt").read_text()
    (tmp_path / "own" / "train.txt").write_text(text)
    options = ("--data.corpus=own", "--trainer.max_epochs=2", "--run.results=r.csv")
    run_seqnorm(*TASK, *options, "--run.ema_decay=0.5")
    assert "There is no test part" in caplog.text
    assert not Path("r.csv").exists()
    printed = capsys.readouterr().out
    run_seqnorm("validate", "--ckpt_path=runs/own/version_0/checkpoints/best.ckpt")
    shown = [line for line in printed.splitlines() if line.startswith("own validation:")]
    assert shown[0] in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
def test_a_checkpoint_of_a_trainer_of_ones_own(
    lines: Path, run_seqnorm: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = LanguageData(str(lines), batch_size=4)
    model = LanguageModelling(data.tokenizer_json, embedding_size=4, hidden_size=4)
    trainer = Trainer(
        max_steps=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        plugins=[AtomicCheckpointIO()],
        default_root_dir=tmp_path,
    )
    trainer.fit(model, data)
    trainer.save_checkpoint("own.ckpt")
    Path("texts.txt").write_text("corn\ngoal\n")
    capsys.readouterr()
    run_seqnorm("predict", "--ckpt_path=own.ckpt", "--input=texts.txt")
    assert len(capsys.readouterr().out.splitlines()) == 3
