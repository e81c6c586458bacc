"""Mixtures of spike-and-slabs: all pairs by matrix products, and the choice of a component, which is charged."""

import math

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vsc.model.distributions import SpikeAndSlab
from vsc.model.divergences import kl_parts, mixture_log_prob, pairwise_kl
from vsc.model.priors import SELECTORS

B, U, M, J = 7, 5, 4, 3


def leaves(*shape):
    """Return mu, logvar and spike logits to differentiate by."""
    return [(scale * torch.randn(*shape, dtype=torch.float64)).requires_grad_() for scale in (1.0, 0.7, 2.0)]


def gated(parts):
    return SpikeAndSlab(parts[0], parts[1], spike_logits=parts[2])


def every_pair(q, p):
    """The definition: kl_parts of every pair, summed over the latents."""
    first = [part.unsqueeze(1) for part in (q.mu, q.logvar, q.spike_logits)]
    slab, spike = kl_parts(SpikeAndSlab(*first[:2], spike_logits=first[2]), p)
    return slab.sum(-1), spike.sum(-1)


@pytest.fixture
def built(build):
    """Return what makes the prior in float64, x (B, M) and the encoder."""

    def make(name, **options):
        prior, _, posterior = build(name, **{"latent_dim": J, "components": U} | options)
        return prior, torch.randn(B, M, dtype=torch.float64), posterior

    return make


@pytest.mark.parametrize("gates", ["mixture", "pseudo-inputs"])
class TestSharedSlab:
    @pytest.mark.parametrize("slab", ["unit", "learned"])
    def test_the_slab_is_charged_the_same_whatever_the_choice(self, built, gates, slab):
        prior, x, posterior = built(f"{gates} {slab}")
        q, m, logvar = posterior(x), 0.0, torch.zeros(J)
        if slab == "learned":
            m, logvar = prior.own_slab.mean, prior.own_slab.logvar
        each = 0.5 * (((q.mu - m).square() + q.logvar.exp()) / logvar.exp() - q.logvar + logvar - 1)
        expected = (q.gamma * each).sum(-1)
        torch.testing.assert_close(prior.kl(q, x, posterior).slab, expected, rtol=1e-9, atol=1e-9)

    def test_only_the_gates_are_trained_beside_a_unit_slab(self, built, gates):
        prior, x, posterior = built(f"{gates} unit")
        prior.kl(posterior(x), x, posterior).slab.sum().backward()
        assert posterior.weight.grad.any()
        assert not any(p.grad is not None and p.grad.any() for p in prior.parameters())
        prior.kl(posterior(x), x, posterior).spike.sum().backward()
        assert all(p.grad.any() for p in prior.parameters())  # none lies idle, which several processes would not allow


