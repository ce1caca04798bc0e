"""Failures on purpose are repeatable, and as frequent as asked for."""

import pytest

from millrace import drill
from millrace.errors import MillraceError


def test_the_same_try_ends_the_same_way() -> None:
    drawn = {drill.luck("run", "step 1", 1) for _ in range(3)}
    assert len(drawn) == 1
    assert drill.luck("run", "step 1", 2) not in drawn
    assert drill.luck("run", "step 2", 1) not in drawn
    assert drill.luck("other", "step 1", 1) not in drawn


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_as_many_fail_as_asked_for(rate: float) -> None:
    failed = 0
    for number in range(2000):
        try:
            drill.attempt("run", f"step {number}", 1, rate)
        except MillraceError:
            failed += 1
    assert failed / 2000 == pytest.approx(rate, abs=0.05)


def test_the_reason_says_that_it_was_on_purpose() -> None:
    with pytest.raises(MillraceError, match="Failed on purpose: try 2 of step 1 drew 0[.][0-9]{3}, below .* rate 1;"):
        drill.attempt("run", "step 1", 2, 1)
