"""Settings: the schedules that they give, what they refuse, and that each is explained."""

import ast
import inspect
from dataclasses import FrozenInstanceError, fields, is_dataclass, replace

import pytest

from vsc.errors import UsageError
from vsc.settings import config
from vsc.settings.config import Config, DataConfig, Knobs, ModelConfig, TrainConfig

DATACLASSES = [c for c in vars(config).values() if is_dataclass(c) and c.__module__ == config.__name__]


def test_plain_knobs_are_constant():
    settings = TrainConfig(steps=100, lr=0.01, beta=2.0, temperature=0.7, temperature_final=None)
    for step in (0, 50, 99, 100):
        assert settings.knobs(step) == Knobs(1.0, 2.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.7, 0.01)


def test_lambda_holds_ramps_and_stays():
    settings = TrainConfig(steps=1000, lam_hold=0.2, lam_ramp=0.1)
    expected = {0: 0, 199: 0, 200: 0, 225: 0.25, 250: 0.5, 300: 1, 999: 1}
    assert {step: settings.knobs(step).lam for step in expected} == pytest.approx(expected)


def test_lambda_may_jump():
    settings = TrainConfig(steps=100, lam_hold=0.5)
    assert [settings.knobs(step).lam for step in (49, 50)] == [0, 1]


def test_kl_weight_rises_to_beta():
    settings = TrainConfig(steps=1000, beta=4.0, kl_warmup=0.5)
    expected = {0: 0, 250: 2, 500: 4, 999: 4}
    assert {step: settings.knobs(step).beta for step in expected} == pytest.approx(expected)


def test_the_gates_weight_rises_from_one():
    settings = TrainConfig(steps=1000, spike_beta=5.0, spike_hold=0.1, spike_ramp=0.5)
    expected = {0: 1, 100: 1, 350: 3, 600: 5, 999: 5}
    assert {step: settings.knobs(step).spike_beta for step in expected} == pytest.approx(expected)
    settings = replace(settings, slab_beta=3.0)
    expected = {0: 3, 25: 2.5, 50: 2, 100: 1, 999: 1}
    assert {step: settings.knobs(step).slab_beta for step in expected} == pytest.approx(expected)
    settings = replace(settings, total_correlation=2.0)
    expected = {0: 0, 50: 1, 100: 2, 999: 2}
    assert {step: settings.knobs(step).total_correlation for step in expected} == pytest.approx(expected)


def test_the_price_rises_after_the_hold_and_excludes_a_target():
    settings = TrainConfig(steps=1000, price=2.0, penalty_hold=0.4, penalty_ramp=0.2)
    expected = {0: 0, 400: 0, 500: 1, 600: 2, 999: 2}
    assert {step: settings.knobs(step).price for step in expected} == pytest.approx(expected)
    settings = replace(settings, price_start=-1.0)
    expected = {0: -1, 400: -1, 500: 0.5, 600: 2, 999: 2}
    assert {step: settings.knobs(step).price for step in expected} == pytest.approx(expected)
    for own in ({"price": 1.0}, {"price_start": -1.0}):
        with pytest.raises(UsageError, match=r"leave out train\.price"):
            TrainConfig(target_l0=3.0, **own)


def test_learning_rate_drops_at_once_or_falls():
    settings = TrainConfig(steps=100, lr=1e-3, lr_final=1e-4, lr_drop=0.3)
    assert [settings.knobs(step).lr for step in (0, 29, 30, 99)] == [1e-3, 1e-3, 1e-4, 1e-4]
    settings = replace(settings, lr_ramp=0.6)
    expected = {0: 1e-3, 30: 1e-3, 60: 5.5e-4, 90: 1e-4, 99: 1e-4}
    assert {step: settings.knobs(step).lr for step in expected} == pytest.approx(expected)
    settings = replace(settings, lr_first=5e-4, lr_hold=0.2)
    expected = {0: 5e-4, 19: 5e-4, 20: 1e-3, 30: 1e-3, 60: 5.5e-4, 99: 1e-4}
    assert {step: settings.knobs(step).lr for step in expected} == pytest.approx(expected)


def test_relaxation_is_c_for_sigmoid_and_t_for_the_others():
    settings = TrainConfig(steps=100, temperature=1.0, temperature_final=0.2)
    expected = {"sigmoid": (50, 125, 200), "concrete": (1.0, 0.6, 0.2), "straight-through": (1.0, 0.6, 0.2)}
    for spikes, values in expected.items():
        assert [settings.knobs(step, spikes).relaxation for step in (0, 50, 100)] == pytest.approx(values)
    assert replace(settings, sharpness_final=None).knobs(100, "sigmoid").relaxation == 50


def test_schedules_keep_their_shape_when_the_steps_change():
    short, long = (TrainConfig(steps=n, lam_hold=0.2, lam_ramp=0.4, kl_warmup=0.5) for n in (100, 10_000))
    for share in (0.1, 0.3, 0.45, 0.8):
        assert short.knobs(round(100 * share)) == pytest.approx(long.knobs(round(10_000 * share)))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, 0) for name in ("steps", "batch_size", "log_every", "valid_every", "checkpoint_every")),
        *((name, 0) for name in ("devices", "nodes", "patience")),
        *((name, value) for name in ("lr_hold", "lr_drop", "kl_warmup", "lam_ramp") for value in (-0.1, 1.1)),
        *((name, value) for name in ("lr", "temperature", "sharpness") for value in (0.0, -1.0, float("nan"))),
        *((name, float("inf")) for name in ("lr_first", "lr_final", "temperature_final", "sharpness_final")),
        ("price_start", float("-inf")),
        ("beta", -1.0),
        ("beta", float("nan")),
        ("beta", float("inf")),
        ("seed", -1),
        ("seed", 2**31),
    ],
)
def test_refused_by_name(name, value):
    with pytest.raises(UsageError, match=f"train.{name} "):
        TrainConfig(**{name: value})


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
