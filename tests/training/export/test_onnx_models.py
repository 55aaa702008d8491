"""Models as ONNX files: the same predictions as by their checkpoints, also in 8 bits."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_here
import pytest
import torch

from seqnorm.datasets import LanguageTokenizer, Scaling, Tokenizer
from seqnorm.training import (
    LanguageModelling,
    SeriesClassification,
    SeriesRegression,
    TextClassification,
)
from seqnorm.training.checkpoints.checkpoint_file import AtomicCheckpointIO, read_checkpoint
from seqnorm.training.checkpoints.stored_model import stored_model
from seqnorm.training.export.formats import export
from seqnorm.training.prediction import classification, language, series
from seqnorm.training.prediction.batches import LONG
from seqnorm.training.prediction.classification import label
from seqnorm.training.prediction.onnx_file import OnnxFile
from seqnorm.training.prediction.onnx_models import OnnxClassifier

onnx_here.need()

CLASSES = ("grain", "sport", "trade")
LINES = "corn deal and goal\nteam\n\nwheat tariff tariff crop and an export deal\nmatch\n"


def stored(path: Path, model: Any, **data: object) -> Path:
    """Write the checkpoint of a model whose data had these options."""
    content = {
        "state_dict": model.state_dict(),
        "hyper_parameters": dict(model.hparams),
        "datamodule_hyper_parameters": data,
    }
    AtomicCheckpointIO().save_checkpoint(content, path)
    return path


def written(checkpoint: Path, name: str, **options: bool) -> OnnxFile:
    """Export a checkpoint into its folder, and read the file."""
    path, *_ = export(read_checkpoint(checkpoint), str(checkpoint.with_name(name)), **options)
    return OnnxFile(path)


def moved_norms(model: Any) -> Any:
    """Move the parameters and tables of the norms away from their initial values."""
    with torch.no_grad():
        for name, value in model.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                value.uniform_(0.5, 2.0)
            if name.endswith("count"):
                value[:6] = 40
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) * 0.2)
    return model


def rows(predict: Any, trained: Any, folder: Path, **options: Any) -> list[Any]:
    """Return the rows that prediction writes."""
    output = folder / "out.jsonl"
    predict(trained, output=str(output), format="jsonl", **options)
    return [json.loads(line) for line in output.read_text("utf-8").splitlines()]


@pytest.fixture(scope="module")
def texts(corpus: Path) -> tuple[list[str], list[str], list[str]]:
    """Return the texts and labels of the training part, and the texts of the test part."""
    found = {}
    for part in ("train", "test"):
        with (corpus / f"{part}.csv").open(newline="") as file:
            found[part] = list(csv.DictReader(file))
    train = found["train"]
    labels = [row["label"] for row in train]
    return [row["text"] for row in train], labels, [row["text"] for row in found["test"]]


@pytest.fixture(scope="module")
def classifier(texts: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train a classifier for some steps."""
    torch.manual_seed(0)
    train, labels, _ = texts
    tokenizer = Tokenizer.train(train)
    model = TextClassification(tokenizer.to_json(), CLASSES, hidden_size=16, embedding_size=24)
    encoded = tokenizer.encode(train)
    tokens = torch.nn.utils.rnn.pad_sequence([torch.tensor(e) for e in encoded], batch_first=True)
    lengths = torch.tensor([len(each) for each in encoded])
    wanted = torch.tensor([CLASSES.index(name) for name in labels])
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(25):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(tokens, lengths), wanted).backward()
        optimizer.step()
    folder = tmp_path_factory.mktemp("classifier")
    return stored(folder / "best.ckpt", model, max_length=8, corpus="/home/someone/a.csv")


@pytest.fixture(scope="module")
def classifier_file(classifier: Path) -> OnnxFile:
    return written(classifier, "model.onnx")


def chances(model: Any, found: list[str], batch_size: int = 7) -> np.ndarray:
    return np.array(list(label(model, found, 8, batch_size)))


