"""Encode a split once, with hard spikes, and say in numbers and in pictures what the code is worth."""

import math
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from vsc.data.split import Dataset, Split
from vsc.data.stored import Stored
from vsc.errors import UsageError
from vsc.metrics import Given, attributes, measurable
from vsc.metrics import measure as metric_values
from vsc.model import AE, Autoencoder, Codes
from vsc.model.bounds import Bound
from vsc.model.spikes import RELAXATION
from vsc.settings.config import Config
from vsc.settings.schedule import Schedule
from vsc.torchstate import seeded

NOISE = 0.1
"""Standard deviation of the denoising test's noise, as a share of the data's range (report 5.3)."""

PROBE_LABELS = 5000
"""Labelled training examples that the probe learns from (ICLR fig. 3)."""


class Scores(NamedTuple):
    """
    What is measured on a held-out split; all bounds use hard spikes. None where a model has no such quantity.

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
        Squared error of the reconstruction from the hard code, per output, in model units; lower is better.
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
    probe : float or None
        Test accuracy of a logistic regression on the mean codes of up to 5000 labelled training examples.
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


@torch.no_grad()
def evaluate(
    model: Autoencoder,
    data: Dataset,
    config: Config | None = None,
    split: str = "test",
    samples: int = 5,
    seed: int = 0,
    iwae: int | None = None,
    progress: bool = False,
) -> Scores:
    """
    Measure a trained model on one split, with hard spikes.

    Parameters
    ----------
    model : Autoencoder
        On the CPU. Measured in eval mode, and left in the mode that it was in.
    data : Dataset
        Its `train` split trains the probe; everything is measured on `split`.
    config : Config, optional
        The run's settings, for the relaxation and the binarisation that it trained with.
    split : str
        `valid` or `test`.
    samples : int
        Draws of z per example that the bounds are averaged over.
    seed : int
        Seed of these draws, of the noise and of the probe's examples.
    iwae : int, optional
        Draws K of the importance-weighted bound; by default it is not measured.
    progress : bool
        Whether to show a progress bar for it.

    Returns
    -------
    Scores
        One number each; see there for units.

    Raises
    ------
    UsageError
        If the split is unknown or empty, samples or iwae < 1, or an AE is asked for a bound.
    """
    held_out = pick(data, split)
    config = Config() if config is None else config
    if samples < 1:
        raise UsageError(f"samples must be at least 1, not {samples}")
    if iwae is not None and iwae < 1:
        raise UsageError(f"iwae is a number of draws, at least 1, not {iwae}")
    was_training = model.training
    model.eval()  # a draw in training mode may be relaxed
    with seeded(seed):
        x = inputs(model, held_out.x, config)
        terms = mean_terms(model, x, samples)
        relaxed = None
        if model.spiked and config.model.spikes in RELAXED:
            relaxation = config.train.relaxation or Schedule.parse(RELAXATION[config.model.spikes])
            relaxed = mean_terms(model.train(), x, samples, relaxation.last).elbo.item()
            model.eval()
        tight = None if iwae is None else importance_weighted_bound(model, x, iwae, progress).mean().item()
        codes = model.encode(held_out.x)
        at_floor = _at_floor(model, codes)
        clean = model.scaler(held_out.x)
        noisy = add_noise(clean, seed)
        denoised = reconstruct(model, noisy)
        rate = codes.active.double().mean(0)
    bound = not isinstance(model, AE)
    peak = _range(clean)
    scores = Scores(
        elbo=terms.elbo.item() if bound else None,
        relaxed_elbo=relaxed,
        log_px=terms.log_px.item(),
        kl_slab=terms.kl_slab.item() if bound else None,
        kl_spike=terms.kl_spike.item() if bound else None,
        kl_selection=terms.kl_selection.item() if bound else None,
        l0=codes.gamma.sum(1).mean().item(),
        active=rate.sum().item(),
        used=int((rate > 0.01).sum()),
        always_on=int((rate > 0.99).sum()),
        dead=int((rate < 1e-4).sum()),
        mse=(reconstruct(model, clean) - clean).square().mean().item(),
        denoise_mse=(denoised - clean).square().mean().item(),
        denoise_psnr=_psnr(denoised, clean, peak),
        noisy_psnr=_psnr(noisy, clean, peak),
        probe=probe(model, data, codes, held_out, seed),
        iwae=tight,
        at_floor=at_floor,
    )
    model.train(was_training)
    return scores


@torch.no_grad()
def hard_elbo(
    model: Autoencoder, x: Any, config: Config | None = None, most: int | None = None, samples: int = 5, seed: int = 0
) -> float:
    """
    Return the mean ELBO with hard spikes on any stored examples, the training set among them.

    Parameters
    ----------
    model : Autoencoder
        On the CPU, any with a prior; left in the mode that it was in.
    x : torch.Tensor or Stored, shape (N, M)
        Examples as stored.
    config : Config, optional
        The run's settings, for the binarisation that it trained with.
    most : int, optional
        So many of them at most, drawn at random.
    samples : int
        Draws of z per example.
    seed : int
        Seed of these draws and of the choice.

    Returns
    -------
    float
        Nats per example: for the whole of a held-out split the `elbo` of `Scores`, draw for draw.
    """
    if most is not None and most < len(x):
        x = x[torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))[:most].sort().values]
    was_training = model.training
    model.eval()
    with seeded(seed):
        found = mean_terms(model, inputs(model, x, Config() if config is None else config), samples).elbo.item()
    model.train(was_training)
    return found


def measure(
    model: Autoencoder,
    data: Dataset,
    metrics: Sequence[str],
    split: str = "test",
    seed: int = 0,
    codes: Codes | None = None,
) -> dict[str, float]:
    """
    Measure metrics of `vsc.metrics` on the codes of a split.

    Parameters
    ----------
    model : Autoencoder
        In eval mode; it encodes the training examples that probes learn from.
    data : Dataset
        With the labels and factors that are known.
    metrics : sequence of str
        Names in `vsc.metrics.METRICS`; `all` stands for those that the data allow, but the slow ones.
    split : str
        `valid` or `test`.
    seed : int
        Seed of what the metrics draw, and of the choice of training examples.
    codes : Codes, optional
        Of the split's examples, if they are known already.

    Returns
    -------
    dict of str to float
        One number per name; a metric of several parts gives `name-part` for each, and `presence` a part for each
        attribute that `Dataset.groups` names.

    Raises
    ------
    UsageError
        If a metric is unknown, or needs what is not known of the data; said before anything is measured.
    """
    held_out, train = pick(data, split), data.train
    codes = model.encode(held_out.x) if codes is None else codes
    known: dict[str, Any] = {} if held_out.factors is None else {"factors": held_out.factors.numpy()}
    if held_out.presence is not None:
        grouped = attributes(held_out.presence.numpy(), data.groups or None)
        known |= {"presence": grouped.presence, "groups": data.groups or grouped.groups}
    if held_out.y is not None and train.y is not None:
        order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))[:PROBE_LABELS]
        known |= {"labels": held_out.y.numpy(), "train_labels": train.y[order].numpy()}
        known |= {"train_z": model.encode(train.x[order]).z.numpy()}
    given = Given(codes.z.numpy(), codes.gamma.numpy(), codes.mu.numpy(), seed=seed, **known)
    return metric_values(given, measurable(given) if list(metrics) == ["all"] else metrics)


RELAXED = {"sigmoid", "concrete"}
"""Spike estimators whose training draw is not hard, so that a relaxed bound differs from the hard one."""


def pick(data: Dataset, split: str, on_disk: bool = False) -> Split:
    """
    Return a split by name.

    Parameters
    ----------
    data : Dataset
        The data.
    split : str
        `train`, `valid` or `test`.
    on_disk : bool
        Whether its examples may stay on disk.

    Returns
    -------
    Split
        With at least one example.

    Raises
    ------
    UsageError
        If it is unknown or empty, or must be in memory and is not.
    """
    if split not in ("train", "valid", "test"):
        raise UsageError(f"unknown split {split!r}; one of: train, valid, test")
    chosen: Split = getattr(data, split)
    if not len(chosen):
        raise UsageError(f"the {split} split of {data.name} is empty")
    if isinstance(chosen.x, Stored) and not on_disk:
        raise UsageError(f"the {split} split of {data.name} stays on disk; take valid or test, which are in memory")
    return chosen


def inputs(model: Autoencoder, x: Tensor, config: Config) -> Tensor:
    """
    Return examples as the model saw them in training: scaled, and binarised if it was.

    Parameters
    ----------
    model : Autoencoder
        With its scaler.
    x : torch.Tensor, shape (N, M)
        Examples as stored.
    config : Config
        The run's settings.

    Returns
    -------
    torch.Tensor, shape (N, M)
        Model inputs.
    """
    scaled = model.scaler(x)
    return torch.bernoulli(scaled) if config.data.binarise else scaled


def mean_terms(model: Autoencoder, x: Tensor, samples: int, relaxation: float = 0.0, batch_size: int = 1000) -> Bound:
    """
    Return a bound whose fields are means over examples and draws, in the model's present mode.

    Parameters
    ----------
    model : Autoencoder
        In eval mode its spikes are hard; in training mode they are those of its estimator.
    x : torch.Tensor, shape (N, M)
        Model inputs.
    samples : int
        Draws of z per example.
    relaxation : float
        T or c of the spike estimator, in training mode only.
    batch_size : int
        Examples at a time.

    Returns
    -------
    Bound
        Scalar tensors.
    """
    total = torch.zeros(len(Bound._fields), dtype=torch.float64)
    for chunk in x.split(batch_size):
        for _ in range(samples):
            total += torch.stack(model(chunk, relaxation=relaxation)).double().sum(1)
    return Bound(*(total / (len(x) * samples)))


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
        sums = [model.log_weights(chunk, block).double().logsumexp(0) for block in blocks]
        out.append(torch.stack(sums).logsumexp(0) - math.log(draws))
    return torch.cat(out)


def reconstruct(model: Autoencoder, x: Tensor, batch_size: int = 1000) -> Tensor:
    """
    Return E[x|z] at the hard code.

    Parameters
    ----------
    model : Autoencoder
        Any of the models.
    x : torch.Tensor, shape (N, M)
        Model inputs.
    batch_size : int
        Examples at a time.

    Returns
    -------
    torch.Tensor, shape (N, M)
        In model units.
    """
    return torch.cat([model.decode(model.codes(chunk).hard) for chunk in x.split(batch_size)])


def _at_floor(model: Autoencoder, codes: Codes, batch_size: int = 1000) -> float | None:
    shares = [model.likelihood.at_floor(model.from_decoder(z)) for z in codes.hard.split(batch_size)]
    known = [share for share in shares if share is not None]
    return torch.cat(known).mean().item() if known else None


LEANS_ON_FLOOR = 0.01
"""Share of variances at the floor from which a result is said to lean on it."""


def add_noise(x: Tensor, seed: int) -> Tensor:
    """Add Gaussian noise of `NOISE` times the data's range to x (N, M), clipped to it: the same for every model."""
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))
    return (x + NOISE * _range(x) * noise).clamp(x.min().item(), x.max().item())


