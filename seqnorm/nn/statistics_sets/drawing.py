"""Blocks of elements as planes one above the other, written as SVG.

A block is (stacks, planes, rows, columns): each plane is a grid seen from the front and above, its
first row in front, the planes of a stack lie below each other, stacks stand side by side. Every
element is visible, so a set is seen whole wherever it lies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from textwrap import wrap

from torch import Tensor

WIDTH, MARGIN = 420, 16  # user units: at 320 pixels TEXT is 12 pixels high
TITLE, TEXT, LINE = 20, 16, 21
LETTERS = 44  # of TEXT in a line, in a wide face
BOLD = 0.69  # width of a letter of the title, there, to its size
FONT = "Helvetica, Arial, 'DejaVu Sans', sans-serif"
INK, QUIET = "#1b1b1b", "#56616a"
# Blue of Okabe & Ito (2008) against a pale tint: apart in lightness too, so in grey as well.
OWN, OWN_SIDE, OWN_EDGE = "#0072b2", "#004b76", "#ffffff"
OTHER, OTHER_SIDE, OTHER_EDGE = "#e6eef4", "#c3d0da", "#a9bac7"
ABSENT, DASHES = "#8d99a3", 'stroke-dasharray="4 3"'
THICK = 4.0

Point = tuple[float, float]
Grid = list[list[bool]]


@dataclass(frozen=True)
class Block:
    """A block of elements and the words along its edges.

    Args:
        same, valid, element: boolean (stacks, planes, rows, columns): the set that is shown, what
            is no padding (in every row the same), the one element whose set it is.
        back: what the rows are.
        along: what the columns are.
        up: what the planes are, where they have no words of their own.
        stacks: words below each stack.
        planes: words beside each plane, instead; all in one stack.
        details: words below those.
        gates: a letter for each of the equal parts into which the rows fall.
    """

    same: Tensor
    valid: Tensor
    element: Tensor
    back: str
    along: str
    up: str = ""
    stacks: tuple[str, ...] = ()
    planes: tuple[str, ...] = ()
    details: tuple[str, ...] = ()
    gates: str = ""


@dataclass(frozen=True)
class Panel:
    """A block and the text around it; ``shared`` is what the elements of its set share."""

    block: Block
    words: str
    consequence: str
    shared: str
    note: str = ""
    heading: str = ""


def draw(title: str, axes: str, panels: Sequence[Panel], description: str) -> str:
    """The panels below each other as one SVG image.

    Args:
        title: above them, and what a screen reader says first.
        axes: of the tensor, beside the title.
        description: what a screen reader says then.
    """
    body: list[str] = []
    y = 28.0
    room = WIDTH - 2 * MARGIN
    size = min(TITLE, room / (BOLD * max(1, len(title))))
    body.append(_text(MARGIN, y, title, size=size, weight="bold"))
    if BOLD * size * len(title) + 0.6 * TEXT * (len(axes) + 1) < room:
        body.append(_text(WIDTH - MARGIN, y, axes, anchor="end", fill=QUIET))
    else:
        y += LINE
        body.append(_text(MARGIN, y, axes, fill=QUIET))
    y += 26
    for number, panel in enumerate(panels):
        if number:
            body.append(_line(MARGIN, y - 8, WIDTH - MARGIN, y - 8, OTHER_EDGE))
            y += LINE - 4
        y = _paragraph(body, y, panel.heading, weight="bold")
        y = _paragraph(body, y, f"{panel.words[:1].upper()}{panel.words[1:]}.") + 2
        y = _beside(body, y, panel.block) if panel.block.planes else _below(body, y, panel.block)
        y = _paragraph(body, y, panel.consequence)
        y = _paragraph(body, y, panel.note, fill=QUIET) + 4
    y = _legend(body, y + 2, panels)
    height = round(y - 8)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
        f'height="{height}" role="img" style="max-width:100%;height:auto" '
        f'font-family="{FONT}" font-size="{TEXT}" fill="{INK}">'
    )
    words = [f"<title>{escape(title)}</title>", f"<desc>{escape(description)}</desc>"]
    ground = f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>'
    return "\n".join([head, *words, ground, *body, "</svg>"]) + "\n"


def _paragraph(body: list[str], y: float, words: str, weight: str = "", fill: str = "") -> float:
    for line in wrap(words, LETTERS, break_on_hyphens=False):
        body.append(_text(MARGIN, y, line, weight=weight, fill=fill))
        y += LINE
    return y


def _legend(body: list[str], y: float, panels: Sequence[Panel]) -> float:
    """What the colours mean."""
    shared = {panel.shared for panel in panels}
    what = shared.pop() if len(shared) == 1 else "statistics"
    entries = [(OWN, OWN, f"share the dot's {what}"), (OTHER, OTHER_EDGE, "other sets")]
    if not all(bool(panel.block.valid.all()) for panel in panels):
        entries.append(("none", ABSENT, "padding, in no set"))
    x = float(MARGIN)
    for fill, edge, words in entries:
        width = 24 + 9.0 * len(words) + 10
        if x + width > WIDTH and x > MARGIN:
            x, y = float(MARGIN), y + LINE
        dashes = f" {DASHES}" if fill == "none" else ""
        body.append(
            f'<rect x="{x:.1f}" y="{y - 12:.1f}" width="16" height="13" fill="{fill}" '
            f'stroke="{edge}"{dashes}/>'
        )
        if fill == OWN:
            body.append(f'<circle cx="{x + 8:.1f}" cy="{y - 5.5:.1f}" r="3.2" fill="#ffffff"/>')
        body.append(_text(x + 23, y, words))
        x += width
    return y + LINE


def _below(body: list[str], y: float, block: Block) -> float:
    """Stacks side by side with a word below each; the planes are one kind of thing."""
    stacks, planes, rows, columns = block.same.shape
    left, top = 60.0, y + 16
    pitch = (WIDTH - left - 10) / stacks
    wide = min(26.0, (pitch - 14) / (columns + 0.45 * rows))
    high = 0.45 * wide
    deep, gap = rows * high, 15.0
    for plane in range(planes):
        for stack in range(stacks):
            corner = (left + stack * pitch, top + deep + plane * (deep + gap))
            body += _plane(corner, (wide, high, high), block, (stack, plane))
    front = top + planes * (deep + gap) - gap + THICK
    reach = columns * wide
    for stack, word in enumerate(block.stacks):
        middle = left + stack * pitch + reach / 2 + deep / 4
        body.append(_text(middle, front + 20, word, anchor="middle", fill=QUIET))
    body.append(_text(left + deep + reach / 2, top - 5, block.along, anchor="middle", fill=QUIET))
    body.append(
        _text(left + deep / 2 - 7, top + deep / 2 + 2, block.back, anchor="end", fill=QUIET)
    )
    body.append(_arrow((left - 16, top + deep), (left - 16, front)))
    x, middle = left - 26, (front + top + deep) / 2
    turn = f"rotate(-90 {x:.1f} {middle:.1f})"
    body.append(_text(x, middle, block.up, anchor="middle", fill=QUIET, turn=turn))
    return front + 20 + LINE + 4


def _beside(body: list[str], y: float, block: Block) -> float:
    """One stack, with words beside every plane and along the edges of time and units."""
    _, planes, rows, columns = block.same.shape
    left, right, top = 116.0, 24.0 if block.gates else 76.0, y
    high = min(13.0, 88.0 / rows)
    slant = 0.7 * high
    wide = min(44.0, (WIDTH - left - right - rows * slant) / columns)
    deep, gap, reach = rows * high, 22.0, columns * wide
    for plane, word in enumerate(block.planes):
        base = top + deep + plane * (deep + gap)
        body += _plane((left, base), (wide, high, slant), block, (0, plane))
        middle = base - (10 if block.details else 0)
        body.append(_text(left - 10, middle, word, anchor="end"))
        if block.details:
            body.append(
                _text(left - 10, middle + 17, block.details[plane], anchor="end", fill=QUIET)
            )
    edge, front, share = left + reach, top + deep, rows / max(1, len(block.gates))
    for number, gate in enumerate(block.gates):
        back = (number + 0.5) * share
        body.append(_text(edge + back * slant + 9, front - back * high + 6, gate))
    if not block.gates:
        body.append(_arrow((edge + 8, front), (edge + 8 + rows * slant, top)))
        half = edge + rows * slant / 2
        body.append(_text(half + 15, front - deep / 2 + 11, block.back, fill=QUIET))
    y = top + planes * (deep + gap) - gap + THICK + 11
    body.append(_arrow((left, y), (left + reach, y)))
    body.append(_text(left + reach / 2, y + 18, block.along, anchor="middle", fill=QUIET))
    return y + 18 + LINE + 6


def _plane(
    corner: Point, sizes: tuple[float, float, float], block: Block, index: tuple[int, int]
) -> list[str]:
    """One grid, the back row first, with the thickness of its front and right edges.

    Args:
        corner: front left.
        sizes: width and height of an element, and how far a row stands to the right of the one
            in front of it.
    """
    (x0, y0), (wide, high, slant) = corner, sizes
    same: Grid = block.same[index].tolist()
    element: Grid = block.element[index].tolist()
    rows, columns = len(same), len(same[0])
    there = sum(block.valid[index][0].tolist())  # padding comes last

    def at(column: float, back: float) -> Point:
        return x0 + column * wide + back * slant, y0 - back * high

    def area(first: int, last: int, front: int, back: int) -> list[Point]:
        return [at(first, front), at(last, front), at(last, back), at(first, back)]

    found: list[str] = []
    if there < columns:
        absent = area(there, columns, 0, rows)
        found.append(
            f'<polygon points="{_points(absent)}" fill="none" stroke="{ABSENT}" {DASHES}/>'
        )
    for back in range(rows - 1, -1, -1):
        for column in range(there):
            own = same[back][column]
            cell = area(column, column + 1, back, back + 1)
            fill, side, edge = (OWN, OWN_SIDE, OWN_EDGE) if own else (OTHER, OTHER_SIDE, OTHER_EDGE)
            found.append(f'<polygon points="{_points(cell)}" fill="{fill}" stroke="{edge}"/>')
            faces = [(cell[0], cell[1])] if back == 0 else []
            faces += [(cell[1], cell[2])] if column == there - 1 else []
            for a, b in faces:
                down = [a, b, (b[0], b[1] + THICK), (a[0], a[1] + THICK)]
                found.append(f'<polygon points="{_points(down)}" fill="{side}"/>')
            if element[back][column]:
                x, y = at(column + 0.5, back + 0.5)
                r = min(0.28 * high + 1.2, 0.15 * wide)
                found.append(
                    f'<ellipse cx="{x:.1f}" cy="{y:.1f}" rx="{1.35 * r:.1f}" ry="{r:.1f}" '
                    'fill="#ffffff"/>'
                )
    for gate in range(1, len(block.gates)):
        edge_of_gate = gate * rows / len(block.gates)
        found.append(_line(*at(0, edge_of_gate), *at(there, edge_of_gate), QUIET))
    return found


def _points(corners: Sequence[Point]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)


def _line(x1: float, y1: float, x2: float, y2: float, stroke: str) -> str:
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} stroke="{stroke}" stroke-width="1.2"/>'


def _arrow(tail: Point, tip: Point) -> str:
    """A line with a head, drawn without a marker, which would need an id of its own in a page."""
    (x1, y1), (x2, y2) = tail, tip
    length = ((x2 - x1) ** 2 + (y2 - y1) ** 2) ** 0.5
    u, v = (x2 - x1) / length, (y2 - y1) / length
    head = [
        (x2, y2),
        (x2 - 7 * u + 3.2 * v, y2 - 7 * v - 3.2 * u),
        (x2 - 7 * u - 3.2 * v, y2 - 7 * v + 3.2 * u),
    ]
    shaft = _line(x1, y1, x2 - 5 * u, y2 - 5 * v, QUIET)
    return f'{shaft}<polygon points="{_points(head)}" fill="{QUIET}"/>'


def _text(
    x: float,
    y: float,
    words: str,
    *,
    size: float = TEXT,
    weight: str = "",
    anchor: str = "",
    fill: str = "",
    turn: str = "",
) -> str:
    options = {
        "font-size": "" if size == TEXT else f"{size:.4g}",
        "font-weight": weight,
        "text-anchor": anchor,
        "fill": fill,
        "transform": turn,
    }
    given = "".join(f' {name}="{value}"' for name, value in options.items() if value)
    return f'<text x="{x:.1f}" y="{y:.1f}"{given}>{escape(words)}</text>'
