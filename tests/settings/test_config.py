"""Settings: the schedules that they give, what they refuse, and that each is explained."""

import ast
import inspect
from dataclasses import FrozenInstanceError, fields, is_dataclass

import pytest

from vsc.errors import UsageError
from vsc.settings import config
from vsc.settings.config import SCHEDULES, Config, DataConfig, Knobs, ModelConfig, TrainConfig

DATACLASSES = [c for c in vars(config).values() if is_dataclass(c) and c.__module__ == config.__name__]


def test_plain_knobs_are_constant():
    settings = TrainConfig(steps=100, lr=0.01, beta=2.0, relaxation=0.7)
    for step in (0, 50, 99, 100):
        assert settings.knobs(step) == Knobs(1.0, 2.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.7, 0.01, 0.0)


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
        *((name, value) for name in ("beta", "penalty", "target_l0") for value in (-1, "0 -> -1", float("inf"))),
        ("lam", "0 -> 1.1"),
        ("price", float("-inf")),
        ("price", "free"),
        ("target_l0", "5 -> 0 at 0.5"),
        ("clip", 0.0),
        ("seed", -1),
        ("seed", 2**31),
    ],
)
def test_refused_by_name(name, value):
    with pytest.raises(UsageError, match=f"train.{name}"):
        TrainConfig(**{name: value})


def test_a_target_finds_the_price_itself():
    with pytest.raises(UsageError, match=r"leave out train\.price"):
        TrainConfig(target_l0=3.0, price="-1 -> 0 at 0.5")
    assert TrainConfig(target_l0=0, price=1.0).price == 1


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
