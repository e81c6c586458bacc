"""A posterior beyond the encoder's: coordinate ascent of the ELBO where decoder and likelihood are linear-Gaussian."""

import torch
from torch import Tensor

from vsc.errors import UsageError
from vsc.model.base import Autoencoder
from vsc.model.distributions import SpikeAndSlab
from vsc.model.nets import Dictionary
from vsc.model.priors import SpikeSlabPrior


def ascend(model: Autoencoder, x: Tensor, qz: SpikeAndSlab, sweeps: int) -> SpikeAndSlab:
    """
    Return q(z|x) after sweeps of coordinate ascent, one latent after the other, from where the encoder puts it.

    What the other latents leave of x projects on direction d_j to u, z_j plus noise of variance sigma^2. With the
    prior alpha N(m, t^2) the best q_j is then known: s^2 = 1 / (1 / sigma^2 + 1 / t^2),
    mu = s^2 (u / sigma^2 + m / t^2) and logit gamma = logit alpha + ln (s / t) + mu^2 / (2 s^2) - m^2 / (2 t^2).
    No sweep lowers the ELBO. Source: Titsias and Lazaro-Gredilla, "Spike and slab variational inference for multi-task
    and multiple kernel learning" (2011).

    Parameters
    ----------
    model : VSC
        Of a `nets.Dictionary`, one variance and a prior of one component.
    x : torch.Tensor, shape (B, M)
        Model inputs, complete.
    qz : SpikeAndSlab, shape (B, J)
        Where to start: the encoder's.
    sweeps : int
        How often every latent is set anew. Each takes B J^2 products.

    Raises
    ------
    UsageError
        If the model is of another kind.
    """
    prior, decoder = model.prior, model.decoder
    if not isinstance(prior, SpikeSlabPrior) or prior.components != 1 or model.missing:
        raise UsageError(
            "refining a code needs gates without components and complete data; choose --gates learned or fixed, as in "
            "vsc-linear, or encode without --refine"
        )
    h = model.curvature(x)  # 1 / sigma^2  (J,); refuses decoders that are not linear
    assert isinstance(decoder, Dictionary)
    D, p = decoder.weight.to(x), prior.mixed(model.posterior)[0]  # alpha, m, ln t^2  (J,)
    precision = (-p.logvar).exp()
    s2 = 1 / (h + precision)
    start = p.spike_logits + 0.5 * (s2 * precision).log() - 0.5 * p.mu.square() * precision
    z = qz.mean.T.clone()  # (J, B), so that a latent's values lie side by side
    alike = h[0] * D @ D.T
    pull = h[0] * D @ (x - decoder.bias).T - alike @ z  # what is left of x, projected  (J, B)
    mu, logits = torch.empty_like(z), torch.empty_like(z)
    for _ in range(sweeps):
        for j in range(len(z)):
            mu[j] = s2[j] * (pull[j] + h[j] * z[j] + p.mu[j] * precision[j])
            logits[j] = start[j] + mu[j].square() / (2 * s2[j])
            change = torch.sigmoid(logits[j]) * mu[j] - z[j]
            pull.addr_(alike[j], change, alpha=-1)
            z[j] += change
    return SpikeAndSlab(mu.T, s2.log().expand_as(qz.mu), spike_logits=logits.T, validate_args=False)
