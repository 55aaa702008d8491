"""Bad inputs, and what each gets: python tests/bad_inputs.py writes docs/bad_inputs.md.

Each is given to the command line as a user would, in a folder of its own, beside a checkpoint that
was trained there. The tests run the same.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import math
import os
import shutil
import sys
import tarfile
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from seqnorm.datasets import fetching
from seqnorm.datasets.fetching import Package, fetch
from seqnorm.training.errors import line_of

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "bad_inputs.md"
SMALL = (
    "--model.embedding_size=8",
    "--model.hidden_size=8",
    "--trainer.max_epochs=1",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
)
GOOD = "text,label\n" + "".join(
    f"{'corn crop wheat' if n % 2 else 'goal match team'} w{n},{'ab'[n % 2]}\n" for n in range(30)
)
RUN = "runs/good/version_0/checkpoints/"
BEST = RUN + "best.ckpt"


@dataclass(frozen=True)
class Case:
    """One input.

    Attributes:
        group: what kind of input it is.
        tried: what was tried, in words.
        make: writes the input into the current folder and gives the arguments of train.py; or does
            what is tried, and gives none.
        gets: what the answer holds, in every environment.
        works: whether it is an input like any other.
    """

    group: str
    tried: str
    make: Callable[[], Sequence[str]]
    gets: str
    works: bool = False


def fit(name: str, content: bytes | str, *options: str) -> Callable[[], Sequence[str]]:
    """Training on a file."""

    def make() -> Sequence[str]:
        write(name, content)
        return ["fit", f"--data.corpus={name}", *SMALL, *options]

    return make


def label(content: bytes | str) -> Callable[[], Sequence[str]]:
    """Labelling the lines of a file."""

    def make() -> Sequence[str]:
        write("lines.txt", content)
        return ["predict", f"--ckpt_path={BEST}", "--input=lines.txt"]

    return make


def configured(content: bytes | str) -> Callable[[], Sequence[str]]:
    """Training with a configuration."""

    def make() -> Sequence[str]:
        write("good.csv", GOOD)
        write("config.yaml", content)
        return ["fit", "--config=config.yaml", "--data.corpus=good.csv", *SMALL]

    return make


def command(*arguments: str) -> Callable[[], Sequence[str]]:
    return lambda: arguments


def checkpoint(
    change: Callable[[dict[str, Any]], Any], use: str = "predict"
) -> Callable[[], Sequence[str]]:
    """Use of a checkpoint whose contents were changed."""

    def make() -> Sequence[str]:
        stored = torch.load(BEST, weights_only=True)
        changed = change(stored)
        torch.save(stored if changed is None else changed, RUN + "bad.ckpt")
        write("lines.txt", "corn\n")
        more = ["--input=lines.txt"] if use == "predict" else []
        return [use, f"--ckpt_path={RUN}bad.ckpt", *more]

    return make


def damaged(change: Callable[[bytes], bytes]) -> Callable[[], Sequence[str]]:
    """Use of a file that is no checkpoint any more."""

    def make() -> Sequence[str]:
        write(RUN + "bad.ckpt", change(Path(BEST).read_bytes()))
        return ["predict", f"--ckpt_path={RUN}bad.ckpt"]

    return make


def archive(*, checked: bool = True, limit: int = 0, **options: Any) -> Callable[[], Sequence[str]]:
    """Fetching from an archive in the root, with the checksum pinned or another."""

    def make() -> Sequence[str]:
        content = b"x" * 100
        path = Path("texts-1.0.tar.gz" if "kind" in options else "texts-1.0-py3-none-any.whl")
        if "kind" in options:
            with tarfile.open(path, "w:gz") as tar:
                entry = tarfile.TarInfo(options.get("name", "texts/a.txt"))
                entry.type, entry.linkname = options["kind"], "/etc/passwd"
                entry.size = len(content) if entry.isreg() else 0
                tar.addfile(entry, io.BytesIO(content))
        else:
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
                wheel.writestr("texts/a.txt", content)
                wheel.writestr(options.get("name", "texts/b.txt"), content)
        written = path.read_bytes()
        if "claims" in options:  # of its size, in the directory at the end and at the member
            wrong = options["claims"].to_bytes(4, "little")
            written = written.replace((100).to_bytes(4, "little"), wrong)
        path.write_bytes(written[: options.get("cut")])
        pinned = hashlib.sha256(path.read_bytes()).hexdigest() if checked else "0" * 64
        sha256 = hashlib.sha256(content).hexdigest()
        package = Package("texts", "1.0", path.name, pinned, {"texts/a.txt": sha256})
        before = fetching.MAX_MEMBER_BYTES
        fetching.MAX_MEMBER_BYTES = limit or before
        try:
            fetch(package, Path())
        finally:
            fetching.MAX_MEMBER_BYTES = before
        return ()

    return make


def write(name: str, content: bytes | str) -> None:
    data = content if isinstance(content, bytes) else content.encode("utf-8")
    Path(name).write_bytes(data)


class Code:
    """Unpickled, it would leave a file behind."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch it_ran",)


