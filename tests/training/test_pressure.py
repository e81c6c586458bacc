"""What holds l0 where it is asked: a price that is found while the model trains."""

import math

import pytest
import torch

from vsc.data.split import Dataset, Split
from vsc.errors import UsageError
from vsc.settings import build
from vsc.settings.config import Config, DataConfig, ModelConfig, TrainConfig
from vsc.training.loop import train
from vsc.training.pressure import asked, price


@pytest.mark.parametrize(("start", "target"), [(0.05, 0.2), (1.0, 0.5), (1.0, 8.0), (60.0, 0.5), (60.0, 8.0)])
def test_the_price_brings_l0_to_its_target(start, target):
    """On a model whose l0 falls by a factor of e for every two nats, slowly."""
    steps, l0, integral = 2000, start, 0.0
    for _ in range(steps):
        asked, added = price(integral, l0, target, steps)
        integral += added
        l0 += 0.02 * (start * math.exp(-asked / 2) - l0)
    assert l0 == pytest.approx(target, rel=0.02)


def test_the_price_is_a_reward_where_there_are_too_few():
    assert price(0.0, 4.0, 8.0, 100)[0] < 0 < price(0.0, 16.0, 8.0, 100)[0]
    assert price(0.0, 8.0, 8.0, 100) == (0.0, 0.0)
    assert all(math.isfinite(value) for value in price(0.0, 0.0, 8.0, 100))


def test_the_price_of_a_target_sets_in_at_its_corner():
    settings = TrainConfig(steps=100, target_l0="30 -> 2 at 0.5")
    assert asked(0.0, 20.0, settings.knobs(49), settings, 49) == (0.0, 0.0)
    assert min(asked(0.0, 20.0, settings.knobs(50), settings, 50)) > 0


def test_a_target_falls_from_all_latents_to_what_is_asked():
    settings = TrainConfig(steps=100, target_l0="32 -> 2 at 0.2 over 0.5")
    for step, target in ((20, 32.0), (45, 8.0), (70, 2.0), (99, 2.0)):  # 8 is half way from 32 to 2
        now = settings.knobs(step)
        assert asked(0.0, 1.01 * target, now, settings, step)[0] > 0
        assert asked(0.0, target, now, settings, step)[0] == pytest.approx(0, abs=1e-9)
        below = asked(0.0, 0.99 * target, now, settings, step)[0]
        assert below < 0 if step >= 70 else below == 0  # what has shut early is not called back


def test_the_price_rises_with_the_weight_of_the_kl():
    settings = TrainConfig(steps=100, target_l0=2.0, beta="0 -> 2 at 0 over 0.5")
    early, late = (asked(1.0, 4.0, settings.knobs(step), settings, step) for step in (25, 75))
    assert early[0] == pytest.approx(late[0] / 2)
    assert early[1] - 1.0 == pytest.approx((late[1] - 1.0) / 2)


# ---- in a training


def config(train, **model):
    model = {"latent_dim": 4, "hidden": (16,), "likelihood": "bernoulli"} | model
    return Config(DataConfig("tiny"), ModelConfig("vsc", **model), train)


def clusters():
    """300 examples of 12 pixels: 4 patterns, of which 1 to 3 are on."""
    generator = torch.Generator().manual_seed(0)
    on = torch.rand(300, 4, generator=generator) < 0.5
    x = (on.repeat_interleave(3, 1) * 255).to(torch.uint8)
    return Dataset("clusters", (12,), *(Split(part) for part in x.split([200, 50, 50])), high=255.0)


@pytest.mark.slow
@pytest.mark.parametrize("prior", ["spike-slab", "learned", "pseudo-inputs", "mixture"])
@pytest.mark.parametrize("target", [1.0, 3.0])
def test_a_target_for_l0_is_reached(prior, target):
    settings = TrainConfig(steps=1500, target_l0=target, device="cpu", valid_every=1500)
    data = clusters()
    many = {"components": 16} if prior in ("pseudo-inputs", "mixture") else {}
    model = train(data, config(settings, latent_dim=8, prior=prior, **many))
    gamma = model.encode(data.train.x).gamma  # 50 held-out examples have other patterns on by chance
    assert gamma.sum(1).mean().item() == pytest.approx(target, rel=0.1)


def test_a_target_out_of_reach_does_no_harm(tiny):
    """A latent cannot be on for less than what float32 can say; the price has a limit."""
    settings = TrainConfig(steps=400, target_l0=1e-9, device="cpu", valid_every=400)
    model = train(tiny, config(settings))
    assert model.encode(tiny.train.x).gamma.sum(1).mean() < 0.1


@pytest.mark.parametrize("prior", ["pseudo-inputs", "mixture"])
def test_mixture_priors_aim_at_alpha_unless_told_otherwise(tiny, prior):
    def target(**settings):
        return build.resolve(config(TrainConfig(**settings), prior=prior, alpha=0.3), tiny).train.target_l0

    assert target().start == pytest.approx(0.3 * 4)
    assert not target(penalty=1.0)
    assert not target(target_l0=0.0)
    assert not target(price=1.0)
    assert not target(price="-1 -> 0 at 0.5")
    assert target(target_l0=2.0) == 2.0
    assert not build.resolve(config(TrainConfig(), prior="spike-slab"), tiny).train.target_l0


def test_a_target_sets_alpha_and_must_be_below_the_number_of_latents(tiny):
    target = TrainConfig(target_l0=1.0)
    assert build.resolve(config(target), tiny).model.alpha == 0.25
    with pytest.raises(UsageError, match="target_l0 must end below the number of latents, 4, not at 4"):
        build.resolve(config(TrainConfig(target_l0=4.0)), tiny)
