"""What VSC is made of besides: the heads of its gates, and the total correlation of its slabs."""

import math

import pytest
import torch

from vsc.model import HEADS
from vsc.model.distributions import SpikeAndSlab
from vsc.model.sparse import log_relu_head, slab_correlation


class TestSlabCorrelation:
    """The total correlation of slabs, in cases where a batch knows it exactly."""

    def slabs(self, mu, logit):
        mu = torch.as_tensor(mu, dtype=torch.float64)
        return SpikeAndSlab(mu, torch.full_like(mu, -6.0), spike_logits=torch.full_like(mu, logit))

    def test_two_latents_that_tell_the_same_bit_share_ln_2(self):
        mu = torch.tensor([[-10.0, -10.0], [10.0, 10.0]]).repeat(16, 1)
        torch.testing.assert_close(slab_correlation(self.slabs(mu, 40.0)), torch.full((32,), math.log(2)).double())

    def test_two_latents_that_tell_different_bits_share_nothing(self):
        mu = torch.tensor([[-10.0, -10.0], [10.0, 10.0], [-10.0, 10.0], [10.0, -10.0]]).repeat(16, 1)
        assert slab_correlation(self.slabs(mu, 40.0)).abs().max() < 1e-9

    def test_what_is_off_says_nothing(self):
        mu = torch.tensor([[-10.0, -10.0], [10.0, 10.0]]).repeat(16, 1)
        assert slab_correlation(self.slabs(mu, -40.0)).abs().max() < 1e-9

    def test_means_are_counted_from_the_origin(self):
        """What is off is drawn about it, so that a slab far from zero does not tell which are on."""
        mu, origin = torch.tensor([[-1.0, -1.0], [1.0, 1.0]]).repeat(16, 1), torch.tensor([20.0, -30.0])
        for logit in (-40.0, 0.0, 40.0):
            found = []
            for at in (None, origin):
                torch.manual_seed(7)
                found.append(slab_correlation(self.slabs(mu if at is None else mu + at, logit), at))
            torch.testing.assert_close(*found)


def test_log_relu_head_is_the_papers():
    v = torch.linspace(-12, 12, 241, requires_grad=True)
    logits = log_relu_head(v)
    torch.testing.assert_close(torch.sigmoid(logits), torch.exp(-torch.relu(-v)), atol=1e-5, rtol=0)
    gradient = torch.autograd.grad(logits.sum(), v)[0]
    assert (gradient[v > 0] == 0).all()
    assert (gradient[v < 0] > 0).all()
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("head", HEADS)
def test_every_head_gives_a_finite_rising_gamma(head):
    v = torch.linspace(-40, 40, 801, requires_grad=True)
    logits = HEADS[head](v)
    gamma = torch.sigmoid(logits)
    assert torch.isfinite(logits).all()
    assert (gamma.diff() >= 0).all()
    assert gamma[0] < 1e-6
    assert gamma[-1] > 1 - 1e-5
    assert torch.isfinite(torch.autograd.grad(logits.sum(), v)[0]).all()
