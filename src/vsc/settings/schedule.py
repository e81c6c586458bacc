"""Schedules as values: pure functions of the step, so that nothing in a model changes while it trains."""

import math
import re
from numbers import Real
from typing import NamedTuple

from vsc.errors import UsageError

SYNTAX = "a number, or corners in shares of the steps such as '0 -> 1 at 0.2 over 0.1'"

NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?"
CORNER = re.compile(rf"\s*({NUMBER})(?:\s+at\s+({NUMBER}))?(?:\s+over\s+({NUMBER}))?\s*", re.IGNORECASE)


class Corner(NamedTuple):
    """One change of a schedule."""

    value: float  # where it goes to
    at: float  # share of the steps after which it sets out
    over: float  # share of the steps that it takes; 0 is a jump


class Schedule:
    """
    A number that may change during training: constant, or going from one value to the next between corners.

    As text: `1e-3`; `0 -> 1 at 0.2 over 0.1`, which is 0 for a fifth of the steps and then rises to 1 over a tenth of
    them; without `over` it jumps; `0.7 -> 0.3` takes all steps; several corners one after the other, as in
    `1e-3 -> 2e-3 at 0.2 -> 4e-5 at 0.5 over 0.5`. Immutable, and equal to another of the same values.

    It begins at the value `start`; of the `corners` none sets out before the one in front has ended. UsageError if a
    value is not finite, or they are out of order or outside [0, 1].
    """

    __slots__ = ("corners", "start")  # no dataclass, which asdict would take apart

    start: float
    corners: tuple[Corner, ...]

    def __init__(self, start: float, corners: "tuple[Corner, ...]" = ()):
        object.__setattr__(self, "start", float(start))
        object.__setattr__(self, "corners", tuple(Corner(*map(float, corner)) for corner in corners))
        free = 0.0
        for corner in self.corners:
            if not (0 <= corner.at <= 1 and 0 <= corner.over <= 1):
                shares = f"{corner.at:g} and {corner.over:g}"
                raise UsageError(f"'at' and 'over' are shares of the steps, in [0, 1], not {shares}")
            if corner.at < free - 1e-9:
                raise UsageError(f"the corner at {corner.at:g} begins before {free:g}, where the one in front ends")
            free = corner.at + corner.over
        if not all(map(math.isfinite, self.values)):
            raise UsageError(f"a schedule's values are finite numbers, not {self}")

    @classmethod
    def parse(cls, value: "Schedule | Real | float | str") -> "Schedule":
        """Read a schedule from a number of any kind, NumPy's too, or text as above; UsageError if it is neither."""
        if isinstance(value, Schedule):
            return value
        if isinstance(value, Real) and not isinstance(value, bool):
            return cls(float(value))
        shown = repr(value) if len(repr(value)) < 60 else f"{repr(value)[:60]}..."
        wrong = UsageError(f"{shown} is no schedule: it is {SYNTAX}")
        if not isinstance(value, str) or len(value) > 1000:
            raise wrong
        parts = [CORNER.fullmatch(part) for part in value.split("->")]
        found = [part for part in parts if part is not None]
        if len(found) < len(parts) or found[0][2] or found[0][3]:
            raise wrong
        free, corners = 0.0, []
        for part in found[1:]:
            whole = part[2] is None and part[3] is None
            if whole and len(found) > 2:
                raise UsageError(f"{shown}: say of each corner where it is, as in '1 -> 2 at 0.2 -> 0 at 0.5 over 0.5'")
            corners.append(Corner(float(part[1]), float(part[2] or free), 1.0 if whole else float(part[3] or 0)))
            free = corners[-1].at + corners[-1].over
        try:
            return cls(float(found[0][1]), tuple(corners))
        except UsageError as error:
            raise UsageError(f"{shown}: {error}") from None

    @property
    def values(self) -> tuple[float, ...]:
        """The first value and that of each corner."""
        return (self.start, *(corner.value for corner in self.corners))

    @property
    def last(self) -> float:
        """The value to end with."""
        return self.values[-1]

    @property
    def plain(self) -> float | str:
        """As YAML and JSON have it: a number where it is constant, else text."""
        return str(self) if self.corners else self.start

    def __call__(self, share: float) -> float:
        """Return the value when `share` of the steps, in [0, 1], are taken."""
        return self._value(share, [(corner.at, corner.over) for corner in self.corners])

    def at(self, step: int, steps: int, geometric: bool = False) -> float:
        """
        Return the value when `step` of all `steps` are taken, a pure function of both; corners lie on whole steps.

        If `geometric`, it goes from one value to the next by the same share at each step, not by the same amount.
        """
        return self._value(step, self._on_steps(steps), geometric)

    def ended(self, step: int, steps: int) -> bool:
        """Whether the last value is reached at `step` of `steps`."""
        return not self.corners or step >= sum(self._on_steps(steps)[-1])

    def _on_steps(self, steps: int) -> list[tuple[int, int]]:
        return [(round(corner.at * steps), round(corner.over * steps)) for corner in self.corners]

    def _value(self, now: float, places, geometric: bool = False) -> float:
        value = self.start
        for corner, (begin, length) in zip(self.corners, places, strict=True):
            if now < begin:
                return value
            if now < begin + length:
                if geometric:
                    share = (now - begin) / length
                    return value ** (1 - share) * corner.value**share
                return value + (corner.value - value) * (now - begin) / length
            value = corner.value
        return value

    def __bool__(self) -> bool:
        """Whether it is ever other than 0."""
        return any(self.values)

    def __str__(self) -> str:
        text = _short(self.start)
        if [corner[1:] for corner in self.corners] == [(0, 1)]:
            return f"{text} -> {_short(self.last)}"
        for value, at, over in self.corners:
            text += f" -> {_short(value)} at {_short(at)}" + (f" over {_short(over)}" if over else "")
        return text

    def __repr__(self) -> str:
        return f"Schedule.parse({self.plain!r})"

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Real):
            return not self.corners and self.start == other
        return isinstance(other, Schedule) and (self.start, self.corners) == (other.start, other.corners)

    def __hash__(self) -> int:
        return hash((self.start, self.corners) if self.corners else self.start)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("a schedule cannot be changed; make another")

    def __reduce__(self):
        return Schedule, (self.start, self.corners)


def _short(value: float) -> str:
    """Write a number so that it is read again as the same one."""
    return repr(value).removesuffix(".0")
