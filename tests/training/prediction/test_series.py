"""Predictions for series: the columns of the training are found, and the output is checked."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pyarrow
import pytest
import torch
from pyarrow import parquet
from small_series import arrays, make, table, write_long

from seqnorm.command.main import main
from seqnorm.datasets import DatasetError, Scaling
from seqnorm.training import SeriesClassification
from seqnorm.training.checkpoints.checkpoint_file import (
    AtomicCheckpointIO,
    Checkpoint,
    read_checkpoint,
)
from seqnorm.training.prediction.series import predict

SERIES = make(5)


def trained(folder: Path, classes: tuple[str, ...] = ("down", "up"), **data: object) -> Checkpoint:
    """Return the checkpoint of a model whose data had these options."""
    torch.manual_seed(0)
    features = Scaling.none(("x", "y")).to_json()
    model = SeriesClassification(features, classes, hidden_size=4)
    stored = {
        "state_dict": model.state_dict(),
        "hyper_parameters": dict(model.hparams),
        "datamodule_hyper_parameters": data,
    }
    AtomicCheckpointIO().save_checkpoint(stored, folder / "a.ckpt")
    return read_checkpoint(folder / "a.ckpt")


def predicted(checkpoint: Checkpoint, file: Path, **options: object) -> list[list[str]]:
    """Return the rows of the output behind its header."""
    output = file.with_name("out.csv")
    predict(checkpoint, str(file), str(output), **options)  # type: ignore[arg-type]  # any option
    with output.open(newline="", encoding="utf-8") as lines:
        return list(csv.reader(lines))[1:]


def renamed(file: Path, delimiter: str = ",", **names: str) -> Path:
    """Write the series as a long table with other names of columns."""
    write_long(file, SERIES, delimiter)
    header, _, rest = file.read_text("utf-8").partition("\n")
    header = delimiter.join(names.get(name, name) for name in header.strip().split(delimiter))
    file.write_text(f"{header}\n{rest}", "utf-8")
    return file


def test_the_columns_of_the_training(tmp_path: Path) -> None:
    usual = renamed(tmp_path / "usual.csv")
    expected = predicted(trained(tmp_path), usual)
    assert [row[0] for row in expected] == list(SERIES)
    checkpoint = trained(tmp_path, id_column="patient", time_column="hour")
    assert predicted(checkpoint, usual) == expected, "a file without them is guessed"
    file = renamed(tmp_path / "a.csv", id="patient", time="hour")
    assert predicted(checkpoint, file) == expected
    file = renamed(tmp_path / "b.csv", id="patient", time="hour", slope="id", steps="time")
    assert predicted(checkpoint, file) == expected, "before a guess"
    with pytest.raises(DatasetError, match="not clear which is the id among"):
        predicted(trained(tmp_path), renamed(tmp_path / "a.csv", id="patient", time="hour"))
    file = renamed(tmp_path / "a.csv", id="who", time="when")
    assert predicted(checkpoint, file, id_column="who", time_column="when") == expected
    with pytest.raises(DatasetError, match="not clear which is the id among 'who', 'when'"):
        predicted(checkpoint, file)


def test_hints_name_the_options_of_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = renamed(tmp_path / "a.csv", id="who")
    path = trained(tmp_path).path
    with pytest.raises(SystemExit):
        main(["predict", f"--ckpt_path={path}", str(file)])
    shown = capsys.readouterr().err
    assert "name it with id_column (--id_column)" in shown
    with pytest.raises(SystemExit):
        main(["fit", "--task=series_classification", str(file)])
    assert "name it with id_column (--data.id_column)" in capsys.readouterr().err
    main(["predict", f"--ckpt_path={path}", str(file), "--id_column=who", "-o", "/dev/null"])


def test_the_ids_of_other_files(tmp_path: Path) -> None:
    checkpoint = trained(tmp_path, id_column="patient", time_column="hour")
    expected = predicted(checkpoint, renamed(tmp_path / "a.csv"))
    ids = {"ids": "patient"}
    found = {ids.get(name, name): each for name, each in arrays(SERIES, "padded").items()}
    np.savez(tmp_path / "a.npz", **found)
    assert predicted(checkpoint, tmp_path / "a.npz") == expected
    of_lists = table(SERIES)
    names = ["patient", *of_lists.column_names[1:]]
    parquet.write_table(of_lists.rename_columns(names), tmp_path / "a.parquet")
    assert predicted(checkpoint, tmp_path / "a.parquet") == expected


def test_the_delimiter_of_the_training(tmp_path: Path) -> None:
    expected = predicted(trained(tmp_path), renamed(tmp_path / "usual.csv"))
    checkpoint = trained(tmp_path, corpus="old/train.csv", delimiter="~")
    file = renamed(tmp_path / "a.csv", "~")
    assert predicted(checkpoint, file) == expected
    with pytest.raises(DatasetError, match="not clear which is the id"):
        predicted(trained(tmp_path, corpus="old/train.tsv", delimiter="~"), file)
    tabs = renamed(tmp_path / "a.tsv", "\t")
    assert predicted(checkpoint, tabs) == expected, "for another ending, that of the header"
    assert predicted(checkpoint, renamed(tmp_path / "a.csv"), delimiter="comma") == expected


@pytest.mark.parametrize("name", ["out.parquet", "out.tsv", "out.json", "out.XLSX", "out.txt"])
def test_other_endings_are_refused(name: str, tmp_path: Path) -> None:
    checkpoint, output = trained(tmp_path), tmp_path / name
    file = str(renamed(tmp_path / "a.csv"))
    with pytest.raises(ValueError, match=rf"{name}: series are written as \.csv or \.jsonl"):
        predict(checkpoint, file, str(output))
    assert not output.exists()
    predict(checkpoint, file, str(output), format="csv")
    predict(checkpoint, file, str(tmp_path / "plain"))
    assert output.read_bytes() == (tmp_path / "plain").read_bytes()
    assert output.read_bytes().startswith(b"id,label,down,up\ns0,")


def test_carriage_returns_are_quoted(tmp_path: Path) -> None:
    ids = ["a\rb", 'c"d', "e,f", "g\nh", "i"]
    columns = {"id": ids, "x": [[1.0]] * 5, "y": [[2.0]] * 5}
    parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet")
    rows = predicted(trained(tmp_path, ("u", "v")), tmp_path / "a.parquet")
    assert [row[0] for row in rows] == ids
    content = (tmp_path / "out.csv").read_bytes()
    assert content.startswith(b'id,label,u,v\n"a\rb",')
    assert b"\r\n" not in content
    assert b"\ni," in content
