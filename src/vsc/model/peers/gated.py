"""Sparse autoencoders that learn when a latent is on: JumpReLU, Gated and VAEase."""

import math

import torch
from torch import Tensor, nn
from torch.distributions import Normal
from torch.func import functional_call

from vsc.model.dense import Unbounded, normal
from vsc.model.divergences import normal_kl
from vsc.model.peers.coder import Coder, also, boundless, exact, on_where

THRESHOLD, KERNEL = 0.1, 0.2
"""Where the thresholds of a `JumpReLU` start, and the width of the kernel of their gradient."""


class JumpReLU(Coder):
    """
    JumpReLU autoencoder: an encoder output is kept where it exceeds a learned threshold (Rajamanoharan et al. 2024b).

    z = pi 1[pi > theta_j]. The gradient of theta is that of the expected loss, by a rectangular kernel of width
    `KERNEL`. What a latent costs where it is on is `train.penalty`, or found for `train.target_l0`. Takes the
    parameters of `Autoencoder`.
    """

    schedules = frozenset({"target_l0", "penalty"})

    def begin(self) -> None:
        """Make the thresholds."""
        self.log_threshold = nn.Parameter(torch.full((self.latent_dim,), THRESHOLD).log())

    def forward(self, x, lam=1.0, relaxation=None):
        """Return log p(x|z) of x (B, M) with zero KL; the penalty is l0, which has a gradient in theta alone."""
        z, on = jump(self.from_encoder(x), self.log_threshold.exp())
        return boundless(self.log_px(x, z), on, on.sum(-1))

    def code(self, pre):
        """Return what exceeds its threshold."""
        return torch.where(pre > self.log_threshold.exp(), pre, 0.0)


def jump(pre: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
    """
    Return pi 1[pi > theta] and 1[pi > theta], whose gradients are those of an expected loss.

    Parameters
    ----------
    pre : torch.Tensor, shape (B, J)
        pi, the encoder's outputs.
    theta : torch.Tensor, shape (J,)
        Positive thresholds; the gradients in them are -theta K / width and -K / width, K = 1[|pi - theta| < width / 2].

    Returns
    -------
    torch.Tensor, torch.Tensor, shape (B, J)
        The second has no gradient in pi.
    """
    z, on = _Jump.apply(pre, theta)  # pyright: ignore[reportGeneralTypeIssues]
    return z, on


class _Jump(torch.autograd.Function):
    """What `jump` is."""

    generate_vmap_rule = True

    @staticmethod
    def forward(pre, theta):
        """Return both."""
        on = pre > theta
        return torch.where(on, pre, 0.0), on.to(pre.dtype)

    @staticmethod
    def setup_context(ctx, inputs, output):
        """Keep what the gradients need."""
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, *gradients):
        """Return the gradients of pi and theta."""
        (of_z, of_on), (pre, theta) = gradients, ctx.saved_tensors
        near = ((pre - theta).abs() < KERNEL / 2).to(pre.dtype) / KERNEL
        return torch.where(pre > theta, of_z, 0.0), -(near * (theta * of_z + of_on)).sum(0)


class Gated(Coder):
    """
    Gated autoencoder: one path says whether a latent is on, another how much (Rajamanoharan et al. 2024a).

    z = 1[pi > 0] ReLU(e^r_j pi + c_j), with pi the encoder's output. The penalty, weighed by `train.penalty` or found
    for `train.target_l0`, is the L1 norm of ReLU(pi), which must reconstruct x, too, through a decoder that is held
    fixed. Takes the parameters of `Autoencoder`.
    """

    schedules = frozenset({"target_l0", "penalty"})

    def begin(self) -> None:
        """Make the scale and shift that lead from the gates' path to the values'."""
        self.log_scale = nn.Parameter(torch.zeros(self.latent_dim))
        self.shift = nn.Parameter(torch.zeros(self.latent_dim))

    def forward(self, x, lam=1.0, relaxation=None):
        """Return log p(x|z) of x (B, M) with zero KL; gamma has the gradient of the L1 norm."""
        pre = self.from_encoder(x)
        gate, z = torch.relu(pre), self.code(pre)
        log_px = self.log_px(x, z)
        if self.training:
            log_px = also(log_px, self.auxiliary(x, gate))
        return boundless(log_px, also(on_where(z), gate), gate.sum(-1))

    def auxiliary(self, x: Tensor, gate: Tensor) -> Tensor:
        """Return log p(x|gate) (B,), of which no gradient reaches the decoder."""
        frozen = {name: weight.detach() for name, weight in self.decoder.named_parameters()}
        gate = gate.to(next(iter(frozen.values()), gate).dtype)
        out = functional_call(self.decoder, frozen, gate).flatten(1).float()
        return self.likelihood.log_prob(x.to(out.dtype), out, self.missing)

    def code(self, pre):
        """Return the values where the gates are open."""
        return torch.where(pre > 0, torch.relu(self.log_scale.exp() * pre + self.shift), 0.0)


class VAEase(Unbounded):
    """
    VAEase: a VAE whose decoder reads (1 - s) z, so that a latent with s = 1 is off for this input (Lu et al. 2025).

    q(z|x) = N(mu, s^2), p(z) = N(0, I). What the decoder reads of s is not in the KL, so the objective is no bound on
    log p(x), and none is reported. In codes a latent is on where s < 1/2. Takes the parameters of `Autoencoder`.
    """

    features = 2
    spiked = True
    schedules = frozenset({"beta"})

    def forward(self, x, lam=1.0, relaxation=None):
        """Return log p(x|z) and KL(q(z|x) || p(z)) of x (B, M), at one draw; in eval mode what is off is zero."""
        qz = self.q(x)
        share = 1 - qz.scale  # (B, J)
        on = share > 0.5
        z = share * (qz.loc + qz.scale * torch.randn_like(qz.loc))
        log_px = self.log_px(x, z if self.training else torch.where(on, z, 0.0))
        return boundless(log_px, on.to(z.dtype))._replace(kl_slab=normal_kl(qz.loc, 2 * qz.scale.log()).sum(-1))

    def q(self, x: Tensor) -> Normal:
        """Return q(z|x) (B, J) of x (B, M): s is 1/2 where the encoder says 0, as at the start, for at 1 all is off."""
        mu, logvar = self.from_encoder(x).chunk(2, -1)
        return normal(torch.cat([mu, logvar - 2 * math.log(2)], -1))

    def codes(self, x):
        """Return z = mu = (1 - s) times the mean, exactly zero where s >= 1/2, and gamma = 1[z != 0]."""
        qz = self.q(x)
        share = 1 - qz.scale
        return exact(torch.where(share > 0.5, share * qz.loc, 0.0))
