"""What a user can act on: two kinds of failure, a run that was stopped, and a name that is in no registry."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from numbers import Integral
from typing import Any, TypeVar

T = TypeVar("T")


class UsageError(ValueError):
    """The request cannot be carried out as asked; the message says what to change (exit code 2)."""


class RunError(RuntimeError):
    """The request was sound but failed on the way; the message says what to do next (exit code 1)."""


class Caution(UserWarning):
    """Numbers that are easily misread: of a code that has collapsed, say. The commands print a CAUTION line instead."""


class Busy(RunError):  # noqa: N818 (a state of the folder; it passes)
    """Another process or thread works in this folder at this moment."""


class Interrupted(Exception):  # noqa: N818 (not an error: the run was asked to stop)
    """
    SIGINT or SIGTERM arrived.

    `reached` says how far the run came, and `command` what to type to go on, None where nothing was saved; `code` is
    the shell's exit code for the signal `signum`.
    """

    def __init__(self, reached: str, command: str | None, signum: int):
        super().__init__(f"{reached}; " + (f"go on with: {command}" if command else "nothing was saved"))
        self.reached, self.command, self.signum, self.code = reached, command, signum, 128 + signum

    def __reduce__(self):  # by default it would be built from its message, which a process pool could not
        return Interrupted, (self.reached, self.command, self.signum)


def first_line(error: BaseException) -> str:
    """Return the first line of what an error of another library says, or else its kind."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def short(value: object, most: int = 40) -> str:
    """Return the text of a value in quotes, its end left out where it is long."""
    text = str(value)
    return repr(text if len(text) <= most else text[: most - 3] + "...")


def listed(names: Iterable[object], most: int = 5) -> str:
    """Return names for a message: the first few in quotes, and how many more there are."""
    known = list(names)
    more = f" and {len(known) - most} more" if len(known) > most else ""
    return ", ".join(short(name, 30) for name in known[:most]) + more


def choose(registry: Mapping[str, T], name: str, what: str) -> T:
    """
    Look up a `name` in the `registry` of a family, whose members are called `what` in the message.

    UsageError if it is not there, with the names that are.
    """
    if name in registry:
        return registry[name]
    near = get_close_matches(str(name).lower(), registry, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""  # first, since a long list may be cut
    raise UsageError(f"unknown {what} {name!r}; {hint}one of: {', '.join(registry)}")


def at_least(least: int, number: Any, what: str) -> None:
    """Refuse what is no whole `number`, or below `least`, by a UsageError of one line; `what` is its name."""
    if isinstance(number, bool) or not isinstance(number, Integral):
        raise UsageError(f"{what} must be a whole number, not {number!r}")
    if number < least:
        raise UsageError(f"{what} must be at least {least}, not {number}")
