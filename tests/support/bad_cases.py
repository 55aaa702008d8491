"""The bad inputs, and a part of the answer to each."""

from __future__ import annotations

import tarfile

from bad_checkpoints import CASES as CHECKPOINTS
from bad_configurations import CASES as CONFIGURATIONS
from bad_makers import (
    BEST,
    FETCHED,
    GOOD,
    LINES,
    OWN,
    SCORED,
    SENTENCES,
    TEXTS,
    Case,
    archive,
    class_folder,
    command,
    fit,
    folder,
    full_device,
    label,
    parts,
    pipe,
    score,
    table,
    texts,
)

EMOJI = "\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f600\ufe0f"
HEBREW = "\u202e\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627"
MARKUP = "\x07\x1b[31m$\\x{<b>"

# The first text begins with a quotation mark, and the third ends in one.
STRAY = GOOD.replace("goal", '" goal', 1).replace(" w2,", ' w2 ",')

TWO_TEXTS = "one,two,label\n" + "".join(
    f"the corn {n},the goal {n},{'ab'[n % 2]}\n" for n in range(30)
)
TWO_LABELS = "text,sex,old\n" + "".join(
    f"corn {n},{'fm'[n % 2]},{'yn'[n // 2 % 2]}\n" for n in range(30)
)
GERMAN = GOOD.replace("text,label", "Text;Bewertung").replace(",", ";")

