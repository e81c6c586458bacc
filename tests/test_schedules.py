"""Schedules: their values at, between and around their corners."""

import pytest

from vsc.schedules import hold, ramp


def test_hold_changes_at_its_step():
    assert [hold(step, 1.0, 0.1, at=3) for step in range(6)] == [1, 1, 1, 0.1, 0.1, 0.1]


@pytest.mark.parametrize(("start", "end"), [(0.0, 1.0), (50.0, 200.0), (1.0, 0.1)])
def test_ramp_is_a_straight_line_between_two_constants(start, end):
    begin, length = 10, 20
    for step in range(-5, 50):
        share = min(max((step - begin) / length, 0), 1)
        assert ramp(step, start, end, begin, length) == pytest.approx((1 - share) * start + share * end)
    assert ramp(begin, start, end, begin, length) == start
    assert ramp(begin + length, start, end, begin, length) == end


def test_ramp_of_length_zero_jumps():
    assert [ramp(step, 0.0, 1.0, begin=2, length=0) for step in range(4)] == [0, 0, 1, 1]
    assert ramp(0, 0.0, 1.0, begin=0, length=0) == 1
