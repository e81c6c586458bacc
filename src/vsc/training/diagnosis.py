"""What went wrong in a run and which setting to change, from numbers and settings: the likeliest cause first."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from vsc.data.split import Dataset
from vsc.settings.config import Config

SHORT = 200
"""Steps up to which a run that has gone wrong is told to go on, and nothing else."""

FALLEN = 0.02
"""Share of its size by which a validation ELBO must have fallen from its best to be called overfitting."""


TINY = 100
"""Training examples below which whatever a model learns is little more than those examples."""


def beforehand(data: Dataset, latent_dim: int) -> str:
    """Say in one line what of the data will go wrong in training, before it does; empty for sound data."""
    n, said = len(data.train), []
    if n < TINY:
        said.append(f"there are only {n} training examples, which a model learns by heart")
    elif latent_dim > n:
        said.append(f"there are more latents, {latent_dim}, than training examples, {n}; lower model.latent_dim")
    if len(data.shape) == 1:
        still = [data.features[i] if data.features else f"column {i}" for i in _still(data)]
        if still:
            verb = "has" if len(still) == 1 else "have"
            named = ", ".join(still[:3]) + (f" and {len(still) - 3} more" if len(still) > 3 else "")
            said.append(f"{named} {verb} one value throughout and will say nothing; leave such columns out")
    return "; ".join(said)


def _still(data: Dataset) -> list[int]:
    """Return the columns of one value throughout the training examples, which may be more than memory holds."""
    first = data.train.x.nan_to_num(math.inf).amin(0, keepdim=True) if data.fields else data.train.x[:1]
    there = torch.ones(first.shape[1], dtype=torch.bool)
    for rows in data.train.x.split(2000):
        there &= ((rows == first) | rows.isnan()).all(0)
        if not there.any():
            break
    return there.nonzero().flatten().tolist()


def collapse(used: float, always_on: float, latent_dim: int, config: Config | None = None) -> str:
    """
    Say what went wrong where a model's gates choose nothing, and which setting to change.

    Of `latent_dim` latents, `used` are on for more than 1 % and `always_on` for more than 99 % of the data. Half a
    sentence or two, to follow the model's name; empty for a sound model, general without a config.
    """
    dead = used < min(2, latent_dim)
    target = _last(config, "target_l0")
    if not dead and (latent_dim < 2 or always_on <= used / 2 or always_on <= 1.25 * target):
        return ""  # as many as were asked for may be on for everything
    if dead:
        found = f"has collapsed: hardly any latent is used ({used:.3g} of {latent_dim})"
    else:
        kind = "has collapsed" if used < latent_dim / 2 else "has not become sparse"
        found = f"{kind}: {always_on:.3g} of the {used:.3g} latents that it uses are on for nearly every input"
    steps = None if config is None else config.train.steps
    if steps is not None and steps <= SHORT:
        return f"{found}. It was trained for {steps} step{'s' * (steps != 1)} only: raise train.steps first."
    first, *others = _shut(config) if dead else _open(config)
    return f"{found}. {'; or '.join([first, *(cause[0].lower() + cause[1:] for cause in others[:2])])}."


def _shut(config: Config | None) -> list[str]:
    """Return what can keep gates shut, the likeliest first."""
    if config is None:
        return ["Raise model.alpha", "Let train.beta rise more slowly, as in '0 -> 1 at 0 over 0.3'"]
    model = config.model
    charged = [f"train.{name}" for name in ("penalty", "total_correlation") if _last(config, name) > 0]
    causes = []
    if 0 < _last(config, "target_l0") < 2:
        causes.append("Ask for more latents with train.target_l0")
    if charged:
        causes.append(f"Lower {' or '.join(charged)}")
    if _last(config, "beta") > 1:
        causes.append("Lower train.beta, which is above 1")
    if config.train.lam.corners:
        causes.append("Leave the lambda warm-up out (train.lam 1)")
    if config.train.cap is not None and config.train.cap < 0.2:
        causes.append(f"Raise train.cap, now {config.train.cap:g}")
    if model.gates in ("fixed", "learned") and model.alpha < 0.5:
        causes.append(f"Raise model.alpha, now {model.alpha:g}")
    if model.likelihood == "gaussian-fixed":
        causes.append(f"Lower model.variance, now {model.variance or 1:g}, to the noise of the data")
    return [*causes, "Let train.beta rise more slowly, as in '0 -> 1 at 0 over 0.3'"]


def _open(config: Config | None) -> list[str]:
    """Return what can keep gates open, the likeliest first."""
    ask = "Lower train.cap, the share of the data that a latent may be on for"
    if config is None:
        return [ask, "Lower model.alpha"]
    causes = []
    if config.model.spikes in ("sigmoid", "concrete"):
        causes.append("Take the spike estimator straight-through, whose draws are hard")
    if _last(config, "target_l0"):
        causes.append("It has not come down to train.target_l0: raise train.steps")
    else:
        causes.append(ask)
    if config.model.gates == "fixed" and config.model.alpha > 0.01:
        causes.append(f"Lower model.alpha, now {config.model.alpha:g}")
    return causes


MISSED = 1.25
"""How many times more or fewer latents may be on than were asked for."""


def missed(active: float, l0: float, config: Config | None) -> str:
    """
    Say so where about as many latents as `train.target_l0` asks for are not on, why, and what to change.

    Of an example `active` latents are on, gamma > 1/2, and `l0` is its expected number, the sum of gamma. A sentence to
    follow the model's name; empty where nothing was asked for, or it is there.
    """
    target = _last(config, "target_l0")
    if config is None or not target or target / MISSED <= active <= target * MISSED:
        return ""
    said = f"was asked for l0 {target:g}, and has {active:.3g} latents on"
    if config.train.steps is not None and config.train.steps <= SHORT:
        return f"{said}. It was trained for {config.train.steps} steps only: raise train.steps first."
    if target / MISSED <= l0 <= target * MISSED:  # what is asked for is met, and the gates are not sure
        return (
            f"{said}: a target is one of the sum of gamma, which is {l0:.3g}, and on is gamma above 1/2. Train longer, "
            f"ask for another --target-l0, or none; if latents are unused, lower model.latent_dim."
        )
    return f"{said}: the price that holds it has not got there. Raise train.steps, or ask for another --target-l0."


def worthless(elbo: float | None, without: float | None, keeps: bool, config: Config | None) -> str:
    """
    Say so where the ELBO is below that of the best constant output, `without` latents, and what to change.

    The best weights are kept, or advised to be already, where `keeps`. A sentence to follow the model's name.
    """
    if elbo is None or without is None or not elbo < without:
        return ""
    target, short = _last(config, "target_l0"), config is not None and (config.train.steps or SHORT + 1) <= SHORT
    advice = "Take fewer latents or more data"
    if short:
        advice = "Raise train.steps first"
    elif target:
        advice = f"Ask for another l0 than train.target_l0 {target:g}, or for none"
    elif not keeps:
        advice = f"Keep the best weights with train.patience 3, or {advice[0].lower()}{advice[1:]}"
    return (
        f"is worse than a model without latents: its ELBO of {elbo:.1f} nats is below {without:.1f}, that of the best "
        f"constant output. {advice}."
    )


def _last(config: Config | None, name: str) -> float:
    """Where a schedule of training ends up; 0 where it is not set."""
    schedule = None if config is None else getattr(config.train, name)
    return 0.0 if schedule is None else schedule.last


def overfitting(rows: Sequence[Mapping[str, Any]], config: Config | None = None) -> str:
    """
    Say so where the validation ELBO was best long before the end, and the last weights were kept.

    `rows` are those of metrics.jsonl of the validation part; with `train.patience` the best weights were kept. A
    sentence to follow the model's name; empty where nothing is wrong.
    """
    rows = [row for row in rows if row.get("elbo") is not None]
    if len(rows) < 3 or (config is not None and config.train.patience):
        return ""
    best, last = max(rows, key=lambda row: row["elbo"]), max(rows, key=lambda row: row["step"])
    fallen = best["elbo"] - last["elbo"]
    if best["step"] > 0.8 * last["step"] or fallen < max(FALLEN * abs(best["elbo"]), 0.5):
        return ""
    fall = f"was best at step {best['step']} ({best['elbo']:.1f}) and has fallen since, to {last['elbo']:.1f}"
    if target := _last(config, "target_l0"):  # whose price lowers the bound in training, too, and is not to be escaped
        return (
            f"may overfit, or pay for its l0: its validation ELBO {fall}. Ask for another l0 than train.target_l0 "
            f"{target:g}, or for none; or take fewer latents or steps."
        )
    return (
        f"overfits: its validation ELBO {fall}. Keep the best weights with train.patience 3, or take fewer latents or "
        "steps."
    )
