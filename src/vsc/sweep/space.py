"""The settings that a search may change, read from text such as `train.lr=1e-4..1e-2:log,model.alpha=0.1|0.2`."""

import math
import re
from difflib import get_close_matches
from types import NoneType, UnionType
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

from vsc.errors import UsageError
from vsc.model import MODELS
from vsc.settings.config import Config
from vsc.settings.schedule import SYNTAX, Schedule
from vsc.settings.upgrade import GONE
from vsc.sweep.jobs import NEUTRAL

REFUSED = {
    "train.seed": "the best seed is a lucky one; to see the spread, train the best settings with several",
    **dict.fromkeys(NEUTRAL, "it does not change what is learned"),
}
"""Settings that are not to be searched -> why."""


class Setting(NamedTuple):
    """One setting that is searched: a range, or a few choices."""

    name: str  # dotted, such as `train.lr`
    low: float = 0
    high: float = 0  # both ends included
    log: bool = False  # by its logarithm
    choices: tuple[tuple[str, Any], ...] = ()  # each as typed, and its value; none for a range

    def suggest(self, trial: Any) -> Any:
        """Let an optuna trial choose a value."""
        if self.choices:
            return self.value(trial.suggest_categorical(self.name, [text for text, _ in self.choices]))
        if isinstance(self.low, int) and isinstance(self.high, int):
            return trial.suggest_int(self.name, self.low, self.high, log=self.log)
        return trial.suggest_float(self.name, self.low, self.high, log=self.log)

    def value(self, chosen: Any) -> Any:
        """Return the value that optuna's parameter stands for."""
        return dict(self.choices)[chosen] if self.choices else chosen

    def extremes(self) -> list[Any]:
        """Return what is to be checked beforehand: the ends of the range, or every choice."""
        return [value for _, value in self.choices] or [self.low, self.high]

    def __str__(self) -> str:
        span = f"{self.low:g}..{self.high:g}{':log' if self.log else ''}"
        return f"{self.name}={'|'.join(text for text, _ in self.choices) or span}"


def default(config: Config) -> tuple[Setting, ...]:
    """Return what is searched where nothing is said: number of latents, alpha or the cap, a rate that is a number."""
    lr, J = config.train.lr, config.model.latent_dim
    target = config.train.target_l0.last if config.train.target_l0 else 0.0
    found = [] if lr.corners else [Setting("train.lr", lr.start / 4, lr.start * 4, log=True)]
    found += [Setting("model.latent_dim", max(J // 2, int(target) + 1), max(2 * J, int(target) + 2))]
    model = MODELS.get(config.model.name)
    if model is not None and model.spiked and not target:
        sparse = config.model.name != "vsc" or config.model.gates == "fixed"
        found += [Setting("model.alpha", 0.01, 0.5, log=True) if sparse else Setting("train.cap", 0.15, 0.6)]
    return tuple(found)


def parse(text: str) -> tuple[Setting, ...]:
    """
    Read a space: SETTING=LOW..HIGH, SETTING=LOW..HIGH:log or SETTING=A|B|C, separated by commas.

    UsageError if a setting is unknown, given twice or not to be searched, or its values are not of its kind.
    """
    found: dict[str, Setting] = {}
    for part in re.split(r",(?=\s*[\w.-]+\s*=)", text):
        name, equals, values = (word.strip() for word in part.partition("="))
        if not equals or not values:
            raise UsageError(f"space: {part.strip()!r} must be SETTING=LOW..HIGH, with :log after it, or SETTING=A|B|C")
        if name in found:
            raise UsageError(f"space: {name} is there twice")
        found[name] = _read(name, values, _hint(name))
    return tuple(found.values())


def _hint(name: str) -> Any:
    """Return the type of a setting that may be searched."""
    parts = {part: kind for part, kind in get_type_hints(Config).items() if part in ("model", "train")}
    hints = {f"{part}.{key}": hint for part, kind in parts.items() for key, hint in get_type_hints(kind).items()}
    hints = {key: str if get_origin(hint) is Literal else hint for key, hint in hints.items()}
    if name.startswith("data."):
        raise UsageError(f"space: {name} cannot be searched: numbers on different data do not compare")
    if name in REFUSED:
        raise UsageError(f"space: {name} cannot be searched: {REFUSED[name]}")
    if name not in hints:
        gone = GONE.get(name.removeprefix("train."), ())
        near = (
            [f"train.{part}" for part in gone]
            or [known for known in hints if known.endswith(f".{name}")]
            or get_close_matches(name, hints, n=1)
        )
        hint = f"did you mean {near[0]}? " if near else ""
        raise UsageError(f"space: unknown setting {name!r}; {hint}vsc tune --help lists all")
    return hints[name]


def _read(name: str, values: str, hint: Any) -> Setting:
    if ".." in values:
        return _range(name, values, hint)
    choices = {one.strip(): _value(name, one.strip(), hint) for one in values.split("|")}
    if len(choices) < 2:
        raise UsageError(f"space: {name}={values} leaves no choice; to fix it, give --{name} {values}")
    return Setting(name, choices=tuple(choices.items()))


def _range(name: str, values: str, hint: Any) -> Setting:
    kinds = set(get_args(hint)) if isinstance(hint, UnionType) else {hint}
    kind = float if kinds & {float, Schedule} else int
    if kind is int and int not in kinds:
        raise UsageError(f"space: {name} is no number; give choices, as in {name}=A|B")
    ends, log, more = values.partition(":log")
    low, _, high = ends.partition("..")
    setting = Setting(name, *(_value(name, end.strip(), kind) for end in (low, high)), log=bool(log))
    if more.strip():
        raise UsageError(f"space: {name}={values} has more after :log than there should be")
    if not setting.low < setting.high:
        raise UsageError(f"space: {name}={values} must go from the lower to the higher value")
    if setting.log and setting.low <= 0:
        raise UsageError(f"space: {name}={values} must begin above 0 to be searched by its logarithm")
    return setting


WORDS = {int: "a whole number", float: "a number", Schedule: SYNTAX}
WORDS |= {bool: "true or false", str: "text", NoneType: "null"}


def _value(name: str, text: str, hint: Any) -> Any:
    """Read one value of a setting's type."""
    kinds = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    if NoneType in kinds and text in ("null", "None"):
        return None
    for kind in kinds:
        if kind is bool and text in ("true", "false"):
            return text == "true"
        if kind is int and re.fullmatch(r"[+-]?\d+", text):
            return int(text)
        if kind in (float, Schedule) and _number(text) is not None:
            return _number(text)
        if kind is Schedule and "->" in text:
            return Schedule.parse(text)
        if get_origin(kind) is tuple and re.fullmatch(r"\[\s*(\d+\s*(,\s*\d+\s*)*)?\]", text):
            return tuple(int(digits) for digits in re.findall(r"\d+", text))
        if kind is str and text:
            return text
    wanted = " or ".join(WORDS.get(kind, "a list of whole numbers such as [400,200]") for kind in kinds)
    raise UsageError(f"space: {name} must be {wanted}, not {text!r}")


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
