"""AE, VAE, VSC and their relatives: what a forward returns, and where one model must equal another."""

import math

import numpy as np
import pytest
import torch
from torch.distributions import Laplace, Normal, kl_divergence

from vsc.errors import UsageError
from vsc.model import AE, HEADS, MODELS, TCVAE, VAE, VSC, LaplaceVAE, ThresholdedLaplaceVSC, ThresholdedNormalVSC
from vsc.model.divergences import bernoulli_kl
from vsc.model.likelihoods import Bernoulli, Gaussian, GaussianFixed
from vsc.model.nets import NETS
from vsc.model.priors import FixedGates, SpikeSlabPrior
from vsc.model.scaling import fit_scaler
from vsc.model.spikes import SPIKES

SHAPE, J = (1, 4, 4), 5
SIZES = {"inputs": 16, "latent_dim": J, "components": 6, "alpha": 0.2}
X = torch.rand(12, 16, generator=torch.Generator().manual_seed(0))


def made(kind, shape=SHAPE, latent_dim=J, hidden=(7,), net="mlp", **options):
    """Build a model with nets of ours."""
    outputs = options["likelihood"].outputs if options.get("likelihood") else 1
    widths = {"hidden": hidden} if net == "mlp" else {}
    nets = NETS[net](shape, kind.features * latent_dim, latent_dim, outputs, **widths)
    return kind(*nets, shape=shape, latent_dim=latent_dim, **options)


def fixed(alpha):
    return SpikeSlabPrior(FixedGates(J, alpha))


def set_logits(model, logits):
    """Make a VSC with a single linear layer as encoder ignore x in its spikes."""
    with torch.no_grad():
        model.encoder[-1].weight[2 * J :] = 0
        model.encoder[-1].bias[2 * J :] = torch.as_tensor(logits)


def codes_seen(model):
    """Collect every z that reaches the decoder."""
    seen = []
    model.decoder.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach()))
    return seen


def vae_and_its_vsc(**options):
    """Return a VAE, and a VSC with the VAE's weights and its gates held open."""
    vae, vsc = made(VAE), made(VSC, prior=fixed(1.0), **options)
    state = vae.state_dict() | {"gate_init": torch.zeros(())}
    for name in ("encoder.2.weight", "encoder.2.bias"):
        spikes = vsc.state_dict()[name][2 * J :]
        state[name] = torch.cat([state[name], spikes])
    vsc.load_state_dict(state)
    return vae, vsc


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("estimator", [name for name in SPIKES if name != "analytic"])  # which needs a linear decoder
def test_vsc_with_open_gates_is_the_vae(estimator, training):
    vae, vsc = vae_and_its_vsc(spikes=SPIKES[estimator])
    terms, gradients = [], []
    for model in (vae, vsc.train(training)):
        torch.manual_seed(1)
        bound = model(X, relaxation=100.0 if estimator == "sigmoid" else 0.5)
        bound.elbo.mean().backward()
        terms.append(bound)
        gradients.append([model.encoder[0].weight.grad, model.decoder[0].weight.grad])
    if estimator == "sigmoid" and training:  # even an open gate is not quite open: eta - 1 + 1 may be near 0
        torch.testing.assert_close(terms[1].kl_slab, terms[0].kl_slab)
    else:
        torch.testing.assert_close(terms[1], terms[0])
        torch.testing.assert_close(gradients[1], gradients[0])
    assert (terms[1].kl_spike == 0).all()


def test_vsc_with_open_gates_samples_and_encodes_as_the_vae():
    vae, vsc = vae_and_its_vsc()
    torch.testing.assert_close(vsc.encode(X), vae.encode(X))
    assert (vsc.sample_code(100) != 0).all()


def test_vae_terms():
    model = made(VAE)
    qz = model.posterior(X)
    bound = model(X)
    torch.testing.assert_close(bound.kl_slab, kl_divergence(qz, Normal(0.0, 1.0)).sum(-1))
    assert (bound.kl_spike == 0).all()
    assert bound.elbo.shape == (12,)


