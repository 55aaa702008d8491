"""Makers of bad inputs."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from seqnorm.datasets import fetching
from seqnorm.datasets.fetching import Package, fetch

SMALL = (
    "--model.embedding_size=8",
    "--model.hidden_size=8",
    "--trainer.max_epochs=1",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
)
OWN = "A corpus of one's own"
LINES = "Lines to label"
TEXTS = "Texts of a language model"
SCORED = "Lines to score or continue"
CONFIG = "A configuration"
SWEEP = "A sweep"
STORED = "A checkpoint"
FETCHED = "A fetched archive"
GOOD = "text,label\n" + "".join(
    f"{'corn crop wheat' if n % 2 else 'goal match team'} w{n},{'ab'[n % 2]}\n" for n in range(30)
)
RUN = "runs/good/version_0/checkpoints/"
BEST = RUN + "best.ckpt"
LANGUAGE = "--task=language"
LANGUAGE_BEST = "runs/texts/version_0/checkpoints/best.ckpt"
SENTENCES = "".join(f"{'corn crop' if n % 2 else 'goal match'} {n}\n" for n in range(60))


@dataclass(frozen=True)
class Case:
    """One input.

    Attributes:
        group: The kind of input.
        tried: The input in words.
        make: Writes the input into the current folder and returns the arguments of ``seqnorm``; or
            runs the case itself and returns none.
        gets: A part of the answer, in every environment.
        works: The input works like any other.
    """

    group: str
    tried: str
    make: Callable[[], Sequence[str]]
    gets: str
    works: bool = False


def fit(name: str, content: bytes | str, *options: str) -> Callable[[], Sequence[str]]:
    """Make arguments to train on a file."""

    def make() -> Sequence[str]:
        write(name, content)
        return ["fit", f"--data.corpus={name}", *SMALL, *options]

    return make


def label(content: bytes | str) -> Callable[[], Sequence[str]]:
    """Make arguments to label the lines of a file."""

    def make() -> Sequence[str]:
        write("lines.txt", content)
        return ["predict", f"--ckpt_path={BEST}", "--input=lines.txt"]

    return make


def table(use: str, content: bytes | str, *options: str) -> Callable[[], Sequence[str]]:
    """Make arguments to label the rows of a table, or to test on it."""

    def make() -> Sequence[str]:
        write("new.csv", content)
        return [use, "new.csv", f"--ckpt_path={BEST}", *options]

    return make


def texts(content: bytes | str, *options: str) -> Callable[[], Sequence[str]]:
    """Make arguments to train a language model on the lines of a file."""

    def make() -> Sequence[str]:
        write("texts/train.txt", content)
        return ["fit", LANGUAGE, "--data.corpus=texts", *SMALL, *options]

    return make


def score(content: bytes | str, *options: str) -> Callable[[], Sequence[str]]:
    """Make arguments to use a language model on the lines of a file."""

    def make() -> Sequence[str]:
        write("lines.txt", content)
        return ["predict", f"--ckpt_path={LANGUAGE_BEST}", "--input=lines.txt", *options]

    return make


def configured(
    content: bytes | str, option: str = "--config=config.yaml"
) -> Callable[[], Sequence[str]]:
    """Make arguments to train with a configuration."""

    def make() -> Sequence[str]:
        write("good.csv", GOOD)
        write("config.yaml", content)
        return ["fit", option, "--data.corpus=good.csv", *SMALL]

    return make


def sweep(space: str, *options: str) -> Callable[[], Sequence[str]]:
    """Make arguments to search over a space."""

    def make() -> Sequence[str]:
        write("space.yaml", space)
        return ["sweep", "good.csv", "--space=space.yaml", "--trials=2", *SMALL, *options]

    return make


def command(*arguments: str) -> Callable[[], Sequence[str]]:
    return lambda: arguments


def checkpoint(
    change: Callable[[dict[str, Any]], Any], use: str = "predict"
) -> Callable[[], Sequence[str]]:
    """Make arguments to use a checkpoint with changed contents."""

    def make() -> Sequence[str]:
        stored = torch.load(BEST, weights_only=True)
        stored["config"] = {"trainer": {}}  # which earlier versions wrote
        changed = change(stored)
        torch.save(stored if changed is None else changed, RUN + "bad.ckpt")
        write("lines.txt", "corn\n")
        more = ["--input=lines.txt"] if use == "predict" else []
        return [use, f"--ckpt_path={RUN}bad.ckpt", *more]

    return make


def damaged(change: Callable[[bytes], bytes]) -> Callable[[], Sequence[str]]:
    """Make arguments to use a damaged checkpoint."""

    def make() -> Sequence[str]:
        write(RUN + "bad.ckpt", change(Path(BEST).read_bytes()))
        return ["predict", f"--ckpt_path={RUN}bad.ckpt"]

    return make


def archive(*, checked: bool = True, limit: int = 0, **options: Any) -> Callable[[], Sequence[str]]:
    """Fetch from an archive in the root, with its checksum or another one."""

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
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_bytes(data)


class Code:
    """An object that would leave a file behind when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch it_ran",)


def assign(*path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """Set an entry of nested dicts."""

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


def deflated() -> Sequence[str]:
    """Make a checkpoint that unpacks to more than its own size."""
    with (
        zipfile.ZipFile(BEST) as source,
        zipfile.ZipFile(RUN + "bad.ckpt", "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for name in source.namelist():
            target.writestr(name, source.read(name))
    return ["test", f"--ckpt_path={RUN}bad.ckpt"]


def tokenizer(change: Callable[[dict[str, Any]], Any]) -> Callable[[dict[str, Any]], None]:
    """Change the tokenizer in a checkpoint."""

    def changed(stored: dict[str, Any]) -> None:
        found = json.loads(stored["hyper_parameters"]["tokenizer"])
        change(found)
        stored["hyper_parameters"]["tokenizer"] = json.dumps(found)

    return changed


def doubled(levels: int) -> list[Any]:
    """Return a list that holds two of a list that holds two of ..."""
    found: list[Any] = ["x"]
    for _ in range(levels):
        found = [found, found]
    return found


def file_of_values() -> Sequence[str]:
    write("values.yaml", "{class_path: os.abort}")
    change = assign("hyper_parameters", "norm_options", value="values.yaml")
    return checkpoint(change, "test")()


def renamed(words: str, others: str) -> Callable[[], Sequence[str]]:
    """Make arguments to resume on a corpus with one other word or class."""

    def make() -> Sequence[str]:
        write("other.csv", GOOD.replace(words, others))
        return ["fit", f"--ckpt_path={BEST}", "--data.corpus=other.csv"]

    return make


def exchanged() -> Sequence[str]:
    """Make arguments to resume on the same texts with exchanged labels."""
    write("other.csv", GOOD.replace(",a\n", ",x\n").replace(",b\n", ",a\n").replace(",x\n", ",b\n"))
    return ["fit", f"--ckpt_path={BEST}", "--data.corpus=other.csv"]


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


def smaller(stored: dict[str, Any]) -> str:
    """Return the tokenizer of a checkpoint without its last word."""
    found = json.loads(stored["hyper_parameters"]["tokenizer"])
    found["model"]["vocab"].popitem()
    return json.dumps(found)
