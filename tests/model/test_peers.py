"""Sparse autoencoders: what each paper promises of its codes, its gradients and its losses."""

import math

import pytest
import torch
from torch import nn

import vsc
from vsc.errors import UsageError
from vsc.model import MODELS, BatchTopK, Gated, JumpReLU, Matryoshka, TopK, VAEase
from vsc.model.likelihoods import GaussianFixed
from vsc.model.peers import gated, topk
from vsc.settings import build
from vsc.settings.config import Config, ModelConfig, TrainConfig
from vsc.settings.presets import PRESETS, changed
from vsc.settings.resolve import resolve

M, J, B = 6, 20, 16
PEERS = {name: MODELS[name] for name in ("topk", "batch-topk", "matryoshka", "jumprelu", "gated", "vaease")}
COUNTED = [TopK, BatchTopK, Matryoshka]


def made(kind, latent_dim=J, M=M, **options):
    """Return a peer with linear nets, in training mode, whose squared error is -2 log p(x|z)."""
    torch.manual_seed(0)
    nets = nn.Linear(M, kind.features * latent_dim), nn.Linear(latent_dim, M)
    return kind(*nets, shape=(M,), latent_dim=latent_dim, likelihood=GaussianFixed(1.0), **options)


def inputs(n=B, seed=1):
    return torch.randn(n, M, generator=torch.Generator().manual_seed(seed))


def error(x, rebuilt):
    """Squared error of each example, as nats of a Gaussian of variance 1, in numbers of its own."""
    return -0.5 * ((x - rebuilt) ** 2).sum(1) - 0.5 * x.shape[1] * math.log(2 * math.pi)


@pytest.mark.parametrize("kind", PEERS.values(), ids=PEERS)
def test_codes_are_exactly_zero_where_off_and_have_no_bound(kind):
    model = made(kind)
    model(inputs())  # a first batch, which says how large outputs are
    codes, bound = model.eval().codes(inputs()), model(inputs())
    assert ((codes.z != 0) == (codes.gamma == 1)).all()
    assert set(codes.gamma.unique().tolist()) <= {0.0, 1.0}
    assert 0 < codes.gamma.mean() < 1
    torch.testing.assert_close(codes.hard, codes.z)
    torch.testing.assert_close(bound.l0, codes.gamma.sum(1))
    if kind is not VAEase:  # it draws
        torch.testing.assert_close(bound.log_px, error(inputs(), model.decoder(codes.z)))
    for refused in (lambda: model.sample_code(3), lambda: model.log_weights(inputs(), 2)):
        with pytest.raises(UsageError, match=r"has no (prior|bound)"):
            refused()


@pytest.mark.parametrize("training", [True, False])
def test_topk_keeps_exactly_the_k_largest_of_each_example(training):
    model = made(TopK, k=3).train(training)
    with torch.no_grad():
        model.encoder.bias += 20  # all outputs positive
    seen = []
    model.decoder.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    model(inputs())
    for z, pre in zip(seen[0].tolist(), model.encoder(inputs()).tolist(), strict=True):
        assert [v for v in z if v] == [v for v in pre if v in sorted(pre)[-3:]]


def test_topk_has_nothing_on_that_is_not_positive():
    model = made(TopK, k=J)
    codes = model.codes(inputs())
    torch.testing.assert_close(codes.z, model.encoder(inputs()).clamp(min=0))


@pytest.mark.parametrize("kind", [BatchTopK, Matryoshka])
@pytest.mark.parametrize("k", [3, 2.5, 0.5])
def test_a_batch_keeps_k_times_b_and_shares_them_as_it_needs(kind, k):
    model = made(kind, k=k)
    x = inputs()
    x[0] *= 10
    on = model(x).gamma
    assert on.sum() == round(k * B)
    assert on.sum(1).unique().numel() > 1
    least = torch.relu(model.encoder(x)).flatten().sort(descending=True).values[round(k * B) - 1]
    torch.testing.assert_close(model.threshold, least.detach())
    torch.testing.assert_close(model.eval()(x).gamma, on)  # of one batch, the threshold is that batch's own


def test_equal_outputs_do_not_raise_the_count():
    model = made(BatchTopK, k=2)
    assert model(inputs(1).repeat(B, 1)).gamma.sum() == 2 * B


