"""Schedules: what text says, their values at, between and around corners."""

import copy
import itertools
import json
import math
import pickle

import numpy as np
import pytest

from vsc.errors import UsageError
from vsc.settings.config import as_plain
from vsc.settings.schedule import Corner, Schedule

TEXTS = {
    "0 -> 1 at 0.2 over 0.1": (0.0, ((1.0, 0.2, 0.1),)),
    "0.7 -> 0.3": (0.7, ((0.3, 0.0, 1.0),)),
    "1e-3 -> 1e-4 at .5": (1e-3, ((1e-4, 0.5, 0.0),)),
    "1e-3 -> 2e-3 at 0.2 -> 4e-5 at 0.5 over 0.5": (1e-3, ((2e-3, 0.2, 0.0), (4e-5, 0.5, 0.5))),
    "0->1 over 0.1 -> 2 over 0.3": (0.0, ((1.0, 0.0, 0.1), (2.0, 0.1, 0.3))),  # without `at`: where the last one ends
    "-0.1 -> +2. at 1": (-0.1, ((2.0, 1.0, 0.0),)),
    "4": (4.0, ()),
}


@pytest.mark.parametrize("text", TEXTS)
def test_text_is_read_and_written_so_that_it_is_read_again(text):
    start, corners = TEXTS[text]
    schedule = Schedule.parse(text)
    assert schedule == Schedule(start, tuple(Corner(*corner) for corner in corners))
    for again in (Schedule.parse(str(schedule)), Schedule.parse(schedule.plain), Schedule.parse(schedule)):
        assert again == schedule
        assert hash(again) == hash(schedule)
    for copied in (pickle.loads(pickle.dumps(schedule)), copy.deepcopy(schedule), eval(repr(schedule))):
        assert copied == schedule
    assert schedule != Schedule(start + 1, schedule.corners)


@pytest.mark.parametrize("number", [2, 2.0, np.float32(2), np.int64(2), np.float64(2), "2", "2e0"])
def test_a_constant_is_a_number(number):
    schedule = Schedule.parse(number)
    assert schedule == 2
    assert json.dumps(as_plain([schedule])) == "[2.0]"
    assert {schedule(share) for share in (0, 0.3, 1)} == {2.0}


@pytest.mark.parametrize("value", [15 / 70, 1e-3, -7 / 18, 1 / 3, 1e-300, 1e300])
def test_no_digit_is_lost_on_the_way(value):
    schedule = Schedule(value, (Corner(value / 3, 0.1, 0.2),))
    assert Schedule.parse(str(schedule)) == schedule


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("abc", "'0 -> 1 at 0.2 over 0.1'"),
        ("1 ->", "is no schedule"),
        ("1 at 0.5", "is no schedule"),
        ("1 => 2", "is no schedule"),
        ("1 -> 2 over 0.1 at 0.2", "is no schedule"),
        ("nan", "is no schedule"),
        (True, "is no schedule"),
        (None, "is no schedule"),
        ([1, 2], "is no schedule"),
        ("9" * 5000, "is no schedule"),
        (float("nan"), "finite"),
        (math.inf, "finite"),
        ("1e999", "finite"),
        ("0 -> 1 at 1.5", "in [0, 1], not 1.5"),
        ("0 -> 1 at 0.5 over 2", "in [0, 1], not 0.5 and 2"),
        ("0 -> 1 at -0.1", "in [0, 1], not -0.1"),
        ("0 -> 1 at 0.5 over 0.2 -> 2 at 0.6", "the corner at 0.6 begins before 0.7"),
        ("0 -> 1 -> 2 at 0.5", "say of each corner where it is"),
    ],
)
def test_what_is_no_schedule_is_one_short_line(value, says):
    with pytest.raises(UsageError) as error:
        Schedule.parse(value)
    assert says in str(error.value)
    assert len(str(error.value)) < 200
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("start", "end"), [(0.0, 1.0), (50.0, 200.0), (1.0, 0.1)])
def test_a_corner_is_a_straight_line_between_two_constants(start, end):
    schedule = Schedule(start, (Corner(end, 0.25, 0.5),))
    for step in range(41):
        way = min(max((step - 10) / 20, 0), 1)
        expected = pytest.approx((1 - way) * start + way * end)
        assert schedule.at(step, 40) == expected
        assert schedule(step / 40) == expected
    assert (schedule.at(10, 40), schedule.at(30, 40)) == (start, end)


def test_without_over_it_jumps():
    schedule = Schedule.parse("0 -> 1 at 0.5 -> 3 at 0.5")
    assert [schedule.at(step, 4) for step in range(5)] == [0, 0, 3, 3, 3]
    assert [schedule.ended(step, 4) for step in range(5)] == [False, False, True, True, True]
    assert Schedule(2.0).ended(0, 4)


def test_it_keeps_its_shape_when_the_steps_change():
    schedule = Schedule.parse("0 -> 1 at 0.2 over 0.4 -> 0 at 0.9 over 0.1")
    for share in (0.1, 0.3, 0.45, 0.8, 0.95):
        assert schedule.at(round(100 * share), 100) == pytest.approx(schedule.at(round(10_000 * share), 10_000))


def test_geometrically_it_goes_by_the_same_share_at_each_step():
    schedule = Schedule.parse("32 -> 2 at 0.2 over 0.5")
    values = [schedule.at(step, 100, geometric=True) for step in range(20, 71)]
    ratios = [b / a for a, b in itertools.pairwise(values)]
    assert ratios == pytest.approx([16 ** (-1 / 50)] * 50)
    assert (values[0], values[-1]) == (32, 2)


def test_it_cannot_be_changed_and_is_true_where_it_is_ever_other_than_zero():
    schedule = Schedule.parse("0 -> 1 at 0.5")
    with pytest.raises(AttributeError, match="cannot be changed"):
        schedule.start = 1.0
    assert schedule
    assert not Schedule(0.0)
    assert not Schedule.parse("0 -> 0 at 0.5")
