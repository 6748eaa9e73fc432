"""select.PassRate keeps a range of pass rates."""

import pytest

from omr_data.errors import RecipeError
from omr_data.operators.select import PassRate
from tests.builders import record


@pytest.mark.parametrize(
    ("rate", "reason"),
    [
        (None, "no pass rate: no response is decided"),
        (0.249, "the pass rate is under 0.25"),
        (0.25, None),
        (0.75, None),
        (0.751, "the pass rate is over 0.75"),
    ],
)
def test_both_limits_are_included(rate: float | None, reason: str | None) -> None:
    assert PassRate(at_least=0.25, at_most=0.75).reason(record(pass_rate=rate)) == reason


def test_by_default_every_record_with_a_pass_rate_is_kept() -> None:
    assert PassRate().reason(record(pass_rate=0.0)) is None
    assert PassRate().reason(record(pass_rate=1.0)) is None
    assert PassRate().reason(record()) is not None


@pytest.mark.parametrize("limits", [(-0.1, 1.0), (0.0, 1.1), (0.6, 0.5), (25, 75)])
def test_limits_that_no_pass_rate_can_meet_are_refused(limits: tuple[float, float]) -> None:
    with pytest.raises(RecipeError, match="two numbers from 0 to 1, the smaller one first"):
        PassRate(*limits)


def test_one_pass_rate_can_be_asked_for() -> None:
    assert PassRate(0.5, 0.5).reason(record(pass_rate=0.5)) is None
