"""Sparse autoencoders that learn when a latent is on: JumpReLU, Gated and VAEase."""

import math
from abc import ABC

import torch
from torch import Tensor, nn
from torch.distributions import Normal
from torch.func import functional_call

from vsc.model.bounds import simple
from vsc.model.dense import Unbounded, normal
from vsc.model.divergences import normal_kl
from vsc.model.peers.coder import Coder, also, exact, on_where

OPENS, KERNEL = 2.0, 2.0
"""
Above which output of the encoder a latent is on at the start, and the width of a threshold's kernel, in `unit`: the
projections on a direction that is not there rarely exceed two deviations. From near zero, where half of the latents are
on, a gate needs long to get there, and the price that is asked meanwhile for l0 is so high that directions are lost.
"""
UNTOLD = 0.05
"""The unit of a model that no examples were given to start at."""


class Opening(Coder, ABC):
    """
    A coder that learns where its latents open, from `OPENS` units on.

    Attributes
    ----------
    unit : torch.Tensor, shape (J,)
        The root mean square of the encoder's outputs on the training examples it is told of before training
        (`start_at`); `UNTOLD` if it is told of none.
    """

    schedules = frozenset({"target_l0", "penalty"})

    def begin(self) -> None:
        """Make the units."""
        self.unit: Tensor
        self.register_buffer("unit", torch.full((self.latent_dim,), UNTOLD, dtype=torch.float32))

    @torch.no_grad()
    def start_at(self, x):
        size = self.from_encoder(x).float().square().mean(0).sqrt()
        self.unit.copy_(torch.where(size > 0, size, self.unit))


class JumpReLU(Opening):
    """
    JumpReLU autoencoder: an encoder output is kept where it exceeds a learned threshold (Rajamanoharan et al. 2024b).

    z = pi 1[pi > theta_j]. The gradient of theta is that of the expected loss, by a rectangular kernel of width
    `KERNEL`. What a latent costs where it is on is `train.penalty`, or found for `train.target_l0`. Takes the
    parameters of `Autoencoder`.
    """

    def begin(self) -> None:
        """Make the thresholds."""
        super().begin()
        self.log_threshold = nn.Parameter(torch.full((self.latent_dim,), OPENS).log())

    def forward(self, x, lam=1.0, relaxation=None):
        """Return log p(x|z) of x (B, M) with zero KL; the penalty is l0, which has a gradient in theta alone."""
        pre = self.from_encoder(x)
        z, on = jump(pre / self.unit, self.log_threshold.exp())
        return simple(self.log_px(x, z * self.unit), on, penalty=on.sum(-1))

    def code(self, pre):
        """Return what exceeds its threshold."""
        return torch.where(pre > self.threshold, pre, 0.0)

    @property
    def threshold(self) -> Tensor:
        """Theta (J,)."""
        return self.unit * self.log_threshold.exp()


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


class Gated(Opening):
    """
    Gated autoencoder: one path says whether a latent is on, another how much (Rajamanoharan et al. 2024a).

    z = 1[g > 0] ReLU(e^r_j pi + c_j), with pi the encoder's output and g = pi - `opens`, which its bias can undo. The
    penalty, weighed by `train.penalty` or found for `train.target_l0`, is the L1 norm of ReLU(g), which must
    reconstruct x, too, through a decoder that is held fixed. Takes the parameters of `Autoencoder`.
    """

    def begin(self) -> None:
        """Make the scale and shift that lead from the gates' path to the values'."""
        super().begin()
        self.log_scale = nn.Parameter(torch.zeros(self.latent_dim))
        self.shift = nn.Parameter(torch.zeros(self.latent_dim))

    def forward(self, x, lam=1.0, relaxation=None):
        """Return log p(x|z) of x (B, M) with zero KL; gamma has the gradient of the L1 norm."""
        pre = self.from_encoder(x)
        gate, z = torch.relu(pre - self.opens), self.code(pre)
        log_px = self.log_px(x, z)
        if self.training:
            log_px = also(log_px, self.auxiliary(x, gate))
        return simple(log_px, also(on_where(z), gate), penalty=gate.sum(-1))

    def auxiliary(self, x: Tensor, gate: Tensor) -> Tensor:
        """Return log p(x|gate) (B,), of which no gradient reaches the decoder."""
        frozen = {name: weight.detach() for name, weight in self.decoder.named_parameters()}
        gate = gate.to(next(iter(frozen.values()), gate).dtype)
        out = functional_call(self.decoder, frozen, gate).flatten(1).float()
        return self.likelihood.log_prob(x.to(out.dtype), out, self.missing)

    def code(self, pre):
        """Return the values where the gates are open."""
        return torch.where(pre > self.opens, torch.relu(self.log_scale.exp() * pre + self.shift), 0.0)

    @property
    def opens(self) -> Tensor:
        """What pi must exceed."""
        return OPENS * self.unit


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
        return simple(log_px, on.to(z.dtype), normal_kl(qz.loc, 2 * qz.scale.log()).sum(-1))

    def q(self, x: Tensor) -> Normal:
        """Return q(z|x) (B, J) of x (B, M): s is 1/2 where the encoder says 0, as at the start, for at 1 all is off."""
        mu, logvar = self.from_encoder(x).chunk(2, -1)
        return normal(torch.cat([mu, logvar - 2 * math.log(2)], -1))

    def codes(self, x):
        """Return z = mu = (1 - s) times the mean, exactly zero where s >= 1/2, and gamma = 1[z != 0]."""
        qz = self.q(x)
        share = 1 - qz.scale
        return exact(torch.where(share > 0.5, share * qz.loc, 0.0))
