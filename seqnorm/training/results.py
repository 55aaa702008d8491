"""Results of runs: a CSV file that grows by a row a run, and the table made of it.

``python -m seqnorm.training.results results/text_classification.csv`` prints the table as Markdown.
"""

from __future__ import annotations

import csv
import io
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import mean, stdev
from typing import IO

from .files import write_atomically

COLUMNS = (
    "corpus",
    "cell",
    "norm",
    "seed",
    "test_accuracy",
    "test_macro_f1",
    "epochs",
    "seconds",
    "config",
    "commit",
)


def append_result(
    path: str | Path, result: Mapping[str, object], columns: Sequence[str] = COLUMNS
) -> None:
    """Appends a row of all ``columns`` to the CSV file ``path``, made with a header if needed.

    Several processes may do so at once.

    Raises:
        OSError: it could not be, as on a full disk; nothing of it is left in the file.
    """
    path = Path(path)
    row = _line(tuple(result[name] for name in columns)).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        # The file appears with its header in it, once, whoever is first. A temporary folder, for a
        # temporary file could be read by its owner alone.
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            new = Path(folder) / path.name
            new.write_bytes(_line(columns).encode())
            with suppress(FileExistsError):
                os.link(new, path)
    with path.open("ab", buffering=0) as file, _alone(file):
        before = os.fstat(file.fileno()).st_size
        try:
            while row:  # a write may take a part, and the next one say that the disk is full
                row = row[file.write(row) :]
            os.fsync(file.fileno())
        except OSError as error:
            file.truncate(before)
            words = f"the result could not be appended; the rows before are whole: {error.strerror}"
            raise OSError(error.errno, words, str(path)) from error


@contextmanager
def _alone(file: IO[bytes]) -> Iterator[None]:
    """Within, no other process appends, where the file system has locks."""
    try:
        import fcntl  # of POSIX
    except ModuleNotFoundError:
        yield
        return
    with suppress(OSError):  # closing the file opens the lock
        fcntl.flock(file, fcntl.LOCK_EX)
    yield


def append_once(
    path: str | Path,
    result: Mapping[str, object],
    marker: str | Path,
    columns: Sequence[str] = COLUMNS,
) -> bool:
    """As ``append_result``, unless ``path`` has the row that the file ``marker`` holds.

    The marker is written before the row is, so that whoever dies in between, or later, and comes
    again, perhaps with other seconds in the row, finds out whether it had been appended.

    Returns:
        Whether a row was appended.
    """
    path, marker = Path(path), Path(marker)
    if marker.exists() and path.exists():
        _, _, before = marker.read_bytes().partition(b"\n")
        if b"\n" + before in path.read_bytes():
            return False
    line = _line(tuple(result[name] for name in columns))
    write_atomically(marker, _line(columns) + line)
    append_result(path, result, columns)
    return True


def _line(values: Sequence[object]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue()


def commit() -> str:
    """The commit of the working tree, with -dirty if files differ from it; "" outside of git.

    Results do not count: a run that writes them is made by the same code as the next one.
    """
    try:
        name = _git("describe", "--always")
        changed = _git("diff", "HEAD", "--name-only", "--", ":/", ":(top,exclude)results")
    except (FileNotFoundError, subprocess.CalledProcessError):
        return ""
    return f"{name}-dirty" if changed else name


def _git(*arguments: str) -> str:
    command = ["git", *arguments]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    return answer.stdout.strip()


def markdown(path: str | Path) -> str:
    """The table of the results in ``path``: mean and standard deviation over runs."""
    groups: defaultdict[tuple[str, str, str], list[dict[str, str]]] = defaultdict(list)
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            groups[row["corpus"], row["cell"], row["norm"]].append(row)
    lines = [
        "| corpus | cell | norm | test accuracy | test macro F1 | runs |",
        "|---|---|---|---|---|---|",
    ]
    corpora = list(dict.fromkeys(corpus for corpus, _, _ in groups))  # a corpus's rows together
    for group, rows in sorted(groups.items(), key=lambda item: corpora.index(item[0][0])):
        figures = [
            spread([float(row[column]) for row in rows])
            for column in ("test_accuracy", "test_macro_f1")
        ]
        lines.append(f"| {' | '.join([*group, *figures, str(len(rows))])} |")
    return "\n".join(lines)


def spread(values: Sequence[float]) -> str:
    """Mean and, of several values, standard deviation."""
    return f"{mean(values):.4f}" + (f" ± {stdev(values):.4f}" if len(values) > 1 else "")


if __name__ == "__main__":
    print(markdown(sys.argv[1]))
