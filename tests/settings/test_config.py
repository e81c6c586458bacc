"""Settings: the schedules that they give, what they refuse, and that each is explained."""

import ast
import inspect
import json
from dataclasses import FrozenInstanceError, fields, is_dataclass

import numpy as np
import pytest

from vsc.data import from_arrays, load
from vsc.errors import UsageError
from vsc.settings import commands, config
from vsc.settings.config import SCHEDULES, Config, DataConfig, Knobs, ModelConfig, TrainConfig, as_plain
from vsc.settings.presets import PRESETS, changed
from vsc.settings.resolve import resolve, unused, without
from vsc.settings.schedule import Schedule

DATACLASSES = [
    one
    for room in (config, commands)
    for one in vars(room).values()
    if is_dataclass(one) and one.__module__ == room.__name__
]


def test_plain_knobs_are_constant():
    settings = TrainConfig(steps=100, lr=0.01, beta=2.0, relaxation=0.7)
    for step in (0, 50, 99, 100):
        assert settings.knobs(step) == Knobs(1.0, 2.0, 0.0, 0.0, 0.7, 0.01, 0.0)


def test_every_schedule_is_what_its_knob_follows():
    """Each a line from 0.5 to 1, of its own length, so that none can be taken for another."""
    names = [name for name in Knobs._fields if name != "target_l0"]
    assert sorted([*names, "target_l0"]) == sorted(SCHEDULES)
    given = {name: f"0.5 -> 1 over {k / 10}" for k, name in enumerate(names, 1)}
    knobs = TrainConfig(steps=100, **given).knobs(5)
    assert {name: getattr(knobs, name) for name in names} == pytest.approx(
        {name: 0.5 + 0.5 * 5 / (10 * k) for k, name in enumerate(names, 1)}
    )
    falling = TrainConfig(steps=100, target_l0="64 -> 1 over 0.6")
    assert falling.knobs(10).target_l0 == pytest.approx(32)  # by the same share at each step


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, 0) for name in ("steps", "batch_size", "log_every", "valid_every", "checkpoint_every")),
        *((name, 0) for name in ("devices", "nodes")),
        ("patience", -1),
        *((name, value) for name in ("lr", "relaxation") for value in (0.0, "1 -> -1", float("nan"))),
        *(
            (name, value)
            for name in ("beta", "penalty", "target_l0")
            for value in (-1, "0 -> -1", float("inf"), "free")
        ),
        ("lam", "0 -> 1.1"),
        ("target_l0", 0),
        ("target_l0", "5 -> 0 at 0.5"),
        *((name, value) for name in ("clip", "cap") for value in (0.0, -1, float("nan"), "many")),
        ("cap", 1.01),
        ("seed", -1),
        ("seed", 2**31),
        ("steps", "many"),
        ("batch_size", 0.5),
    ],
)
def test_refused_by_name(name, value):
    with pytest.raises(UsageError, match=f"train.{name}"):
        TrainConfig(**{name: value})


@pytest.mark.parametrize(
    ("kind", "name", "said"),
    [
        (Config, "latent_dim", r"vsc.Config takes no latent_dim; type vsc.Config\(model=vsc.ModelConfig\(latent_dim="),
        (ModelConfig, "steps", r"vsc.ModelConfig takes no steps; type vsc.Config\(train=vsc.TrainConfig\(steps="),
        (DataConfig, "binarize", r"vsc.Config\(data=vsc.DataConfig\(binarise="),
        (TrainConfig, "zzz", "vsc.TrainConfig takes no 'zzz'; settings are those of vsc.DataConfig"),
    ],
)
def test_of_a_name_that_is_elsewhere_it_is_said_where(kind, name, said):
    with pytest.raises(UsageError, match=said):
        kind(**{name: 1})


@pytest.mark.parametrize("kind", DATACLASSES)
def test_frozen_and_explained(kind):
    """Each setting has a sentence under it: the command line's help is made of these."""
    assert kind.__doc__
    assert kind.__dataclass_params__.frozen
    body = ast.parse(inspect.getsource(kind)).body[0].body
    for setting, after in zip(body, [*body[1:], None], strict=True):
        if isinstance(setting, ast.AnnAssign):
            said = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            assert said, f"{kind.__name__}.{setting.target.id} has no sentence under it"
            assert after.value.value.rstrip().endswith(".")


def test_nothing_is_shared_or_changed():
    a = Config()
    assert [f.name for f in fields(a)] == ["data", "model", "train"]
    assert a == Config(DataConfig(), ModelConfig(), TrainConfig())
    with pytest.raises(FrozenInstanceError):
        a.train.lr = 1.0


def table(rows, columns=4, binary=0):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, columns))
    x[:, :binary] = x[:, :binary] > 0
    return from_arrays(x.astype(np.float32), valid_fraction=0.1)


