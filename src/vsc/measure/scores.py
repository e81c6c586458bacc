"""What the code of a split is worth, in numbers; every bound is one with hard spikes."""

import math
import warnings
from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from vsc.model import Autoencoder, Codes
from vsc.model.bounds import Bound

NOISE = 0.1
"""Standard deviation of the denoising test's noise, as a share of the data's range (report 5.3)."""

PROBE_LABELS = 5000
"""Labelled training examples that the probe learns from (ICLR fig. 3)."""


class Scores(NamedTuple):
    """
    What is measured on a held-out split; all bounds use hard spikes. None where a model has no such quantity.

    All of it is of the same inputs, those that the model was trained on: scaled, and binarised if it was. Of examples
    that no float32 can describe (a value of 1e30 standard deviations) errors are infinite and the code is empty.

    Attributes
    ----------
    elbo : float or None
        E_q log p(x|z) - KL, nats per example, higher is better. None for the AE, which has no bound.
    relaxed_elbo : float or None
        The same with the relaxed spikes that training used; not a bound. None unless a relaxation was trained.
    log_px : float
        E_q log p(x|z), nats per example, higher is better.
    kl_slab, kl_spike, kl_selection : float or None
        The parts of the KL, nats per example, lower is better: values, gates, and the choice of a prior's component.
    l0 : float
        Expected number of active latents per example (sum of gamma); J for models without spikes. A latent that the
        model does not use keeps gamma near the prior's alpha, so l0 exceeds `active`.
    active : float
        Mean number of latents per example with gamma > 1/2; J for models without spikes.
    used, always_on, dead : float
        Latents active (gamma > 1/2) on more than 1 %, on more than 99 % and on less than 0.01 % of the examples.
    mse : float
        Squared error of the reconstruction from the hard code, per output that is there, in model units; in standard
        deviations of each column where model units differ (`Measured.unit`). Lower is better.
    denoise_mse, denoise_psnr : float
        Error (per output) and PSNR (dB, of that mean error, higher is better) against the *clean* input of the
        reconstruction of the input with Gaussian noise (sigma 0.1 of the data's range, clipped to it).
    noisy_psnr : float
        PSNR of the noisy input itself, in dB: what doing nothing scores.
    iwae : float or None
        Importance-weighted bound on log p(x) of as many draws as were asked for, nats per example, higher is better.
    at_floor : float or None
        Share of the reconstructions' output variances within ten times the likelihood's floor, on which log p(x|z)
        then leans; None for likelihoods without a floor.
    fvu : float or None
        Squared error as a share of the variance, stored units (`vsc.metrics.fvu`), of a Gaussian of vectors; else None.
    probe : float or None
        Test accuracy of a logistic regression on the mean codes of up to 5000 labelled training examples.
    no_latents : float or None
        What the best model without latents scores: log p of the likelihood's best constant output, fitted to the
        training data, nats per example. An ELBO below it says that the latents are worth less than they cost.
    """

    elbo: float | None
    relaxed_elbo: float | None
    log_px: float
    kl_slab: float | None
    kl_spike: float | None
    kl_selection: float | None
    l0: float
    active: float
    used: float
    always_on: float
    dead: float
    mse: float
    denoise_mse: float
    denoise_psnr: float
    noisy_psnr: float
    probe: float | None
    iwae: float | None = None
    at_floor: float | None = None
    no_latents: float | None = None
    fvu: float | None = None


def without_latents(scores: Scores) -> Scores | None:
    """Return the row of a table that shows `no_latents`; None where it was not measured."""
    if scores.no_latents is None:
        return None
    nothing: dict[str, Any] = dict.fromkeys(Scores._fields)
    fvu = None if scores.fvu is None else 1.0
    return Scores(**nothing | {"elbo": scores.no_latents, "log_px": scores.no_latents, "fvu": fvu})


RELAXED = {"sigmoid", "concrete"}
"""Spike estimators whose training draw is not hard, so that a relaxed bound differs from the hard one."""


def bounds(model: Autoencoder, x: Tensor, samples: int) -> Bound:
    """
    Return each example's bound, averaged over draws, in the model's present mode.

    Parameters
    ----------
    model : Autoencoder
        In eval mode its spikes are hard; in training mode they are those of its estimator, at its last relaxation.
    x : torch.Tensor, shape (N, M)
        Model inputs.
    samples : int
        Draws of z per example.

    Returns
    -------
    Bound
        Float64, the terms (N,) each; never NaN: where a term cannot be computed, log p is -inf and a cost inf.
    """
    rows = []
    for chunk in x.split(1000):
        draws: list[Bound] = [model(chunk) for _ in range(samples)]
        rows.append([torch.stack(part).double().mean(0) for part in zip(*draws, strict=True)])
    found = Bound(*(torch.cat(part) for part in zip(*rows, strict=True)))
    worst = dict.fromkeys(Bound._fields, math.inf) | {"log_px": -math.inf}
    return Bound(*(part.nan_to_num(worst[n], math.inf, -math.inf) for n, part in found._asdict().items()))


