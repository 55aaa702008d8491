"""Intervals, findings and claims."""

from __future__ import annotations

import math

import pytest
from scipy import stats

from seqnorm.studies.evidence import (
    Claim,
    Finding,
    Ground,
    Interval,
    Seeds,
    above,
    below,
    given,
    interval,
    level,
    mean_of,
    zero,
)


def test_the_interval_is_students() -> None:
    values = [0.3, 0.1, 0.7, 0.2, 0.9]
    found = interval(values)
    low, high = stats.t.interval(0.95, 4, sum(values) / 5, stats.sem(values))
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    assert found.n == 5


def test_it_holds_the_mean_as_often_as_it_says() -> None:
    normal = stats.norm(0.5, 2.0)
    drawn = [interval(normal.rvs(5, random_state=seed).tolist()) for seed in range(2000)]
    held = sum(i.low <= 0.5 <= i.high for i in drawn) / len(drawn)
    assert 0.935 < held < 0.965


def test_pairs_are_of_one_seed() -> None:
    a, b = Seeds({0: 1.0, 1: 5.0, 2: 9.0, 7: 100.0}), Seeds({2: 8.0, 1: 4.5, 0: 0.0})
    assert a - b == {0: 1.0, 1: 0.5, 2: 1.0}
    assert (a - b).interval == interval([1.0, 0.5, 1.0])
    assert 2 * (a - b) == {0: 2.0, 1: 1.0, 2: 2.0}
    assert mean_of([a, b]) == {0: 0.5, 1: 4.75, 2: 8.5}


@pytest.mark.parametrize("values", [[], [1.0]])
def test_too_few_values_say_nothing(values: list[float]) -> None:
    found = interval(values)
    assert found.sign == 0
    assert (found.low, found.high, found.n) == (-math.inf, math.inf, len(values))
    assert Finding("x", found).outcome == "too few runs to say"


@pytest.mark.parametrize(
    ("low", "high", "expected", "outcome"),
    [
        (0.1, 0.3, 1, "as predicted"),
        (0.1, 0.3, -1, "against the prediction"),
        (-0.3, -0.1, -1, "as predicted"),
        (-0.3, -0.1, 1, "against the prediction"),
        (-0.1, 0.1, 1, "no difference shown"),
        (0.1, 0.3, 0, "differs from zero"),
    ],
)
def test_the_outcome_is_the_intervals(low: float, high: float, expected: int, outcome: str) -> None:
    finding = Finding("error", Interval((low + high) / 2, low, high, 5), "points", expected)
    assert finding.outcome == outcome
    assert str(finding).endswith(outcome)


def test_values_are_printed_with_their_interval() -> None:
    finding = Finding("error", Interval(3.1, 2.0, 4.2, 5), "points")
    assert finding.value == "+3.1 points (95 % +2 to +4.2, 5 seeds)"
    assert Finding("e", interval([0.5])).value == "+0.5 (1 seed)"
    assert Finding("e", interval([])).value == "not measured"


def test_a_run_that_diverged_is_not_passed_over() -> None:
    difference = Seeds({0: math.nan, 1: 2.0, 2: 3.0}) - {0: 1.0, 1: 1.0, 2: 1.5}
    found = Finding("loss", difference.interval, "", 1)
    assert found.interval.sign == 0
    assert found.interval.n == 3
    assert str(found) == "loss: no number (3 seeds): a run diverged"
    assert Finding("loss", interval([math.nan])).value == "no number (1 seed)"


UP, DOWN, FLAT = (
    Seeds(enumerate(values)) for values in ([1.0, 1.1, 0.9], [-1.0, -1.1, -0.9], [-1.0, 0.0, 1.1])
)
NOTHING = Seeds({0: 0.0, 1: 0.0})


@pytest.mark.parametrize(
    ("grounds", "holds"),
    [
        ([above(UP)], True),
        ([above(DOWN)], False),
        ([above(FLAT)], False),
        ([below(DOWN)], True),
        ([below(UP)], False),
        ([level(FLAT)], True),
        ([level(UP)], False),
        ([level(DOWN)], False),
        ([zero(NOTHING)], True),
        ([zero(FLAT)], False),
        ([given(UP, DOWN, FLAT)], True),
        ([above(UP), below(DOWN)], True),
        ([above(UP, UP), below(DOWN, UP)], False),
        ([given(Seeds())], False),
        ([level(Seeds({0: 1.0}))], False),
        ([given(Seeds({0: 1.0, 1: math.nan}))], False),
    ],
)
def test_a_claim_holds_if_all_its_grounds_do(grounds: list[list[Ground]], holds: bool) -> None:
    claim = Claim("It is so.", *grounds)
    assert claim.holds == holds
    assert str(claim) == ("It is so." if holds else "Not confirmed by this table: “It is so.”")


def test_numbers_are_filled_into_a_claim_that_holds() -> None:
    text = "It rises by {0.mean:.2f}, {0}, and falls by {1.mean:.1f}."
    assert str(Claim(text, above(UP), below(DOWN))) == (
        "It rises by 1.00, +1.0 (+0.8 to +1.2), and falls by -1.0."
    )
    assert str(Claim(text, above(UP), below(FLAT))) == (
        "Not confirmed by this table: “It rises by …, …, and falls by ….”"
    )
