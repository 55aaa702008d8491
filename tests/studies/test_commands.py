"""The command line of the studies and their configuration files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from toy_study import Toy

from seqnorm.files import CONFIGS
from seqnorm.studies import commands
from seqnorm.studies.configuration import keep_beside, load
from seqnorm.studies.registry import STUDIES
from seqnorm.studies.runner import StudyError

CONFIG = """
seeds: 2
rates: [0.1, 1.0]
quick:
  seeds: 1
"""
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(STUDIES, "toy", Toy)
    path = tmp_path / "toy.yaml"
    path.write_text(CONFIG)
    return path


def run(*arguments: str) -> int | None:
    with pytest.raises(SystemExit) as exit:
        commands.main(arguments)
    code = exit.value.code
    assert code is None or isinstance(code, int)
    return code


def test_a_study_runs_draws_and_prints(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "results"
    arguments = ("toy", "--config", str(config), "--results", str(results), "--processes", "1")
    assert run(*arguments) == 0
    printed = capsys.readouterr().out
    assert "toy run/layer/0.1/1: 0 s" in printed
    assert "A limitation. Is it one?" in printed
    assert "error, BatchNorm minus LayerNorm: +20 points (95 % +20 to +20, 2 seeds)" in printed
    assert printed.endswith("It is one, by 20 points.\n")
    assert (results / "toy_errors.png").read_bytes().startswith(b"\x89PNG")
    assert yaml.safe_load((results / "toy.yaml").read_text())["rates"] == [0.1, 1.0]
    assert run(*arguments, "--again", "--only", "seed=1", "--only", "norm=batch") == 0
    assert "0.308576 then, 0.308576 now" in capsys.readouterr().out
    assert run(*arguments, "--draw") == 0
    assert "toy run/" not in capsys.readouterr().out


def test_another_configuration_is_not_compared_with(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ("toy", "--config", str(config), "--processes", "1", "--results", str(tmp_path / "r"))
    assert run(*common) == 0
    config.write_text(CONFIG.replace("0.1, 1.0", "0.1"))
    capsys.readouterr()
    for arguments in ([], ["--again"], ["--draw"]):
        assert run(*common, *arguments) == 1
        assert "r/toy.csv was made with another configuration" in capsys.readouterr().err


def test_drawing_leaves_the_configuration_as_it_was(config: Path, tmp_path: Path) -> None:
    arguments = ("toy", "--config", str(config), "--processes", "1", "--results", str(tmp_path))
    assert run(*arguments) == 0
    before = (tmp_path / "toy.yaml").read_bytes()
    assert run(*arguments, "--quick", "--draw") == 0
    assert (tmp_path / "toy.yaml").read_bytes() == before


def test_quick_is_the_file_with_its_changes(config: Path) -> None:
    assert load(Toy, config=config) == Toy(2, [0.1, 1.0])
    assert load(Toy, quick=True, config=config) == Toy(1, [0.1, 1.0])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seeds: 2\nrates: [0.1]\nseed: 3\n", "seed"),
        ("seeds: two\nrates: [0.1]\n", "seeds"),
        ("rates: [0.1]\n", "seeds"),
        ("- 1\n", "must map the fields"),
        ("a: [\n", "is not YAML"),
    ],
)
def test_a_wrong_configuration_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "toy.yaml"
    path.write_text(text)
    with pytest.raises(StudyError, match=message) as caught:
        load(Toy, config=path)
    assert "toy.yaml" in str(caught.value)


def test_a_missing_configuration_is_named(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"toy.yaml: there is no such configuration"):
        load(Toy, config=tmp_path / "toy.yaml")


def test_runs_of_two_configurations_do_not_mix(tmp_path: Path) -> None:
    keep_beside(Toy(2, [0.1]), tmp_path)
    (tmp_path / "toy.csv").write_text("run\n")
    keep_beside(Toy(5, [0.1]), tmp_path)
    with pytest.raises(StudyError, match=r"rates was \[0.1\] and is \[0.1, 1.0\]"):
        keep_beside(Toy(5, [0.1, 1.0]), tmp_path)
    assert yaml.safe_load((tmp_path / "toy.yaml").read_text())["rates"] == [0.1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["toy", "--only", "seed"], "write FACTOR=VALUE"),
        (["toy", "--engine", "slurm"], "--engine"),
        (["toy", "--processes", "0"], "at least 1"),
        (["toi"], "invalid choice"),
        (["all", "--config", "x.yaml"], "--config belongs to one study"),
    ],
)
def test_a_wrong_command_line_is_refused(
    config: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments) == 2
    assert message in capsys.readouterr().err


def test_errors_are_one_line(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ("toy", "--config", str(config), "--results", str(tmp_path / "none"))
    assert run(*common, "--draw") == 1
    assert run(*common, "--only", "nrom=batch") == 1
    errors = capsys.readouterr().err
    assert "has no runs yet" in errors
    assert "the factors of toy are stage, norm, rate, seed" in errors


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_has_a_configuration(name: str) -> None:
    kind = STUDIES[name]
    assert kind.name == name
    assert "seed" in kind.factors
    assert load(kind) != load(kind, quick=True)
    content = yaml.safe_load((CONFIGS / "studies" / f"{name}.yaml").read_text())
    assert set(content["quick"]) < set(content)


@pytest.mark.parametrize("program", [["train.py", "study"], ["-m", "seqnorm", "study"]])
def test_every_program_has_help(program: list[str]) -> None:
    command = [sys.executable, *program, "--help"]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "--quick" in answer.stdout
