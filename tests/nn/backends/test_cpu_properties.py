"""The kernels equal the definition for random norms, sizes, lengths and numbers of threads."""

from __future__ import annotations

from beside_reference import needs_kernels
from hypothesis import given, settings
from kernel_cases import Case, cases

pytestmark = needs_kernels
# Examples depend only on the name of the test: they are the same everywhere and always.
FIXED = settings(max_examples=150, deadline=None, derandomize=True, database=None)


@FIXED
@given(cases(drawn_scheme=False))
def test_every_preset(case: Case) -> None:
    case.check()


@FIXED
@given(cases(drawn_scheme=True))
def test_every_scheme(case: Case) -> None:
    case.check()