def encode(model: Autoencoder, x: Tensor) -> Codes:
    """Return the codes of model inputs x (N, M), (N, J) each; where one is not finite, that of an empty example."""
    parts = [model.codes(chunk) for chunk in x.split(1024)]
    codes = Codes(*(torch.cat(part) for part in zip(*parts, strict=True)))
    sound = torch.stack([part.isfinite().all(1) for part in codes]).all(0)
    empty = torch.tensor(0.0 if model.spiked else 1.0)
    fallback = Codes(torch.zeros(()), empty, torch.zeros(()))
    return Codes(*(torch.where(sound[:, None], part, none) for part, none in zip(codes, fallback, strict=True)))


@torch.no_grad()
def importance_weighted_bound(
    model: Autoencoder, x: Tensor, draws: int, progress: bool = False, rows: int = 4000
) -> Tensor:
    """
    Return the importance-weighted bound on log p(x), with hard spikes (Burda et al. 2015; spec of the weights: bounds).

    Parameters
    ----------
    model : Autoencoder
        In eval mode; any with a prior.
    x : torch.Tensor, shape (N, M)
        Model inputs.
    draws : int
        K.
    progress : bool
        Whether to show a progress bar.
    rows : int
        Codes decoded at a time: memory is bounded by it, whatever N and K.

    Returns
    -------
    torch.Tensor, shape (N,)
        Nats, float64.

    Raises
    ------
    UsageError
        If the model is an AE.
    """
    together = max(1, rows // draws)  # examples
    out = []
    for chunk in tqdm(x.split(together), disable=not progress, unit="chunk", desc=f"IWAE-{draws}"):
        # ln of the sum of the weights so far: blocks of draws are added to it
        blocks = [min(rows, draws - done) for done in range(0, draws, rows)]
        sums = [model.log_weights(chunk, block).double().nan_to_num(-math.inf, math.inf, -math.inf) for block in blocks]
        out.append(torch.stack([part.logsumexp(0) for part in sums]).logsumexp(0) - math.log(draws))
    return torch.cat(out)


def reconstruct(model: Autoencoder, codes: Codes) -> Tensor:
    """Return E[x|z] at hard codes, (N, M), in model units."""
    return torch.cat([model.decode(z) for z in codes.hard.split(1000)])


def at_floor(model: Autoencoder, codes: Codes) -> float | None:
    """Return the share of variances at the likelihood's floor, at the hard codes; None for one without a floor."""
    shares = [model.likelihood.at_floor(model.from_decoder(z)) for z in codes.hard.split(1000)]
    known = [share for share in shares if share is not None]
    return torch.cat(known).mean().item() if known else None


def add_noise(x: Tensor, seed: int, unit: Tensor | float = 1.0) -> Tensor:
    """
    Add Gaussian noise of `NOISE` times the data's range to `x` (N, M), clipped to it: one for each `seed`.

    A `unit` (M,) says what is 1 of each column, where that differs. What is missing (NaN) stays so.
    """
    noise, told = torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(seed)), x / unit
    there = told[~told.isnan()]
    return (told + NOISE * value_range(told) * noise).clamp(there.min().item(), there.max().item()) * unit


def squared_error(x: Tensor, clean: Tensor, unit: Tensor | float = 1.0) -> float:
    """Return the mean squared error of `x` (N, M), in a `unit` (M,), where `clean` is not NaN; infinite where x is."""
    error = ((x.double() - clean.double()) / unit).square()
    return error[~clean.isnan().expand_as(error)].mean().nan_to_num(math.inf).item()


def value_range(x: Tensor) -> float:
    """Return the largest value that is there less the smallest; 1 where they are the same."""
    there = x[~x.isnan()]
    return there.max().item() - there.min().item() or 1.0


def psnr(mse: float, peak: float) -> float:
    """Return the peak signal-to-noise ratio in dB of a mean error: near-empty examples would rule a mean of ratios."""
    return -math.inf if math.isinf(mse) else 20 * math.log10(peak) - 10 * math.log10(max(mse, 1e-12))


def probe(train: Codes, labels: Tensor, codes: Codes, truth: Tensor) -> float | None:
    """
    Return the accuracy of a logistic regression on the standardised mean codes (ICLR fig. 3).

    It learns from the codes `train` and the `labels`, (L,), of training examples, and predicts the `truth`, (N,), of
    the held-out `codes`; None with a single class to learn from.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if len(labels.unique()) < 2:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # close enough for a probe; the limit is in the docs
        # C was chosen on the validation codes of a VAE and a VSC of MNIST: 0.1 was best of 0.01, 0.1 and 1 for both
        regression = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
        regression.fit(train.z.numpy(), labels.numpy())
    return float(regression.score(codes.z.numpy(), truth.numpy()))
