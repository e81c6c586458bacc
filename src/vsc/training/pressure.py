"""What keeps a code sparse while a model trains: a price for each latent, found by a controller."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from vsc.settings.config import Knobs, TrainConfig

MOST = 200.0
"""Nats per active latent beyond which no more is asked: what is worth that much stays on."""

RATE, TOTAL = 2.0, 10.0
"""How strongly a price answers at once to the logarithm of what is too much: of a latent's rate, and of l0."""

LIMIT = 5.0
"""l0 is at most this times cap sqrt(J) where no other is asked for: of many latents, fewer are on at once."""

STEPS = 2000
"""Steps that a multiplier has to find its value, at least: a shorter run does not get there in a hurry."""

MEMORY = 0.9
"""Share of a latent's remembered rate that a batch leaves."""


class Pressure(NamedTuple):
    """
    Where the controller stands: the multipliers of its limits, in nats, and what it remembers.

    Attributes
    ----------
    rates : torch.Tensor, shape (J,)
        Mean spike probability of each latent over the last batches.
    capped : torch.Tensor, shape (J,)
        Multiplier of rate_j <= `train.cap`: what a latent costs since it was on too often.
    total : torch.Tensor, shape ()
        Multiplier of sum_j rate_j = `train.target_l0`, or else <= `LIMIT` cap sqrt(J).
    """

    rates: Tensor
    capped: Tensor
    total: Tensor


def begin(rates: Tensor) -> Pressure:
    """Return the controller before the first step, of the first batch's mean spike probabilities (J,)."""
    return Pressure(rates, torch.zeros_like(rates), rates.new_zeros(()))


def prices(at: Pressure, rates: Tensor, now: Knobs, settings: TrainConfig, step: int) -> tuple[Tensor, Pressure]:
    """
    Return what each latent costs at a step where it is on, nats (J,), and the controller for the next step.

    Every latent's rate and their sum are held by multipliers that answer to ln(what is / what may be), at once and in
    sum over the steps: proportional-integral control of the Lagrangian of the bound. The price of a limit is never
    negative; `target_l0` is held from both sides once its last value is reached. While the KL's weight rises, prices
    rise with it; what costs much moves in larger steps.

    Parameters
    ----------
    at : Pressure
        Where the controller stands.
    rates : torch.Tensor, shape (J,)
        Mean spike probabilities of the present batch.
    now : Knobs
        The schedules' values at the step.
    settings : TrainConfig
        The settings, resolved.
    step : int
        From 0.
    """
    assert settings.steps
    weight = now.beta / settings.beta.last if settings.beta and settings.beta.last else 1.0
    pace = weight * 200.0 / max(settings.steps, STEPS)
    at = at._replace(rates=MEMORY * at.rates + (1 - MEMORY) * rates)
    asked, cap, limit, least = torch.zeros_like(rates), settings.cap or 1.0, now.target_l0, 0.0
    if cap < 1:
        over = at.rates.clamp(min=1e-3).div(cap).log()
        asked = (at.capped + RATE * over).clamp(min=0)
        capped = at.capped + pace * (at.capped / 4).clamp(min=1) * over
        at = at._replace(capped=capped.clamp(0, MOST))
        limit = limit or LIMIT * cap * math.sqrt(len(rates))
    if limit:
        if settings.target_l0 and settings.target_l0.ended(step, settings.steps):
            least = -MOST
        over = at.rates.sum().clamp(min=1e-3).div(limit).log()
        asked = asked + (at.total + TOTAL * over).clamp(min=least)
        total = at.total + pace * (at.total.abs() / 4).clamp(min=1) * over
        at = at._replace(total=total.clamp(least, MOST))
    return weight * asked, at
