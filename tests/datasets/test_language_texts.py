"""Texts by name and from files, and the messages if they are missing."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from seqnorm.datasets import DatasetError, load_texts
from seqnorm.datasets import language_texts as module

PTB = ("ptb.train.txt", "ptb.valid.txt", "ptb.test.txt")
WIKI = ("wiki.train.tokens", "wiki.valid.tokens", "wiki.test.tokens")


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text, encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "folder", "files"), [("ptb", "ptb", PTB), ("wikitext2", "wikitext-2", WIKI)]
)
def test_a_benchmark_s_files(
    name: str, folder: str, files: tuple[str, ...], tmp_path: Path
) -> None:
    for number, file in enumerate(files):
        with pytest.raises(DatasetError) as error:
            load_texts(name, root=tmp_path)
        missing = [str(tmp_path / folder / file) for file in files[number:]]
        assert str(error.value).endswith(", ".join(missing))
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / file).write_text(f" one <unk> {number} \n \n= two = \n")
    texts = load_texts(name, root=tmp_path)
    assert list(texts.parts) == ["train", "validation", "test"]
    # An empty line is predicted as well, as in published results.
    assert texts.parts["validation"] == ("one <unk> 1", "", "= two =")
    assert texts.ends


def test_text8_is_cut_from_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DatasetError, match=r"text8, unpacked, here: .*text8"):
        load_texts("text8", root=tmp_path)
    monkeypatch.setattr(module, "_TEXT8_HELD_OUT", 5)
    monkeypatch.setattr(module, "_PIECE", 4)
    write(tmp_path / "text8", text8=" anarchism as x\n")
    texts = load_texts("text8", root=tmp_path)
    assert texts.parts == {
        "train": (" ", "anar"),
        "validation": ("chism",),
        "test": (" as ", "x"),
    }
    assert not texts.ends
    write(tmp_path / "text8", text8="tenletters")
    with pytest.raises(DatasetError, match=r"10 characters; .* more than 10 are needed"):
        load_texts("text8", root=tmp_path)


def test_text8_is_cut_between_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TEXT8_HELD_OUT", 40)
    monkeypatch.setattr(module, "_PIECE", 7)
    text = " ab cde anarchism f gh ijklmno p qrstuv " * 5
    write(tmp_path / "text8", text8=text)
    parts = load_texts("text8", root=tmp_path).parts
    assert "".join(sum(parts.values(), ())) == text
    for part, size in (("train", 120), ("validation", 40), ("test", 40)):
        assert len("".join(parts[part])) == size
        assert all(piece.endswith(" ") for piece in parts[part])
        assert {len(piece) for piece in parts[part] if len(piece) > 7} == {10, 8}
        words = [word for piece in parts[part] for word in piece.split()]
        assert words == text[:size].split()


def test_a_folder_of_ones_own(tmp_path: Path) -> None:
    lines = [f"line {number}" for number in range(20)]
    write(tmp_path, train_txt="\n".join(lines), test_txt="\ufeffend\r\n")
    texts = load_texts(str(tmp_path))
    assert texts.parts["test"] == ("end",)
    assert texts.parts["train"] + texts.parts["validation"] == tuple(lines)
    assert len(texts.parts["validation"]) == 2
    assert load_texts(str(tmp_path), split_seed=1) == texts
    write(tmp_path, test_txt="one\r\n\ntwo\n \n\n")
    assert load_texts(str(tmp_path)).parts["test"] == ("one", "", "two", "", "")
    write(tmp_path, valid_txt="held out\n")
    texts = load_texts(str(tmp_path))
    assert texts.parts["validation"] == ("held out",)
    assert texts.parts["train"] == tuple(lines)


@pytest.mark.parametrize("name", ["validation", "valid", "val", "dev"])
def test_names_of_the_validation_part(name: str, tmp_path: Path) -> None:
    write(tmp_path, train_txt="one\ntwo\n", **{f"{name}_txt": "held out\n"})
    texts = load_texts(str(tmp_path))
    assert texts.parts == {"train": ("one", "two"), "validation": ("held out",)}


def test_texts_that_are_evaluated_alone(tmp_path: Path) -> None:
    write(tmp_path, new_txt="one\n\ntwo\n")
    assert load_texts(str(tmp_path / "new.txt"), alone="test").parts == {"test": ("one", "", "two")}
    (tmp_path / "new.csv").write_text("text,label\none,a\none,a\n")
    found = load_texts(str(tmp_path / "new.csv"), alone="validation")
    assert found.parts == {"validation": ("one", "one")}
    write(tmp_path / "parts", test_txt="one\n")
    assert load_texts(str(tmp_path / "parts"), alone="test").parts == {"test": ("one",)}


def test_a_single_file(tmp_path: Path) -> None:
    for name in ("book.txt", "BOOK.TXT"):
        (tmp_path / name).write_text("".join(f"line {number}\n" for number in range(20)))
        texts = load_texts(str(tmp_path / name))
        assert {part: len(lines) for part, lines in texts.parts.items()} == {
            "train": 18,
            "validation": 2,
        }
        assert texts.parts["validation"] == ("line 18", "line 19")
    with pytest.raises(ValueError, match="whose texts are lines"):
        load_texts(str(tmp_path / "book.txt"), text_column="text")


def test_lines_are_held_out_from_the_end(tmp_path: Path) -> None:
    """The held-out lines keep their order, and empty lines count."""
    for lines, fraction, count in (
        (["one", "", "", "two", "", "three", "four", "", "five", "six"], 0.3, 3),
        (["one", "two", "three"], 0.1, 1),
        (["one", "two", "three"], 0.99, 2),
        (["one", "two"], 0.5, 1),
    ):
        write(tmp_path, train_txt="\n".join(lines))
        parts = load_texts(str(tmp_path), validation_fraction=fraction).parts
        assert parts["train"] == tuple(lines[:-count])
        assert parts["validation"] == tuple(lines[-count:])
    for text, fraction in (("one", 0.5), ("one\ntwo", 0.0), ("one\ntwo", 1.0)):
        write(tmp_path, train_txt=text)
        with pytest.raises(DatasetError, match=f"a fraction of {fraction} of . .* cannot be held"):
            load_texts(str(tmp_path), validation_fraction=fraction)


def test_labelled_files(tmp_path: Path) -> None:
    path = tmp_path / "texts.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([("text", "label"), *((f"text {n}", n % 2) for n in range(20))])
    texts = load_texts(str(path))
    assert list(texts.parts) == ["train", "validation"]
    assert len(texts.parts["train"]) == 18
    assert "train" in texts.notice
    assert load_texts(str(path), split_seed=1).parts["validation"] != texts.parts["validation"]
    with pytest.raises(DatasetError, match="no column 'words'"):
        load_texts(str(path), text_column="words")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "train.txt: the file is empty"),
        (b"\n \n", "train.txt: the file is empty"),
        (b"one\ntw\xe9\n", "train.txt, line 2: not UTF-8"),
    ],
)
def test_files_that_cannot_be_used(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_bytes(content)
    with pytest.raises(DatasetError, match=message):
        load_texts(str(tmp_path))


def test_neither_name_nor_path() -> None:
    with pytest.raises(DatasetError, match=r"ptbb is neither a corpus .*ptb, wikitext2, text8"):
        load_texts("ptbb")