class TestAllPairs:
    @pytest.mark.parametrize(("part", "reached"), [(0, 5), (1, 2)], ids=["slab", "spike"])
    def test_kl_and_its_gradients_are_those_of_every_pair(self, part, reached):
        q, p = leaves(B, J), leaves(U, J)
        slope = torch.randn(B, U, dtype=torch.float64)
        value, expected = pairwise_kl(gated(q), gated(p))[part], every_pair(gated(q), gated(p))[part]
        torch.testing.assert_close(value, expected, rtol=1e-10, atol=1e-10)
        gradients = [torch.autograd.grad((slope * kl).sum(), q + p, materialize_grads=True) for kl in (value, expected)]
        torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-10)
        assert sum(bool((gradient != 0).all()) for gradient in gradients[0]) == reached

    def test_kl_to_itself_is_zero(self):
        q = gated(leaves(B, J))
        for part in pairwise_kl(q, q):
            assert part.diagonal().abs().max() < 1e-12

    @pytest.mark.parametrize("logvar", [0.0, -4.0, -8.0])
    def test_single_precision_is_enough_even_for_narrow_slabs(self, logvar):
        """The terms of the products are large there, and nearly cancel: near each other 200 latents lose nothing."""
        mu, noise, logits = torch.randn(3, 32, 200).unbind(0)
        s = math.exp(logvar / 2)
        q = SpikeAndSlab(3 * mu, torch.full_like(mu, logvar), spike_logits=logits)
        p = SpikeAndSlab(3 * mu + s * noise, torch.full_like(mu, logvar), spike_logits=logits)
        single = pairwise_kl(q, p)
        exact = pairwise_kl(*(SpikeAndSlab(o.mu.double(), o.logvar.double(), o.gamma.double()) for o in (q, p)))
        for part, truth in zip(single, exact, strict=True):
            torch.testing.assert_close(part.diagonal().double(), truth.diagonal(), rtol=1e-4, atol=1e-3)
        z = q.sample()
        found = mixture_log_prob(z, p).diagonal().double()
        torch.testing.assert_close(found, p.log_prob(z).double().sum(-1), rtol=1e-5, atol=1e-3)

    def test_the_penalty_has_a_gradient_where_every_gate_is_certain(self, named):
        prior = named("mixture own", latent_dim=4)
        with torch.no_grad():
            prior.gates.spike_logits.fill_(200.0)
        qz = SpikeAndSlab(*(torch.zeros(2, 4) for _ in range(2)), spike_logits=torch.zeros(2, 4))
        penalty = prior.kl(qz, torch.zeros(2, 3), lambda x: qz).penalty
        (gradient,) = torch.autograd.grad(penalty.sum(), prior.gates.spike_logits)
        assert torch.isfinite(penalty).all()
        assert torch.isfinite(gradient).all()

    def test_free_components_start_where_they_are_told_and_can_always_come_back(self, named):
        prior = named("mixture own", latent_dim=200, components=50, gate_init=4.0)
        own = prior.gates.spike_logits
        assert own.detach().mean().item() == pytest.approx(4, abs=4 / math.sqrt(50 * 200))
        with torch.no_grad():
            own[0], own[1] = 12.0, -500.0
        logits = prior.mixed(lambda x: None).spike_logits
        (gradient,) = torch.autograd.grad(logits[0].sum(), own)
        assert logits.detach().abs().max() <= 8
        assert logits[1, 0].item() == pytest.approx(-8)
        assert (gradient[0] > 0.1).all()

    @pytest.mark.parametrize("certain", [math.inf, -math.inf])
    def test_certain_gates_count_as_nearly_certain(self, certain):
        """An open or shut gate has no entropy, and costs -ln of what the component gives to it."""
        q, p = leaves(B, J), leaves(U, J)
        q[2] = torch.full((B, J), certain, dtype=torch.float64)
        value, expected = pairwise_kl(gated(q), gated(p)), every_pair(gated(q), gated(p))
        torch.testing.assert_close(tuple(value), expected, rtol=1e-10, atol=1e-10)

    def test_autocast_rounds_no_product(self):
        q, p = (gated([part.float() for part in leaves(n, J)]) for n in (B, U))
        z = q.sample()
        exact = [*pairwise_kl(q, p), mixture_log_prob(z, p)]
        with torch.autocast("cpu", torch.bfloat16):
            found = [*pairwise_kl(q, p), mixture_log_prob(z, p)]
            assert (q.mu.detach() @ p.mu.detach().T).dtype == torch.bfloat16  # as it does elsewhere
        torch.testing.assert_close(found, exact, rtol=0, atol=0)

    def test_log_prob_is_that_of_every_component(self):
        p, z = gated(leaves(U, J)), gated(leaves(40, J)).sample()
        z[0], z[1] = 0, 1  # all shut, all open
        expected = p.log_prob(z.unsqueeze(1)).sum(-1)
        torch.testing.assert_close(mixture_log_prob(z, p), expected, rtol=1e-10, atol=1e-10)


