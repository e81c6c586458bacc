"""What a row of metrics.jsonl says of a model: of a batch in training, or of the validation part."""

from typing import Any

import torch
from torch import Tensor

from vsc.model import Autoencoder
from vsc.model.bounds import TERMS
from vsc.settings.config import Config
from vsc.torchstate import Noise

LISTED = 4096
"""Latents up to which a row of metrics.jsonl has numbers of each."""


@torch.no_grad()
def validate(module: Autoencoder, x: Tensor, config: Config, batch_size: int = 1024) -> dict[str, Any]:
    """
    Measure the hard-spike ELBO on stored examples `x` (N, M), with the same noise every time.

    The row for metrics.jsonl, without step and split, has means and counts as in rows of training, `dead` latents, and
    J numbers each, rounded to four digits: `rates`, the share of the examples for which a latent has gamma > 1/2, and
    `kl_latent`, what it adds to kl_slab + kl_spike in nats (where the prior says). Of more than `LISTED` latents these
    are eleven numbers, from the smallest to the largest in tenths. Examples whose bound is not finite are left out;
    `not_finite` lists them where there are any.

    The mode of `module` is left as it was; `config` says binarisation and the seed, and `batch_size` examples are
    measured at a time.
    """
    device = next(module.parameters()).device
    was_training = module.training
    module.eval()
    noise, parts = Noise(config.train.seed, device), []
    for chunk in x.split(batch_size):
        with noise.turn():
            inputs = module.scaler(chunk.to(device))
            inputs = torch.bernoulli(inputs) if config.data.binarise else inputs
            terms, gamma, kl = module(inputs).terms, module.codes(inputs).gamma, None
            if module.bounded:
                kl = module.prior.latent_kl(module.posterior(inputs), inputs, module.posterior)
            sound = terms.isfinite().all(1) & gamma.isfinite().all(1)
            sums = [None if part is None else part[sound].double().sum(0).cpu() for part in (gamma > 0.5, kl)]
            parts.append((terms.cpu(), sound.cpu(), gamma.sum(1).cpu(), *sums))  # (N, J) numbers would not always fit
    module.train(was_training)
    *columns, ons, kls = zip(*parts, strict=True)
    terms, sound, l0 = (torch.cat(column) for column in columns)
    n = max(1, int(sound.sum()))
    on, kl = (None if sums[0] is None else torch.stack(sums).sum(0) / n for sums in (ons, kls))
    assert on is not None
    kept = sound if sound.any() else ~sound
    row = row_of(module, terms[kept].double().mean(0), on, l0[kept].mean().item()) | {"dead": int((on < 1e-4).sum())}
    row["rates"] = _listed(on)
    if kl is not None:
        row["kl_latent"] = _listed(kl)
    return row if sound.all() else row | {"not_finite": (~sound).nonzero().flatten().tolist()}


def _listed(values: Tensor) -> list[float]:
    """Round numbers (J,) to be written, or their quantiles where there are many."""
    values = values if len(values) <= LISTED else values.quantile(torch.linspace(0, 1, 11, dtype=values.dtype))
    return [round(value, 4) for value in values.tolist()]


def row_of(module: Autoencoder, terms: Tensor, rates: Tensor, l0: float) -> dict[str, Any]:
    """
    Return what a row says of a `module`: means and counts.

    `terms` (5,) are the means of `bounds.TERMS`, `rates` (J,) the shares of the examples for which latents have
    gamma > 1/2, and `l0` is the mean sum of gamma.
    """
    named = dict(zip(TERMS, terms.tolist(), strict=True))
    row = {"log_px": named["log_px"]}
    if module.bounded:
        parts = {name: named[name] for name in ("kl_slab", "kl_spike", "kl_selection")}
        row = {"elbo": named["log_px"] - sum(parts.values())} | row | parts
    counts = {"used": int((rates > 0.01).sum()), "always_on": int((rates > 0.99).sum())}
    return row | {"l0": l0, "active": rates.sum().item()} | counts
