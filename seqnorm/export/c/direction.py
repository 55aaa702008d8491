"""One step of one layer in one direction as a function in C.

Axes: I = input_size, H = hidden_size, P = size of h, G gates, F features of a norm.
"""

from __future__ import annotations

from typing import Optional

import torch
from torch import Tensor

from ...nn.recurrence.dynamic import DynamicSiteNorm
from ...nn.recurrence.scheme import NormScheme
from ...nn.recurrence.site_norms import BatchSiteNorm, FeatureNorm
from ...nn.statistics.moments import units_of_part
from .arrays import Arrays, head_panels, literal, panels
from .cells import CELLS
from .source import Part, steps_with_statistics

Vector = Optional[Tensor]


class Code:
    """The body of the function, line by line.

    Attributes:
        part: the direction.
        H: hidden_size.
        rows: G * H.
        spans: the gates of each norm, by site.
        buffers: the floats that the step needs beside the state, by name.
        rows_of_tables: the number of steps of the longest table of statistics.
    """

    def __init__(self, model: str, part: Part, arrays: Arrays) -> None:
        self.part, self._arrays = part, arrays
        self.rows = len(part.direction.weight_ih)
        self.H = self.rows // len(part.step.gates)
        scheme = part.direction.scheme
        self.spans = {} if scheme is None else part.step.spans(scheme)
        self.buffers: dict[str, int] = {}
        self.rows_of_tables = 1
        self._lines: list[str] = []
        self._model = model
        self._write()

    def line(self, text: str) -> None:
        """Append a line."""
        self._lines.append(f"    {text}\n")

    def copy(self, to: str, of: str, n: int) -> None:
        """Append a copy of n floats."""
        self.line(f"memcpy({to}, {of}, {n} * sizeof(float));")

    def source(self) -> str:
        """Return the function in C."""
        head = f"static void {self._model}{self.part.suffix}"
        head += f"({self._model} *self, const float *x, float *y, long step) {{\n"
        names = [(name, name) for name in self.buffers]
        names += zip(self.part.step.states, [f"state.{field}" for field in self.fields])
        names += [] if "h_new" in self.buffers else [("h_new", f"state.{self.fields[0]}")]
        lines = [f"    float *{name} = self->{field};\n" for name, field in names]
        unused = "" if self.rows_of_tables > 1 else "    (void)step;\n"
        return "".join([head, *lines, unused, *self._lines, "}\n"])

    @property
    def fields(self) -> list[str]:
        """The names of the parts of the state in C."""
        return [f"{letter}{self.part.suffix}" for letter in self.part.step.states]

    def _buffer(self, name: str, size: int) -> str:
        """Ask for a buffer and return its name."""
        self.buffers[name] = size
        return name

    def _array(self, name: str, values: Tensor) -> str:
        return self._arrays.add(f"{name}{self.part.suffix}", values)

    def _write(self) -> None:
        direction, step, sizes = self.part.direction, self.part.step, self.part.state_sizes
        zoned = [kept for kept in zip(step.states, direction.zoneout, sizes) if kept[1] > 0]
        for letter, _, size in zoned:
            self.copy(self._buffer(f"{letter}_before", size), letter, size)
        self._input_term()
        self._hidden_term()
        if direction.weight_hr is not None:
            self._buffer("h_new", self.H)
        CELLS[type(step)](self)
        if direction.weight_hr is not None:
            weight = self._array("weight_hr", panels(direction.weight_hr))
            self.line(f"seqnorm_product({weight}, h_new, h, {sizes[0]}, {self.H});")
        for letter, p, size in zoned:
            self.line(f"seqnorm_keep({letter}, {letter}_before, {literal(p)}, {size});")
        self.copy("y", "h", sizes[0])
        self.norm("output", "y", sizes[0])

    def _input_term(self) -> None:
        direction, x = self.part.direction, "x"
        width = direction.weight_ih.shape[1]
        if "frame" in direction.norms:
            x = self._buffer("frame", width)
            self.copy(x, "x", width)
            self.norm("frame", x, width)
        of_x, weight = self._buffer("of_x", self.rows), panels(direction.weight_ih)
        array = self._array("weight_ih", weight)
        self.line(f"seqnorm_product({array}, {x}, {of_x}, {self.rows}, {width});")
        self.norm("input", of_x, self.rows, *self._biases("bias_ih"))

    def _hidden_term(self) -> None:
        step, weight = self.part.step, self.part.direction.weight_hh
        of_h, width = self._buffer("of_h", self.rows), self.part.state_sizes[0]
        if weight.dim() == 1:  # one weight for each unit
            self.copy(of_h, "h", width)
            self.line(f"seqnorm_times({of_h}, {self._array('weight_hh', weight)}, {width});")
        elif step.heads > 1:
            array = self._array("weight_hh", head_panels(weight))
            sizes = f"{len(step.gates)}, {step.heads}, {width // step.heads}"
            self.line(f"seqnorm_heads({array}, h, {of_h}, {sizes});")
        else:
            array = self._array("weight_hh", panels(weight))
            self.line(f"seqnorm_product({array}, h, {of_h}, {self.rows}, {width});")
        self.norm("hidden", of_h, self.rows, *self._biases("bias_hh"))

    def _biases(self, name: str) -> tuple[Vector, Vector]:
        """Return the vectors that are added before and after the norm of a term."""
        bias: Vector = getattr(self.part.direction, name)
        place = NormScheme.place_of(self.part.direction.scheme, name)
        if bias is None:
            return None, None
        return (
            bias if place in ("inside", "both") else None,
            bias if place in ("outside", "both") else None,
        )

    def norm(self, site: str, at: str, n: int, before: Vector = None, after: Vector = None) -> None:
        """Append the norm of a site, if it has one, and the biases around it.

        Args:
            site: its name.
            at: the place of the F floats in C, which the normalised ones take.
            n: F.
            before, after: (F,) what is added before and after the norm.
        """
        norm = self.part.direction.norms.get(site)
        if norm is None:
            self._affine(f"{site}_bias", at, n, None, _total(before, after))
            return
        self._affine(f"{site}_before", at, n, None, before)
        if isinstance(norm, BatchSiteNorm):
            self._table(site, norm, at, n, after)
            return
        if isinstance(norm, DynamicSiteNorm):
            alpha = literal(float(norm.alpha))
            if norm.shift is None:
                self.line(f"seqnorm_dynamic_tanh({at}, {alpha}, {n});")
            else:
                shift = literal(float(norm.shift))
                self.line(f"seqnorm_dynamic_erf({at}, {alpha}, {shift}, {n});")
        else:
            assert isinstance(norm, FeatureNorm)
            self._sets(norm, at)
        self._affine(site, at, n, norm.weight, _total(norm.bias, after))

    def _sets(self, norm: FeatureNorm, at: str) -> None:
        """Append LayerNorm or RMSNorm without gain and bias."""
        described = norm.norm
        options = f"{int(described.kind == 'layer')}, {literal(described.eps)}, "
        options += f"{int(described.eps_on == 'std')}"
        same = len(set(norm.sizes)) == 1
        place = 0
        for size in norm.sizes[:1] if same else norm.sizes:
            seen = size if described.part is None else units_of_part(described.part, size)
            begin = f"{at} + {place}" if place else at
            sets = len(norm.sizes) if same else 1
            self.line(f"seqnorm_normalise({begin}, {sets}, {size}, {seen}, {options});")
            place += size

    def _table(self, site: str, norm: BatchSiteNorm, at: str, n: int, after: Vector) -> None:
        """Append BatchNorm by running statistics, a scale and a shift for each step."""
        table = norm.table
        rows = steps_with_statistics(table)
        mean, var = (moment.double() for moment in table.read(rows))
        deviation = var.sqrt() + norm.norm.eps
        if norm.norm.eps_on == "var":
            deviation = (var + norm.norm.eps).sqrt()
        scale = 1.0 / deviation if norm.weight is None else norm.weight.double() / deviation
        shift = -mean * scale
        bias = _total(norm.bias, after)
        gain = self._array(f"{site}_scale", scale)
        moved = self._array(f"{site}_shift", shift if bias is None else shift + bias.double())
        if rows > 1:
            self.rows_of_tables = max(self.rows_of_tables, rows)
            row = f" + seqnorm_row(step, {rows}) * {n}"
            gain, moved = gain + row, moved + row
        self.line(f"seqnorm_affine({at}, {gain}, {moved}, {n});")

    def _affine(self, name: str, at: str, n: int, gain: Vector, bias: Vector) -> None:
        """Append a product with a gain and the sum with a bias, where they exist."""
        arrays = [
            self._array(f"{name}_{kind}", vector)
            for kind, vector in (("gain", gain), ("bias", bias))
            if vector is not None
        ]
        if arrays:
            word = "affine" if len(arrays) == 2 else "add" if gain is None else "times"
            self.line(f"seqnorm_{word}({at}, {', '.join(arrays)}, {n});")


def _total(a: Vector, b: Vector) -> Vector:
    """Return the sum of two vectors of which each may be absent."""
    if a is None or b is None:
        return b if a is None else a
    return (a.double() + b.double()).to(torch.float32)
