"""What holds latents below their cap and l0 where it is asked: prices that are found while the model trains."""

import math

import pytest
import torch
from scipy.optimize import linprog

from vsc.data import load
from vsc.data.split import Dataset, Split
from vsc.settings.config import Config, DataConfig, ModelConfig, TrainConfig
from vsc.training import pressure
from vsc.training.loop import train

# ---- on gates whose worth is known: the bound is sum_j g_j worth_j, so that what is best is a linear programme

WORTH = [6.0, 3.0, 2.0, 1.0, 0.5, 0.2, -0.5, -2.0]


def best(worth, cap, target):
    """The rates that the limits ask for, from a solver that knows nothing of prices."""
    held = {} if target is None else {"A_eq": [[1.0] * len(worth)], "b_eq": [target]}
    return torch.tensor(linprog([-nats for nats in worth], bounds=[(0, cap)] * len(worth), **held).x)


def climb(worth, steps=2000, turn=lambda at, step: at, **settings):
    """Gradient ascent on the logits of the gates; returns rates and prices at each step, (steps, J) each."""
    asked = TrainConfig(steps=steps, **settings)
    logits, worth = torch.zeros(len(worth), dtype=torch.float64), torch.tensor(worth, dtype=torch.float64)
    at, found = pressure.begin(logits.sigmoid()), []
    for step in range(steps):
        gates = logits.sigmoid()
        price, at = pressure.prices(turn(at, step), gates, asked.knobs(step), asked, step)
        logits = logits + 0.1 * gates * (1 - gates) * (worth - price)
        found.append((gates, price))
    return tuple(torch.stack(part) for part in zip(*found, strict=True))