class LargestTensor(TorchDispatchMode):
    """Record the most numbers in one tensor that any operation puts out, forward or backward."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        sizes = [t.numel() for t in tree_leaves(out) if isinstance(t, torch.Tensor)]
        self.numel = max(self.numel, *sizes, 0)
        return out


class TestMemory:
    B, U, J = 32, 64, 128
    most = 4 * U * J  # parameters of the components side by side; B x U x J is eight times that

    def largest(self, compute):
        with LargestTensor() as seen:
            out = compute()
            forward = seen.numel
            if out.requires_grad:
                seen.numel = 0
                out.sum().backward()
        return max(forward, seen.numel)

    def test_no_tensor_over_pairs_and_latents(self):
        q, p = leaves(self.B, self.J), leaves(self.U, self.J)
        z = gated(q).sample()
        assert self.largest(lambda: sum(pairwise_kl(gated(q), gated(p)))) <= self.most
        assert self.largest(lambda: mixture_log_prob(z, gated(p))) <= self.most
        # the same measure sees what the definition takes
        assert self.largest(lambda: sum(every_pair(gated(q), gated(p)))) >= self.B * self.U * self.J

    @pytest.mark.parametrize("selector", SELECTORS)
    @pytest.mark.parametrize("slab", ["unit", "learned", "own"])
    def test_no_such_tensor_in_the_whole_prior(self, built, slab, selector):
        prior, _, posterior = built(f"pseudo-inputs {slab} {selector}", latent_dim=self.J, components=self.U)
        x = torch.randn(self.B, M, dtype=torch.float64)
        assert self.largest(lambda: sum(prior.kl(posterior(x), x, posterior))) <= self.most
        assert prior.gates.pseudo_inputs.grad.abs().sum() > 0  # the backward pass was in it


@pytest.mark.parametrize("selector", SELECTORS)
def test_one_component_is_a_spike_and_slab(built, mixture, selector):
    prior, x, posterior = built(f"{mixture} {selector}", components=1)
    expected = kl_parts(posterior(x), prior.mixed(posterior))
    kl = prior.kl(posterior(x), x, posterior)
    torch.testing.assert_close(kl.slab, expected.slab.sum(-1))
    torch.testing.assert_close(kl.spike, expected.spike.sum(-1))
    torch.testing.assert_close(prior.latent_kl(posterior(x), x, posterior), expected.total)
    assert (kl.selection == 0).all()


@pytest.mark.parametrize("selector", [name for name in SELECTORS if name != "optimal"])
def test_the_optimal_choice_is_never_dearer(built, mixture, selector):
    prior, x, posterior = built(f"{mixture} {selector}")
    best = built(mixture)[0]
    best.load_state_dict({k: v for k, v in prior.state_dict().items() if not k.startswith("scores")})
    mine, least = (sum(p.kl(posterior(x), x, posterior)[:3]) for p in (prior, best))
    assert (least <= mine + 1e-12).all()
    assert (least < mine).any()


class TestOptimalChoice:
    def total(self, C, kl):
        """The charged bound of a choice C: sum_u C_u KL_u + KL(C || 1/U)."""
        return (C * kl).sum(-1) + (C * (C * U).log()).sum(-1)

    def test_it_has_the_closed_form_and_no_choice_is_better(self, built, mixture):
        prior, x, posterior = built(mixture)
        q, p = posterior(x), prior.mixed(posterior)
        kl = sum(every_pair(q, p))
        total = sum(prior.kl(q, x, posterior)[:3])
        torch.testing.assert_close(total, -torch.exp(-kl).mean(-1).log())
        for concentration in (0.2, 1.0, 20.0):
            some = torch.distributions.Dirichlet(torch.full((U,), concentration, dtype=torch.float64))
            C = some.sample((1000, B)).clamp(min=1e-300)
            assert (self.total(C, kl) >= total - 1e-12).all()

    def test_its_gradient_is_that_of_the_closed_form(self, built, mixture):
        """The choice is held fixed, and need not move: at its optimum the bound's slope in it is zero."""
        prior, x, posterior = built(mixture)
        parameters = [posterior.weight, *prior.parameters()]
        slope = torch.randn(B, dtype=torch.float64)
        total = sum(prior.kl(posterior(x), x, posterior)[:3])
        kl = sum(every_pair(posterior(x), prior.mixed(posterior)))
        closed = math.log(U) - torch.logsumexp(-kl, -1)
        gradients = [torch.autograd.grad((slope * value).sum(), parameters) for value in (total, closed)]
        torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-10)
        assert all((gradient != 0).any() for gradient in gradients[0])
        assert not SELECTORS["optimal"](None, kl).requires_grad

    def test_without_the_charge_it_would_be_no_bound(self, built):
        """For posteriors that are the components themselves the best KL_u is 0, but the mixture is not that near."""
        prior, x, posterior = built("mixture own")
        with torch.no_grad():
            prior.own_slab.mu.mul_(10)
            prior.gates.spike_logits.add_(1)
            q, x = prior.mixed(None), x[:U]
            z = q.sample((20_000,))
            ratio = q.log_prob(z).sum(-1) - prior.log_prob(z.flatten(0, 1), posterior).unflatten(0, (20_000, U))
            slab, spike, selection, _ = prior.kl(q, x, posterior)
        exact, error = ratio.mean(0), ratio.std(0) / math.sqrt(20_000)
        assert (slab + spike + selection >= exact - 4 * error).all()
        assert (slab + spike < exact - 4 * error).any()


