"""Blocks of elements drawn as planes one above the other, written as SVG.

A block is (stacks, planes, rows, columns). Each plane is a grid seen from the front and above, with
its first row in front. The planes of a stack lie below each other, and stacks stand side by side.
Every element is visible, so a set is seen whole wherever it lies.
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
BOLD = 0.69  # width of a letter of the title, there, relative to its size
FONT = "Helvetica, Arial, 'DejaVu Sans', sans-serif"
INK, QUIET = "#1b1b1b", "#56616a"
# Blue of Okabe & Ito (2008) and a pale tint, which differ in lightness too, and so in grey.
OWN, OWN_SIDE, OWN_EDGE = "#0072b2", "#004b76", "#ffffff"
OTHER, OTHER_SIDE, OTHER_EDGE = "#e6eef4", "#c3d0da", "#a9bac7"
ABSENT, DASHES = "#8d99a3", "4 3"
THICK = 4.0

Point = tuple[float, float]


@dataclass(frozen=True)
class Panel:
    """A block of elements, the words along its edges and the text around it."""

    # Boolean (stacks, planes, rows, columns).
    same: Tensor  # the set that is shown
    valid: Tensor  # the elements that are not padding, the same in every row
    element: Tensor  # the one element of the set
    words: str  # a sentence above the block
    consequence: str  # a sentence below it
    shared: str  # the statistics that the elements of a set share; "" if there are no statistics
    note: str = ""  # a further sentence below the block
    whole: bool = True  # false if some elements take no statistics, or those of a set without them
    gives: bool = False  # true if elements of a set have sets of their own, as those of a window
    heading: str = ""  # a bold line above everything
    back: str = ""  # word for the rows
    along: str = ""  # word for the columns
    up: str = ""  # word for the planes, where they have no words of their own
    stacks: tuple[str, ...] = ()  # words below each stack
    planes: tuple[str, ...] = ()  # words beside each plane instead, with a single stack
    details: tuple[str, ...] = ()  # second lines of ``planes``
    gates: str = ""  # a letter for each of the equal parts into which the rows are divided


class _Image(list[str]):
    """The elements of an SVG image. Attributes are written with underscores for hyphens."""

    def add(self, tag: str, words: str | None = None, **attributes: float | str) -> None:
        """Add an element, with words inside it if there are any."""
        written = {
            name.replace("_", "-"): value if isinstance(value, str) else f"{value:.1f}"
            for name, value in attributes.items()
        }
        start = " ".join([tag, *(f'{name}="{value}"' for name, value in written.items())])
        self.append(f"<{start}/>" if words is None else f"<{start}>{escape(words)}</{tag}>")

    def text(self, x: float, y: float, words: str, **attributes: str) -> None:
        self.add("text", words, x=x, y=y, **attributes)

    def quiet(self, x: float, y: float, words: str, **attributes: str) -> None:
        self.text(x, y, words, **attributes, fill=QUIET)

    def paragraph(self, y: float, words: str, **attributes: str) -> float:
        """Add lines of words from y on, and return the y after them."""
        for line in wrap(words, LETTERS, break_on_hyphens=False):
            self.text(MARGIN, y, line, **attributes)
            y += LINE
        return y

    def line(self, tail: Point, tip: Point, stroke: str) -> None:
        (x1, y1), (x2, y2) = tail, tip
        self.add("line", x1=x1, y1=y1, x2=x2, y2=y2, stroke=stroke, stroke_width=1.2)

    def polygon(self, corners: Sequence[Point], **attributes: str) -> None:
        self.add("polygon", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in corners), **attributes)

    def arrow(self, tail: Point, tip: Point) -> None:
        """Add a line and its head, drawn without a marker, which would need an id in a page."""
        (x1, y1), (x2, y2) = tail, tip
        length = ((x2 - x1) ** 2 + (y2 - y1) ** 2) ** 0.5
        u, v = (x2 - x1) / length, (y2 - y1) / length
        left = (x2 - 7 * u + 3.2 * v, y2 - 7 * v - 3.2 * u)
        right = (x2 - 7 * u - 3.2 * v, y2 - 7 * v + 3.2 * u)
        self.line(tail, (x2 - 5 * u, y2 - 5 * v), QUIET)
        self.polygon([tip, left, right], fill=QUIET)


def draw(title: str, axes: str, panels: Sequence[Panel], description: str) -> str:
    """Draw panels below each other and return the text of the SVG image.

    Args:
        title: the line above the panels, which a screen reader says first.
        axes: axes of the tensor, beside the title.
        description: the text that a screen reader says next.
    """
    image = _Image()
    y = 28.0
    room = WIDTH - 2 * MARGIN
    size = min(TITLE, room / (BOLD * max(1, len(title))))
    image.text(MARGIN, y, title, font_size=f"{size:.4g}", font_weight="bold")
    if BOLD * size * len(title) + 0.6 * TEXT * (len(axes) + 1) < room:
        image.quiet(WIDTH - MARGIN, y, axes, text_anchor="end")
    else:
        y += LINE
        image.quiet(MARGIN, y, axes)
    y += 26
    for number, panel in enumerate(panels):
        if number:
            image.line((MARGIN, y - 8), (WIDTH - MARGIN, y - 8), OTHER_EDGE)
            y += LINE - 4
        y = image.paragraph(y, panel.heading, font_weight="bold")
        y = image.paragraph(y, f"{panel.words[:1].upper()}{panel.words[1:]}.") + 2
        y = _beside(image, y, panel) if panel.planes else _below(image, y, panel)
        y = image.paragraph(y, panel.consequence)
        y = image.paragraph(y, panel.note, fill=QUIET) + 4
    height = round(_legend(image, y + 2, panels) - 8)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
        f'height="{height}" role="img" style="max-width:100%;height:auto" '
        f'font-family="{FONT}" font-size="{TEXT}" fill="{INK}">'
    )
    words = [f"<title>{escape(title)}</title>", f"<desc>{escape(description)}</desc>"]
    ground = f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>'
    return "\n".join([head, *words, ground, *image, "</svg>"]) + "\n"


def _legend(image: _Image, y: float, panels: Sequence[Panel]) -> float:
    """Draw the meaning of the colours."""
    shared = {panel.shared for panel in panels if panel.shared}
    what = shared.pop() if len(shared) == 1 else "statistics"
    others = "other sets" if all(panel.whole for panel in panels) else "other elements"
    verb = "give" if any(panel.gives for panel in panels) else "share"
    entries = [(OWN, OWN, f"{verb} the dot's {what}"), (OTHER, OTHER_EDGE, others)]
    if not any(panel.shared for panel in panels):
        entries = [(OTHER, OTHER_EDGE, "elements, each by itself")]
    if not all(bool(panel.valid.all()) for panel in panels):
        entries.append(("none", ABSENT, "padding, in no set"))
    x = float(MARGIN)
    for fill, edge, words in entries:
        width = 24 + 9.0 * len(words) + 10
        if x + width > WIDTH and x > MARGIN:
            x, y = float(MARGIN), y + LINE
        box = {"width": "16", "height": "13", "fill": fill, "stroke": edge}
        dashes = {"stroke_dasharray": DASHES} if fill == "none" else {}
        image.add("rect", x=x, y=y - 12, **box, **dashes)
        if fill == OWN:
            image.add("circle", cx=x + 8, cy=y - 5.5, r=3.2, fill="#ffffff")
        image.text(x + 23, y, words)
        x += width
    return y + LINE


def _below(image: _Image, y: float, panel: Panel) -> float:
    """Draw stacks side by side with a word below each; all planes are of one kind."""
    stacks, planes, rows, columns = panel.same.shape
    left, top = 60.0, y + 16
    pitch = (WIDTH - left - 10) / stacks
    wide = min(26.0, (pitch - 14) / (columns + 0.45 * rows))
    high = 0.45 * wide
    deep, gap, reach = rows * high, 15.0, columns * wide
    for plane in range(planes):
        for stack in range(stacks):
            corner = (left + stack * pitch, top + deep + plane * (deep + gap))
            _plane(image, corner, (wide, high, high), panel, (stack, plane))
    front = top + planes * (deep + gap) - gap + THICK
    for stack, word in enumerate(panel.stacks):
        middle = left + stack * pitch + reach / 2 + deep / 4
        image.quiet(middle, front + 20, word, text_anchor="middle")
    image.quiet(left + deep + reach / 2, top - 5, panel.along, text_anchor="middle")
    image.quiet(left + deep / 2 - 7, top + deep / 2 + 2, panel.back, text_anchor="end")
    image.arrow((left - 16, top + deep), (left - 16, front))
    x, middle = left - 26, (front + top + deep) / 2
    turn = f"rotate(-90 {x:.1f} {middle:.1f})"
    image.text(x, middle, panel.up, text_anchor="middle", fill=QUIET, transform=turn)
    return front + 20 + LINE + 4


def _beside(image: _Image, y: float, panel: Panel) -> float:
    """Draw one stack with words beside every plane and along the edges of time and units."""
    _, planes, rows, columns = panel.same.shape
    left, right, top = 116.0, 24.0 if panel.gates else 76.0, y
    high = min(13.0, 88.0 / rows)
    slant = 0.7 * high
    wide = min(44.0, (WIDTH - left - right - rows * slant) / columns)
    deep, gap, reach = rows * high, 22.0, columns * wide
    for plane, word in enumerate(panel.planes):
        base = top + deep + plane * (deep + gap)
        _plane(image, (left, base), (wide, high, slant), panel, (0, plane))
        middle = base - (10 if panel.details else 0)
        image.text(left - 10, middle, word, text_anchor="end")
        if panel.details:
            image.quiet(left - 10, middle + 17, panel.details[plane], text_anchor="end")
    edge, front, share = left + reach, top + deep, rows / max(1, len(panel.gates))
    for number, gate in enumerate(panel.gates):
        back = (number + 0.5) * share
        image.text(edge + back * slant + 9, front - back * high + 6, gate)
    if not panel.gates:
        image.arrow((edge + 8, front), (edge + 8 + rows * slant, top))
        image.quiet(edge + rows * slant / 2 + 15, front - deep / 2 + 11, panel.back)
    y = top + planes * (deep + gap) - gap + THICK + 11
    image.arrow((left, y), (left + reach, y))
    image.quiet(left + reach / 2, y + 18, panel.along, text_anchor="middle")
    return y + 18 + LINE + 6


def _plane(
    image: _Image,
    corner: Point,
    sizes: tuple[float, float, float],
    panel: Panel,
    index: tuple[int, int],
) -> None:
    """Draw one grid, the back row first, with the thickness of its front and right edges.

    Args:
        corner: the front left corner.
        sizes: width and height of an element, and the shift of a row to the right of the one in
            front of it.
    """
    (x0, y0), (wide, high, slant) = corner, sizes
    same, element = panel.same[index].tolist(), panel.element[index].tolist()
    rows, columns = len(same), len(same[0])
    there = sum(panel.valid[index][0].tolist())  # padding comes last

    def at(column: float, back: float) -> Point:
        return x0 + column * wide + back * slant, y0 - back * high

    def area(first: int, last: int, front: int, back: int) -> list[Point]:
        return [at(first, front), at(last, front), at(last, back), at(first, back)]

    if there < columns:
        absent = area(there, columns, 0, rows)
        image.polygon(absent, fill="none", stroke=ABSENT, stroke_dasharray=DASHES)
    for back in range(rows - 1, -1, -1):
        for column in range(there):
            own = same[back][column]
            cell = area(column, column + 1, back, back + 1)
            fill, side, edge = (OWN, OWN_SIDE, OWN_EDGE) if own else (OTHER, OTHER_SIDE, OTHER_EDGE)
            image.polygon(cell, fill=fill, stroke=edge)
            faces = [(cell[0], cell[1])] if back == 0 else []
            faces += [(cell[1], cell[2])] if column == there - 1 else []
            for a, b in faces:
                image.polygon([a, b, (b[0], b[1] + THICK), (a[0], a[1] + THICK)], fill=side)
            if element[back][column]:
                x, y = at(column + 0.5, back + 0.5)
                r = min(0.28 * high + 1.2, 0.15 * wide)
                # The element of an empty set is pale.
                image.add("ellipse", cx=x, cy=y, rx=1.35 * r, ry=r, fill="#ffffff" if own else INK)
    for gate in range(1, len(panel.gates)):
        edge_of_gate = gate * rows / len(panel.gates)
        image.line(at(0, edge_of_gate), at(there, edge_of_gate), QUIET)
