"""An interrupted and resumed run of a language model ends like an uninterrupted one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from resumed_runs import LANGUAGE_OPTIONS, LANGUAGE_VARIANTS, assert_same, last, outcome
from small_runs import CrashError


@pytest.mark.parametrize("variant", LANGUAGE_VARIANTS)
def test_resumes_exactly_after_crashes(
    variant: str,
    lines: Path,
    run_seqnorm: Callable[..., None],
    crash_at: Callable[[int | None], None],
) -> None:
    arguments = (
        "fit",
        "--task=language",
        "--data.corpus",
        lines,
        *LANGUAGE_OPTIONS,
        *LANGUAGE_VARIANTS[variant],
    )
    whole, broken = Path("runs/whole/version_0"), Path("runs/broken/version_0")
    run_seqnorm(*arguments, "--run.name=whole", "--run.results=whole.csv")
    steps = outcome(whole)["last"]["global_step"] // 4
    assert steps >= 3
    crash_at(steps + 2)  # in the middle of the second epoch
    with pytest.raises(CrashError):
        run_seqnorm(*arguments, "--run.name=broken", "--run.results=broken.csv")
    crash_at(3 * steps)  # before the first step of the fourth
    with pytest.raises(CrashError):
        run_seqnorm("fit", "--ckpt_path", last(broken))
    crash_at(None)
    run_seqnorm("fit", "--ckpt_path", last(broken))
    assert outcome(whole)["last"]["epoch"] == 3
    assert_same(outcome(broken), outcome(whole))
    assert (broken / "test.json").read_text() == (whole / "test.json").read_text()
    run_seqnorm("fit", "--ckpt_path", last(broken))
    assert len(Path("broken.csv").read_text().splitlines()) == 2
