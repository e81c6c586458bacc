"""Settings as earlier versions wrote them, read as those of today."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from vsc.errors import UsageError
from vsc.files import read_yaml, whole
from vsc.settings.config import Config, DataConfig, ModelConfig, TrainConfig, as_plain
from vsc.settings.schedule import Corner, Schedule

FORMAT = 3
"""Of config.yaml, comparison.yaml and model/config.json: the number that is written into them, and checked."""


GONE = {
    **dict.fromkeys(("lr_first", "lr_hold", "lr_final", "lr_drop", "lr_ramp"), ("lr",)),
    "kl_warmup": ("beta",),
    **dict.fromkeys(("penalty_hold", "penalty_ramp"), ("penalty", "target_l0")),
    **dict.fromkeys(("lam_hold", "lam_ramp"), ("lam",)),
    **dict.fromkeys(("temperature", "temperature_final", "sharpness", "sharpness_final"), ("relaxation",)),
}
"""Settings of training that format 1 had -> the schedules that they are part of now."""

USUAL = {
    "lr": 1e-3,
    "lr_drop": 0.5,
    "beta": 1.0,
    "temperature": 0.7,
    "temperature_final": 0.3,
    "sharpness": 50.0,
    "sharpness_final": 200.0,
}
"""Their defaults in format 1; those of the others were 0 or None."""

PRIORS: dict[Any, dict[str, Any]] = {
    "normal": {"gates": "fixed", "slab": "unit", "alpha": 1.0},
    "spike-slab": {"gates": "fixed", "slab": "unit"},
    "learned": {"gates": "learned", "slab": "unit"},
    "pseudo-inputs": {"gates": "pseudo-inputs", "slab": "own"},
    "mixture": {"gates": "mixture", "slab": "own"},
}
"""The priors of formats 1 and 2 -> the settings that they are now."""

MIXTURES = ("pseudo-inputs", "mixture")

LEFT = {
    **dict.fromkeys(("prior_lr", "slab_beta", "spike_beta"), 1.0),
    **dict.fromkeys(("price", "price_start", "spike_hold", "spike_ramp"), 0.0),
}
"""Settings of training that formats 1 and 2 had, which no longer exist -> what did nothing."""

PRICE = "train.cap or train.target_l0, which find the price themselves"
INSTEAD = {
    "model.prior": "model.gates, which is fixed, learned, mixture or pseudo-inputs",
    "model.unit_slab": "model.slab unit",
    "model.off_value": "model.slab learned with model.slab_mean 3 for an off value of -3",
    **dict.fromkeys(("train.price", "train.price_start"), PRICE),
    "train.prior_lr": "model.gates mixture, whose weights have a pace of their own",
    **dict.fromkeys(("train.slab_beta", "train.spike_beta"), "train.beta"),
    **dict.fromkeys(("train.spike_hold", "train.spike_ramp"), "a schedule of train.beta or train.total_correlation"),
}
"""Settings of earlier versions -> what to take now."""


def upgraded(plain: Mapping[str, Any], where: str = "the settings") -> dict[str, Any]:
    """
    Return plain settings of any format as those of this one, without their format number.

    Parts may be missing, and what else is there is left as it is. Of a run that we saved, what no longer exists or did
    nothing for its model is left out, since its training is over. In a user's own settings, which have no `format`,
    what no longer exists is refused; what is given of a schedule of format 1 stands for all of it, the rest being at
    the defaults of then. UsageError, which says `where` they were read, if a newer version wrote them, or a comparison
    of an earlier one, or a value is not what it should be.
    """
    new = {name: dict(part) if isinstance(part, Mapping) else part for name, part in plain.items() if name != "format"}
    number = plain.get("format")
    if number is not None and (type(number) is not int or number < 1):
        raise UsageError(f"{where}: format is a whole number, not {str(number)[:40]!r}")
    if number is not None and number > FORMAT:
        raise UsageError(f"{where} was written by a newer version (format {number}, not {FORMAT}); update")
    model, train = new.get("model") or {}, new.get("train") or {}
    if number == FORMAT or not isinstance(train, dict) or not isinstance(model, dict):
        return new
    saved = number is not None or {"lam_hold", "lr_first"} <= train.keys()  # format 1 wrote all, and no number
    if saved and "models" in new:
        raise UsageError(f"{where} was written by an earlier version; start anew with --overwrite or in another folder")
    try:
        train = _train(train, model)
    except (TypeError, ValueError) as error:
        names = ", ".join(sorted(GONE.keys() & train)) or "model"
        raise UsageError(f"{where}: {names} cannot be read: {error}") from error
    for name, idle in LEFT.items():
        value = train.pop(name, idle)
        if not saved and value not in (idle, None):
            raise UsageError(f"{where}: train.{name} no longer exists; take {INSTEAD[f'train.{name}']}")
    if saved and train:
        train["cap"] = 1.0  # there was none
    model = _model(model, saved, where) if model else model
    new |= {name: part for name, part in (("model", model), ("train", train)) if part or name in new}
    return _heeded(new, where) if saved else new


def read_settings(path: str | Path) -> dict[str, Any]:
    """
    Read settings of any format from a YAML file, a user's own or a run's, as `upgraded` returns them.

    UsageError, one short line, if it is damaged or not a file of settings; OSError if it cannot be read.
    """
    try:
        if Path(path).stat().st_size > LARGEST:
            raise ValueError(f"it has more than {LARGEST // 1000} kB")
        plain = read_yaml(path)
        if not isinstance(plain, dict):
            raise ValueError("it holds no settings, which are written as `train: {steps: 100}`")
        for part in ("data", "model", "train"):
            if not isinstance(plain.get(part, {}), dict):
                raise ValueError(f"{part} is a group of settings, as in `{part}: {{NAME: VALUE}}`")
    except ValueError as error:
        raise UsageError(f"{path} is damaged: {str(error)[:200]}") from error
    return upgraded(plain, str(path))


def write_settings(path: Path, plain: Mapping[str, Any]) -> None:
    """Write settings, with their format, as `read_settings` reads them."""
    import yaml

    with whole(path) as temporary:
        temporary.write_text(yaml.safe_dump({"format": FORMAT} | as_plain(plain), sort_keys=False), encoding="utf-8")


LARGEST = 100_000
"""Bytes of a file of settings that are read."""


def from_plain(plain: Mapping[str, Any], where: str) -> Config:
    """
    Return settings from `upgraded` as what they are; those that are not there are at their defaults.

    UsageError, which says `where` they were read, if they are damaged or hold an unknown setting.
    """
    parts: dict[str, Any] = {}
    for part, kind in (("data", DataConfig), ("model", ModelConfig), ("train", TrainConfig)):
        given = plain.get(part, {})
        if not isinstance(given, Mapping):
            raise UsageError(f"{where} is damaged: {part} is no group of settings")
        known = {one.name for one in fields(kind)}
        if unknown := [str(name)[:40] for name in given if name not in known]:
            raise UsageError(f"{where} has the unknown setting {part}.{unknown[0]}; another version wrote it")
        try:
            parts[part] = kind(**given)
        except (TypeError, OverflowError) as error:
            raise UsageError(f"{where} is damaged: {part}: {error}") from error
        except UsageError as error:
            raise UsageError(f"{where} is damaged: {error}") from error
    return Config(**parts)


def _heeded(new: dict[str, Any], where: str) -> dict[str, Any]:
    """Leave out of a run's settings what its model did not heed: earlier versions wrote all."""
    from vsc.settings.resolve import unused  # with torch, which the command line's help does not wait for

    for dotted in unused(from_plain(new, where)):
        part, name = dotted.split(".")
        del new[part][name]
    return new


