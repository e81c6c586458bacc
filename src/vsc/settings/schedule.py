"""Schedules: pure functions of the step, so that nothing in a model changes while it trains."""

import math


def ramp(step: int, start: float, end: float, begin: int, length: int) -> float:
    """
    Return `start` up to step `begin`, then go linearly to `end` over `length` steps, then stay there.

    Parameters
    ----------
    step : int
        Steps taken so far.
    start, end : float
        First and last value.
    begin, length : int
        Where the ramp starts and how many steps it takes; length 0 is a jump at `begin`.

    Returns
    -------
    float
        The value at `step`.
    """
    if step < begin:
        return start
    if step >= begin + length:
        return end
    return start + (end - start) * (step - begin) / length


def price(integral: float, l0: float, target: float, steps: int) -> tuple[float, float]:
    """
    Return the price per active latent that brings l0 to its target: a proportional-integral controller on ln l0.

    Parameters
    ----------
    integral : float
        What earlier calls added up, 0 at first, in nats.
    l0, target : float
        Active latents expected now, and asked for.
    steps : int
        Steps of the whole training.

    Returns
    -------
    price : float
        Nats per active latent at this step; negative where there are too few.
    added : float
        What to add to the integral for the next call.
    """
    surplus = math.log(max(l0, 1e-3) / target)
    scale = max(1.0, abs(integral) / 4)  # what costs much moves in larger steps
    return integral + 10.0 * surplus, 200.0 / steps * scale * surplus
