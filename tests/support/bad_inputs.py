"""Bad inputs and their answers: python tests/support/bad_inputs.py writes docs/bad_inputs.md.

Each is given to the command line as a user would, in a folder of its own, beside a checkpoint that
was trained there. The tests run the same.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

from bad_cases import CASES
from bad_makers import FETCHED, GOOD, LANGUAGE, SENTENCES, SMALL, Case, write

from seqnorm.training.errors import OF_INPUTS, line_of

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "bad_inputs.md"


@contextlib.contextmanager
def within(path: Path) -> Iterator[None]:
    """Change the current folder in the block."""
    before = Path.cwd()
    os.chdir(path)
    try:
        yield
    finally:
        os.chdir(before)


def run(arguments: Sequence[str]) -> tuple[object, str, str]:
    """Return the exit status, standard output and error of ``seqnorm``."""
    from seqnorm.command.main import main

    out, err, before = io.StringIO(), io.StringIO(), sys.argv
    sys.argv, status = ["seqnorm", *arguments], 0
    try:
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            main()
    except SystemExit as stop:
        status = stop.code  # type: ignore[assignment]
    finally:
        sys.argv = before
    return status, out.getvalue(), err.getvalue()


def train(path: Path) -> None:
    """Make the good runs in the folder, whose checkpoints the cases use."""
    with within(path):
        write("good.csv", GOOD)
        write("texts/train.txt", SENTENCES)
        for options in (
            ("--data.corpus=good.csv", "--data.test_fraction=0.2"),
            (LANGUAGE, "--data.corpus=texts", "--data.window=20", "--data.batch_size=4"),
        ):
            status, _, err = run(["fit", *options, *SMALL])
            if status != 0:
                raise RuntimeError(err)


def answer(case: Case, trained: Path, path: Path) -> str:
    """Run a case in the empty folder ``path`` and return its answer.

    Raises:
        AssertionError: The answer is not one line and a status, or not that of the case.
    """
    shutil.copytree(trained, path, dirs_exist_ok=True)
    with within(path):
        if case.group == FETCHED:
            try:
                case.make()
            except OF_INPUTS as error:  # like the command line; other errors are faults
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
    # An archive has another checksum every time, by the date in it.
    found = re.sub(r"\b[0-9a-f]{64}\b", "SHA256", found)
    return found.replace(f"{path}/", "").replace(str(path), ".")


def described(out: str) -> str:
    """Describe an output: a run has trained, or so many lines were labelled or scored."""
    lines = out.splitlines()
    if " trials: 2 complete. The table is " in out:
        return "trained"
    if "The run is in" in out or "accuracy" in lines[-1] or "bits a character" in lines[-1]:
        return "trained and tested"
    if lines[0].startswith("perplexity"):
        for line in lines[1:]:
            assert float(line.split("\t")[0]) > 1, line
        return f"{len(lines) - 1} lines scored"
    for line in lines[1:]:
        chances = [float(field) for field in line.split("\t")[1:]]
        assert abs(sum(chances) - 1) < 1e-4, line
    return f"{len(lines) - 1} lines labelled"


def page() -> str:
    """Return the page with the answers to all cases."""
    text = [
        "# Bad inputs",
        "",
        "A bad input ends the program with one line on standard error and exit status 2, without",
        "a traceback (`SEQNORM_TRACEBACK=1` shows it). The tables have the inputs that were tried",
        "and the error message of each, or the result of an unusual input that works. The tests",
        "repeat every line; `python tests/support/bad_inputs.py` writes this page.",
    ]
    with tempfile.TemporaryDirectory() as temporary:
        trained = Path(temporary, "trained")
        trained.mkdir()
        train(trained)
        group = ""
        for number, case in enumerate(CASES):
            if case.group != group:
                group = case.group
                text += ["", f"## {group}", "", "| input | message or result |", "|---|---|"]
            empty = Path(temporary, f"case_{number}")
            empty.mkdir()
            text.append(row(case, answer(case, trained, empty)))
            shutil.rmtree(empty)
    return "\n".join(text) + "\n"


def row(case: Case, found: str) -> str:
    """Return a line of the table; long answers are cut."""
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
