"""The struct of a model, and the functions that a program calls, in C.

In the text, @ stands for the name of the model, and @@ for the name in capitals.

Axes: T steps, P = size of h, L layers, D directions.
"""

from __future__ import annotations

from .arrays import PREFIX, Arrays
from .direction import Code
from .source import Source

_CREATE = """\
#ifndef @@_NO_MALLOC
@ *@_create($GIVEN) {
    @ *self = (@ *)malloc(sizeof *self);
    if (self && @_init(self$PASSED) != 0) {
        free(self);
        self = NULL;
    }
    return self;
}

void @_free(@ *self) {
    free(self);
}
#endif
"""


class Model:
    """The parts of a header that depend on the layer.

    Attributes:
        codes: one step of each direction.
        apart: true if the weights stand in a file.
    """

    def __init__(self, name: str, source: Source, arrays: Arrays) -> None:
        self.name, self.source, self.arrays = name, source, arrays
        self.apart = arrays.apart
        self._parts = [part for layer in source.layers for part in layer]
        self.codes = [Code(name, part, arrays) for part in self._parts]
        self._initial = {
            field: arrays.add(f"{field}_0", value)
            for part, code in zip(self._parts, self.codes)
            for field, value in zip(code.fields, part.initial)
            if bool(value.any())
        }
        tables = max(code.rows_of_tables for code in self.codes)
        # The number of a step is counted only so far as it makes a difference.
        self._last = max(tables - 1, source.steps or 0)

    def macros(self) -> dict[str, str]:
        """Return the names and values of the macros with the sizes."""
        source, states = self.source, sum(sum(part.state_sizes) for part in self._parts)
        values = {"INPUT_SIZE": f"{source.input_size}", "OUTPUT_SIZE": f"{source.output_size}"}
        values["STATE_SIZE"] = f"{states} /* floats */"
        if source.steps is not None:
            values["STEPS"] = f"{source.steps}L /* steps after a reset that have statistics */"
        if source.bidirectional:
            floats = source.output_size if len(source.layers) > 1 else 0
            values["WORK_SIZE(steps)"] = f"((size_t)(steps) * {floats}) /* floats */"
        if self.apart:
            size = 4 * (PREFIX + self.arrays.count)
            values["WEIGHTS_BYTES"] = f"{size} /* length of the file of weights */"
        return values

    def types(self) -> str:
        """Return the struct of the state and that of the model."""
        state = [
            f"    float {field}[{size}];\n"
            for part, code in zip(self._parts, self.codes)
            for field, size in zip(code.fields, part.state_sizes)
        ]
        if self._last and not self.source.bidirectional:
            state.append("    long step; /* steps since the last reset, as far as it matters */\n")
        buffers: dict[str, int] = {}
        for code in self.codes:
            for buffer, size in code.buffers.items():
                buffers[buffer] = max(size, buffers.get(buffer, 0))
        if len(self.codes) > 1 and not self.source.bidirectional:
            buffers["between"] = max(part.state_sizes[0] for part in self._parts)
        return "".join(
            [
                "/* All that a sequence leaves behind. A copy of it can take its place later. */\n",
                *("typedef struct @_state {\n", *state, "} @_state;\n\n"),
                "typedef struct @ {\n    @_state state;\n",
                "    const float *weights;\n" if self.apart else "",
                "    /* What one step needs. */\n",
                *(f"    float {buffer}[{size}];\n" for buffer, size in buffers.items()),
                "} @;\n",
            ]
        )

    def declarations(self) -> str:
        """Return the declarations of the functions."""
        given, more, text = "void", "", ""
        if self.apart:
            given, more = "const void *weights", ", const void *weights"
            text = (
                "/* weights: the content of the file of weights, at an address that a float may\n"
            )
            text += " * have. It must stay there as long as it is used. */\n"
        other = " or with the weights of another header" if self.apart else ""
        text += "#ifndef @@_NO_MALLOC\n/* At the beginning of a sequence; NULL without memory"
        text += f"{other}. */\n@ *@_create({given});\nvoid @_free(@ *self);\n#endif\n"
        text += "/* The same in memory of the caller. Returns 0"
        text += ", or 1 with the weights of another header" if self.apart else ""
        text += f". */\nint @_init(@ *self{more});\n"
        text += "/* Begin a new sequence. */\nvoid @_reset(@ *self);\n"
        refusal = ", or 1 for a step beyond @@_STEPS" if self.source.steps is not None else ""
        if self.source.bidirectional:
            text += "/* A whole sequence, x (steps, @@_INPUT_SIZE) to y (steps, @@_OUTPUT_SIZE),\n"
            text += " * from its beginning. work has room for @@_WORK_SIZE(steps).\n"
            text += f" * Returns 0{refusal}. */\n"
            return f"{text}int @_run(@ *self, long steps, const float *x, float *y, float *work);\n"
        text += f"/* One step, x (@@_INPUT_SIZE) to y (@@_OUTPUT_SIZE). Returns 0{refusal}. */\n"
        text += "int @_step(@ *self, const float *x, float *y);\n"
        text += "/* Several steps, x (steps, @@_INPUT_SIZE) to y (steps, @@_OUTPUT_SIZE). */\n"
        return f"{text}int @_run(@ *self, long steps, const float *x, float *y);\n"

    def functions(self) -> str:
        """Return the definitions of the functions."""
        given, more, passed, check = "void", "", "", ""
        if self.apart:
            given, more, passed = "const void *weights", ", const void *weights", ", weights"
            numbers = ", ".join(f"{number}u" for number in self.arrays.prefix)
            check = f"    static const uint32_t wanted[{PREFIX}] = {{{numbers}}};\n"
            check += "    if (!weights || memcmp(weights, wanted, sizeof wanted) != 0) return 1;\n"
            check += "    self->weights = (const float *)weights;\n"
        text = "void @_reset(@ *self) {\n    memset(&self->state, 0, sizeof self->state);\n"
        for field, array in self._initial.items():
            text += f"    memcpy(self->state.{field}, {array}, sizeof self->state.{field});\n"
        text += (
            f"}}\n\nint @_init(@ *self{more}) {{\n{check}    @_reset(self);\n    return 0;\n}}\n"
        )
        text += "\n" + _CREATE.replace("$GIVEN", given).replace("$PASSED", passed) + "\n"
        return text + (self._whole() if self.source.bidirectional else self._single())

    def _single(self) -> str:
        """Return ``step`` and ``run`` in one direction."""
        limited = self.source.steps is not None
        text = "int @_step(@ *self, const float *x, float *y) {\n"
        text += "    if (self->state.step >= @@_STEPS) return 1;\n" if limited else ""
        step = "self->state.step" if self._last else "0"
        for number, code in enumerate(self.codes):
            given = "self->between" if number else "x"
            to = "y" if number == len(self.codes) - 1 else "self->between"
            text += f"    @{code.part.suffix}(self, {given}, {to}, {step});\n"
        if self._last:
            text += f"    if (self->state.step < {self._last}) self->state.step++;\n"
        text += "    return 0;\n}\n\n"
        text += "int @_run(@ *self, long steps, const float *x, float *y) {\n"
        text += "    if (steps > @@_STEPS - self->state.step) return 1;\n" if limited else ""
        text += "    for (; steps > 0; steps--, x += @@_INPUT_SIZE, y += @@_OUTPUT_SIZE)\n"
        return f"{text}        @_step(self, x, y);\n    return 0;\n}}\n"

    def _whole(self) -> str:
        """Return ``run`` in two directions."""
        layers = self.source.layers
        text = "int @_run(@ *self, long steps, const float *x, float *y, float *work) {\n"
        text += "" if self.source.steps is None else "    if (steps > @@_STEPS) return 1;\n"
        text += "    @_reset(self);\n"
        text += "    (void)work;\n" if len(layers) == 1 else ""
        given, width = "x", self.source.input_size
        for number, layer in enumerate(layers):
            # The last layer writes to y, and those before it in turn to the work and to y.
            to = "y" if (len(layers) - number) % 2 else "work"
            size = sum(part.state_sizes[0] for part in layer)
            place = 0
            for part, row in zip(layer, ("t", "(steps - 1 - t)")):
                text += "    for (long t = 0; t < steps; t++)\n"
                text += f"        @{part.suffix}(self, {given} + {row} * {width}, "
                text += f"{to} + {row} * {size} + {place}, t);\n"
                place += part.state_sizes[0]
            given, width = to, size
        return f"{text}    return 0;\n}}\n"
