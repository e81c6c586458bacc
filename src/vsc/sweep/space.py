"""The settings that a search may change, read from text such as `train.lr=1e-4..1e-2:log,model.alpha=0.1|0.2`."""

import json
import re
from contextlib import suppress
from difflib import get_close_matches
from typing import Any, NamedTuple

from vsc.errors import UsageError
from vsc.model import MODELS
from vsc.settings.config import Config, ModelConfig, TrainConfig, kinds_of
from vsc.settings.presets import changed
from vsc.settings.schedule import Schedule
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
        found[name] = _read(name, values)
    return tuple(found.values())


def _kinds(name: str) -> tuple[type, ...]:
    """Return the types of a setting that may be searched."""
    if name.startswith("data."):
        raise UsageError(f"space: {name} cannot be searched: numbers on different data do not compare")
    if name in REFUSED:
        raise UsageError(f"space: {name} cannot be searched: {REFUSED[name]}")
    parts = {"model": ModelConfig, "train": TrainConfig}
    known = {f"{part}.{key}": own for part, kind in parts.items() for key, own in kinds_of(kind).items()}
    if name not in known:
        gone = GONE.get(name.removeprefix("train."), ())
        near = (
            [f"train.{part}" for part in gone]
            or [one for one in known if one.endswith(f".{name}")]
            or get_close_matches(name, known, n=1)
        )
        hint = f"did you mean {near[0]}? " if near else ""
        raise UsageError(f"space: unknown setting {name!r}; {hint}vsc tune --help lists all")
    return known[name]


def _read(name: str, values: str) -> Setting:
    kinds = _kinds(name)
    if ".." in values:
        return _range(name, values, kinds)
    choices = {one.strip(): _value(name, one.strip()) for one in values.split("|")}
    if len(choices) < 2:
        raise UsageError(f"space: {name}={values} leaves no choice; to fix it, give --{name} {values}")
    return Setting(name, choices=tuple(choices.items()))


def _range(name: str, values: str, kinds: tuple[type, ...]) -> Setting:
    if not {int, float, Schedule} & set(kinds):
        raise UsageError(f"space: {name} is no number; give choices, as in {name}=A|B")
    ends, log, more = values.partition(":log")
    low, high = (_value(name, end.strip()) for end in ends.split("..", 1))
    for text, end in zip(ends.split("..", 1), (low, high), strict=True):
        if not isinstance(end, int | float):
            raise UsageError(f"space: {name} must be a number, not {text.strip()!r}")
    if int not in kinds:
        low, high = float(low), float(high)
    if more.strip():
        raise UsageError(f"space: {name}={values} has more after :log than there should be")
    if not low < high:
        raise UsageError(f"space: {name}={values} must go from the lower to the higher value")
    if log and low <= 0:
        raise UsageError(f"space: {name}={values} must begin above 0 to be searched by its logarithm")
    return Setting(name, low, high, bool(log))


def _value(name: str, text: str) -> Any:
    """Read one value; the settings themselves refuse what is of another type."""
    value: Any = text
    for read in (float, int, json.loads):  # the last that can read it
        with suppress(ValueError):
            value = read(text)
    value = tuple(value) if isinstance(value, list) else value
    try:
        changed(Config(), {name: value})
    except UsageError as error:
        raise UsageError(f"space: {error}") from error
    return value