class TestSelectors:
    scores, kl = (3 * torch.randn(2, B, U, generator=torch.Generator().manual_seed(1), dtype=torch.float64)).unbind(0)

    def by_formula(self, name):
        """q(u|x) as the sources print it, by numpy alone, normalised."""
        v, kl = self.scores.numpy(), self.kl.numpy()
        softmax = np.exp(v) / np.exp(v).sum(1, keepdims=True)
        sigmoid = 1 / (1 + np.exp(-v))
        C = {
            "optimal": np.exp(-kl),
            "softmax": softmax,
            "paper": 1 / (1 + np.exp(-60 * (softmax - 0.5))),
            "released": sigmoid / np.sqrt((sigmoid**2).sum(1, keepdims=True)),
        }[name]
        return C / C.sum(1, keepdims=True)

    @pytest.mark.parametrize("name", SELECTORS)
    def test_formula(self, name):
        C = SELECTORS[name](self.scores, self.kl).exp()
        np.testing.assert_allclose(C.numpy(), self.by_formula(name), rtol=1e-10, atol=1e-15)
        torch.testing.assert_close(C.sum(-1), torch.ones(B, dtype=torch.float64))

    @pytest.mark.parametrize("name", SELECTORS)
    def test_sure_scores_stay_finite(self, name):
        scores = torch.tensor([[200.0, 0.0, -200.0], [-200.0, -200.0, -200.0]], requires_grad=True)
        kl = torch.tensor([[0.0, 1e4, 1e6], [1e6, 1e6, 1e6]], requires_grad=True)
        log_C = SELECTORS[name](scores, kl)
        assert torch.isfinite(log_C).all()
        torch.testing.assert_close(log_C.exp().sum(-1), torch.ones(2))
        if log_C.requires_grad:
            assert torch.isfinite(torch.autograd.grad(log_C.sum(), scores)[0]).all()

    def test_the_charge_of_a_choice(self, built):
        """The parts of the divergence are the choice's means, and its own divergence from uniform."""
        prior, x, posterior = built("pseudo-inputs own softmax")
        q, p = posterior(x), posterior(prior.gates.pseudo_inputs)
        C = torch.softmax(prior.scores(x), -1)
        slab, spike = every_pair(q, p)
        kl = prior.kl(q, x, posterior)
        torch.testing.assert_close(kl.slab, (C * slab).sum(-1))
        torch.testing.assert_close(kl.spike, (C * spike).sum(-1))
        uniform = torch.distributions.Categorical(torch.ones(U, dtype=torch.float64))
        torch.testing.assert_close(
            kl.selection, torch.distributions.kl_divergence(torch.distributions.Categorical(C), uniform)
        )
        assert prior.scores.weight.shape == (U, M)  # one layer on x