CASES = [
    Case(OWN, "no such file", command("fit", "--data.corpus=no.csv"), "no.csv"),
    Case(OWN, "an empty file", fit("a.csv", ""), "a.csv: the file is empty"),
    Case(OWN, "a header alone", fit("a.csv", "text,label\n"), "no documents"),
    Case(
        OWN,
        "a column missing",
        fit("a.csv", "txt,label\nx,a\n", "--data.text_column=text"),
        "no column 'text'",
    ),
    Case(
        OWN,
        "two columns that may be the texts",
        fit("a.csv", TWO_TEXTS),
        "the text column may be 'one' or 'two'",
    ),
    Case(
        OWN,
        "two columns that may be the labels",
        fit("a.csv", TWO_LABELS),
        "the label column may be 'sex' or 'old'",
    ),
    Case(
        OWN,
        "a file without an option, that is not there",
        command("fit", "god.csv"),
        "mean good.csv",
    ),
    Case(
        OWN, "two files without options", command("fit", "good.csv", "x.csv"), "not 2: good.csv, x"
    ),
    Case(
        OWN,
        "a test on classes that the training did not have",
        table("test", "text,label\ncorn,a\nteam,z\n"),
        "classes that the checkpoint was not trained on: z",
    ),
    Case(
        OWN,
        "no header",
        fit("a.csv", GOOD.partition("\n")[2]),
        "the first line seems to be a row",
    ),
    Case(
        OWN,
        "other columns, in German, with semicolons and a byte order mark",
        fit("a.csv", b"\xef\xbb\xbf" + GERMAN.encode()),
        "trained",
        works=True,
    ),
    Case(OWN, "a label missing", fit("a.csv", GOOD + "x,\n"), "line 32"),
    Case(OWN, "one class", fit("a.csv", "text,label\nx,a\ny,a\n"), "only the class 'a'"),
    Case(
        OWN,
        "a label that the training part does not have",
        parts(GOOD, "text,label\nx,z\n"),
        "the label 'z'",
    ),
    Case(
        OWN,
        "more folds than documents of a class",
        fit("a.csv", f"{GOOD}yes,c\nno,c\n", "--folds=5"),
        "the rarest class, 'c', has 2 of the",
    ),
    Case(
        OWN,
        "a label with the terminal's escape character",
        fit("a.csv", GOOD + "x,\x1b[31mred\n"),
        "line 32: the label",
    ),
    Case(
        OWN,
        "a quote that is never closed",
        fit("a.csv", GOOD + '"x,a\n'),
        "line 32: broken quoting",
    ),
    Case(
        OWN,
        "a quote inside an unquoted field",
        fit("a.csv", GOOD + '"x" y,a\n'),
        "line 32: broken quoting",
    ),
    Case(
        OWN,
        "stray quotation marks that swallow lines",
        fit("a.csv", STRAY),
        "line 2: a quotation mark opens",
    ),
    Case(
        OWN,
        "the same, of tabs",
        fit("a.tsv", STRAY.replace(",", "\t")),
        "line 2: a quotation mark opens",
    ),
    Case(
        OWN,
        "the same, as characters like any other",
        fit("a.tsv", STRAY.replace(",", "\t"), "--data.quotes=literal"),
        "trained",
        works=True,
    ),
    Case(OWN, "semicolons", fit("a.csv", GOOD.replace(",", ";")), "trained", works=True),
    Case(
        OWN,
        "semicolons, and a column of another name",
        fit("a.csv", GOOD.replace(",", ";").replace("label", "stars"), "--data.label_column=star"),
        "no column 'star'; there are 'text', 'stars'",
    ),
    Case(
        OWN,
        "a separator of two characters",
        fit("a.csv", GOOD, "--data.delimiter=::"),
        "one other character",
    ),
    Case(
        OWN,
        "a label missing, where such rows are dropped",
        fit("a.csv", GOOD + "x,\n", "--data.drop_unlabelled=true"),
        "trained",
        works=True,
    ),
    Case(
        OWN,
        "labels as 1.0 and 0.0",
        fit("a.csv", GOOD.replace(",a\n", ",1.0\n").replace(",b\n", ",0.0\n")),
        "trained",
        works=True,
    ),
    Case(OWN, "JSON of columns that differ", fit("a.json", '{"text": ["x"], "label": []}'), "same"),
    Case(OWN, "JSON of another form", fit("a.json", "3"), "a .json file is a list of objects"),
    Case(
        OWN,
        "a key twice in JSON",
        fit("a.jsonl", '{"text": "x", "text": "y", "label": "a"}'),
        "line 1: the key 'text' occurs twice",
    ),
    Case(OWN, "a field too many", fit("a.csv", GOOD + "x,y,a\n"), "line 32: 3"),
    Case(OWN, "Latin-1", fit("a.csv", GOOD.encode() + b"\xe9,a\n"), "line 32"),
    Case(OWN, "UTF-16", fit("a.csv", GOOD.encode("utf-16")), "not UTF-8"),
    Case(OWN, "a NUL character", fit("a.csv", GOOD + "\0,a\n"), "line 32"),
    Case(OWN, "another ending", fit("a.exe", GOOD), "must end in"),
    Case(OWN, "JSON cut short", fit("a.jsonl", '{"text": "x"'), "line 1"),
    Case(OWN, "JSON 100,000 deep", fit("a.jsonl", "[" * 10**5), "line 1"),
    Case(
        OWN,
        "half of a surrogate pair in JSON",
        fit("a.jsonl", '{"text": "\\ud83d", "label": "a"}'),
        "line 1: half of a surrogate pair",
    ),
    Case(OWN, "Parquet cut short", fit("a.parquet", b"PAR1xx"), "a.parquet"),
    Case(OWN, "a pipe", pipe, "neither a file nor a folder"),
    Case(OWN, "a pipe in a class's folder", class_folder, "3.txt"),
    Case(OWN, "an empty folder", folder("corpus"), "a_folder holds neither"),
    Case(
        OWN,
        "texts without a word",
        fit("a.csv", "text,label\n" + "".join(f'"{" " * n}",{"ab"[n % 2]}\n' for n in range(9))),
        "0 of 9 documents are left",
    ),
    Case(
        OWN,
        "texts of one letter",
        fit("a.csv", "text,label\n" + "".join(f"{chr(97 + n)},{'ab'[n % 2]}\n" for n in range(20))),
        "no two words stand near each other",
    ),
    Case(
        OWN,
        "emoji, right-to-left text, control characters, markup and formulas",
        fit(
            "a.csv",
            GOOD.replace("corn", EMOJI).replace("goal", HEBREW).replace("w", MARKUP),
        ),
        "trained",
        works=True,
    ),
    Case(
        OWN,
        "emoji, a formula and markup as labels",
        fit("a.csv", GOOD.replace(",a\n", ",$\\frac{\n").replace(",b\n", ",[bold]<b>\n")),
        "trained",
        works=True,
    ),
    Case(
        LINES,
        "no such file",
        command("predict", f"--ckpt_path={BEST}", "--input=no.txt"),
        "'no.txt'",
    ),
    Case(LINES, "a folder", folder("lines"), "a_folder"),
    Case(
        LINES,
        "a table without the column of the training",
        table("predict", "words,n\ncorn,1\n"),
        "no column 'text', which the model was trained on",
    ),
    Case(
        LINES,
        "a table without the column that is named",
        table("predict", "words,n\ncorn,1\n", "--text_column=word"),
        "no column 'word'",
    ),
    Case(LINES, "a table with a field too many", table("predict", "text\nx\ny,z\n"), "line 3: 2"),
    Case(LINES, "a table in Latin-1", table("predict", b"text\nx\n\xe9\n"), "line 3: not UTF-8"),
    Case(
        LINES,
        "Parquet on standard output",
        table("predict", "text\ncorn\n", "--format=parquet"),
        "name a file with --output",
    ),
    Case(LINES, "Latin-1 in the third line", label(b"x\ny\n\xe9\n"), "lines.txt, line 3"),
    Case(LINES, "UTF-16", label("corn\n".encode("utf-16")), "lines.txt, line 1"),
    Case(LINES, "a NUL character", label("x\n\0\n"), "lines.txt, line 2"),
    Case(LINES, "a full disk for the output", full_device, "No space left on device"),
    Case(LINES, "an empty file", label(""), "0 lines labelled", works=True),
    Case(LINES, "empty lines", label("\n\n"), "2 lines labelled", works=True),
    Case(LINES, "one character", label("x"), "1 lines labelled", works=True),
    Case(LINES, "emoji", label(EMOJI), "1 lines labelled", works=True),
    Case(LINES, "right-to-left text", label(HEBREW), "1 lines labelled", works=True),
    Case(LINES, "control characters", label("\x07\x1b[31m\x9b"), "1 lines", works=True),
    Case(LINES, "ten million characters", label("corn x" * 1_666_667), "1 lines", works=True),
    Case(
        LINES,
        "ten million characters without a space",
        label("x" * 10_000_000),
        "1 lines labelled",
        works=True,
    ),
    Case(TEXTS, "an empty file", texts(""), "train.txt: the file is empty"),
    Case(TEXTS, "one character", texts("x"), "cannot be held out for validation"),
    Case(
        TEXTS,
        "Latin-1 in the second line",
        texts("caf\u00e9\n".encode() + b"caf\xe9\n"),
        "train.txt, line 2: not UTF-8",
    ),
    Case(TEXTS, "a NUL character", texts(SENTENCES + "\0\n"), "train.txt, line 61: a NUL"),
    Case(
        TEXTS,
        "emoji, right-to-left text, control characters and markup",
        texts(SENTENCES.replace("corn", EMOJI).replace("goal", HEBREW).replace("match", MARKUP)),
        "trained",
        works=True,
    ),
    Case(
        TEXTS,
        "a window longer than the text",
        texts(SENTENCES, "--data.window=100000"),
        "trained",
        works=True,
    ),
    Case(
        TEXTS,
        "more rows than tokens",
        texts(SENTENCES, "--data.batch_size=100000"),
        "tokens do not suffice for 100000 rows",
    ),
    Case(SCORED, "Latin-1 in the third line", score(b"x\ny\n\xe9\n"), "lines.txt, line 3"),
    Case(SCORED, "a NUL character", score("x\n\0\n"), "lines.txt, line 2"),
    Case(SCORED, "empty lines", score("\n\n"), "2 lines scored", works=True),
    Case(SCORED, "emoji", score(EMOJI), "1 lines scored", works=True),
    Case(SCORED, "right-to-left text", score(HEBREW), "1 lines scored", works=True),
    Case(SCORED, "ten thousand characters", score("corn " * 2_000), "1 lines scored", works=True),
    Case(SCORED, "a temperature of 0", score("x", "--what=continue", "--temperature=0"), "above 0"),
    *CONFIGURATIONS,
    *CHECKPOINTS,
    Case(FETCHED, "another checksum", archive(checked=False), "not the pinned release"),
    Case(FETCHED, "a path out of the folder", archive(name="../b"), "outside of its folder"),
    Case(FETCHED, "an absolute path", archive(name="/b"), "outside of its folder"),
    Case(
        FETCHED,
        "a symbolic link to /etc/passwd",
        archive(kind=tarfile.SYMTYPE),
        "is not a regular file",
    ),
    Case(FETCHED, "a hard link", archive(kind=tarfile.LNKTYPE), "not a regular file"),
    Case(FETCHED, "a device", archive(kind=tarfile.CHRTYPE), "not a regular file"),
    Case(FETCHED, "a member that is too large", archive(limit=99), "claims 100 bytes"),
    Case(
        FETCHED,
        "a member larger than it claims",
        archive(claims=10),
        "cannot be read as an archive",
    ),
    Case(FETCHED, "the first half", archive(cut=150), "cannot be read as an archive"),
]