def assign(*path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """Sets an entry of nested dicts."""

    def change(stored: dict[str, Any]) -> None:
        for key in path[:-1]:
            stored = stored[key]
        stored[path[-1]] = value

    return change


def remove(*path: str) -> Callable[[dict[str, Any]], None]:
    def change(stored: dict[str, Any]) -> None:
        for key in path[:-1]:
            stored = stored[key]
        del stored[path[-1]]

    return change


def pipe() -> Sequence[str]:
    os.mkfifo("pipe.csv")
    return ["fit", "--data.corpus=pipe.csv"]


def class_folder() -> Sequence[str]:
    for name, file in (("a", "1.txt"), ("b", "2.txt")):
        Path("folder", name).mkdir(parents=True)
        write(f"folder/{name}/{file}", "corn")
    os.mkfifo("folder/b/3.txt")
    return ["fit", "--data.corpus=folder"]


def parts(train: str, test: str) -> Callable[[], Sequence[str]]:
    def make() -> Sequence[str]:
        Path("parts").mkdir()
        write("parts/train.csv", train)
        write("parts/test.csv", test)
        return ["fit", "--data.corpus=parts", *SMALL]

    return make


def folder(use: str) -> Callable[[], Sequence[str]]:
    def make() -> Sequence[str]:
        Path("a_folder").mkdir()
        return {
            "checkpoint": ["predict", "--ckpt_path=a_folder"],
            "lines": ["predict", f"--ckpt_path={BEST}", "--input=a_folder"],
            "config": ["fit", "--config=a_folder"],
            "corpus": ["fit", "--data.corpus=a_folder"],
        }[use]

    return make


def not_where_it_was() -> Sequence[str]:
    shutil.copy(BEST, "elsewhere.ckpt")
    return ["fit", "--ckpt_path=elsewhere.ckpt"]


def another_corpus() -> Sequence[str]:
    write("other.csv", GOOD.replace("corn", "barley oats"))
    return ["fit", f"--ckpt_path={BEST}", "--data.corpus=other.csv"]


def other_classes() -> Sequence[str]:
    Path("other").mkdir()
    for part in ("train", "test"):
        write(f"other/{part}.csv", GOOD.replace(",a\n", ",c\n").replace("w", part))
    return ["test", f"--ckpt_path={BEST}", "--data.corpus=other", "--data.test_fraction=null"]


def full_device() -> Sequence[str]:
    write("lines.txt", "corn\n" * 2000)
    return ["predict", f"--ckpt_path={BEST}", "--input=lines.txt", "--output=/dev/full"]


EMOJI = "\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f600\ufe0f"
HEBREW = "\u202e\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627"
LAUGHS = "a0: &a0 [x, x]\n" + "".join(
    f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}, *a{n - 1}, *a{n - 1}]\n" for n in range(1, 30)
)
CALLBACK = {"class_path": "lightning.pytorch.callbacks.LambdaCallback"}
STRATEGY = "config", "trainer", "strategy"
WEIGHT = "network.head.weight"