@pytest.mark.parametrize(
    ("made", "likelihood", "patience"),
    [
        ({"rows": 200}, "gaussian-shared", 3),
        ({"rows": 600}, "gaussian", 3),
        ({"rows": 600, "binary": 1}, "gaussian-shared", 3),
        ({"rows": 600, "columns": 9, "binary": 2}, "gaussian", 3),
        ({"rows": 5000}, "gaussian", 10),
        ({"rows": 5000, "binary": 2}, "gaussian-shared", 10),
    ],
)
def test_what_suits_a_table(made, likelihood, patience):
    resolved = resolve(Config(), table(**made))
    assert (resolved.model.likelihood, resolved.train.patience) == (likelihood, patience)
    assert resolve(resolved, table(**made)) == resolved
    asked = resolve(Config(train=TrainConfig(target_l0=2.0)), table(**made))
    assert asked.train.patience == (patience if made["rows"] < 2000 else 0)
    assert asked.train.target_l0 == (2.0 if asked.train.patience else Schedule.parse("8 -> 2 at 0.1 over 0.3"))
    pressed = resolve(Config(train=TrainConfig(target_l0="8 -> 2 at 0.5")), table(**made))
    assert pressed.train.patience == 0  # the best bound is that before l0 has come down
    assert resolve(Config(train=TrainConfig(patience=0)), table(**made)).train.patience == 0
    fixed = resolve(Config(model=ModelConfig(likelihood="gaussian-fixed")), table(**made))
    assert fixed.train.patience == (3 if made["rows"] < 2000 else 0)  # of many, only variances are learned by heart


def test_one_likelihood_suits_the_digits_whoever_trains_on_them():
    digits = load("digits")
    model = resolve(Config(), digits).model
    assert (model.likelihood, model.variance) == ("gaussian-fixed", 0.02)
    for name, (_, settings) in PRESETS.items():
        if "data.scale" in settings:  # in other units nats are others
            continue
        one = resolve(changed(Config(), settings), digits).model
        assert (one.likelihood, one.variance) == (model.likelihood, model.variance), name
    own = resolve(Config(model=ModelConfig(likelihood="bernoulli")), digits).model
    assert (own.likelihood, own.variance) == ("bernoulli", None)
    binary = resolve(Config(DataConfig(binarise=True)), digits).model
    assert binary.likelihood == "bernoulli"


@pytest.mark.parametrize("scale", ["none", "unit-norm"])
def test_values_outside_the_unit_interval_are_gaussian(scale):
    assert resolve(Config(DataConfig(scale=scale)), table(600)).model.likelihood == "gaussian"


@pytest.mark.parametrize(
    ("model", "idle"),
    [
        (ModelConfig("vae"), "lam cap target_l0 relaxation total_correlation penalty"),
        (ModelConfig("ae"), " ".join(name for name in (*SCHEDULES, "cap") if name != "lr")),
        (ModelConfig("tcvae"), "lam cap target_l0 relaxation penalty"),
        (ModelConfig("vsc"), ""),
        (ModelConfig("vsc", gates="mixture"), ""),
        (ModelConfig("vsc", gates="learned"), "penalty"),
        (ModelConfig("vsc", gates="fixed"), "penalty"),
        (ModelConfig("vsc", gates="fixed", alpha=1.0), "cap target_l0 relaxation penalty"),
        (ModelConfig("vsc", spikes="disarm"), "relaxation"),
        (ModelConfig("thresholded-laplace"), "lam total_correlation penalty"),
    ],
)
def test_what_does_nothing_for_a_model_is_refused(model, idle):
    digits, usual = load("digits"), TrainConfig()
    for name in (*SCHEDULES, "cap"):
        given = Config(model=model, train=TrainConfig(**{name: 0.5}))
        if name in idle.split():
            with pytest.raises(UsageError, match=f"train.{name} does nothing with model {model.name}"):
                resolve(given, digits)
            assert getattr(without(given, unused(given)).train, name) == getattr(usual, name)
        else:
            assert unused(given) == []
    assert unused(Config(model=model)) == []


def test_numbers_of_numpy_are_numbers():
    own = TrainConfig(steps=np.int64(5), lr=np.float32(0.5), clip=np.float64(2.0))
    assert as_plain(vars(own)) == as_plain(vars(TrainConfig(steps=5, lr=0.5, clip=2.0)))
    assert type(own.steps) is int
    model = ModelConfig(latent_dim=np.int32(4), hidden=[np.int64(8), 4])
    assert (model.latent_dim, model.hidden) == (4, (8, 4))
    assert type(model.hidden[0]) is int
    json.dumps(as_plain(vars(model)))