def _model(old: dict[str, Any], saved: bool, where: str) -> dict[str, Any]:
    """Turn a prior into gates and a slab, and a value of what is off into a slab on the other side of zero."""
    new = {name: value for name, value in old.items() if name not in ("prior", "unit_slab", "off_value")}
    prior, off = old.get("prior", "spike-slab" if saved else None), old.get("off_value")
    if prior is not None and str(prior) not in PRIORS:
        raise UsageError(f"{where}: instead of model.prior, take {INSTEAD['model.prior']}")
    new |= PRIORS.get(prior, {}) | ({"slab": "unit"} if old.get("unit_slab") else {})
    if off and (new.get("slab") == "own" or not isinstance(off, int | float)):
        raise UsageError(f"{where}: instead of model.off_value, take {INSTEAD['model.off_value']}")
    return new | ({"slab": "learned", "slab_mean": -off} if off else {})


def _train(old: dict[str, Any], model: Mapping[str, Any]) -> dict[str, Any]:
    """Turn training settings of format 1 into schedules, and spell out the l0 that mixtures went to unless told."""
    J = model.get("latent_dim", 32)
    charged = any(old.get(name) for name in ("penalty", "price", "price_start"))
    if old.get("target_l0") is None and model.get("prior") in MIXTURES and not charged:
        old = old | {"target_l0": model.get("alpha", 0.1) * J}

    def of(setting: str) -> Any:
        return old.get(setting, USUAL.get(setting))

    gone = GONE.keys() & old.keys()
    made = {part for name in gone for part in GONE[name]}
    later = of("penalty_hold") or 0.0, of("penalty_ramp") or 0.0
    schedules = {
        "lr": lambda: _lr(of),
        "beta": lambda: _beta(of, model),
        "lam": lambda: _ramp(0.0, 1.0, of("lam_hold") or 0.0, of("lam_ramp") or 0.0),
        "penalty": lambda: _ramp(0.0, of("penalty") or 0.0, *later),
        "target_l0": lambda: _ramp(J, of("target_l0"), *later) if of("target_l0") else None,
        "relaxation": lambda: _relaxation(of, model, gone),
    }
    new = {name: value for name, value in old.items() if name not in GONE}
    new |= {name: make() for name, make in schedules.items() if name in made}
    if gone and "patience" in old and old["patience"] is None:  # which was off
        new["patience"] = 0
    if model.get("name") == "tcvae" and "penalty" in new and (gone or "total_correlation" not in new):
        new["total_correlation"] = new.pop("penalty")
    return new | ({"target_l0": None} if new.get("target_l0") == 0 else {})