def test_labels_by_the_commands(
    classifier: Path,
    texts: Any,
    tmp_path: Path,
    run_seqnorm: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "lines.txt").write_text("\n".join([*texts[2], ""]) + "\n")
    run_seqnorm("export", str(classifier), "--to", "small.onnx", "--int8")
    assert "small.tokenizer.json: " in capsys.readouterr().out
    run_seqnorm("predict", "lines.txt", "--ckpt_path", str(classifier), "-o", "a.jsonl")
    run_seqnorm("predict", "lines.txt", "--onnx", "small.onnx", "-o", "b.jsonl", "--batch_size=3")
    a, b = (
        [json.loads(line) for line in (tmp_path / name).read_text("utf-8").splitlines()]
        for name in ("a.jsonl", "b.jsonl")
    )
    assert len(a) == len(b) == 31
    assert sum(x["label"] == y["label"] for x, y in zip(a, b)) >= 29
    for x, y in zip(a, b):
        for name in CLASSES:
            assert x["probabilities"][name] == pytest.approx(y["probabilities"][name], abs=0.1)
    run_seqnorm("predict", "--onnx=small.onnx", "--task=classification", "lines.txt")
    assert len(capsys.readouterr().out.splitlines()) == 32


def test_probabilities_of_a_classifier(
    classifier: Path, classifier_file: OnnxFile, texts: Any
) -> None:
    assert classifier_file.task == "classification"
    assert classifier_file.data == {"max_length": 8, "corpus": "a.csv"}, "no path of the training"
    assert classifier_file.stated("vocabulary")["unknown"] == 1
    given = [*texts[2], "", "corn", "never seen"]
    (expected, found) = (
        chances(model, given)
        for model in (
            stored_model(TextClassification, read_checkpoint(classifier)),
            OnnxClassifier(classifier_file),
        )
    )
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert expected.max(1).mean() > 0.6, "the model has learnt something"


