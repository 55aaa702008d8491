"""Draw the pictures of the pages from the library itself: ``python docs/pictures.py``.

They are written into ``docs/pictures``; a test compares the files with what this program draws.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import torch

import seqnorm
from seqnorm.nn.statistics_sets.drawing import FONT, INK, OTHER, OTHER_EDGE, OWN, QUIET

FOLDER = Path(__file__).resolve().parent / "pictures"
LENGTHS = (6, 4, 3, 1)
# The name of a file, the norm or "window", and the site whose set is shown.
SETS: dict[str, tuple[str, str]] = {
    "set_layer": ("layer", "hidden"),
    "set_batch": ("batch", "hidden"),
    "set_batch_pooled": ("batch_pooled", "input"),
    "set_dynamic_tanh": ("dynamic_tanh", "hidden"),
    "set_window": ("window", "hidden"),
}
GAP = 24


SIDE, LEFT, TOP, WIDTH, HEIGHT = 44, 150, 84, 460, 396


def set_of(name: str) -> str:
    """Return the picture of a set S in an LSTM, as SVG."""
    norm, site = SETS[name]
    title, scheme = f'norm="{norm}"', seqnorm.preset(norm if norm in seqnorm.PRESETS else "layer")
    if norm == "window":
        title, scheme = 'Norm("layer", window=3)', scheme.replace(window=3)
    elif norm not in seqnorm.PRESETS:
        title, scheme = f'Norm("{norm}")', scheme.replace(kind=norm)
    found = seqnorm.statistics_set(seqnorm.LSTM(4, 4, norm=scheme))[site]
    return replace(found, name=title).svg(lengths=LENGTHS)


def side_by_side(pictures: list[str]) -> str:
    """Return pictures beside each other in one SVG image."""
    parts, x, tallest = [], 0, 0
    for picture in pictures:
        found = re.search(r'viewBox="0 0 (\d+) (\d+)" width="\d+" height="\d+"', picture)
        assert found is not None, picture[:200]
        size = f'viewBox="0 0 {found[1]} {found[2]}" width="{found[1]}" height="{found[2]}"'
        parts.append(picture.replace(found[0], f'x="{x}" y="0" {size}', 1))
        x += int(found[1]) + GAP
        tallest = max(tallest, int(found[2]))
    words = "Elements that share a mean in an LSTM with LayerNorm, and with BatchNorm of every step"
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {x - GAP} {tallest}" '
        f'width="{x - GAP}" height="{tallest}" role="img" style="max-width:100%;height:auto">'
        f"\n<title>{words}</title>"
        f'\n<rect width="{x - GAP}" height="{tallest}" fill="#ffffff"/>'
    )
    return f"{head}\n{chr(10).join(parts)}\n</svg>\n"


def rows_of_steps() -> str:
    """Return a picture of a padded batch: the rows of each step, and where its statistics are from.

    A layer of the library counts the rows.
    """
    lstm = seqnorm.LSTM(4, 4, norm=seqnorm.preset("batch", "LSTM", max_steps=max(LENGTHS)))
    lstm(torch.randn(max(LENGTHS), len(LENGTHS), 4), lengths=LENGTHS)
    table = lstm.norm_hh_l0.table
    updated = table.count.tolist()
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
        f'height="{HEIGHT}" role="img" style="max-width:100%;height:auto" font-family="{FONT}" '
        f'font-size="16" fill="{INK}">',
        "<title>The rows of each time step of a padded batch</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        text(16, 28, "A padded batch in training", 'font-size="20" font-weight="bold"'),
    ]
    for step in range(max(LENGTHS)):
        x = LEFT + step * SIDE
        middle = 'text-anchor="middle"'
        parts.append(text(x + SIDE / 2, TOP - 10, str(step), f'{middle} fill="{QUIET}"'))
        for b, length in enumerate(LENGTHS):
            y = TOP + b * SIDE
            valid = f'fill="{OWN if updated[step] else OTHER}" stroke="{OTHER_EDGE}"'
            absent = 'fill="none" stroke="#8d99a3" stroke-dasharray="4 3"'
            parts.append(
                f'<rect x="{x + 2}" y="{y + 2}" width="{SIDE - 4}" height="{SIDE - 4}" '
                f"{valid if step < length else absent}/>"
            )
        rows = sum(length > step for length in LENGTHS)
        below = TOP + len(LENGTHS) * SIDE
        parts.append(text(x + SIDE / 2, below + 28, str(rows), middle))
    parts.append(text(16, TOP - 10, "step", f'fill="{QUIET}"'))
    for b, length in enumerate(LENGTHS):
        parts.append(text(16, TOP + b * SIDE + 28, f"sequence {b + 1}: {length}"))
    parts.append(text(16, below + 28, "rows"))
    legend = {
        f'fill="{OWN}" stroke="{OTHER_EDGE}"': "normalised with the statistics of its own step",
        f'fill="{OTHER}" stroke="{OTHER_EDGE}"': (
            f"fewer than {table.min_count} rows: normalised with running statistics"
        ),
        'fill="none" stroke="#8d99a3" stroke-dasharray="4 3"': "padding, which never counts",
    }
    for line, (look, words) in enumerate(legend.items()):
        y = below + 50 + 26 * line
        parts.append(f'<rect x="16" y="{y}" width="16" height="16" {look}/>')
        parts.append(text(42, y + 14, words))
    return "\n".join([*parts, "</svg>"]) + "\n"


def resets() -> str:
    """Return a picture of a batch with resets: the number of every step, and the rows of step 1.

    A function of the library counts the steps.
    """
    anew = torch.zeros(8, 3, dtype=torch.bool)
    anew[[3, 6], [0, 0]] = anew[5, 1] = True
    numbers = [seqnorm.steps_since_reset(anew[: t + 1]) - 1 for t in range(len(anew))]
    width, height = LEFT + len(anew) * SIDE + 16, TOP + 3 * SIDE + 84
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" role="img" style="max-width:100%;height:auto" font-family="{FONT}" '
        f'font-size="16" fill="{INK}">',
        "<title>The steps of a batch with resets</title>",
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        text(16, 28, "Steps count from each reset", 'font-size="20" font-weight="bold"'),
        text(16, TOP - 10, "time", f'fill="{QUIET}"'),
    ]
    shared = f'fill="{OWN}" stroke="{OTHER_EDGE}"'
    bar = f'stroke="{INK}" stroke-width="4"'
    for t in range(len(anew)):
        x = LEFT + t * SIDE
        middle = 'text-anchor="middle"'
        parts.append(text(x + SIDE / 2, TOP - 10, str(t), f'{middle} fill="{QUIET}"'))
        for b in range(3):
            y, number = TOP + b * SIDE, int(numbers[t][b])
            look = shared if number == 1 else f'fill="{OTHER}" stroke="{OTHER_EDGE}"'
            parts.append(
                f'<rect x="{x + 2}" y="{y + 2}" width="{SIDE - 4}" height="{SIDE - 4}" {look}/>'
            )
            ink = "#ffffff" if number == 1 else INK
            parts.append(text(x + SIDE / 2, y + 28, str(number), f'{middle} fill="{ink}"'))
            if anew[t, b]:
                parts.append(f'<path d="M{x} {y - 2}V{y + SIDE + 2}" {bar}/>')
    for b in range(3):
        parts.append(text(16, TOP + b * SIDE + 28, f"sequence {b + 1}"))
    y = TOP + 3 * SIDE + 24
    parts.append(f'<path d="M24 {y}v16" {bar}/>')
    parts.append(text(42, y + 14, "a reset: the state before this step is the initial one"))
    parts.append(f'<rect x="16" y="{y + 26}" width="16" height="16" {shared}/>')
    parts.append(text(42, y + 40, "the rows of step 1, which share a mean and a variance"))
    return "\n".join([*parts, "</svg>"]) + "\n"


def text(x: float, y: float, words: str, style: str = "") -> str:
    """Return a line of text."""
    return f'<text x="{x:g}" y="{y:g}" {style}>{words}</text>'.replace(" >", ">")


def draw() -> dict[str, str]:
    """Return the pictures by the name of their file."""
    found = {f"{name}.svg": set_of(name) for name in SETS}
    found["sets.svg"] = side_by_side([set_of("set_layer"), set_of("set_batch")])
    return {**found, "rows_of_steps.svg": rows_of_steps(), "resets.svg": resets()}


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, picture in draw().items():
        (FOLDER / name).write_text(picture, encoding="utf-8")
        print(FOLDER / name)


if __name__ == "__main__":
    main()
