"""Checks of a command line that need neither torch nor the parser of the command."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from seqnorm.files import (
    CHECKPOINT,
    CONFIGS,
    SPACES,
    config_names,
    find_config,
    find_space,
    is_inline,
    options_of,
    space_names,
)

PACKAGE = Path(__file__).resolve().parents[1]
TRAINING = ("fit", "sweep", "validate", "test")
# Options that a command has beside those of the groups, the configuration and the task.
FURTHER = {
    "fit": ("seed_everything", "ckpt_path", "find_lr", "folds", "folds_path"),
    "sweep": ("seed_everything", "space", "trials", "hours", "resume"),
    "validate": ("ckpt_path",),
    "test": ("ckpt_path",),
    "predict": ("ckpt_path", "onnx"),
    "export": ("ckpt_path",),
}
# The classes whose arguments are options, by the group of the options and the file.
GROUPS = {
    "model": (
        ("training/tasks/classification.py", "TextClassification"),
        ("training/tasks/language.py", "LanguageModelling"),
        ("training/tasks/series.py", "SeriesClassification"),
        ("training/tasks/series.py", "SeriesRegression"),
        ("models/classifier.py", "TextClassifier"),
        ("models/language_model.py", "LanguageModel"),
        ("models/series_classifier.py", "SeriesClassifier"),
    ),
    "data": (
        ("training/data/base.py", "TextDataModule"),
        ("training/data/classification.py", "TextData"),
        ("training/data/language.py", "LanguageData"),
        ("training/data/series.py", "SeriesData"),
        ("training/data/series.py", "SeriesTargetData"),
    ),
    "run": tuple(
        ("training/run/run_folder.py", name) for name in ("Run", "LanguageRun", "RegressionRun")
    ),
}
# The functions whose arguments are options, by command.
FUNCTIONS = {
    "predict": tuple(
        (f"training/prediction/{file}.py", "predict")
        for file in ("classification", "language", "series")
    ),
    "export": (("training/export/formats.py", "export"),),
}
# The corpora by name, which are known here without an import.
CORPORA = (
    *("r8", "r52", "20news", "imdb", "mr", "zh_reviews", "ptb", "wikitext2", "text8"),
    "japanese_vowels",
)
LIBRARIES = ("torchtext:", "hf:")
# The option that a file or folder without an option stands for.
POSITIONAL = {
    **dict.fromkeys(TRAINING, "--data.corpus"),
    "predict": "--input",
    "export": "--ckpt_path",
}
# Options that stand for --option true without a value.
SWITCHES = ("--find_lr", "--step", "--int8")
# Options without a value.
FLAGS = ("-h", "--help", "--print_config")
# Other names of the options of prediction: those of training, and a short one.
OTHER_NAMES = {
    "--data.corpus": "--input",
    "--data.text_column": "--text_column",
    "--data.delimiter": "--delimiter",
    "--data.quotes": "--quotes",
    "--data.id_column": "--id_column",
    "--data.time_column": "--time_column",
    "--data.feature_columns": "--feature_columns",
    "-o": "--output",
}
FOLDS = "runs/r8/folds_0"


class EarlyError(Exception):
    """A mistake on the command line, with what to write instead."""


def nearest(word: str, known: Iterable[str], dashes: str = "") -> str:
    """Return " (did you mean x?)" for the known word that is most like the given one, or ""."""
    near = difflib.get_close_matches(word, list(known), 1, 0.65)
    return f" (did you mean {dashes}{near[0]}?)" if near else ""


def named(arguments: Sequence[str]) -> Iterator[tuple[int, str, str | None]]:
    """Yield the place, the name and the value of each option; None for a value that is missing.

    ``-c`` is named ``--config``.
    """
    for place, argument in enumerate(arguments):
        if argument == "--":
            return
        name, equals, value = argument.partition("=")
        if argument.startswith("-c"):
            name, equals, value = "--config", argument[2:], argument[2:].removeprefix("=")
        if name.startswith("--"):
            after = arguments[place + 1 : place + 2]
            yield place, name, value if equals else after[0] if after else None


def with_input(command: str, arguments: Sequence[str]) -> list[str]:
    """Write a file, folder or corpus that is given without an option behind its option.

    ``seqnorm fit reviews.csv`` becomes ``seqnorm fit --data.corpus=reviews.csv``, and
    ``seqnorm predict new.csv -o out.csv`` becomes ``seqnorm predict --input=new.csv --output
    out.csv``.

    Raises:
        EarlyError: there are several, or one that an option names too.
    """
    option = POSITIONAL.get(command)
    if option is None:
        return list(arguments)
    found: list[str] = []
    alone: list[str] = []
    options: set[str] = set()
    words = list(arguments)
    while words:
        word = words.pop(0)
        name, equals, value = word.partition("=")
        if command == "predict" and name in OTHER_NAMES:
            name = OTHER_NAMES[name]
            word = f"{name}{equals}{value}"
        elif command == "predict" and word.startswith("-o"):
            name, equals = "--output", "="
            word = f"--output={word[2:].removeprefix('=')}"
        elif word in SWITCHES and words[:1] not in (["true"], ["false"]):
            word, equals = f"{word}=true", "="
        if word == "--":
            found += [word, *words]
            break
        if word.startswith("-") and word != "-":
            options.add(name)
            found.append(word)
            short = word.startswith("-c") and len(word) > 2
            complete = equals or short or word in FLAGS or word.endswith(".help")
            if not complete and words and not words[0].startswith("--"):
                found.append(words.pop(0))
        else:
            alone.append(word)
            found.append(f"{option}={word}")
    if len(alone) > 1:
        raise EarlyError(f"give one file or folder, not {len(alone)}: {', '.join(alone)}")
    if alone and option in options:
        raise EarlyError(
            f"{alone[0]} stands for {option}, which is given as well: give one of them"
        )
    return found


def with_configs(arguments: Sequence[str]) -> list[str]:
    """Replace the names of shipped configurations by their paths.

    ``--config norm/batch`` and ``--config configs/norm/batch.yaml`` find the file that is shipped
    with the library, unless there is a file of that name in the current folder.

    Raises:
        EarlyError: there is neither a file nor a shipped configuration of the name.
    """
    found = list(arguments)
    for place, name, value in named(arguments):
        if name != "--config" or not value or is_inline(value):
            continue  # a configuration may also be given as text
        path = find_config(value)
        if path is not None and path.resolve().parent == SPACES.resolve():
            raise EarlyError(
                f"{value} is a search space, not a configuration: it is for seqnorm sweep --space "
                f"{path.stem}"
            )
        if path is None and Path(value).exists():
            continue  # the parser says that it is no file
        if path is None:
            known = config_names()
            short = value.removeprefix("configs/").removesuffix(".yaml")
            hint = nearest(short, known) or f"; the shipped ones are {', '.join(known)}"
            raise EarlyError(
                f"--config {value}: there is no such file or shipped configuration{hint}"
            )
        apart = arguments[place] in ("-c", "--config")
        found[place + apart] = str(path) if apart else f"--config={path}"
    return found


def check_files(command: str, arguments: Sequence[str]) -> None:
    """Check that the checkpoint, the corpus, the input and the folds that are named exist.

    Raises:
        EarlyError: a file does not exist.
    """
    for _, name, value in named(arguments):
        if name == "--data.corpus" and command in TRAINING:
            _check_corpus(value)
        is_input = name == "--input" and command == "predict"
        is_onnx = name == "--onnx" and command == "predict"
        if name == "--resume" and command == "sweep":
            _check_sweep(value or "")
        is_file = name == "--ckpt_path" or is_input or is_onnx
        if is_file and value not in (None, "", "-", "null", "none"):
            assert value is not None
            path = Path(value).expanduser()
            if not path.exists():
                beside = path.parent.iterdir() if path.parent.is_dir() else ()
                hint = nearest(path.name, (each.name for each in beside))
                kind = "input file" if is_input else "ONNX file" if is_onnx else "checkpoint"
                if not hint and name == "--ckpt_path":
                    hint = ": give the path of a .ckpt file, as " + CHECKPOINT
                raise EarlyError(f"there is no {kind} {value!r}{hint}")
        if name == "--folds_path" and value is not None:
            _check_folds(value)


def _check_folds(value: str) -> None:
    path = Path(value).expanduser()
    if not (path / "cross_validation.json").is_file():
        beside = path.parent.glob("folds_*") if path.parent.is_dir() else ()
        hint = nearest(path.name, (each.name for each in beside))
        raise EarlyError(
            f"{value} is not the folder of a cross-validation"
            + (hint or f": give a folder of fit --folds, as {FOLDS}")
        )


def _check_corpus(value: str | None) -> None:
    if value is None or value in ("", "null", *CORPORA) or value.startswith(LIBRARIES):
        return
    path = Path(value)
    if not path.exists():
        beside = [each.name for each in path.parent.iterdir()] if path.parent.is_dir() else []
        hint = nearest(path.name, beside) or nearest(value, CORPORA)
        raise EarlyError(
            f"{value} is neither a corpus ({', '.join(CORPORA)}) nor an existing file or folder"
            f"{hint}"
        )


def _check_sweep(value: str) -> None:
    path = Path(value).expanduser()
    if not (path / "sweep.yaml").is_file():
        beside = path.parent.glob("sweep_*") if path.parent.is_dir() else ()
        hint = nearest(path.name, (each.name for each in beside))
        hint = hint or ": give the folder that a sweep named, as runs/r8/sweep_0"
        raise EarlyError(f"there is no sweep in the folder {value}{hint}")


def check_space(arguments: Sequence[str]) -> None:
    """Find a search space that does not exist, and misspelt options in one.

    Raises:
        EarlyError: there is neither a file nor a shipped space of the name, or an option of it does
            not exist, and a similar one does.
    """
    for _, name, value in named(arguments):
        if name != "--space" or not value:
            continue
        text = value
        if not is_inline(value):
            path = find_space(value)
            if path is None:
                known = space_names()
                hint = nearest(value, known) or f"; the shipped ones are {', '.join(known)}"
                raise EarlyError(f"the space {value}: there is no such file or shipped space{hint}")
            if path.stat().st_size > 2**20:
                continue  # the command refuses it
            text = path.read_text(encoding="utf-8", errors="replace")
        _check_names(value, text)


def _check_names(space: str, text: str) -> None:
    import yaml  # one of the modules that the command needs; no other check does

    if "&" in text:  # aliases may stand for more values than memory holds; the command counts them
        return
    try:
        found = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError):
        return  # the command describes the error
    for option, _ in options_of(found) if isinstance(found, Mapping) else ():
        try:
            check_options("sweep", [f"--{option}"])
        except EarlyError as error:
            raise EarlyError(f"the space {space}: {error}") from None


def check_options(command: str, arguments: Sequence[str]) -> None:
    """Find misspelt options.

    Names that are like no known one are left to the parser of the command, because libraries of
    other versions may have further options.

    Raises:
        EarlyError: an option does not exist, and a similar one does.
    """
    known = known_options(command)
    if not known:
        return
    for _, name, _ in named(arguments):
        head, *rest = name.removeprefix("--").removesuffix("+").split(".")
        short = ".".join([head, *rest[:1]])
        if head in known and (short in known or not rest or not _has_members(head, known)):
            continue
        hint = nearest(short, known, "--")
        if hint:
            raise EarlyError(f"seqnorm {command} has no option {name}{hint}")


def _has_members(head: str, known: set[str]) -> bool:
    return any(name.startswith(f"{head}.") for name in known)


def known_options(command: str) -> set[str]:
    """Return the names of a command's options, without their dashes; none for other commands.

    Options of nested arguments, as ``model.norm_options.gain``, are not included.
    """
    known = {"help", "config", "task", "print_config", *FURTHER.get(command, ())}
    if command in FUNCTIONS:
        functions = FUNCTIONS[command]
        return known.union(*(_arguments(PACKAGE / file, name) for file, name in functions))
    if command not in TRAINING:
        return set()
    groups = dict(GROUPS)
    if command not in ("fit", "sweep"):
        groups = {"data": GROUPS["data"]}
    for group, classes in groups.items():
        known |= {group, f"{group}.help"}
        for file, name in classes:
            known |= {f"{group}.{argument}" for argument in _arguments(PACKAGE / file, name)}
    found = find_spec("lightning")
    for folder in [] if found is None else found.submodule_search_locations or []:
        trainer = _arguments(Path(folder) / "pytorch" / "trainer" / "trainer.py", "Trainer")
        known |= {"trainer", "trainer.help"} | {f"trainer.{argument}" for argument in trainer}
    return known


def _arguments(path: Path, name: str) -> set[str]:
    """Return the names of the arguments of a function, or of a class, in a file that is not run."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError):  # another version of a library; its parser knows
        return set()
    found: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            for base in node.bases:
                if isinstance(base, ast.Name):
                    found |= _arguments(path, base.id)
            inside = [each for each in node.body if isinstance(each, ast.FunctionDef)]
            node = next((each for each in inside if each.name == "__init__"), node)
        elif not (isinstance(node, ast.FunctionDef) and node.name == name):
            continue
        if isinstance(node, ast.FunctionDef):
            every = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            found |= {each.arg for each in every} - {"self", "checkpoint"}
    return found


def check_study(arguments: Sequence[str]) -> None:
    """Check the name of a study, if it comes first.

    Raises:
        EarlyError: there is no study of this name.
    """
    word = "".join(arguments[:1])
    known = [path.stem for path in sorted((CONFIGS / "studies").glob("*.yaml"))]
    known += ["all", "report"]
    if word and not word.startswith("-") and word not in known:
        hint = nearest(word, known) or f"; the names are {', '.join(known)}"
        raise EarlyError(f"there is no study {word!r}{hint}")
