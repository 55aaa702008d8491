"""The command ``seqnorm`` before a command is imported: its list, mistakes, and configurations."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from source_tree import ROOT

import seqnorm
from seqnorm.command import early
from seqnorm.command.main import COMMANDS, main
from seqnorm.datasets import LANGUAGE_CORPORA, SERIES_CORPORA, huggingface, torchtext_corpora
from seqnorm.files import config_names, find_config, space_names
from seqnorm.training.export.formats import export
from seqnorm.training.run.fit import fit_parser
from seqnorm.training.run.options import command_parser
from seqnorm.training.run.task import TASKS
from seqnorm.training.run.trainer import add_trainer
from seqnorm.training.search.sweep import sweep_parser


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return the error message of a command line that is refused."""
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    return line.removeprefix("error: ")


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",)])
def test_the_list_of_commands(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    assert shown.startswith("usage: seqnorm ")
    for name in COMMANDS:
        assert re.search(rf"^ +{name} +\w", shown, re.MULTILINE)


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"seqnorm {seqnorm.__version__}\n"


MISTAKES = {
    ("fti",): "'fti' is not a command (did you mean fit?); the commands are fit, sweep, validate",
    ("xyz",): "'xyz' is not a command; the commands are fit, sweep, validate",
    ("fit", "--data.corpuss", "r8"): "no option --data.corpuss (did you mean --data.corpus?)",
    ("fit", "--data.corpuss=r8"): "no option --data.corpuss (did you mean --data.corpus?)",
    ("fit", "--dta.corpus=r8"): "no option --dta.corpus (did you mean --data.corpus?)",
    ("fit", "--model.nrom=layer"): "no option --model.nrom (did you mean --model.norm?)",
    ("fit", "--trainer.max_epoch=3"): "--trainer.max_epoch (did you mean --trainer.max_epochs?)",
    ("fit", "--seed=3", "--confg=x"): "no option --confg (did you mean --config?)",
    ("test", "--ckptpath=x"): "seqnorm test has no option --ckptpath (did you mean --ckpt_path?)",
    ("predict", "--ouput=x"): "seqnorm predict has no option --ouput (did you mean --output?)",
    ("fit", "--config", "norm/bacth"): "--config norm/bacth: there is no such file or shipped "
    "configuration (did you mean norm/batch?)",
    ("study", "smal_batch"): "there is no study 'smal_batch' (did you mean small_batch?)",
    ("study", "xyz"): "there is no study 'xyz'; the names are dynamic_network, image_generation, ",
    ("fit", "-c", "xyz.yaml"): "shipped configuration; the shipped ones are base, cell/gru, ",
    ("validate", "--ckpt_path", "none.ckpt"): "there is no checkpoint 'none.ckpt'",
    ("test", "--ckpt_path=bset.ckpt"): "no checkpoint 'bset.ckpt' (did you mean best.ckpt?)",
    ("predict", "--ckpt_path=best.ckpt", "--input=x.txt"): "there is no input file 'x.txt'",
    ("predict", "x.txt", "--ckpt_path=best.ckpt"): "there is no input file 'x.txt'",
    ("fit", "bset.ckpt"): "existing file or folder (did you mean best.ckpt?)",
    (
        "fit",
        "--data.corpus",
        "r9",
    ): "r9 is neither a corpus (r8, r52, 20news, imdb, mr, zh_reviews, "
    "ptb, wikitext2, text8, japanese_vowels) nor an existing file or folder",
    ("fit", "--folds_path=runs/r8/folds_0"): "runs/r8/folds_0 is not the folder of a "
    "cross-validation: give a folder of fit --folds, as runs/r8/folds_0",
    ("fit", "--fold=3"): "seqnorm fit has no option --fold (did you mean --folds?)",
    ("sweep", "--trails=3"): "seqnorm sweep has no option --trails (did you mean --trials?)",
    ("sweep", "rx.csv"): "rx.csv is neither a corpus (",
    ("sweep", "--space=langage"): "no such file or shipped space (did you mean language?)",
    ("sweep", "--space", "x.yaml"): "shipped space; the shipped ones are classification, language",
    ("sweep", "--space={model.nrom: [layer, rms]}"): "the space {model.nrom: [layer, rms]}: "
    "seqnorm sweep has no option --model.nrom (did you mean --model.norm?)",
    ("sweep", "--space=space.yaml"): "space.yaml: seqnorm sweep has no option --model.dropuot (did",
    ("sweep", "--resume=runs/swep_0"): "no sweep in the folder runs/swep_0 (did you mean sweep_0?)",
    ("sweep", "--resume", "runs"): "there is no sweep in the folder runs: give the folder that a",
    ("fit", "--config=spaces/series"): "spaces/series is a search space, not a configuration",
    ("fit", "r8", "r52"): "give one file or folder, not 2: r8, r52",
    ("test", "r8", "--data.corpus=r52"): "r8 stands for --data.corpus, which is given as well",
    (
        "predict",
        "best.ckpt",
        "-o",
        "x",
        "--data.corpus",
        "y",
    ): "best.ckpt stands for --input, which",
}


@pytest.mark.parametrize("arguments", MISTAKES, ids=" ".join)
def test_mistakes(
    arguments: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("best.ckpt").touch()
    Path("space.yaml").write_text("model:\n  dropuot: {low: 0, high: 1}\n")
    Path("runs/sweep_0").mkdir(parents=True)
    assert MISTAKES[arguments] in refused(capsys, *arguments)


def test_a_file_without_an_option() -> None:
    for command, words, expected in (
        ("fit", ["a.csv"], ["--data.corpus=a.csv"]),
        ("fit", ["--x", "y", "a.csv", "--z=1"], ["--x", "y", "--data.corpus=a.csv", "--z=1"]),
        ("fit", ["-c", "base", "-cbase", "r8"], ["-c", "base", "-cbase", "--data.corpus=r8"]),
        ("test", ["--model.lr", "-1", "r8"], ["--model.lr", "-1", "--data.corpus=r8"]),
        ("fit", ["--print_config", "r8"], ["--print_config", "--data.corpus=r8"]),
        ("fit", ["--x", "y", "--", "z"], ["--x", "y", "--", "z"]),
        ("fit", ["--x"], ["--x"]),
        ("predict", ["-", "-o", "b.csv"], ["--input=-", "--output", "b.csv"]),
        ("predict", ["a b.csv", "-o=b"], ["--input=a b.csv", "--output=b"]),
        ("predict", ["--data.text_column", "x"], ["--text_column", "x"]),
        ("study", ["run", "x"], ["run", "x"]),
    ):
        assert early.with_input(command, words) == expected


def test_the_corpora_are_those_of_the_library() -> None:
    assert (*LANGUAGE_CORPORA, *SERIES_CORPORA) == early.CORPORA
    assert {huggingface.PREFIX, torchtext_corpora.PREFIX} == set(early.LIBRARIES)


def test_options_that_may_be_right_are_left_to_the_parser() -> None:
    for words in (
        ["--model.norm_options.gain=1", "--trainer.callbacks+=x", "--trainer.callbacks.patience=3"],
        ["--something.else=1", "--trainer.an_option_of_another_version=1", "--", "--data.corpuss"],
        ["-c", "base", "-cbase", "--data=data.yaml", "--model.help", "--print_config"],
    ):
        early.check_options("fit", words)


@pytest.mark.parametrize("command", ["fit", "sweep", "test", "predict", "export"])
def test_the_known_options_are_those_of_the_parsers(command: str) -> None:
    found = set()
    for task in TASKS.values():
        if command == "fit":
            parser = fit_parser(task)
        elif command == "sweep":
            parser = sweep_parser(task)
        elif command == "test":
            parser = command_parser("test", "")
            add_trainer(parser)
            parser.add_class_arguments(task.data, "data")
            parser.add_argument("--ckpt_path")
        elif command == "export":
            parser = command_parser("export", "")
            parser.add_function_arguments(export, skip={"checkpoint"})
            parser.add_argument("--ckpt_path")
        else:
            parser = command_parser("predict", "")
            parser.add_argument("--onnx")
            parser.add_function_arguments(task.predict, skip={"checkpoint"})
            parser.add_argument("--ckpt_path")
        names = [name for action in parser._actions for name in action.option_strings]
        found |= {name.removeprefix("--") for name in names if name.startswith("--")}
    short = {".".join(name.split(".")[:2]) for name in found}
    of_data = {
        "model.tokenizer",
        "model.classes",
        "model.class_counts",
        "model.ends",
        "data.seed",
        "model.pad_id",
        "model.unk_id",
        "model.features",
        "model.targets",
        "model.num_features",
        "model.num_outputs",
    }
    known = early.known_options(command)
    missing = {name for name in short if not name.endswith("+")} - known
    assert not missing
    beyond = known - short - of_data - {"model.vocab_size", "model.num_classes", "print_config"}
    assert not {name for name in beyond if not name.endswith(".help")}, beyond


def test_missing_modules_are_named_before_anything_is_imported(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "lightning", None)
    monkeypatch.setitem(sys.modules, "rich", None)
    assert refused(capsys, "fit") == (
        "seqnorm fit needs the modules lightning, rich, which are not installed: "
        "pip install 'seqnorm[train]'"
    )
    main(["info"])  # needs none of them
    monkeypatch.setitem(sys.modules, "optuna", None)
    monkeypatch.delitem(sys.modules, "lightning")
    monkeypatch.delitem(sys.modules, "rich")
    assert refused(capsys, "sweep") == (
        "seqnorm sweep needs the module optuna, which is not installed: "
        "pip install 'seqnorm[train,sweep]'"
    )


def test_configurations_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = config_names()
    assert {"base", "norm/batch", "language/ptb"} <= set(names)
    shipped = {path.relative_to(ROOT / "configs") for path in (ROOT / "configs").rglob("*.yaml")}
    assert {Path(f"{name}.yaml") for name in names} == {
        path for path in shipped if path.parts[0] not in ("studies", "spaces")
    }
    assert {Path("spaces", f"{name}.yaml") for name in space_names()} == {
        path for path in shipped if path.parts[0] == "spaces"
    }
    path = str(find_config("norm/batch"))
    assert Path(path) == ROOT / "configs" / "norm" / "batch.yaml"
    for word in ("norm/batch", "norm/batch.yaml", "configs/norm/batch.yaml"):
        assert early.with_configs(["--config", word, "-c", word]) == ["--config", path, "-c", path]
        assert early.with_configs([f"--config={word}"]) == [f"--config={path}"]
        assert early.with_configs([f"-c{word}"]) == [f"--config={path}"]
    inline = ["--config", "{model: {norm: rms}}"]
    assert early.with_configs(inline) == inline
    Path("base.yaml").write_text("model: {norm: rms}\n")
    assert early.with_configs(["--config=base.yaml"]) == ["--config=base.yaml"]


def test_info(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    main(["info"])
    shown = capsys.readouterr().out
    assert f"seqnorm {seqnorm.__version__}  " in shown
    for backend in seqnorm.available_backends():
        assert re.search(rf"^  {backend} +(active|absent)", shown, re.MULTILINE)
    assert "lightning 2" in shown
    assert "missing:" not in shown
    from seqnorm.command import info

    monkeypatch.setattr(info, "TRAIN", ("lightning", "no_such_package"))
    main(["info"])
    assert "missing: no_such_package. Install them: pip install" in capsys.readouterr().out


def test_values_are_not_taken_for_options() -> None:
    with_input = early.with_input
    assert with_input("fit", ["x.csv", "--find_lr", "--seed_everything", "1"]) == [
        *("--data.corpus=x.csv", "--find_lr=true", "--seed_everything", "1")
    ]
    assert with_input("fit", ["--find_lr", "false", "x.csv"]) == [
        *("--find_lr", "false", "--data.corpus=x.csv")
    ]
    assert with_input("predict", ["x.csv", "-oout.csv", "--ckpt_path", "c"]) == [
        *("--input=x.csv", "--output=out.csv", "--ckpt_path", "c")
    ]
    assert with_input("fit", ["--model.lr", "-1", "x.csv"])[-1] == "--data.corpus=x.csv"
