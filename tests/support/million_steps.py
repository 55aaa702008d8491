"""Comparison of the kernels with the definition in random calls, over a number of time steps.

    python tests/support/million_steps.py                      a million steps, from seed 0 on
    python tests/support/million_steps.py --first 400          the same from another seed on
    python tests/support/million_steps.py --first 17 --end 18  only one seed, to repeat a mismatch

A seed makes 20 calls with random norms that the kernels take, sizes, lengths, threads and
instruction sets. The steps of a call are layers * directions * T. Results, states, statistics and
all gradients are compared in float64, with the tolerances of the tests. The first mismatch ends the
program with status 1 and a command to repeat it.

Over many steps, a few recurrences magnify any rounding error beyond every tolerance. A difference
is not a mismatch if the definition itself differs as much when the input and the weights change in
their last bit; the last line counts these calls.
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from beside_reference import Call, Outcome, outcome
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from kernel_cases import Case, cases
from tolerances import GRADIENTS, VALUES
from torch import nn

CALLS_OF_A_SEED = 20
WIDEST, LONGEST = 160, 60
# Seconds between lines of progress.
EVERY = 10.0
# Factor by which the kernels may differ more than the definition with changed last bits.
MAGNIFIED = 100.0
MOVES = 5


def distance(actual: Outcome, expected: Outcome) -> tuple[float, str]:
    """Return the largest difference in units of its tolerance, infinite for NaN, and its place."""
    assert actual.keys() == expected.keys()
    found = []
    for name, value in expected.items():
        tolerance = GRADIENTS if name.startswith("gradient") else VALUES
        scale = max(1.0, value.abs().max().item())
        apart = (actual[name] - value).abs().max().item() / (tolerance * scale)
        found.append((apart if apart == apart else float("inf"), name))
    return max(found)


def moved(layer: nn.Module, call: Call) -> tuple[nn.Module, Call]:
    """Return the same call with the last bits of the input and of every parameter changed."""
    layer, ulp = copy.deepcopy(layer), 2.0**-52
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.mul_(1 + ulp * torch.randint_like(parameter, -1, 2))
    input = call.input * (1 + ulp * torch.randint_like(call.input, -1, 2))
    return layer, Call(input, call.lengths, call.state, call.cotangents)


@dataclass
class Tally:
    """Counts of the comparisons so far."""

    steps: int = 0
    calls: int = 0
    worst: float = 0.0
    magnified: int = 0
    failure: str = ""
    begun: float = field(default_factory=time.monotonic)

    def add(self, case: Case) -> None:
        """Compare one more call, unless there was a mismatch."""
        if self.failure:
            return
        try:
            layer, call = case.draw()
            actual, expected = case.outcomes(layer, call)
            apart, where = distance(actual, expected)
        except Exception as error:  # any error is reported with the way to reproduce it
            self.failure = f"{case}\n{type(error).__name__}: {error}"
            return
        if apart > 1:
            others = (outcome(*moved(layer, call), "reference") for _ in range(MOVES))
            if not apart <= MAGNIFIED * max(distance(other, expected)[0] for other in others):
                self.failure = f"{case}\n{where} is {apart:.3g} tolerances apart"
                return
            self.magnified += 1
        else:
            self.worst = max(self.worst, apart)
        directions = 2 if case.options["bidirectional"] else 1
        self.steps += case.options["num_layers"] * directions * max(case.lengths)
        self.calls += 1

    def __str__(self) -> str:
        rate = self.steps / (time.monotonic() - self.begun)
        return (
            f"{self.steps:,} steps, {self.calls:,} calls, worst error {self.worst:.2g} of its "
            f"tolerance, {self.magnified} calls magnify rounding, {rate:.0f} steps/s"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--steps", type=int, default=1_000_000, help="ends when there are as many")
    parser.add_argument("--first", type=int, default=0, help="seed to begin with")
    parser.add_argument("--end", type=int, default=sys.maxsize, help="seed to end before")
    options = parser.parse_args(arguments)
    if options.end <= options.first:
        parser.error("--end must be larger than --first")
    tally, told = Tally(), time.monotonic()
    every = st.booleans().flatmap(lambda drawn: cases(drawn, widest=WIDEST, longest=LONGEST))
    for number in range(options.first, options.end):
        check = settings(
            max_examples=CALLS_OF_A_SEED,
            phases=[Phase.generate],
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )(given(every)(tally.add))
        seed(number)(check)()
        if tally.failure:
            print(f"seed {number}: {tally.failure}")
            print(f"repeat it with --first {number} --end {number + 1}")
            return 1
        if time.monotonic() - told > EVERY:
            told = time.monotonic()
            print(f"seed {number}: {tally}", flush=True)
        if tally.steps >= options.steps:
            break
    print(f"seeds {options.first} to {number}, all equal: {tally}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