def _ramp(start: float, end: float, at: float, over: float) -> float | str:
    """Return `start` up to `at`, then a line to `end` over `over`."""
    if start == end or (at == 0 and over == 0):
        return Schedule(end).plain
    return Schedule(start, (Corner(end, at, over),)).plain


def _lr(of) -> float | str:
    lr, first, hold = of("lr"), of("lr_first"), of("lr_hold") or 0.0
    last, drop, ramp = of("lr_final") or of("lr"), of("lr_drop"), of("lr_ramp") or 0.0
    falls = (Corner(last, drop, ramp),) if last != lr else ()
    if not first or not hold:
        return Schedule(lr, falls).plain
    if hold > drop and falls:  # it takes up the fall where that has come to
        falls = (Corner(last, hold, max(drop + ramp - hold, 0.0)),)
        lr = lr + (last - lr) * min((hold - drop) / ramp, 1.0) if ramp else last
    return Schedule(first, (Corner(lr, hold, 0.0), *falls)).plain


def _beta(of, model) -> float | str | None:
    beta, warmup = of("beta"), of("kl_warmup")
    if warmup is None:
        if beta == 1:
            return None
        learned = model.get("likelihood") in ("gaussian", "gaussian-shared", "laplace")
        warmup = 0.1 if model.get("name", "vsc") in ("vsc", "thresholded-laplace") or learned else 0.0
    return _ramp(0.0, beta, 0.0, warmup)


def _relaxation(of, model, given: set[str]) -> float | str:
    spikes = model.get("spikes")
    sharp = spikes == "sigmoid" or (spikes is None and not given & {"temperature", "temperature_final"})
    first, last = (of("sharpness"), of("sharpness_final")) if sharp else (of("temperature"), of("temperature_final"))
    return _ramp(first, first if last is None else last, 0.0, 1.0)
