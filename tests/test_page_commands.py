"""Every command line on the pages names a command, a file and options that exist."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import fields
from importlib.util import find_spec
from itertools import dropwhile
from pathlib import Path
from typing import Any

import pytest
from pages import PAGES, blocks, inline_code
from source_tree import ROOT

from seqnorm import Norm, NormScheme
from seqnorm.command.early import EarlyError, known_options, with_configs
from seqnorm.command.main import COMMANDS
from seqnorm.studies.commands import arguments as study_arguments

# Programs of others, whose own options are not checked here.
OTHERS = {"echo", "torchrun", "srun", ".", "#SBATCH", "gcc", "./denoiser"}
WITH_OPTIONS = ("fit", "sweep", "validate", "test", "predict", "export")
FIELDS = {field.name for of in (Norm, NormScheme) for field in fields(of)}  # of norm_options
EXTRAS = re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)


def commands(block: str) -> Iterator[list[str]]:
    """Yield the words of each command in a block, split at pipes and at &&."""
    for line in block.replace("\\\n", " ").splitlines():
        words = [] if line.startswith("#") else shlex.split(line, comments=True)
        part: list[str] = []
        for word in [*words, "&&"]:
            if word in ("&&", "|"):
                if part:
                    yield part
                part = []
            else:
                part.append(word)


def lines() -> Iterator[Any]:
    """Yield every command of every page, also those within sentences."""
    for page in PAGES:
        texts = blocks(page, "sh")
        texts += [code for code in inline_code(page) if re.match(r"(seqnorm|python) [\w-]", code)]
        for text in texts:
            for words in commands(text):
                yield pytest.param(words, id=f"{page.stem}: {' '.join(words)}"[:90])


def check_options(command: str, words: list[str]) -> None:
    """Check the options of fit, validate, test or predict, and the configurations they name."""
    # It raises for a configuration that does not exist; those in runs/ are written by a run.
    with_configs(["base" if word.startswith("runs/") else word for word in words])
    known = known_options(command)
    for word in words:
        name = word.partition("=")[0]
        if not name.startswith("--"):
            continue
        group, *rest = name.removeprefix("--").removesuffix("+").split(".")
        assert ".".join([group, *rest[:1]]) in known, f"{command} has no option {name}"
        if rest[:1] == ["norm_options"]:
            assert rest[1] in FIELDS, f"norm_options has no field {rest[1]}"
        module, _, attribute = word.partition("=")[2].rpartition(".")
        if name == "--trainer.callbacks+" and module:
            assert hasattr(__import__(module, fromlist=[attribute]), attribute)


def check_seqnorm(words: list[str]) -> None:
    command, *rest = words
    assert command in COMMANDS or command in ("--help", "--version"), command
    if command == "study":
        if rest != ["NAME"]:
            study_arguments(rest, "seqnorm study")
    elif command in WITH_OPTIONS:
        check_options(command, rest)


def check_python(words: list[str]) -> None:
    first, *rest = words
    if first == "-m":
        module, *rest = rest
        assert find_spec(module) is not None, module
        if module == "seqnorm":
            check_seqnorm(rest)
        elif module.startswith("seqnorm.training.results"):
            spec = find_spec(module)
            assert spec is not None
            assert spec.origin is not None
            check_script(Path(spec.origin), rest)
        return
    if first == "train.py":
        check_seqnorm(rest)
    elif first != "-c":
        check_script(ROOT / first, rest)


def check_script(path: Path, words: list[str]) -> None:
    """Check that a program exists, its source has the options, and the files it is given exist."""
    source = path.read_text(encoding="utf-8")
    for word in words:
        if word.startswith("--"):
            assert f'"{word}"' in source, f"{path} has no option {word}"
        elif word.endswith(".csv"):
            assert (ROOT / word).is_file(), word


@pytest.mark.parametrize("words", list(lines()))
def test_the_command_exists(words: list[str]) -> None:
    program, *rest = dropwhile(lambda word: re.match(r"[A-Z_]+=", word), words)
    if program in ("torchrun", "srun") and "seqnorm" in rest:
        rest = rest[rest.index("seqnorm") :]
        program, *rest = rest
    if program == "seqnorm":
        check_seqnorm(rest)
    elif program == "python" and rest:
        check_python(rest)
    elif program == "pip":
        for extras in re.findall(r"\[([\w,]+)\]", " ".join(rest)):
            assert set(extras.split(",")) <= set(EXTRAS)
    elif program == "python3":
        assert rest[:2] == ["-m", "venv"]
    elif program.startswith(".ci/"):
        assert (ROOT / program).is_file()
    else:
        assert program in OTHERS, words


def options() -> Iterator[Any]:
    for page in PAGES:
        for code in inline_code(page):
            if re.match(r"--\w", code):
                yield pytest.param(code, id=f"{page.stem}: {code}"[:60])


# Options of programs other than the command, by which a page explains the program beside them.
OF_PROGRAMS = "\n".join(
    path.read_text(encoding="utf-8")
    for folder in ("benchmarks", "seqnorm/studies", "tests/support")
    for path in (ROOT / folder).glob("*.py")
)


@pytest.mark.parametrize("code", list(options()))
def test_an_option_within_a_sentence_exists(code: str) -> None:
    for name in re.findall(r"--[\w.]+\+?", code):
        if f'"{name}"' in OF_PROGRAMS:
            continue
        for command in WITH_OPTIONS:
            try:
                check_options(command, shlex.split(code))
            except AssertionError:
                continue
            break
        else:
            raise AssertionError(f"no command has {code}")


@pytest.mark.parametrize(
    "line",
    [
        "seqnorm fti",
        "seqnorm fit --model.nrom batch",
        "seqnorm fit --config nrom/batch",
        "seqnorm fit --model.norm_options.gian 1",
        "seqnorm study small_batches",
        "python benchmarks/no.py",
        "python benchmarks/cpu.py --quicker",
        "python -m seqnorm.no",
        "fetch all",
    ],
)
def test_a_mistake_is_found(line: str) -> None:
    with pytest.raises((AssertionError, SystemExit, EarlyError, OSError)):
        test_the_command_exists(shlex.split(line))
