"""Schedules: their values at, between and around their corners."""

import math

import pytest

from vsc.settings.schedule import price, ramp


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


@pytest.mark.parametrize(("start", "target"), [(0.05, 0.2), (1.0, 0.5), (1.0, 8.0), (60.0, 0.5), (60.0, 8.0)])
def test_the_price_brings_l0_to_its_target(start, target):
    """On a model whose l0 falls by a factor of e for every two nats, slowly."""
    steps, l0, integral = 2000, start, 0.0
    for _ in range(steps):
        asked, added = price(integral, l0, target, steps)
        integral += added
        l0 += 0.02 * (start * math.exp(-asked / 2) - l0)
    assert l0 == pytest.approx(target, rel=0.02)


def test_the_price_is_a_reward_where_there_are_too_few():
    assert price(0.0, 4.0, 8.0, 100)[0] < 0 < price(0.0, 16.0, 8.0, 100)[0]
    assert price(0.0, 8.0, 8.0, 100) == (0.0, 0.0)
    assert all(math.isfinite(value) for value in price(0.0, 0.0, 8.0, 100))