def _range(x: Tensor) -> float:
    return (x.max() - x.min()).item() or 1.0


def _psnr(x: Tensor, clean: Tensor, peak: float) -> float:
    # of the mean error, not the mean of every example's: near-empty examples would rule that
    return 10 * math.log10(peak**2 / max((x - clean).square().mean().item(), 1e-12))


def probe(model: Autoencoder, data: Dataset, codes: Codes, held_out: Split, seed: int = 0) -> float | None:
    """
    Return the accuracy of a logistic regression on the standardised mean codes (ICLR fig. 3).

    Parameters
    ----------
    model : Autoencoder
        In eval mode.
    data : Dataset
        Its training labels are used, 5000 of them or what there is.
    codes : Codes
        Of the held-out examples.
    held_out : Split
        With the labels to predict.
    seed : int
        Which training examples.

    Returns
    -------
    float or None
        Share of the held-out labels that are predicted; None without labels or with a single class.
    """
    train = data.train
    if train.y is None or held_out.y is None:
        return None
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))[:PROBE_LABELS]
    labels = train.y[order].numpy()
    if len(np.unique(labels)) < 2:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # close enough for a probe; the limit is in the docs
        # C was chosen on the validation codes of a VAE and a VSC of MNIST: 0.1 was best of 0.01, 0.1 and 1 for both
        regression = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
        regression.fit(model.encode(train.x[order]).z.numpy(), labels)
    return float(regression.score(codes.z.numpy(), held_out.y.numpy()))