@pytest.mark.parametrize(
    ("cap", "target"), [(0.4, None), (0.1, None), (1.0, 2.5), (1.0, 1.0), (0.4, 1.0), (0.25, 1.3), (0.5, 2.8)]
)
def test_rates_end_where_the_limits_are_best_met(cap, target):
    rates, prices = climb(WORTH, cap=cap, target_l0=target)
    last = rates[-len(rates) // 10 :]
    torch.testing.assert_close(last.mean(0), best(WORTH, cap, target), atol=0.03, rtol=0)
    assert (last.amax(0) - last.amin(0)).max() < 0.05  # and they stay there
    # Karush, Kuhn and Tucker: what is at its cap costs at most what it is worth, what is between, exactly that
    between = (last.mean(0) > 0.05) & (last.mean(0) < cap - 0.05)
    torch.testing.assert_close(prices[-1][between], torch.tensor(WORTH).double()[between], atol=0.2, rtol=0)


def test_of_many_latents_fewer_are_on_at_once():
    worth = [2 + 0.1 * j for j in range(64)]
    rates, _ = climb(worth, cap=0.4)
    limit = pressure.LIMIT * 0.4 * math.sqrt(64)
    assert limit < 0.4 * 64
    assert rates[-1].sum() == pytest.approx(limit, rel=0.05)
    earned, most = ((found @ torch.tensor(worth).double()).item() for found in (rates[-1], best(worth, 0.4, limit)))
    assert earned == pytest.approx(most, rel=0.02)


def test_a_target_that_falls_is_followed_and_what_has_shut_early_is_not_called_back():
    rates, prices = climb(WORTH, cap=1.0, target_l0="6 -> 2 at 0.3 over 0.4")
    assert prices[: int(0.7 * len(prices))].min() >= 0
    assert rates[-1].sum() == pytest.approx(2.0, rel=0.05)


@pytest.mark.parametrize("target", [None, "8 -> 0.5 at 0.9"])
def test_a_limit_never_pays(target):
    settings = TrainConfig(steps=60, cap=0.3, target_l0=target)
    torch.manual_seed(0)
    at = pressure.begin(torch.rand(8))
    for step in range(54):  # the target's last value comes after that
        price, at = pressure.prices(at, torch.rand(8) ** (1 + step % 7), settings.knobs(step), settings, step)
        assert price.min() >= 0
        assert price.isfinite().all()
        assert at.capped.min() >= 0


def test_where_fewer_are_on_than_a_target_asks_being_on_is_paid():
    settings = TrainConfig(steps=60, target_l0=4.0)
    few = torch.full((8,), 0.1)
    assert pressure.prices(pressure.begin(few), few, settings.knobs(0), settings, 0)[0].max() < 0


def test_prices_rise_with_the_weight_of_the_kl():
    settings = TrainConfig(steps=100, cap=0.2, beta="0 -> 2 at 0 over 0.5")
    rates = torch.full((8,), 0.5)
    early, late = (pressure.prices(pressure.begin(rates), rates, settings.knobs(s), settings, s)[0] for s in (25, 75))
    torch.testing.assert_close(early, late / 2)


@pytest.mark.parametrize("rate", [0.0, 1e-9, 1.0])
def test_prices_are_numbers_at_every_rate(rate):
    settings = TrainConfig(steps=300, cap=0.3, target_l0=1.0)
    at = pressure.begin(torch.full((8,), rate))
    for step in range(300):
        price, at = pressure.prices(at, torch.full((8,), rate), settings.knobs(step), settings, step)
        assert price.abs().max() < 1e4


def test_the_controller_is_all_in_what_is_kept():
    """Taken apart into plain tensors and put together again half way, as a checkpoint does, it goes on bit for bit."""

    def kept(at, step):
        copies = {name: torch.tensor(part.tolist(), dtype=part.dtype) for name, part in at._asdict().items()}
        return pressure.Pressure(**copies) if step == 150 else at

    asked = {"steps": 300, "cap": 0.3, "target_l0": "4 -> 1 at 0.3 over 0.2"}
    for a, b in zip(climb(WORTH, **asked), climb(WORTH, turn=kept, **asked), strict=True):
        assert torch.equal(a, b)


# ---- in a training


def config(train, **model):
    model = {"latent_dim": 8, "hidden": (16,), "likelihood": "bernoulli", "components": 16} | model
    model = {name: value for name, value in model.items() if name != "components" or "gates" not in model}
    return Config(DataConfig("clusters"), ModelConfig("vsc", **model), train)


def clusters():
    """300 examples of 12 pixels: 4 patterns, each of them on in half."""
    generator = torch.Generator().manual_seed(0)
    on = torch.rand(300, 4, generator=generator) < 0.5
    x = (on.repeat_interleave(3, 1) * 255).to(torch.uint8)
    return Dataset("clusters", (12,), *(Split(part) for part in x.split([200, 50, 50])), high=255.0)


def test_an_interrupted_run_asks_the_same_prices_bit_for_bit(tmp_path, monkeypatch):
    asked, ask = [], pressure.prices

    def seen(*arguments):
        found = ask(*arguments)
        asked.append(found[0].clone())
        return found

    def stop(row):
        if row["step"] == 20:
            raise KeyboardInterrupt

    monkeypatch.setattr(pressure, "prices", seen)
    train_ = TrainConfig(steps=40, cap=0.2, target_l0=1.0, valid_every=10, checkpoint_every=15, device="cpu")
    train(clusters(), config(train_), tmp_path / "whole")
    whole, asked[:] = list(asked), []
    with pytest.raises(KeyboardInterrupt):
        train(clusters(), config(train_), tmp_path / "parts", watch=stop)
    asked[15:] = []  # those after the checkpoint
    train(clusters(), config(train_), tmp_path / "parts", resume=True)
    assert len(whole) == len(asked) == 40
    assert all(torch.equal(a, b) for a, b in zip(whole, asked, strict=True))
    assert any(price.abs().max() > 0 for price in whole)


@pytest.mark.slow
@pytest.mark.parametrize("gates", ["fixed", "learned", "pseudo-inputs", "mixture"])
@pytest.mark.parametrize("limits", [{"target_l0": 3.0}, {"cap": 0.2}], ids=str)
def test_what_is_asked_of_a_model_is_reached(gates, limits):
    data = clusters()
    model = train(data, config(TrainConfig(steps=1500, device="cpu", valid_every=1500, **limits), gates=gates))
    gamma = model.encode(data.train.x).gamma  # 50 held-out examples have other patterns on by chance
    if "cap" in limits:
        assert gamma.mean(0).max().item() <= 1.15 * limits["cap"]  # in so few steps, on its way
    else:
        assert gamma.sum(1).mean().item() == pytest.approx(limits["target_l0"], rel=0.1)


def test_a_target_out_of_reach_does_no_harm():
    """A latent cannot be on for less than what float32 can say; the price has a limit."""
    data = clusters()
    model = train(data, config(TrainConfig(steps=400, target_l0=1e-9, device="cpu", valid_every=400)))
    assert model.encode(data.train.x).gamma.sum(1).mean() < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 5])
def test_a_low_target_is_met_by_latents_that_take_turns(seed):
    """Four latents of 32 from the start were soon on for every digit, and with these seeds the controller lost them."""
    rows = []
    config = Config(train=TrainConfig(target_l0=4.0, seed=seed))
    train(load("digits"), config, watch=rows.append)
    assert rows[-1]["l0"] == pytest.approx(4, rel=0.1)
    assert rows[-1]["always_on"] == 0
    assert rows[-1]["used"] > 12
