"""What holds l0 where `train.target_l0` asks for it: a price per active latent, adapted while a model trains."""

import math

from vsc.settings.config import Knobs, TrainConfig

MOST = 200.0
"""Nats per active latent beyond which no more is asked: what is worth that much stays on."""


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


def asked(integral: float, l0: float, now: Knobs, settings: TrainConfig, step: int) -> tuple[float, float]:
    """
    Return the price per active latent at a step, and the integral for the next one; both in nats.

    Parameters
    ----------
    integral : float
        From the step before; 0 at first.
    l0 : float
        Active latents expected on the present batch.
    now : Knobs
        The schedules; while the KL's weight rises, the price rises with it.
    settings : TrainConfig
        With a target_l0. Before its last value is reached, the price is not negative.
    step : int
        Steps taken.
    """
    assert settings.target_l0
    assert settings.steps
    least = -MOST if settings.target_l0.ended(step, settings.steps) else 0.0
    weight = now.beta / settings.beta.last if settings.beta and settings.beta.last else 1.0
    found, added = price(integral, l0, now.target_l0, settings.steps)
    return weight * max(found, least), min(max(integral + weight * added, least), MOST)