def test_the_threshold_is_the_mean_of_the_smallest_kept():
    """Over so many batches of one distribution that only the last hundreds count: within their standard error."""
    model, least = made(BatchTopK, k=3), []
    with torch.no_grad():
        for step in range(1500):
            z = model.kept(torch.relu(model.encoder(inputs(seed=step))))
            least.append(z[z > 0].min())
    least = torch.stack(least)
    memory = topk.MEMORY
    error_of_mean = least.std() * math.sqrt((1 - memory) / (1 + memory))
    assert abs(model.threshold - least.mean()) < 4 * error_of_mean
    codes = [model.codes(inputs(seed=step)).gamma.sum(1) for step in range(1500, 1900)]
    assert torch.cat(codes).mean() == pytest.approx(3, rel=0.1)


@pytest.mark.parametrize(("k", "kind"), [(0, TopK), (J + 1, BatchTopK), (2.5, TopK), (math.nan, Matryoshka)])
def test_a_wrong_k_is_refused(k, kind):
    with pytest.raises(UsageError, match=f"at most {J}, not"):
        made(kind, k=k)


@pytest.mark.parametrize("kind", COUNTED)
def test_dead_latents_learn_from_the_error_alone(kind):
    """AuxK: |e - D z_dead|^2 / 32, with the M / 2 largest of the dead; what lives has the gradient it had."""
    dead = torch.arange(J) >= 15
    gradients = []
    for idle in (0.0, topk.IDLE):
        model = made(kind, k=2)
        with torch.no_grad():
            model.encoder.bias[:15] += 10  # the others are never among the largest, and often positive
        model.idle[dead], model.seen = idle, topk.IDLE
        bound = model(inputs())
        bound.log_px.sum().backward()
        assert not bound.gamma[:, dead].any()
        gradients.append(model)
    without, helped = gradients
    torch.testing.assert_close(helped(inputs()).log_px, without(inputs()).log_px)  # what is reported is the same
    for part in ("weight", "bias"):
        same, other = (getattr(one.encoder, part).grad for one in gradients)
        torch.testing.assert_close(other[~dead], same[~dead])
        assert (same[dead] == 0).all()
    same, other = (one.decoder.weight.grad for one in gradients)
    torch.testing.assert_close(other[:, ~dead], same[:, ~dead])
    weight = helped.decoder.weight.detach().requires_grad_()
    pre = torch.relu(helped.encoder(inputs())).detach()
    e = (inputs() - helped.decoder(helped.kept(pre))).detach()
    rows = [sorted(range(15, J), key=lambda j: -one[j])[: M // 2] for one in pre.tolist()]
    z = torch.zeros_like(pre).scatter(1, torch.tensor(rows), 1.0) * pre
    (-0.5 * (e - z @ weight.T).square().sum() / 32).backward()
    torch.testing.assert_close(other[:, dead], weight.grad[:, dead])


def test_a_latent_that_is_on_lives():
    model = made(TopK, k=2)
    model.idle += 5
    on = model(inputs()).gamma.any(0)
    assert (model.idle[on] == 0).all()
    assert (model.idle[~on] == 5 + B).all()
    model.eval()(inputs())
    assert (model.idle[~on] == 5 + B).all()


def test_a_prefix_reconstructs_with_its_latents_alone():
    """The gradient is that of the sum over prefixes, of codes that are cut by hand."""
    model = made(Matryoshka, latent_dim=32, k=8)
    assert model.prefixes == [1, 3, 7, 15, 32]
    model(inputs()).log_px.sum().backward()
    twin = made(Matryoshka, latent_dim=32, k=8)
    z = twin.kept(torch.relu(twin.encoder(inputs())))
    total = sum(error(inputs(), z[:, :m] @ twin.decoder.weight[:, :m].T + twin.decoder.bias) for m in (1, 3, 7, 15, 32))
    total.sum().backward()
    for own, other in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(own.grad, other.grad)
    torch.testing.assert_close(model(inputs()).log_px, error(inputs(), twin.decoder(z)))  # the whole is reported


@pytest.mark.parametrize("kind", [JumpReLU, Gated])
@pytest.mark.parametrize("size", [0.01, 1.0, 300.0])
def test_gates_open_at_two_deviations_of_the_outputs_that_they_start_at(kind, size):
    """So that they are open as often whatever an encoder puts out: of a normal distribution in 2.3 % of all cases."""
    model, x = made(kind, latent_dim=400), inputs(500)
    with torch.no_grad():
        model.encoder.weight.normal_(std=size)
        model.encoder.bias.zero_()
    model.start_at(torch.zeros(1, M))  # all outputs are zero, which have no size
    model.start_at(x)
    pre = model.eval().encoder(x)
    codes = model.codes(x)
    assert (codes.gamma == (pre > 2 * pre.square().mean(0).sqrt())).double().mean() > 1 - 1e-5
    torch.testing.assert_close(codes.z, pre * codes.gamma)
    assert codes.gamma.mean() == pytest.approx(0.0228, abs=0.006)  # examples have norms of their own
    again = made(kind, latent_dim=400)
    again.load_state_dict(model.state_dict())
    torch.testing.assert_close(again.eval().codes(x), codes)


def test_the_gradient_of_a_threshold_is_that_of_the_expected_loss(monkeypatch):
    """
    With pi ~ U(0, 3), loss (pi 1[pi > theta] - c)^2 + 0.7 1[pi > theta]: by numeric differences of the integral.

    The pseudo-gradient averages over the kernel's width, which moves it by less than width / 2 of its scale.
    """
    monkeypatch.setattr(gated, "KERNEL", 0.2)
    theta, c, price = torch.tensor([1.0, 1.8]), 0.4, 0.7
    pi = ((torch.arange(300_000, dtype=torch.float64) + 0.5) / 100_000)[:, None].expand(-1, 2)

    def expected(theta):
        on = (pi > theta).double()
        return ((pi * on - c) ** 2 + price * on).mean(0)

    step = 1e-2
    wanted = (expected(theta + step) - expected(theta - step)) / (2 * step)
    given = theta.double().requires_grad_()
    z, on = gated.jump(pi, given)
    ((z - c) ** 2 + price * on).mean(0).sum().backward()
    assert (given.grad - wanted).abs().max() < gated.KERNEL / 2
    sharp = price / 3 - wanted  # and the price's own part, without a width, is exact
    given.grad = None
    gated.jump(pi, given)[1].mean(0).sum().backward()
    torch.testing.assert_close(given.grad, torch.full_like(sharp, -1 / 3), rtol=1e-3, atol=0)


def test_a_price_moves_thresholds_alone():
    model = made(JumpReLU)
    bound = model(inputs())
    torch.testing.assert_close(bound.penalty, bound.l0)
    bound.penalty.sum().backward()
    assert (model.encoder.weight.grad == 0).all()
    assert (model.log_threshold.grad <= 0).all()  # less of it is a higher threshold
    assert (model.log_threshold.grad < 0).any()


def test_the_auxiliary_loss_does_not_reach_the_decoder():
    model = made(Gated)
    model(inputs())
    gate = torch.relu(model.encoder(inputs()) - model.opens)
    value = model.auxiliary(inputs(), gate)
    torch.testing.assert_close(value, error(inputs(), model.decoder(gate)))
    value.sum().backward()
    assert model.decoder.weight.grad is None
    assert model.decoder.bias.grad is None
    assert (model.encoder.weight.grad != 0).any()


def test_the_loss_of_a_gated_autoencoder_is_the_papers():
    """Error + L1 of the gates' path + error of that path through a decoder held fixed, from the paper's own form."""
    model, price = made(Gated), 0.3
    with torch.no_grad():
        model.log_scale.normal_()
        model.shift.normal_()
    model(inputs())
    loss = -model(inputs()).weighted(penalty=price).sum()
    loss.backward()
    twin = made(Gated)
    twin.load_state_dict(model.state_dict())  # the unit, which the first batch says, comes with it
    W, b = twin.encoder.weight, twin.encoder.bias
    gate = inputs() @ W.T + b - model.opens  # the paper's b_gate is b - opens
    # W_mag = exp(r) W_gate, b_mag = exp(r) b + shift
    value = inputs() @ (twin.log_scale.exp()[:, None] * W).T + (twin.log_scale.exp() * b + twin.shift)
    z = (gate > 0) * value.clamp(min=0)
    D, bias = twin.decoder.weight, twin.decoder.bias
    path = gate.clamp(min=0)
    again = -error(inputs(), z @ D.T + bias) + price * path.sum(1)
    (again - error(inputs(), path @ D.detach().T + bias.detach())).sum().backward()
    torch.testing.assert_close(loss, again.sum())
    for own, other in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(own.grad, other.grad, rtol=1e-4, atol=1e-5)


def test_a_price_per_latent_is_a_weight_of_the_l1_norm():
    """So that `train.target_l0` holds l0: what the controller asks has the gradient of the penalty."""
    gradients = []
    for weights in ({"prices": torch.full((J,), 0.3)}, {"penalty": 0.3}):
        model = made(Gated)
        (-model(inputs()).weighted(**weights)).sum().backward()
        gradients.append(model.encoder.weight.grad)
    torch.testing.assert_close(*gradients)


def set_scale(model, s):
    """Make q(z|x) of a VAEase have the deviations s (J,), whatever x is."""
    with torch.no_grad():
        model.encoder.weight[J:] = 0
        model.encoder.bias[J:] = 2 * s.log() + 2 * math.log(2)


@pytest.mark.parametrize("training", [True, False])
def test_a_latent_of_deviation_one_is_removed(training):
    model = made(VAEase).train(training)
    s = torch.ones(J)
    s[:3] = 0.01
    set_scale(model, s)
    seen = []
    model.decoder.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    bound = model(inputs())
    torch.testing.assert_close(seen[0][:, 3:], torch.zeros(B, J - 3), atol=1e-6, rtol=0)
    torch.testing.assert_close(seen[0][:, :3], 0.99 * model.encoder(inputs())[:, :3], atol=0.06, rtol=0)
    assert (bound.l0 == 3).all()
    assert (model.codes(inputs()).z[:, 3:] == 0).all()


def test_the_kl_of_vaease_is_that_of_a_vae():
    model = made(VAEase)
    set_scale(model, torch.full((J,), 0.4))
    mu = model.encoder(inputs())[:, :J]
    wanted = (0.5 * (mu**2 + 0.4**2 - 1) - math.log(0.4)).sum(1)
    torch.testing.assert_close(model(inputs()).kl, wanted)


class Switch(nn.Module):
    """An encoder of one x: off (mu = 0, s = 1) near zero, else mu = x / (1 - v) and s = v."""

    def forward(self, x):
        off = x.abs() < 4 * V
        s = torch.where(off, 1.0, V)
        return torch.cat([torch.where(off, 0.0, x / (1 - V)), 2 * s.log() + 2 * math.log(2)], -1)


V = 0.01


def test_what_vaease_maximises_is_no_bound():
    """
    Whether a latent is on is not charged: exp of the objective integrates to nearly 2, and a density to 1.

    Where s = 1 it is N(x; 0, v^2), which alone integrates to 1, and elsewhere nearly N(x; 0, 1).
    """
    nets = Switch(), nn.Identity()
    model = VAEase(*nets, shape=(1,), latent_dim=1, likelihood=GaussianFixed(V**2))
    total = 0.0
    for low, high in ((-4, -4 * V), (-4 * V, 4 * V), (4 * V, 4)):
        x = low + (high - low) * (torch.arange(500) + 0.5) / 500
        elbo = model(x.repeat(300)[:, None]).elbo.view(300, -1).mean(0)
        total += (high - low) * elbo.exp().mean().item()
    assert total > 1.4
    assert not VAEase.bounded


DATA = vsc.from_arrays(torch.randn(60, 6, generator=torch.Generator().manual_seed(3)).numpy(), name="noise")


def configured(name, target=None, **settings):
    config = Config(model=ModelConfig(latent_dim=30), train=TrainConfig(steps=3, target_l0=target, batch_size=20))
    return changed(config, PRESETS[name][1] | settings)


@pytest.mark.parametrize("name", PEERS)
def test_a_preset_trains_and_comes_back_from_its_folder(name, tmp_path):
    model = vsc.train(DATA, configured(name, None if name == "vaease" else 4), tmp_path / "run")
    again = vsc.load(tmp_path / "run")
    assert type(model) is MODELS[name]
    torch.testing.assert_close(again.encode(DATA.test.x), model.encode(DATA.test.x))
    torch.testing.assert_close(model.decoder.weight.norm(dim=1), torch.ones(30))


@pytest.mark.parametrize(("target", "wanted"), [(None, 3), (5, 5), ("9 -> 4 at 0.1", 4), (30, 30)])
@pytest.mark.parametrize("name", ["topk", "batch-topk", "matryoshka"])
def test_k_is_the_l0_that_is_asked_for(name, target, wanted):
    config = resolve(configured(name, target), DATA)
    assert config.train.target_l0.last == wanted
    assert resolve(config, DATA) == config
    assert build.new_model(config, DATA).k == wanted


def test_a_penalty_that_is_given_takes_the_place_of_a_target():
    assert resolve(configured("jumprelu", **{"train.penalty": 0.1}), DATA).train.target_l0 is None


@pytest.mark.parametrize(
    ("name", "target", "settings", "said"),
    [
        ("topk", 31, {}, "train.target_l0 must be at or below the number of latents, 30, in the end, not 31"),
        ("jumprelu", 30, {}, "train.target_l0 must be below the number of latents, 30"),
        ("topk", 2.5, {}, "train.target_l0 must be a whole number in the end with model topk"),
        ("topk", 2, {"train.penalty": 1.0}, "train.penalty does nothing"),
        ("vaease", 2, {}, "train.target_l0 does nothing"),
        ("gated", 2, {"train.cap": 0.5}, "train.cap does nothing"),
    ],
)
def test_settings_that_a_peer_cannot_take(name, target, settings, said):
    with pytest.raises(UsageError, match=said):
        vsc.train(DATA, configured(name, target, **settings))