def test_laplace_terms():
    model = made(LaplaceVAE)
    mu, logscale = model.encoder(X).chunk(2, -1)
    bound = model(X)
    torch.testing.assert_close(bound.kl, kl_divergence(Laplace(mu, logscale.exp()), Laplace(0.0, 1.0)).sum(-1))
    assert (bound.kl_spike == 0).all()


def test_thresholded_laplace_terms():
    """gamma = exp(-t / b) and alpha = exp(-t), with the one threshold for posterior and prior."""
    model = made(ThresholdedLaplaceVSC, alpha=0.2)
    mu, logscale = model.encoder(X).chunk(2, -1)
    logscale = logscale + math.log(-math.log(0.2) / math.log(2))  # b = t / ln 2 where the encoder says 0
    t = -math.log(0.2)
    gamma, alpha = torch.exp(-t / logscale.exp()), torch.tensor(0.2)
    bound = model(X)
    slab = gamma * kl_divergence(Laplace(mu, logscale.exp()), Laplace(0.0, 1.0))
    torch.testing.assert_close(bound.kl_slab, slab.sum(-1))
    torch.testing.assert_close(bound.kl_spike, bernoulli_kl(torch.logit(gamma), torch.logit(alpha)).sum(-1))
    torch.testing.assert_close(bound.l0, gamma.sum(-1))


@pytest.mark.parametrize("alpha", [0.01, 0.1, 0.9])
@pytest.mark.parametrize("kind", [ThresholdedLaplaceVSC, ThresholdedNormalVSC])
def test_thresholded_gates_start_at_one_half(kind, alpha):
    """Whatever the prior's sparsity: b = t / ln 2, but for the bias that torch gives a layer, up to 1 / sqrt(M)."""
    model = made(kind, hidden=(), alpha=alpha)
    with torch.no_grad():
        model.encoder[-1].weight[J:] = 0
        model.encoder[-1].bias[J:] *= kind is ThresholdedLaplaceVSC
    gamma = model.posterior(X).gamma
    if kind is ThresholdedNormalVSC:
        torch.testing.assert_close(gamma, torch.full_like(gamma, 0.5))
    assert (gamma > 2 ** -math.exp(0.25)).all()
    assert (gamma < 2 ** -math.exp(-0.25)).all()


def test_tcvae_is_a_vae_but_for_its_penalty():
    bounds = []
    for kind in (VAE, TCVAE):
        torch.manual_seed(2)
        bounds.append(made(kind)(X))
    torch.testing.assert_close(bounds[1].terms, bounds[0].terms)
    assert (bounds[0].total_correlation == 0).all()
    assert (bounds[1].total_correlation != 0).all()


def test_ae_is_its_reconstruction():
    model = made(AE, likelihood=GaussianFixed(0.5))
    bound = model(X)
    squared = (X - model.decode(model.codes(X).z)).square().sum(-1)
    torch.testing.assert_close(bound.log_px, -squared - 8 * math.log(2 * math.pi * 0.5))
    assert (bound.kl == 0).all()


@pytest.mark.parametrize("estimator", SPIKES)
def test_spikes_are_hard_in_eval_mode(estimator):
    model = made(VSC, hidden=(), spikes=SPIKES[estimator]).eval()
    gamma = torch.tensor([0.0, 0.1, 0.5, 0.9, 1.0])
    set_logits(model, torch.logit(gamma))
    seen = codes_seen(model)
    model(X.repeat(1000, 1), relaxation=1.0)
    on = (torch.cat(seen) != 0).double().mean(0)
    assert ((on - gamma).abs() <= 4 * (gamma * (1 - gamma) / 12_000).sqrt()).all()


@pytest.mark.parametrize("estimator", ["sigmoid", "concrete"])
def test_relaxed_spikes_are_never_zero_in_training_mode(estimator):
    model = made(VSC, hidden=(), spikes=SPIKES[estimator])
    set_logits(model, -3.0)
    seen = codes_seen(model)
    model(X, relaxation=1.0)
    assert (torch.cat(seen) != 0).all()


