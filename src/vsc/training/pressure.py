"""What holds l0 where `train.target_l0` asks for it: a price per active latent, adapted while a model trains."""

import math

from vsc.settings.config import Knobs, TrainConfig

MOST = 200.0
"""Nats per active latent beyond which no more is asked: what is worth that much stays on."""


def price(integral: float, l0: float, target: float, steps: int) -> tuple[float, float]:
    """
    Return the price per active latent that brings l0 to its target, and what to add to `integral`, 0 at first.

    A proportional-integral controller on ln l0, in nats; the price is negative where there are too few.
    """
    surplus = math.log(max(l0, 1e-3) / target)
    scale = max(1.0, abs(integral) / 4)  # what costs much moves in larger steps
    return integral + 10.0 * surplus, 200.0 / steps * scale * surplus


def asked(integral: float, l0: float, now: Knobs, settings: TrainConfig, step: int) -> tuple[float, float]:
    """
    Return the price per active latent at a step, and the integral for the next one, 0 at first; both in nats.

    `l0` is what the present batch is expected to have on. While the KL's weight rises, the price rises with it; before
    the target's last value is reached, it is not negative.
    """
    assert settings.target_l0
    assert settings.steps
    least = -MOST if settings.target_l0.ended(step, settings.steps) else 0.0
    weight = now.beta / settings.beta.last if settings.beta and settings.beta.last else 1.0
    found, added = price(integral, l0, now.target_l0, settings.steps)
    return weight * max(found, least), min(max(integral + weight * added, least), MOST)
