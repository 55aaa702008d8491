"""Size, score and time of a trained model: its checkpoint, its ONNX file, and that in 8 bits.

``python benchmarks/onnx_models.py --ckpt_path runs/r8/version_0/checkpoints/best.ckpt`` exports a
text classifier or a language model into a temporary folder, and reads the test part in each of
these ways in turn, on one thread. Times are those of the process on its processor, the shortest of
several rounds, with the tokenizer. Rows of other corpora in the file of results are kept.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import table
import timing
import torch
from int8 import data_of

from seqnorm.training.checkpoints.checkpoint_file import Checkpoint, read_checkpoint
from seqnorm.training.checkpoints.stored_model import stored_model, stored_size
from seqnorm.training.export.onnx import write_onnx
from seqnorm.training.prediction.answers import most_probable
from seqnorm.training.prediction.classification import label
from seqnorm.training.prediction.language import encode, score, window_of
from seqnorm.training.prediction.onnx_file import OnnxFile
from seqnorm.training.prediction.onnx_models import OnnxClassifier, OnnxLanguageModel
from seqnorm.training.tasks.classification import TextClassification
from seqnorm.training.tasks.language import LanguageModelling

RESULTS = Path(__file__).resolve().parent.parent / "results" / "onnx_models.csv"
BATCH = 64
# The options of an export by the name of a way, and the words of the page.
WAYS = {
    "onnx": {"step": False, "int8": False},
    "onnx_int8": {"step": False, "int8": True},
    "onnx_step": {"step": True, "int8": False},
    "onnx_step_int8": {"step": True, "int8": True},
}
NAMES = {
    "checkpoint": "checkpoint, with AdamW's state",
    "onnx": "ONNX",
    "onnx_int8": "ONNX, 8 bits",
    "onnx_step": "ONNX, one step",
    "onnx_step_int8": "ONNX, one step, 8 bits",
}
COLUMNS = ("corpus", "task", "weights", "way", "bytes", "score", "same", "texts")
COLUMNS += ("batch_ms", "single_ms", *table.WHERE)
# The score of a model and its answer to each text.
Answer = Callable[[int], tuple[float, list[Any]]]


def classifier(checkpoint: Checkpoint, path: Path | None, data: Any) -> Answer:
    """Return a function of the batch size that returns accuracy and labels on the test part."""
    model: Any = stored_model(TextClassification, checkpoint)
    if path is not None:
        model = OnnxClassifier(OnnxFile(path))
    documents, longest = data.corpus.test, stored_size(checkpoint, "max_length")
    wanted = [data.corpus.classes[number] for number in documents.labels]

    def answer(batch_size: int) -> tuple[float, list[Any]]:
        chances = label(model, documents.texts, longest, batch_size)
        found = [most_probable(model.classes, each) for each in chances]
        return sum(map(str.__eq__, found, wanted)) / len(wanted), found

    return answer


def language_model(checkpoint: Checkpoint, path: Path | None, data: Any) -> Answer:
    """Return a function that returns the bits a character of the test part, each text alone."""
    model: Any = stored_model(LanguageModelling, checkpoint)
    if path is not None:
        model = OnnxLanguageModel(OnnxFile(path))
    window = window_of(checkpoint)

    def answer(_: int) -> tuple[float, list[Any]]:
        nats, characters = 0.0, 0
        for text in data.corpus.parts["test"]:
            tokens = encode(model, text)
            nats += sum(score(model, tokens, window))
            read = torch.tensor(tokens)
            characters += int(model.characters(read[:-1], read[1:]).sum())
        return nats / math.log(2) / characters, []

    return answer


def measured(checkpoint: Checkpoint, data: Any, rounds: int) -> list[table.Row]:
    """Return a row for each way."""
    classifies = checkpoint.task == "classification"
    build = classifier if classifies else language_model
    texts = data.corpus.test.texts if classifies else data.corpus.parts["test"]
    sizes = (BATCH, 1) if classifies else (1,)
    weights = sum(weight.numel() for weight in checkpoint.weights.values())
    ways = {name: how for name, how in WAYS.items() if not (classifies and how["step"])}
    with tempfile.TemporaryDirectory() as folder:
        files = {"checkpoint": Path(checkpoint.path)}
        for name, how in ways.items():
            files[name] = Path(folder, f"{name}.onnx")
            write_onnx(checkpoint, files[name], **how)
        answers = {
            name: build(checkpoint, None if name == "checkpoint" else path, data)
            for name, path in files.items()
        }
        found: dict[str, tuple[float, list[Any]]] = {}
        times: dict[tuple[str, int], list[float]] = {}
        for _ in range(rounds):
            for name, answer in answers.items():
                for size in sizes:
                    start = time.process_time()
                    found[name] = answer(size)
                    spent = (time.process_time() - start) * 1e3 / len(texts)
                    times.setdefault((name, size), []).append(spent)
        rows: list[table.Row] = []
        for name, (value, labels) in found.items():
            row: table.Row = {"corpus": data.corpus.name, "task": checkpoint.task, "way": name}
            row |= {"weights": weights, "bytes": files[name].stat().st_size, "texts": len(texts)}
            row |= {"score": f"{value:.4f}", "single_ms": f"{min(times[name, 1]):.3f}"}
            if classifies:
                equal = map(str.__eq__, labels, found["checkpoint"][1])
                row["same"] = f"{sum(equal) / len(texts):.5f}"
                row["batch_ms"] = f"{min(times[name, BATCH]):.3f}"
            rows.append(row)
    return rows


def markdown(path: Path) -> str:
    """Return the tables of the page, one for each corpus."""
    found = table.read(path)
    tables = []
    for corpus in dict.fromkeys(row["corpus"] for row in found):
        rows = [row for row in found if row["corpus"] == corpus]
        classifies = rows[0]["task"] == "classification"
        heads = ["size", "bits a character", "ms a text"]
        if classifies:
            heads = ["size", "accuracy", "same label", f"ms a text, batch of {BATCH}", "of 1"]
        title = f"{corpus}, {int(rows[0]['weights']) / 1e6:.2g} M weights"
        lines = [[title, *heads], ["---"] * (1 + len(heads))]
        for row in rows:
            cells = [NAMES[row["way"]], f"{int(row['bytes']) / 1e6:.3g} MB", row["score"]]
            if classifies:
                same = "" if row["way"] == "checkpoint" else f"{100 * float(row['same']):.4g} %"
                cells += [same, f"{float(row['batch_ms']):.3g}"]
            lines.append([*cells, f"{float(row['single_ms']):.3g}"])
        tables.append("\n".join(f"| {' | '.join(line)} |" for line in lines))
    return "\n\n".join(tables)


def main(argv: Sequence[str] | None = None) -> None:
    load = timing.load_average()
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--ckpt_path", type=Path, help="the model of seqnorm fit")
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    parser.add_argument("--csv", type=Path, metavar="PATH", default=RESULTS)
    parser.add_argument("--table", action="store_true", help="print the page's tables and end")
    options = parser.parse_args(argv)
    if options.table:
        print(markdown(options.csv))
        return
    if options.ckpt_path is None:
        parser.error("state --ckpt_path, a checkpoint of seqnorm fit")
    torch.set_num_threads(1)
    warning = timing.busy(load)
    if warning:
        print(warning)
    checkpoint = read_checkpoint(options.ckpt_path)
    where = table.environment(load)
    rows = measured(checkpoint, data_of(checkpoint), options.rounds)
    kept = table.read(options.csv) if options.csv.exists() else []
    with table.table(options.csv, COLUMNS) as write:
        for old in kept:
            if old["corpus"] != rows[0]["corpus"]:
                write(old)
        for row in rows:
            write(row | where)
    print(markdown(options.csv))


if __name__ == "__main__":
    main()
