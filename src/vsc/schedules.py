"""Schedules: pure functions of the step, so that nothing in a model changes while it trains."""


def hold(step: int, first: float, then: float, at: int) -> float:
    """
    Return one value before a step and another from it on.

    Parameters
    ----------
    step : int
        Steps taken so far.
    first, then : float
        The two values.
    at : int
        The first step that gives `then`.

    Returns
    -------
    float
        The value at `step`.
    """
    return first if step < at else then


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
