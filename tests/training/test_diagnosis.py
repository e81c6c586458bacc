"""What is said of runs that went wrong: the cause that the settings make likely, and never one that they rule out."""

import numpy as np
import pytest
import torch

from vsc.data import from_arrays
from vsc.errors import Caution, UsageError
from vsc.settings.config import Config, ModelConfig, TrainConfig
from vsc.training.diagnosis import beforehand, collapse, missed, overfitting, worthless
from vsc.training.loop import train


@pytest.mark.parametrize(
    ("used", "always_on", "J", "word"),
    [
        (0, 0, 32, "hardly any latent is used"),
        (1, 0, 32, "Raise model.alpha"),
        (6, 4, 32, "has collapsed: 4 of the 6"),
        (32, 32, 32, "has not become sparse"),
        (20, 10, 32, ""),
        (2, 0, 32, ""),
        (1, 0, 1, ""),
        (1, 1, 1, ""),
    ],
)
def test_a_collapse_is_named_with_the_setting_to_change(used, always_on, J, word):
    found = collapse(used, always_on, J)
    assert word in found
    assert bool(found) == bool(word)


def settings(train=None, **model):
    return Config(model=ModelConfig(latent_dim=32, **model), train=TrainConfig(steps=4000, **(train or {})))


@pytest.mark.parametrize(
    ("config", "first", "never"),
    [
        (settings({"cap": 0.4}), "Let train.beta rise more slowly", "cap"),
        (settings({"cap": 0.1}), "Raise train.cap, now 0.1", "alpha"),
        (settings(gates="fixed"), "Raise model.alpha, now 0.1", "cap"),
        (settings({"penalty": 2.0}), "Lower train.penalty", "alpha"),
        (settings({"beta": 4.0}), "Lower train.beta", "penalty"),
        (settings(gates="fixed", alpha=0.5), "Let train.beta rise more slowly", "alpha"),
        (settings(likelihood="gaussian-fixed"), "Lower model.variance", "alpha"),
        (settings({"target_l0": 1.0}), "Ask for more latents", "alpha"),
    ],
)
def test_of_shut_gates_the_likeliest_cause_comes_first(config, first, never):
    found = collapse(0, 0, 32, config)
    assert f"(0 of 32). {first}" in found
    assert never not in found


@pytest.mark.parametrize(
    ("config", "first", "never"),
    [
        (settings(gates="fixed"), "Lower train.cap", "straight-through"),
        (settings(spikes="concrete"), "Take the spike estimator straight-through", "penalty"),
        (settings(gates="mixture"), "Lower train.cap", "alpha"),
        (settings({"target_l0": 6.0}), "It has not come down to train.target_l0: raise train.steps", "cap"),
    ],
)
def test_of_open_gates_the_likeliest_cause_comes_first(config, first, never):
    found = collapse(20, 20, 32, config)
    assert f"every input. {first}" in found
    assert never not in found


def test_as_many_latents_as_were_asked_for_may_always_be_on():
    asked = settings({"target_l0": 6.0})
    assert collapse(7, 6, 32, asked) == ""
    assert "target_l0" in collapse(20, 19, 32, asked)
    assert collapse(7, 6, 32, settings()) != ""


@pytest.mark.parametrize(
    ("active", "l0", "asked", "said"),
    [
        (15.4, 31.9, {"target_l0": 32.0}, "was asked for l0 32, and has 15.4 latents on: a target is one of the sum"),
        (60.0, 60.0, {"target_l0": "40 -> 32 at 0.5"}, "has 60 latents on: the price that holds it has not got there"),
        (60.0, 60.0, {"target_l0": 32.0, "steps": 20}, "It was trained for 20 steps only"),
        (30.0, 35.0, {"target_l0": 32.0}, ""),
        (15.4, 31.9, {}, ""),
    ],
)
def test_an_l0_that_is_not_there_is_said_with_what_a_target_counts(active, l0, asked, said):
    found = missed(active, l0, Config(train=TrainConfig(**{"steps": 4000} | asked)))
    assert said in found
    assert bool(found) == bool(said)


@pytest.mark.parametrize(
    ("asked", "keeps", "first"),
    [
        ({}, False, "Keep the best weights with train.patience 3, or take fewer latents"),
        ({}, True, "Take fewer latents"),
        ({"target_l0": 5.0}, False, "Ask for another l0 than train.target_l0 5, or for none"),
        ({"target_l0": 5.0, "steps": 20}, False, "Raise train.steps first"),
    ],
)
def test_what_makes_a_model_worse_than_none_is_not_patience_where_an_l0_was_asked_for(asked, keeps, first):
    config = Config(train=TrainConfig(**{"steps": 4000} | asked))
    assert f"constant output. {first}" in worthless(-3.0, -2.0, keeps, config)
    assert worthless(-1.0, -2.0, keeps, config) == worthless(None, -2.0, keeps, config) == ""