def test_vsc_kl_is_that_of_its_own_posterior():
    model = made(VSC, prior=fixed(0.2))
    qz = model.posterior(X)
    bound = model(X)
    g, a = qz.gamma, 0.2
    spike = g * (g / a).log() + (1 - g) * ((1 - g) / (1 - a)).log()
    slab = g * kl_divergence(Normal(qz.mu, (qz.logvar / 2).exp()), Normal(0.0, 1.0))
    torch.testing.assert_close(bound.kl_spike, spike.sum(-1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(bound.kl_slab, slab.sum(-1), rtol=1e-4, atol=1e-5)


def test_warm_up_starts_at_a_standard_normal_slab():
    model = made(VSC)
    qz = model.posterior(X, lam=0.0)
    assert (qz.mu == 0).all()
    assert (qz.logvar == 0).all()
    assert (model(X, lam=0.0).kl_slab == 0).all()
    torch.testing.assert_close(qz.gamma, model.posterior(X).gamma)


@pytest.mark.parametrize("lam", [0.25, 0.5, 0.9])
def test_warm_up_interpolates_the_variance(lam):
    model = made(VSC, hidden=())
    with torch.no_grad():
        model.encoder[-1].bias[J : 2 * J] += 3  # variances far from 1 tell the three interpolations apart
    full, part = model.posterior(X, 1.0), model.posterior(X, lam)
    torch.testing.assert_close(part.mu, lam * full.mu)
    torch.testing.assert_close(part.logvar.exp(), lam * full.logvar.exp() + 1 - lam)
    deviation = (lam * (full.logvar / 2).exp() + 1 - lam).square()
    assert ((part.logvar.exp() - deviation).abs() > 0.1).all()
    assert ((part.logvar - lam * full.logvar).abs() > 0.1).all()


@pytest.mark.parametrize("training", [True, False])
def test_warm_up_reaches_the_draw(training):
    model = made(VSC, hidden=(), prior=fixed(1.0)).train(training)
    with torch.no_grad():
        model.encoder[-1].bias[:J] += 50
    seen = codes_seen(model)
    model(X.repeat(1000, 1), lam=0.0)
    z = torch.cat(seen)
    n = len(z)
    assert (z.mean(0).abs() <= 4 / math.sqrt(n)).all()
    assert ((z.square().mean(0) - 1).abs() <= 4 * math.sqrt(2 / n)).all()


def test_warm_up_at_one_is_no_warm_up():
    model = made(VSC)
    mu, logvar, logits = model.encoder(X).chunk(3, -1)
    qz = model.posterior(X, lam=1.0)
    assert torch.equal(qz.mu, mu)
    assert torch.equal(qz.logvar, logvar)
    assert torch.equal(qz.spike_logits, logits)


def test_gate_init_shifts_the_spike_logits_alone():
    models = []
    for shift in (0.0, 3.0):
        torch.manual_seed(2)
        models.append(made(VSC, gate_init=shift).posterior(X))
    torch.testing.assert_close(models[1].spike_logits, models[0].spike_logits + 3)
    assert torch.equal(models[1].mu, models[0].mu)
    assert torch.equal(models[1].logvar, models[0].logvar)


def test_slab_correlation_is_measured_only_where_training_asks():
    model = made(VSC)
    assert model(X).total_correlation.abs().max() == 0
    model = made(VSC, correlated=True)
    assert model(X).total_correlation.abs().max() > 0
    assert model.eval()(X).total_correlation.abs().max() == 0


@pytest.mark.parametrize("head", HEADS)
def test_vsc_uses_the_head_it_is_given(head):
    model = made(VSC, head=HEADS[head])
    v = model.encoder(X).chunk(3, -1)[2]
    torch.testing.assert_close(model.posterior(X).spike_logits, HEADS[head](v))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("net", ["mlp", "conv"])
@pytest.mark.parametrize("likelihood", [None, Gaussian()], ids=["bernoulli", "gaussian"])
class TestEveryModel:
    def model(self, name, net, likelihood):
        return made(MODELS[name], (1, 8, 8), net=net, likelihood=likelihood)

    @pytest.mark.parametrize("training", [True, False])
    def test_bound_has_one_number_per_example(self, name, net, likelihood, training):
        model, x = self.model(name, net, likelihood).train(training), torch.rand(9, 64)
        bound = model(x)
        assert bound.terms.shape == (9, 5)
        for term in (*bound._replace(gamma=bound.l0), bound.kl, bound.elbo, bound.weighted(2.0, torch.ones(J), 0.1)):
            assert term.shape == (9,)
            assert torch.isfinite(term).all()
        torch.testing.assert_close(bound.gamma, model.codes(x).gamma)
        if not model.spiked:
            assert (bound.gamma == 1).all()
            assert (bound.kl_spike == 0).all()

    def test_gradient_reaches_every_weight(self, name, net, likelihood):
        model = self.model(name, net, likelihood)
        (-model(torch.rand(64, 64)).elbo.mean()).backward()
        reached(model)

    def test_one_step_lowers_the_loss(self, name, net, likelihood):
        model, x = self.model(name, net, likelihood), torch.rand(64, 64)
        losses = one_step(model, x, penalty=0.1)
        if name != "jumprelu":  # whose gradient is that of an expected loss, not of a batch's
            assert losses[1] < losses[0]

    def test_encode(self, name, net, likelihood):
        model = self.model(name, net, likelihood).eval()
        codes = model.encode(np.random.default_rng(0).random((9, 8, 8)), batch_size=4)
        assert codes.z.shape == codes.gamma.shape == codes.mu.shape == (9, J)
        assert not codes.z.requires_grad
        torch.testing.assert_close(codes.z, codes.gamma * codes.mu)
        torch.testing.assert_close(codes.hard, torch.where(codes.gamma > 0.5, codes.mu, 0.0))
        assert torch.equal(codes.active, codes.gamma > 0.5)
        assert model.encode(np.zeros((0, 64))).z.shape == (0, J)

    def test_sample(self, name, net, likelihood):
        model = self.model(name, net, likelihood)
        if not model.bounded:
            with pytest.raises(UsageError, match="no prior"):
                model.sample(3)
        else:
            assert model.sample(3).shape == (3, 1, 8, 8)
            z = model.sample_code(2000)
            assert z.shape == (2000, J)
            assert bool((z == 0).any()) == model.spiked

    def test_log_weights(self, name, net, likelihood):
        model, x = self.model(name, net, likelihood).eval(), torch.rand(9, 64)
        if not model.bounded:
            with pytest.raises(UsageError, match="no bound"):
                model.log_weights(x, 3)
        else:
            log_weights = model.log_weights(x, 3)
            assert log_weights.shape == (3, 9)
            assert torch.isfinite(log_weights).all()


def reached(model):
    """Check that every parameter has a finite gradient that is not zero."""
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert (parameter.grad != 0).any(), name


def one_step(model, x, penalty):
    """Take one Adam step on the loss; return the loss before and after, on the same draws."""
    optimizer, losses = torch.optim.Adam(model.parameters(), lr=1e-3), []
    for _ in range(2):
        torch.manual_seed(3)
        loss = -model(x).weighted(penalty=penalty).mean()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return losses


OWN = {
    "learned": {"gates.spike_logits"},
    "mixture": {"gates.spike_logits"},
    "pseudo-inputs": {"gates.pseudo_inputs"},
    "learned slab": {"own_slab.mean", "own_slab.logvar"},
    "mixture own slab": {"own_slab.mu", "own_slab.logvar"},
}
"""What each part of a prior learns."""


class TestVSCWithEveryPrior:
    def test_a_step_reaches_every_weight_and_the_priors_own(self, named, case):
        """Pseudo-inputs, selector scores, components and slabs included."""
        model = made(VSC, prior=named(case, slab_mean=1.0, **SIZES))
        before = {key: value.detach().clone() for key, value in model.named_parameters()}
        losses = one_step(model, X.repeat(20, 1), penalty=0.1)
        assert losses[1] < losses[0]
        reached(model)
        for key, value in model.named_parameters():
            assert (value != before[key]).any(), key
        gates, slab, *selector = case.split()
        own = set().union(*(OWN.get(part, ()) for part in (gates, f"{slab} slab", f"{gates} {slab} slab")))
        own |= {"scores.weight", "scores.bias"} if selector not in ([], ["optimal"]) else set()
        assert {key.removeprefix("prior.") for key in before if key.startswith("prior.")} == own

    def test_bound_codes_samples_and_weights(self, named, of_vsc):
        model = made(VSC, prior=named(of_vsc, slab_mean=1.0, **SIZES)).eval()
        bound = model(X)
        assert bound.terms.shape == (12, 5)
        assert torch.isfinite(bound.terms).all()
        torch.testing.assert_close(bound.gamma, model.codes(X).gamma)
        assert torch.isfinite(model.log_weights(X, 3)).all()
        z = model.sample_code(500)
        assert z.shape == (500, J)
        assert bool((z == 0).any()) != model.prior.gates_open
        assert model.sample(3).shape == (3, *SHAPE)

    def test_forward_adds_up_as_the_prior_says(self, named, case):
        model = made(VSC, prior=named(case, slab_mean=1.0, **SIZES))
        bound, kl = model(X), model.prior.kl(model.posterior(X), X, model.posterior)
        torch.testing.assert_close(tuple(bound[1:4]), tuple(kl[:3]))
        torch.testing.assert_close(bound.penalty, kl.penalty)
        torch.testing.assert_close(bound.elbo, bound.log_px - kl.slab - kl.spike - kl.selection)


def test_warm_up_reaches_the_pseudo_inputs(named):
    """Posterior and prior are one encoder, so at lambda = 0 both have standard normal slabs, which agree."""
    model = made(VSC, prior=named("pseudo-inputs own", **SIZES))
    assert model(X, lam=0.0).kl_slab.abs().max() < 1e-5
    assert (model(X, lam=1.0).kl_slab > 1e-3).all()
    free = made(VSC, prior=named("mixture own", **SIZES))
    assert (free(X, lam=0.0).kl_slab > 1e-3).all()


@pytest.mark.parametrize("likelihood", [GaussianFixed(0.5), None], ids=["gaussian-fixed", "bernoulli"])
def test_log_weights_are_their_three_densities(likelihood):
    """At the draw that the model made: ln p(x|z) + ln p(z) - ln q(z|x), each by itself."""
    model = made(VSC, prior=fixed(0.3), likelihood=likelihood).eval()
    seen = codes_seen(model)
    log_weights = model.log_weights(X, 4)
    (z,) = seen
    z, qz = z.reshape(4, 12, J), model.posterior(X)
    for k in range(4):
        on = z[k] != 0
        log_p = torch.where(on, math.log(0.3) + Normal(0.0, 1.0).log_prob(z[k]), math.log(0.7)).sum(-1)
        slab = qz.gamma.log() + Normal(qz.mu, (qz.logvar / 2).exp()).log_prob(z[k])
        log_q = torch.where(on, slab, (1 - qz.gamma).log()).sum(-1)
        log_px = model.likelihood.log_prob(X, model.decoder(z[k]))
        torch.testing.assert_close(log_weights[k], log_px + log_p - log_q)


def test_encode_scales_as_in_training():
    stored = torch.randint(0, 256, (10, 16), dtype=torch.uint8)
    model = made(AE, scaler=fit_scaler("unit-interval", stored, 255.0))
    torch.testing.assert_close(model.encode(stored).z, model.codes(stored / 255).z)


def test_decode_is_the_likelihoods_mean():
    model = made(VAE)
    z = torch.randn(3, J)
    torch.testing.assert_close(model.decode(z), torch.sigmoid(model.decoder(z)))


def test_prior_samples_of_a_sparse_model_are_exactly_zero_where_off():
    z = made(VSC, prior=fixed(0.1)).sample_code(4000)
    assert (z == 0).double().mean().item() == pytest.approx(0.9, abs=4 * math.sqrt(0.09 / 20_000))


@pytest.mark.parametrize("latent_dim", [0, -1, 2.5, True, "3"])
def test_latent_dim_is_a_whole_number(latent_dim):
    with pytest.raises(UsageError, match=r"latent_dim must be (a whole number|at least 1), not"):
        VAE(torch.nn.Identity(), torch.nn.Identity(), shape=(2,), latent_dim=latent_dim)


@pytest.mark.parametrize("likelihood", [Bernoulli(), GaussianFixed(0.1)])
@pytest.mark.parametrize("name", ["fixed unit", "learned learned", "pseudo-inputs own"])
def test_in_mixed_precision_only_the_nets_are_rounded(named, name, likelihood):
    """Sums of 500 to 1300 nats have steps of 4 to 8 in bfloat16, so errors of 1 or 2; the nets' own are smaller."""
    prior = named(name, inputs=784, latent_dim=20, alpha=0.1, components=10)
    model = made(VSC, (784,), 20, hidden=(64,), likelihood=likelihood, prior=prior).eval()
    x, bounds = torch.rand(16, 784), []
    for mixed in (False, True):
        torch.manual_seed(0)
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            bounds.append(model(x))
    for whole, half in zip(*bounds, strict=True):
        assert half.dtype == torch.float32
        assert (half - whole).abs().mean() < 0.4


@pytest.mark.parametrize(
    "net", [torch.nn.Identity(), torch.nn.Linear(16, 7), torch.nn.Linear(3, 10), torch.nn.Conv1d(9, 1, 1)]
)
def test_an_encoder_that_does_not_fit_is_one_line(net):
    with pytest.raises(
        UsageError, match=r"the encoder must make \(B, 10\) of \(B, 16\) or \(B, 1, 4, 4\), but"
    ) as caught:
        VAE(net, torch.nn.Linear(J, 16), shape=SHAPE, latent_dim=J)
    assert "\n" not in str(caught.value)


def test_a_decoder_that_does_not_fit_is_one_line():
    with pytest.raises(UsageError, match=r"the decoder must make \(B, 32\) of \(B, 5\), but gives \(B, 16\)"):
        VAE(torch.nn.Linear(16, 10), torch.nn.Linear(J, 16), shape=SHAPE, latent_dim=J, likelihood=Gaussian())


def test_trying_a_net_leaves_no_trace():
    """Neither batch statistics nor torch's random state nor a mode are changed at construction."""
    encoder = torch.nn.Sequential(torch.nn.BatchNorm1d(16), torch.nn.Dropout(), torch.nn.Linear(16, 10))
    decoder, state = torch.nn.Linear(J, 16), torch.get_rng_state()
    VAE(encoder, decoder, shape=SHAPE, latent_dim=J)
    assert torch.equal(torch.get_rng_state(), state)
    assert encoder[0].num_batches_tracked == 0
    assert encoder.training
    assert encoder[1].training


def test_inputs_are_those_of_training():
    x = torch.randint(0, 256, (50, 16), dtype=torch.uint8)
    scaler = fit_scaler("unit-interval", x, 255.0)
    torch.testing.assert_close(made(VAE, scaler=scaler).inputs(x), x / 255)
    model = made(VAE)
    model.adopt(scaler, binarise=True)
    torch.manual_seed(4)
    drawn = model.inputs(x.numpy())
    torch.manual_seed(4)
    assert torch.equal(drawn, torch.bernoulli(x / 255))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda model: model.encode(np.zeros((3, 15))), "16 values each"),
        (lambda model: model.encode(np.zeros((3, 16)), batch_size=0), "batch_size must be at least 1"),
        (lambda model: model.decode(np.zeros((3, 4))), "codes of 5 latents"),
        (lambda model: model.decode(np.zeros(5)), "codes of 5 latents"),
        (lambda model: model.sample(-1), "at least 0"),
        (lambda model: model.sample(1.5), "whole number"),
    ],
)
def test_a_wrong_request_is_one_line(call, words):
    with pytest.raises(UsageError, match=words) as caught:
        call(made(VAE))
    assert "\n" not in str(caught.value)


def test_decode_takes_arrays():
    model, z = made(VAE), np.random.default_rng(0).normal(size=(3, J))
    torch.testing.assert_close(model.decode(z), model.decode(torch.tensor(z, dtype=torch.float32)))
    torch.testing.assert_close(model.decode([[1, 0, 0, 0, 0]]), model.decode(torch.eye(J)[:1]))


def test_the_relaxation_of_the_model_is_taken_where_forward_is_given_none():
    model = made(VSC, spikes=SPIKES["concrete"], relaxation=0.1)
    bounds = []
    for given in ({}, {"relaxation": 0.1}, {"relaxation": 2.0}):
        torch.manual_seed(3)
        bounds.append(model(X, **given).log_px)
    assert torch.equal(bounds[0], bounds[1])
    assert not torch.equal(bounds[0], bounds[2])
