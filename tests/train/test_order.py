"""Orders and packs: every row is used, and a run continues anywhere as if it had never stopped."""

from itertools import islice

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from omr_data.train.order import (
    OPEN_PACKS,
    PackSchedule,
    batches_from_epochs,
    epoch_packs,
    first_fit,
    prompt_order,
)


@given(
    st.lists(st.integers(1, 90), min_size=1, max_size=300), st.integers(50, 120), st.integers(0, 3)
)
def test_every_row_that_fits_is_in_one_pack_and_no_pack_overflows(
    lengths: list[int], capacity: int, seed: int
) -> None:
    sizes = np.array(lengths)
    packs = epoch_packs(sizes, capacity, seed, 0)
    rows = sorted(row for pack in packs for row in pack)
    assert rows == np.flatnonzero(sizes <= capacity).tolist()
    assert all(sizes[pack].sum() <= capacity for pack in packs)
    assert packs == epoch_packs(sizes, capacity, seed, 0)


def test_first_fit_fills_what_has_room_before_it_opens_another() -> None:
    assert first_fit(range(5), np.array([6, 5, 4, 5, 1]), 10) == [[0, 2], [1, 3], [4]]


def test_the_oldest_pack_is_closed_when_too_many_are_open() -> None:
    rows = OPEN_PACKS + 1
    lengths = np.array([6] * rows + [4])
    packs = first_fit(range(rows + 1), lengths, 10)
    assert packs[0] == [0]
    assert packs[1] == [1, rows]


def test_a_plan_goes_on_at_any_step_as_if_it_had_never_stopped() -> None:
    lengths = np.random.default_rng(0).integers(1, 60, 200)
    schedule = PackSchedule(lengths, 100, 3, seed=5)
    whole = list(islice(schedule.iterate(0), 40))
    assert whole[28:] == list(islice(schedule.iterate(28), 12))
    assert all(len(packs) == 3 for packs in whole)
    epoch = epoch_packs(lengths, 100, 5, 0)
    used = [row for packs in whole for pack in packs for row in pack]
    assert sorted(used[: sum(map(len, epoch))]) == list(range(200))
    assert schedule.count(2.0) == 2 * len(epoch) // 3
    assert schedule.count(0.001) == 1


def test_what_an_epoch_leaves_over_opens_the_next_one() -> None:
    found = list(islice(batches_from_epochs(lambda epoch: [epoch] * 5, 3, 0), 4))
    assert found == [[0, 0, 0], [0, 0, 1], [1, 1, 1], [1, 2, 2]]


def test_prompts_come_in_a_new_order_each_epoch() -> None:
    numbers = list(range(100, 120))
    epochs = list(islice(prompt_order(numbers, 20, 7, 0), 2))
    assert [sorted(epoch) for epoch in epochs] == [numbers, numbers]
    assert epochs[0] != epochs[1]
    assert epochs[0] != next(prompt_order(numbers, 20, 8, 0))
    assert next(prompt_order(numbers, 20, 7, 1)) == epochs[1]