CASES = [
    Case("A corpus of one's own", "no such file", command("fit", "--data.corpus=no.csv"), "no.csv"),
    Case("A corpus of one's own", "an empty file", fit("a.csv", ""), "a.csv: the file is empty"),
    Case("A corpus of one's own", "a header alone", fit("a.csv", "text,label\n"), "no documents"),
    Case("A corpus of one's own", "a column missing", fit("a.csv", "txt,label\nx,a\n"), "line 1"),
    Case("A corpus of one's own", "a label missing", fit("a.csv", GOOD + "x,\n"), "line 32"),
    Case("A corpus of one's own", "one class", fit("a.csv", "text,label\nx,a\ny,a\n"), "1 class"),
    Case(
        "A corpus of one's own",
        "a label that the training part does not have",
        parts(GOOD, "text,label\nx,z\n"),
        "the label 'z'",
    ),
    Case(
        "A corpus of one's own",
        "a label with the terminal's escape character",
        fit("a.csv", GOOD + "x,\x1b[31mred\n"),
        "line 32: the label",
    ),
    Case(
        "A corpus of one's own",
        "a quote that is never closed",
        fit("a.csv", GOOD + '"x,a\n'),
        "line 32: broken quoting",
    ),
    Case(
        "A corpus of one's own",
        "a quote inside an unquoted field",
        fit("a.csv", GOOD + '"x" y,a\n'),
        "line 32: broken quoting",
    ),
    Case("A corpus of one's own", "a field too many", fit("a.csv", GOOD + "x,y,a\n"), "line 32: 3"),
    Case("A corpus of one's own", "Latin-1", fit("a.csv", GOOD.encode() + b"\xe9,a\n"), "line 32"),
    Case("A corpus of one's own", "UTF-16", fit("a.csv", GOOD.encode("utf-16")), "not UTF-8"),
    Case("A corpus of one's own", "a NUL character", fit("a.csv", GOOD + "\0,a\n"), "line 32"),
    Case("A corpus of one's own", "another ending", fit("a.exe", GOOD), "must end in"),
    Case("A corpus of one's own", "JSON cut short", fit("a.jsonl", '{"text": "x"'), "line 1"),
    Case("A corpus of one's own", "JSON 100,000 deep", fit("a.jsonl", "[" * 10**5), "line 1"),
    Case(
        "A corpus of one's own",
        "half of a surrogate pair in JSON",
        fit("a.jsonl", '{"text": "\\ud83d", "label": "a"}'),
        "line 1: half of a surrogate pair",
    ),
    Case("A corpus of one's own", "Parquet cut short", fit("a.parquet", b"PAR1xx"), "a.parquet"),
    Case("A corpus of one's own", "a pipe", pipe, "neither a file nor a folder"),
    Case("A corpus of one's own", "a pipe in a class's folder", class_folder, "3.txt"),
    Case("A corpus of one's own", "an empty folder", folder("corpus"), "a_folder holds neither"),
    Case(
        "A corpus of one's own",
        "texts without a word",
        fit("a.csv", "text,label\n" + "".join(f'"{" " * n}",{"ab"[n % 2]}\n' for n in range(9))),
        "0 training documents",
    ),
    Case(
        "A corpus of one's own",
        "texts of one letter",
        fit("a.csv", "text,label\n" + "".join(f"{chr(97 + n)},{'ab'[n % 2]}\n" for n in range(20))),
        "no two words stand near each other",
    ),
    Case(
        "A corpus of one's own",
        "emoji, right-to-left text, control characters, markup and formulas",
        fit(
            "a.csv",
            GOOD.replace("corn", EMOJI)
            .replace("goal", HEBREW)
            .replace("w", "\x07\x1b[31m$\\x{<b>"),
        ),
        "trained",
        works=True,
    ),
    Case(
        "A corpus of one's own",
        "emoji, a formula and markup as labels",
        fit("a.csv", GOOD.replace(",a\n", ",$\\frac{\n").replace(",b\n", ",[bold]<b>\n")),
        "trained",
        works=True,
    ),
    Case(
        "Lines to label",
        "no such file",
        command("predict", f"--ckpt_path={BEST}", "--input=no.txt"),
        "'no.txt'",
    ),
    Case("Lines to label", "a folder", folder("lines"), "a_folder"),
    Case(
        "Lines to label", "Latin-1 in the third line", label(b"x\ny\n\xe9\n"), "lines.txt, line 3"
    ),
    Case("Lines to label", "UTF-16", label("corn\n".encode("utf-16")), "lines.txt, line 1"),
    Case("Lines to label", "a NUL character", label("x\n\0\n"), "lines.txt, line 2"),
    Case("Lines to label", "a full disk for the output", full_device, "No space left on device"),
    Case("Lines to label", "an empty file", label(""), "0 lines labelled", works=True),
    Case("Lines to label", "empty lines", label("\n\n"), "2 lines labelled", works=True),
    Case("Lines to label", "one character", label("x"), "1 lines labelled", works=True),
    Case("Lines to label", "emoji", label(EMOJI), "1 lines labelled", works=True),
    Case("Lines to label", "right-to-left text", label(HEBREW), "1 lines labelled", works=True),
    Case("Lines to label", "control characters", label("\x07\x1b[31m\x9b"), "1 lines", works=True),
    Case(
        "Lines to label",
        "ten million characters",
        label("corn x" * 1_666_667),
        "1 lines",
        works=True,
    ),
    Case(
        "Lines to label",
        "ten million characters without a space",
        label("x" * 10_000_000),
        "1 lines labelled",
        works=True,
    ),
    Case("A configuration", "an unknown key", configured("model: {hiden_size: 3}"), "hiden_size"),
    Case(
        "A configuration", "a word for a number", configured("model: {hidden_size: many}"), "many"
    ),
    Case("A configuration", "an unknown norm", configured("model: {norm: layr}"), "mean 'layer'"),
    Case("A configuration", "no YAML", configured("model: {{{"), "config.yaml"),
    Case("A configuration", "bytes", configured(b"\xff\xfe\x00"), "config"),
    Case("A configuration", "a folder", folder("config"), "a_folder"),
    Case(
        "A configuration",
        "YAML that would run code",
        configured("model: !!python/object/apply:os.system ['touch it_ran']"),
        "config.yaml",
    ),
    Case("A configuration", "a YAML bomb", configured(LAUGHS), "config.yaml"),
    Case(
        "A configuration",
        "a class that is none",
        configured("trainer: {callbacks: [{class_path: os.system}]}"),
        "callbacks",
    ),
    Case("A checkpoint", "no such file", command("predict", "--ckpt_path=no.ckpt"), "'no.ckpt'"),
    Case("A checkpoint", "a folder", folder("checkpoint"), "'a_folder', it is no file"),
    Case("A checkpoint", "an empty file", damaged(lambda b: b""), "bad.ckpt"),
    Case("A checkpoint", "a text", damaged(lambda b: b"some text"), "bad.ckpt"),
    Case("A checkpoint", "the first half", damaged(lambda b: b[: len(b) // 2]), "bad.ckpt"),
    Case("A checkpoint", "all but the last 100 bytes", damaged(lambda b: b[:-100]), "bad.ckpt"),
    Case(
        "A checkpoint",
        "inverted bytes in the middle",
        damaged(lambda b: b[:2000] + bytes(255 - x for x in b[2000:4000]) + b[4000:]),
        "bad.ckpt",
    ),
    Case(
        "A checkpoint",
        "code that would run when it is read",
        checkpoint(assign("hyper_parameters", "tokenizer", value=Code())),
        "which could run code",
    ),
    Case(
        "A checkpoint",
        "a whole module",
        checkpoint(assign("module", value=torch.nn.Linear(2, 2))),
        "holds torch.nn.modules.linear.Linear",
    ),
    Case("A checkpoint", "a list", checkpoint(lambda stored: [1, 2]), "is not a checkpoint"),
    Case(
        "A checkpoint", "of another program", checkpoint(lambda s: {"weights": 1}), "is not a check"
    ),
    Case("A checkpoint", "without weights", checkpoint(remove("state_dict")), "has no weights"),
    Case(
        "A checkpoint",
        "a weight of another shape",
        checkpoint(assign("state_dict", WEIGHT, value=torch.zeros(2, 3))),
        "size mismatch for network.head.weight",
    ),
    Case("A checkpoint", "a weight missing", checkpoint(remove("state_dict", WEIGHT)), "Missing"),
    Case(
        "A checkpoint",
        "a weight that is NaN",
        checkpoint(assign("state_dict", WEIGHT, value=torch.full((2, 56), math.nan))),
        "network.head.weight holds NaN",
    ),
    Case(
        "A checkpoint",
        "a tokenizer of another vocabulary",
        checkpoint(lambda s: assign("hyper_parameters", "tokenizer", value=smaller(s))(s)),
        "size mismatch for network.embedding.weight",
    ),
    Case(
        "A checkpoint",
        "a tokenizer that is none",
        checkpoint(assign("hyper_parameters", "tokenizer", value="{}")),
        "not the JSON of a tokenizer",
    ),
    Case(
        "A checkpoint",
        "an unknown hyper-parameter",
        checkpoint(assign("hyper_parameters", "hiden_size", value=3)),
        "'hiden_size'",
    ),
    Case(
        "A checkpoint",
        "a size that no memory has",
        checkpoint(assign("hyper_parameters", "hidden_size", value=10**7)),
        "size mismatch",
    ),
    Case(
        "A checkpoint",
        "a configuration that names a callback with code",
        checkpoint(assign("config", "trainer", "callbacks", value=[CALLBACK]), "test"),
        "config.trainer.callbacks[0].class_path names the class",
    ),
    Case(
        "A checkpoint",
        "a configuration that names a class by its name alone",
        checkpoint(assign(*STRATEGY, value="os.abort"), "test"),
        "config.trainer.strategy names the class 'os.abort'",
    ),
    Case(
        "A checkpoint",
        "a configuration with a class among the options of the norm",
        checkpoint(
            assign("config", "model", "norm_options", value={"class_path": "os.abort"}), "test"
        ),
        "config.model.norm_options.class_path names the class",
    ),
    Case(
        "A checkpoint",
        "a configuration with an unknown key",
        checkpoint(assign("config", "data", "corpse", value=1), "test"),
        "corpse",
    ),
    Case(
        "A checkpoint",
        "a configuration that is a text",
        checkpoint(assign("config", value="model"), "test"),
        "its configuration is not one of train.py fit",
    ),
    Case(
        "A checkpoint",
        "a tensor in the configuration",
        checkpoint(assign("config", "data", "corpus", value=torch.ones(1)), "test"),
        "more than plain values",
    ),
    Case("A checkpoint", "resumed from elsewhere", not_where_it_was, "is not where a run left it"),
    Case("A checkpoint", "resumed with another vocabulary", another_corpus, "size mismatch"),
    Case("A checkpoint", "tested on other classes", other_classes, "not trained on: c"),
    Case(
        "A fetched archive", "another checksum", archive(checked=False), "not the release that was"
    ),
    Case(
        "A fetched archive", "a path out of the folder", archive(name="../b"), "leaves its folder"
    ),
    Case("A fetched archive", "an absolute path", archive(name="/b"), "leaves its folder"),
    Case(
        "A fetched archive",
        "a symbolic link to /etc/passwd",
        archive(kind=tarfile.SYMTYPE),
        "is not a regular file",
    ),
    Case("A fetched archive", "a hard link", archive(kind=tarfile.LNKTYPE), "not a regular file"),
    Case("A fetched archive", "a device", archive(kind=tarfile.CHRTYPE), "not a regular file"),
    Case("A fetched archive", "a member that is too large", archive(limit=99), "claims 100 bytes"),
    Case(
        "A fetched archive",
        "a member larger than it claims",
        archive(claims=10),
        "cannot be read as an archive",
    ),
    Case("A fetched archive", "the first half", archive(cut=150), "cannot be read as an archive"),
]


def smaller(stored: dict[str, Any]) -> str:
    """The tokenizer of a checkpoint without its last word."""
    found = json.loads(stored["hyper_parameters"]["tokenizer"])
    found["model"]["vocab"].popitem()
    return json.dumps(found)


@contextlib.contextmanager
def within(path: Path) -> Iterator[None]:
    """The current folder, for a while."""
    before = Path.cwd()
    os.chdir(path)
    try:
        yield
    finally:
        os.chdir(before)


def run(arguments: Sequence[str]) -> tuple[object, str, str]:
    """Exit status, standard output and error of train.py."""
    from seqnorm.training.cli import main

    out, err, before = io.StringIO(), io.StringIO(), sys.argv
    sys.argv, status = ["train.py", *arguments], 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                main()
    except SystemExit as stop:
        status = stop.code  # type: ignore[assignment]
    finally:
        sys.argv = before
    return status, out.getvalue(), err.getvalue()


def train(path: Path) -> None:
    """The good run in the folder, whose checkpoint the cases begin with."""
    with within(path):
        write("good.csv", GOOD)
        status, _, err = run(["fit", "--data.corpus=good.csv", "--data.test_fraction=0.2", *SMALL])
    if status != 0:
        raise RuntimeError(err)


def answer(case: Case, trained: Path, path: Path) -> str:
    """What a case gets, run in the empty folder ``path``; raises AssertionError if it is not one
    line and a status, or not what the case says."""
    shutil.copytree(trained, path, dirs_exist_ok=True)
    with within(path):
        if case.group == "A fetched archive":
            try:
                case.make()
            except Exception as error:
                status, out, err = 2, "", f"error: {line_of(error)}\n"
            else:
                status, out, err = 0, "", ""
        else:
            status, out, err = run(case.make())
        assert not Path("it_ran").exists(), case
    lines = [line for line in err.splitlines() if line.startswith("error:")]
    if case.works:
        assert status == 0, err
        found = described(out)
    else:
        assert status == 2, (case.tried, status, out)
        assert "Traceback" not in err + out, err
        assert [len(lines), err.splitlines()[-1:]] == [1, lines], err
        assert lines[0].isprintable(), lines
        found = lines[0].removeprefix("error: ")
    assert case.gets in found, f"{case.tried}: {found}"
    return found.replace(f"{path}/", "").replace(str(path), ".")


def described(out: str) -> str:
    """That a run has trained, or how many lines were labelled with probabilities."""
    lines = out.splitlines()
    if "The run is in" in out or "accuracy" in lines[-1]:
        return "trained and tested"
    for line in lines[1:]:
        chances = [float(field) for field in line.split("\t")[1:]]
        assert abs(sum(chances) - 1) < 1e-4, line
    return f"{len(lines) - 1} lines labelled"


def page() -> str:
    """The page, from what all cases get now."""
    text = [
        "# Bad inputs",
        "",
        "What was tried, and the one line that it got on standard error, with exit status 2 and",
        "without a traceback (`SEQNORM_TRACEBACK=1` shows it), or what came of it where it is an",
        "input like any other. `python tests/bad_inputs.py` makes this page; the tests run every",
        "line of it.",
    ]
    with tempfile.TemporaryDirectory() as temporary:
        trained = Path(temporary, "trained")
        trained.mkdir()
        train(trained)
        group = ""
        for number, case in enumerate(CASES):
            if case.group != group:
                group = case.group
                text += ["", f"## {group}", "", "| tried | got |", "|---|---|"]
            empty = Path(temporary, f"case_{number}")
            empty.mkdir()
            text.append(row(case, answer(case, trained, empty)))
            shutil.rmtree(empty)
    return "\n".join(text) + "\n"


def row(case: Case, found: str) -> str:
    """A line of the table; long answers are cut."""
    shown = found if len(found) <= 300 else f"{found[:297]}..."
    if case.works:
        return f"| {case.tried} | {shown} |"
    return f"| {case.tried} | `{shown.replace('|', '/').replace('`', chr(39))}` |"


def main() -> None:
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
    print(f"{len(CASES)} inputs: {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
