"""Texts of any spelling survive the command line, YAML and the stored configuration."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonargparse import ArgumentParser
from jsonargparse import Namespace as Parsed
from small_runs import SMALL

from seqnorm.training.run.fit import fit_parser, plain_config
from seqnorm.training.run.options import parse
from seqnorm.training.run.task import TASKS
from seqnorm.training.run.yaml_texts import dump, load, mode

SPELLINGS = ["7795e10", "1e5", "0123", "1_000", "0x1f", "0b1", "0o17", ".inf", ".nan", "1.5", "1."]
SPELLINGS += ["12:30:45", "2026-11-29", "2001-12-14t21:59:43.10-05:00", "yes", "no", "on", "off"]
SPELLINGS += ["y", "n", "true", "False", "NULL", "~", "none", "None", "NaN", "=", "<<", "-1", "+1"]
SPELLINGS += ["a: b", "a:b", "x:", "a #b", "#x", "'q'", '"q"', "it's", "-lead", "--lead", "- x"]
SPELLINGS += ["[a]", "{a: b}", "{a}", "*x", "&a", "!t", "%x", "@x", "`x", "a, b", "|", ">", "?", ""]
SPELLINGS += [" x ", "\\", "a\tb", "a\nb", "\u00e9", "\u2028", "\U0001f600", "==UNSET==", "{}"]
Command = Callable[..., None]


def parsed(*arguments: str) -> Parsed:
    found: Parsed = parse(fit_parser(TASKS["classification"]), arguments, None)
    return found


def stored(*arguments: str) -> dict[str, Any]:
    parser = fit_parser(TASKS["classification"])
    return plain_config(parser, parse(parser, arguments, None))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_texts_survive(spelling: str, tmp_path: Path) -> None:
    options = {
        "run": ["folder", "name"],
        "data": ["corpus", "root", "text_column", "label_column"],
    }
    names = [f"{part}.{name}" for part, inner in options.items() for name in inner]
    plain = stored(*(f"--{name}={spelling}" for name in names))
    (tmp_path / "config.yaml").write_text(dump(plain), encoding="utf-8")  # as a run writes it
    for given in (dump(plain), str(tmp_path / "config.yaml")):
        again = parsed("--config", given)
        assert {name: again[name] for name in names} == dict.fromkeys(names, spelling)
    assert yaml.safe_load(dump(plain)) == plain, "by any reader of YAML"


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_what_is_dumped_is_a_text_to_every_reader(spelling: str) -> None:
    values = {"other": spelling, "name": spelling, "list": [spelling]}
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--other", type=str)
    assert parser.parse_string(dump({"other": spelling})).other == spelling
    assert load(dump(values)) == yaml.safe_load(dump(values)) == values


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_texts_need_no_quotes_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(
        "data: {language: no, label_column: 1, text_column: 0x1f, corpus: 2026}\n"
        "run: {name: 0123, folder: 2026-11-29, patience: 3}\n"
        "model: {lr: 1e-3}\n"
    )
    found = parsed("--config", str(tmp_path / "c.yaml"))
    assert [found.data[name] for name in ("language", "label_column", "text_column", "corpus")] == [
        "no",
        "1",
        "0x1f",
        "2026",
    ]
    assert [found.run.name, found.run.folder, found.run.patience] == ["0123", "2026-11-29", 3]
    assert found.model.lr == 1e-3


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("none", ["none", "None", "null"])
@pytest.mark.parametrize(
    "option",
    [
        "model.norm",
        "model.norm_options",
        "data.max_tokens",
        "data.batch_size",
        "data.test_fraction",
        "data.kind",
        "data.language",
        "data.vectors",
        "run.ema_decay",
        "run.results",
        "run.save_every_n_steps",
        "trainer.logger",
        "trainer.gradient_clip_val",
    ],
)
def test_none(option: str, none: str, tmp_path: Path) -> None:
    part, name = option.split(".")
    (tmp_path / "c.yaml").write_text(f"{part}: {{{name}: {none}}}\n")
    for arguments in (
        [f"--{option}={none}"],
        [f"--{option}", none],
        [f"--config={tmp_path}/c.yaml"],
    ):
        assert parsed(*arguments)[option] is None


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_none_among_the_options_of_a_norm() -> None:
    for form in ("--model.norm_options.eps=none", "--model.norm_options={eps: None}"):
        assert parsed(form).model.norm_options == {"eps": None}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_null_is_null_but_in_quotes() -> None:
    assert parsed("--run.name=null").run.name is None
    for name in ("null", "none"):
        assert parsed("--config", f'run: {{name: "{name}"}}').run.name == name
    assert parsed("--config", "run: {name: ~}").run.name is None


def test_the_parser_of_others_is_as_it_was() -> None:
    mode()
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--norm", type=Any)
    assert parser.parse_args(["--norm=none"]).norm == "none"


@pytest.mark.parametrize("spelling", ["7795e10", "no", "#x", "a: b", "-1", "none"])
def test_a_run_of_any_name(spelling: str, run_seqnorm: Command) -> None:
    """Train, resume and use a run whose names have this spelling."""
    header = f"id,{spelling},0\n"
    rows = "".join(
        f"{n},{'corn crop' if n % 2 else 'goal match'} w{n},{n % 2}e5\n" for n in range(30)
    )
    Path(f"{spelling}.csv").write_text(header + rows, encoding="utf-8")
    columns = (f"--data.text_column={spelling}", "--data.label_column=0")
    name = (f"--run.name={spelling}", f"--run.folder={spelling}")
    corpus = (f"--data.corpus={spelling}.csv", "--data.test_fraction=0.2")
    run_seqnorm("fit", *corpus, *columns, *name, *SMALL, "--trainer.max_epochs=1")
    run = Path(spelling) / spelling / "version_0"
    last = f"--ckpt_path={run / 'checkpoints' / 'last.ckpt'}"
    config = yaml.safe_load((run / "config.yaml").read_text("utf-8"))
    assert config["run"]["name"] == config["data"]["text_column"] == spelling
    run_seqnorm("fit", last, "--trainer.max_epochs=2")
    run_seqnorm("validate", last)
    run_seqnorm("test", last)
    Path("lines.txt").write_text("corn\n")
    run_seqnorm("predict", last, "--input=lines.txt", f"--output={spelling}.tsv")
    assert Path(f"{spelling}.tsv").read_text().split()[:4] == ["text", "label", "0e5", "1e5"]
    run_seqnorm("fit", f"--config={run / 'config.yaml'}")
    assert run.with_name("version_1").is_dir()


@pytest.mark.parametrize("none", ["none", "None", "null"])
def test_no_norm_has_one_label(none: str, corpus: Path, run_seqnorm: Command) -> None:
    run_seqnorm(
        "fit", "--data.corpus", corpus, *SMALL, "--trainer.max_epochs=1", f"--model.norm={none}",
        "--run.results=r.csv",
    )  # fmt: skip
    assert Path("r.csv").read_text().splitlines()[1].split(",")[1:3] == ["lstm", "none"]
    assert (
        yaml.safe_load(Path("runs/tiny/version_0/config.yaml").read_text())["model"]["norm"] is None
    )


@pytest.mark.parametrize(
    ("option", "message"),
    [("--run.name=", "run.name is empty"), ("--run.name=a::b", "holds '::'")],
)
def test_names_that_no_folder_can_have(
    option: str,
    message: str,
    corpus: Path,
    run_seqnorm: Command,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        run_seqnorm("fit", "--data.corpus", corpus, *SMALL, option)
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_a_folder_in_ones_home(
    corpus: Path, run_seqnorm: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shell does not expand the ~ in an option."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    run_seqnorm(
        "fit", "--data.corpus", corpus, *SMALL, "--trainer.max_epochs=1", "--run.folder=~/r"
    )
    assert (tmp_path / "home/r/tiny/version_0/config.yaml").exists()
    assert list((tmp_path / "home/r/tiny/version_0").glob("events*"))
    assert not Path("~").exists()
