"""difficulty.PassRate scores records. Which attempts count is tested where that is defined."""

import pytest

from omr_data.operators.difficulty import PassRate
from omr_data.records import RIGHT, UNDECIDED, WRONG, Outcome
from tests.builders import record
from tests.operators.test_explode import answered


@pytest.mark.parametrize(
    ("outcomes", "rate"),
    [
        ((RIGHT,), 1.0),
        ((WRONG, WRONG), 0.0),
        ((RIGHT, WRONG), 0.5),
        ((RIGHT, WRONG, WRONG, WRONG), 0.25),
        ((RIGHT, RIGHT, WRONG), 2 / 3),
    ],
)
def test_the_pass_rate_is_the_share_of_right_answers(
    outcomes: tuple[Outcome, ...], rate: float
) -> None:
    assert PassRate().apply(answered(*outcomes)).pass_rate == pytest.approx(rate)


def test_a_record_without_a_decided_answer_has_no_pass_rate() -> None:
    assert PassRate().apply(record(pass_rate=0.5)).pass_rate is None
    assert PassRate().apply(answered(None, None)).pass_rate is None


def test_scoring_keeps_every_response() -> None:
    whole = answered(RIGHT, WRONG, UNDECIDED)
    scored = PassRate().apply(whole)
    assert scored.id == whole.id
    assert scored.responses == whole.responses


def test_the_tally_tells_four_classes_apart() -> None:
    """Never, sometimes and always right, and nothing decided: what a recipe selects by."""
    classes: tuple[tuple[Outcome, ...], ...] = ((), (WRONG,), (RIGHT, WRONG), (RIGHT,))
    tallies = [PassRate().tally(PassRate().apply(answered(*outcomes))) for outcomes in classes]
    assert all(tallies)
    assert len({tuple(sorted(tally)) for tally in tallies}) == 4