def test_long_documents(classifier: Path, classifier_file: OnnxFile) -> None:
    text = " ".join(["corn goal deal w1 w2"] * (LONG // 5 + 2))
    (expected, found) = (
        list(label(model, [text], None, 1))
        for model in (
            stored_model(TextClassification, read_checkpoint(classifier)),
            OnnxClassifier(classifier_file),
        )
    )
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_tables_of_batch_norm_and_other_poolings(texts: Any, tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = TextClassification(
        Tokenizer.train(texts[0]).to_json(),
        CLASSES,
        cell="gru",
        norm="batch",
        norm_options={"max_steps": 4},
        bidirectional=False,
        hidden_size=8,
        embedding_size=8,
        pooling="last+attention",
    )
    path = stored(tmp_path / "best.ckpt", moved_norms(model))
    (tmp_path / "lines.txt").write_text(LINES)
    found, expected = (
        rows(classification.predict, trained, tmp_path, input=str(tmp_path / "lines.txt"))
        for trained in (written(path, "model.onnx"), read_checkpoint(path))
    )
    for one, other in zip(found, expected):
        assert one["probabilities"] == pytest.approx(other["probabilities"], abs=1e-5)


def test_tfidf_beside_the_layers(texts: Any, tmp_path: Path) -> None:
    torch.manual_seed(1)
    tokenizer = Tokenizer.train(texts[0])
    model = TextClassification(
        tokenizer.to_json(), CLASSES, hidden_size=8, embedding_size=8, wide=True, read=3, crop=2
    )
    assert model.network.wide is not None
    model.network.wide.set_frequencies(tokenizer.encode(texts[0]))
    torch.nn.init.normal_(model.network.wide.weight)
    path = stored(tmp_path / "best.ckpt", model)
    (tmp_path / "lines.txt").write_text(LINES)
    found, expected = (
        rows(classification.predict, trained, tmp_path, input=str(tmp_path / "lines.txt"))
        for trained in (written(path, "model.onnx"), read_checkpoint(path))
    )
    for one, other in zip(found, expected):
        assert one["probabilities"] == pytest.approx(other["probabilities"], abs=1e-5)


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_scores_and_continuations(norm: str, tmp_path: Path) -> None:
    torch.manual_seed(2)
    tokenizer = LanguageTokenizer.learn(LINES.splitlines(), level="word")
    model = LanguageModelling(
        tokenizer.to_json(),
        cell="lstm" if norm == "layer" else "gru",
        norm=norm,
        norm_options={"max_steps": 5} if norm == "batch" else None,
        embedding_size=8,
        hidden_size=12,
        num_layers=2,
        chunk=4,
    )
    with torch.no_grad():
        model.network.decoder.weight.mul_(20)
    windows = {"mode": "stream", "window": 3} if norm == "batch" else {}
    path = stored(tmp_path / "best.ckpt", moved_norms(model), **windows)
    (tmp_path / "lines.txt").write_text(LINES)
    options = {"input": str(tmp_path / "lines.txt")}
    whole = written(path, "model.onnx")
    step = written(path, "step.onnx", step=True)
    assert whole.inputs["tokens"] == ["B", "T"]
    assert step.inputs["tokens"] == ["B"]
    assert ("first_step" in step.inputs) is (norm == "batch")
    expected = rows(language.predict, read_checkpoint(path), tmp_path, **options)
    for file in (whole, step):
        found = rows(language.predict, file, tmp_path, **options)
        for one, other in zip(found, expected):
            assert one["tokens"] == other["tokens"]
            assert one["scores"] == pytest.approx(other["scores"], abs=1e-4)
            shown = other["bits_per_character"]
            assert one["bits_per_character"] == (shown and pytest.approx(shown, abs=1e-4))
    drawn = {"what": "continue", "length": 9, "seed": 3, **options}
    expected = rows(language.predict, read_checkpoint(path), tmp_path, **drawn)
    for file in (whole, step):
        assert rows(language.predict, file, tmp_path, **drawn) == expected


@pytest.mark.parametrize("kind", [SeriesClassification, SeriesRegression])
def test_answers_for_series(kind: Any, tmp_path: Path) -> None:
    torch.manual_seed(3)
    features = Scaling(("x", "y"), (1.7e9, -3.0), (20.0, 0.5))
    targets = Scaling(("u", "v"), (1e6, 0.0), (10.0, 2.0)).to_json()
    given = ("down", "up") if kind is SeriesClassification else targets
    model = kind(features.to_json(), given, hidden_size=8, cell="gru")
    path = stored(tmp_path / "best.ckpt", moved_norms(model))
    arrays = [features.undo(torch.randn(steps, 2, dtype=torch.float64)) for steps in (9, 1, 4, 7)]
    np.savez(
        tmp_path / "new.npz",
        values=torch.cat(arrays).numpy(),
        offsets=np.cumsum([0, *map(len, arrays)]),
        features=np.array(features.names),
    )
    found, expected = (
        rows(series.predict, trained, tmp_path, input=str(tmp_path / "new.npz"), batch_size=3)
        for trained in (written(path, "model.onnx"), read_checkpoint(path))
    )
    assert len(found) == 4
    key = "probabilities" if kind is SeriesClassification else "targets"
    for one, other in zip(found, expected):
        assert one.get("label") == other.get("label")
        assert one[key] == pytest.approx(other[key], rel=1e-6, abs=1e-4)


def test_files_that_are_refused(
    classifier: Path, classifier_file: OnnxFile, tmp_path: Path
) -> None:
    checkpoint = read_checkpoint(classifier)
    for name in ("model.bin", "model", "model.onnx.txt"):
        with pytest.raises(ValueError, match=r"must be one of \.onnx"):
            export(checkpoint, name)
    with pytest.raises(FileNotFoundError, match="the folder nowhere does not exist"):
        export(checkpoint, "nowhere/model.onnx")
    with pytest.raises(ValueError, match="only language models have a graph of one step"):
        export(checkpoint, str(tmp_path / "model.onnx"), step=True)
    options = {"norm": "batch", "norm_options": {"beyond": "error"}, "hidden_size": 4}
    model = TextClassification(checkpoint.hyper_parameters["tokenizer"], CLASSES, **options)
    refused = stored(tmp_path / "best.ckpt", model)
    with pytest.raises(ValueError, match=r"this LSTM cannot be exported: .*beyond"):
        export(read_checkpoint(refused), str(tmp_path / "model.onnx"))
    assert list(tmp_path.iterdir()) == [refused]

    whole = Path(classifier_file.path).read_bytes()
    alone = tmp_path / "alone.onnx"
    alone.write_bytes(whole)
    with pytest.raises(ValueError, match=r"there is no tokenizer .*alone\.tokenizer\.json"):
        OnnxClassifier(OnnxFile(alone))
    (tmp_path / "alone.tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match="is the tokenizer of another model"):
        OnnxClassifier(OnnxFile(alone))
    with pytest.raises(ValueError, match="read on the CPU, not on the device 'cuda'"):
        OnnxClassifier(classifier_file, "cuda")
    alone.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="cannot be read as an ONNX file"):
        OnnxFile(alone)
    with pytest.raises(ValueError, match="there is no ONNX file"):
        OnnxFile(tmp_path / "missing.onnx")


@pytest.mark.parametrize("missing", ["onnxruntime", "tokenizers"])
def test_a_package_is_missing(
    missing: str, classifier_file: OnnxFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ModuleNotFoundError, match=rf"module {missing}, .* pip install 'seqnorm\["):
        OnnxClassifier(OnnxFile(classifier_file.path))


def test_what_a_file_says_is_not_trusted(classifier_file: OnnxFile, tmp_path: Path) -> None:
    import onnx

    model = onnx.load(classifier_file.path)
    stated = {one.key: one for one in model.metadata_props}

    def changed(key: str, value: str) -> OnnxFile:
        before, stated[key].value = stated[key].value, value
        onnx.save(model, tmp_path / "model.onnx")
        stated[key].value = before
        return OnnxFile(tmp_path / "model.onnx")

    with pytest.raises(ValueError, match="has format '2', and this seqnorm reads 1"):
        changed("seqnorm_format", "2")
    with pytest.raises(ValueError, match="unknown task 'x'"):
        changed("task", "x")
    with pytest.raises(ValueError, match="does not state its data"):
        changed("data", "[")
    with pytest.raises(ValueError, match="are not a list of names"):
        changed("classes", "[1]").names("classes")
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(ValueError, match="an ONNX file, but not one of seqnorm export"):
        OnnxFile(tmp_path / "model.onnx")


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (("export",), "export needs --ckpt_path"),
        (("export", "missing.ckpt", "--to=a.onnx"), "there is no checkpoint 'missing.ckpt'"),
        (("export", "BEST", "--to=a.bin"), "must be one of .onnx"),
        (("export", "BEST"), "to"),
        (("export", "BEST", "--too=a.onnx"), "did you mean --to?"),
        (("export", "BEST", "--to=a.onnx", "--step"), "only language models"),
        (("predict", "--onnx=missing.onnx"), "there is no ONNX file 'missing.onnx'"),
        (("predict", "--onnx=BEST", "--ckpt_path=BEST"), "--ckpt_path or --onnx, not both"),
        (("predict", "--onnx=BEST"), "cannot be read as an ONNX file"),
        (("predict",), "or --onnx"),
    ],
)
def test_mistakes_on_the_command_line(
    words: tuple[str, ...],
    answer: str,
    classifier: Path,
    run_seqnorm: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = [word.replace("BEST", str(classifier)) for word in words]
    with pytest.raises(SystemExit) as ended:
        run_seqnorm(*given)
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert answer in line