@pytest.mark.parametrize("used", [0, 32])
def test_a_run_of_twenty_steps_is_told_to_go_on_and_nothing_else(used):
    found = collapse(used, used, 32, Config(train=TrainConfig(steps=20)))
    assert found.endswith("It was trained for 20 steps only: raise train.steps first.")


ROWS = [{"step": 100 * (i + 1), "elbo": elbo} for i, elbo in enumerate([-90, -50, -40, -45, -60])]


@pytest.mark.parametrize(
    ("elbos", "says"),
    [
        ([-90, -50, -40, -45, -60], "best at step 300 (-40.0) and has fallen since, to -60.0"),
        ([-90, -50, -40, -40.1, -40.2], ""),  # no more than noise
        ([-90, -50, -45, -41, -40], ""),
        ([-90, -30], ""),
        ([None, None, None], ""),  # an AE has no bound
    ],
)
def test_a_validation_elbo_that_falls_is_called_overfitting(elbos, says):
    rows = [{"step": 100 * (i + 1), "elbo": elbo} for i, elbo in enumerate(elbos)]
    assert says in overfitting(rows)
    assert bool(overfitting(rows)) == bool(says)


def test_a_run_that_kept_its_best_weights_is_not_told_to():
    assert overfitting(ROWS, settings({"patience": 3})) == ""
    assert "train.patience 3" in overfitting(ROWS, settings())
    pressed = overfitting(ROWS, settings({"target_l0": 6.0}))  # the weights that are best have another l0
    assert "train.patience" not in pressed
    assert "has fallen since, to -60.0. Ask for another l0 than train.target_l0 6" in pressed


@pytest.mark.parametrize(
    ("rows", "J", "still", "said"),
    [
        (300, 8, 0, ""),
        (34, 8, 0, "only 31 training examples"),
        (300, 400, 0, "more latents, 400, than training examples, 270"),
        (300, 8, 1, "b has one value throughout"),
        (300, 8, 4, "b, c, d and 1 more have one value throughout"),
    ],
)
def test_what_will_go_wrong_is_said_before_training(rows, J, still, said):
    x = np.random.default_rng(0).normal(size=(rows, 5))
    x[:, 1 : 1 + still] = 3.0
    data = from_arrays(x, features=tuple("abcde"), x_test=x[:9])
    found = beforehand(data, J)
    assert (said in found) if said else not found
    assert "\n" not in found


def test_a_column_is_looked_at_to_its_end_and_a_large_table_no_farther_than_it_must(monkeypatch):
    x = np.random.default_rng(0).normal(size=(9000, 2))
    x[:, 1], seen = 3.0, []
    data = from_arrays(x, x_test=x[:9])
    assert "column 1 has one value throughout" in beforehand(data, 2)
    data.train.x[-1, 1] = 4.0
    assert not beforehand(data, 2)
    data.train.x[1] = 7.0
    monkeypatch.setattr(torch.Tensor, "split", lambda x, rows: (seen.append(i) or x[i : i + rows] for i in (0, 2000)))
    assert not beforehand(data, 2)
    assert seen == [0]


def test_it_is_a_warning_once_nothing_is_refused_and_a_resumed_run_is_not_told_again(tmp_path):
    data, short = from_arrays(np.random.default_rng(0).normal(size=(30, 4))), TrainConfig(steps=2)
    with pytest.warns(Caution, match="there are only 22 training examples") as caught:
        train(data, Config(train=short), tmp_path / "run")
    assert caught[0].filename == __file__
    told = []
    train(data, Config(train=short), tmp_path / "run", overwrite=True, tell=told.append)
    assert len(told) == 1
    for wrong in (ModelConfig(variance_floor=0.0), ModelConfig(hidden=(10**9,))):  # refused when the model is built
        with pytest.raises(UsageError):
            train(data, Config(model=wrong, train=short), tell=told.append)
    with pytest.raises(UsageError, match="holds a run"):
        train(data, Config(train=short), tmp_path / "run", tell=told.append)
    train(data, Config(train=short), tmp_path / "run", resume=True, tell=told.append)
    assert len(told) == 1
