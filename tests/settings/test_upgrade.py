"""Settings of format 1 mean today what they meant: every recipe of then, at every step, against the code of then."""

import json
import math

import pytest

from vsc import data
from vsc.errors import UsageError
from vsc.model import MODELS
from vsc.model.spikes import RELAXATION
from vsc.settings import build
from vsc.settings.config import Config, as_plain
from vsc.settings.presets import PRESETS, changed
from vsc.settings.upgrade import FORMAT, GONE, from_plain, read_settings, upgraded
from vsc.studies import Ask, by_dim, collapse, models, smiley, stability
from vsc.training import pressure

DIGITS = data.load("digits")

# ---- format 1: its training settings, and what they gave at each step

OLD = {
    "steps": 1000,
    "batch_size": 128,
    **{"lr": 1e-3, "lr_first": None, "lr_hold": 0.0, "lr_final": None, "lr_drop": 0.5, "lr_ramp": 0.0, "prior_lr": 1.0},
    **{"beta": 1.0, "slab_beta": 1.0, "spike_beta": 1.0, "spike_hold": 0.0, "spike_ramp": 0.0, "kl_warmup": None},
    **{"total_correlation": 0.0, "penalty": 0.0, "price": 0.0, "price_start": 0.0, "target_l0": None},
    **{"penalty_hold": 0.0, "penalty_ramp": 0.0, "clip": None, "lam_hold": 0.0, "lam_ramp": 0.0, "seed": 0},
    **{"temperature": 0.7, "temperature_final": 0.3, "sharpness": 50.0, "sharpness_final": 200.0, "device": "auto"},
}


def ramp(step, start, end, begin, length):
    if step < begin:
        return start
    return end if step >= begin + length else start + (end - start) * (step - begin) / length


def knobs(old, step, spikes):
    """What `TrainConfig.knobs` of format 1 returned."""
    n = old["steps"]
    hold, after = round(old["spike_hold"] * n), (round(old["penalty_hold"] * n), round(old["penalty_ramp"] * n))
    first, last = (old[f"{'sharpness' if spikes == 'sigmoid' else 'temperature'}{end}"] for end in ("", "_final"))
    lr = ramp(step, old["lr"], old["lr_final"] or old["lr"], round(old["lr_drop"] * n), round(old["lr_ramp"] * n))
    return {
        "lam": ramp(step, 0.0, 1.0, round(old["lam_hold"] * n), round(old["lam_ramp"] * n)),
        "beta": ramp(step, 0.0, old["beta"], 0, round((old["kl_warmup"] or 0.0) * n)),
        "slab_beta": ramp(step, old["slab_beta"], 1.0, 0, hold),
        "spike_beta": ramp(step, 1.0, old["spike_beta"], hold, round(old["spike_ramp"] * n)),
        "total_correlation": ramp(step, 0.0, old["total_correlation"], 0, hold),
        "penalty": ramp(step, 0.0, old["penalty"], *after),
        "price": ramp(step, old["price_start"], old["price"], *after),
        "relaxation": ramp(step, first, first if last is None else last, 0, n),
        "lr": old["lr_first"] if old["lr_first"] and step < round(old["lr_hold"] * n) else lr,
    }


def asked(old, step, J, l0, held, beta):
    """What the price of a target was in format 1, and what it came to be; `held` is the integral so far."""
    n = old["steps"]
    begin, length = round(old["penalty_hold"] * n), round(old["penalty_ramp"] * n)
    if step < begin:
        return 0.0, held
    share = ramp(step, 0.0, 1.0, begin, length)
    surplus = math.log(max(l0, 1e-3) / (J ** (1 - share) * old["target_l0"] ** share))
    least, weight = 0.0 if share < 1 else -200.0, beta / old["beta"] if old["beta"] else 1.0
    integral = held + weight * (200.0 / n * max(1.0, abs(held) / 4) * surplus)
    return weight * max(held + 10.0 * surplus, least), min(max(integral, least), 200.0)


# ---- the recipes of then

MIXED = {"model.prior": "pseudo-inputs"}
WU = {
    **{"train.lam_hold": 0.2, "train.lam_ramp": 0.1, "train.kl_warmup": 0.3},
    **{"train.temperature": 1.0, "train.temperature_final": 1.0},
}
PAPER = {"model.spikes": "sigmoid", "model.head": "log-relu", "train.kl_warmup": 0.0}
LEARNING = {"train.lr": 2e-3, "train.lr_final": 4e-5, "train.lr_drop": 0.5, "train.lr_ramp": 0.5}
SMILEY = LEARNING | {
    **{"model.prior": "mixture", "model.components": 64, "model.unit_slab": True, "model.gate_init": 4.0},
    **{"model.off_value": -3.0, "train.kl_warmup": 0.0, "train.slab_beta": 3.0, "train.spike_beta": 5.0},
    **{"train.spike_hold": 0.2, "train.spike_ramp": 0.25, "train.prior_lr": 15.0, "train.total_correlation": 1.0},
    **{"train.temperature": 2.0, "train.temperature_final": 0.4, "train.price": 0.7, "train.penalty_hold": 0.4},
    **{"train.penalty_ramp": 0.3, "train.lr_first": 1e-3, "train.lr_hold": 0.2},
}
PSEUDO = LEARNING | {
    **{"model.prior": "pseudo-inputs", "model.components": 64, "model.alpha": 0.15, "model.gate_init": 2.0},
    **{"train.kl_warmup": 0.25, "train.temperature": 1.0, "train.temperature_final": None, "train.penalty": 1.0},
    **{"train.penalty_hold": 0.4, "train.penalty_ramp": 0.25},
}
UNIT = PSEUDO | {"model.unit_slab": True, "train.penalty": 0.0, "train.target_l0": 0.0}
FULL = {"train.batch_size": 500, "train.lr_final": 1e-4}

THEN = {
    "preset ae": {"model.name": "ae"},
    "preset vae": {"model.name": "vae"},
    "preset beta-vae": {"model.name": "vae", "train.beta": 4.0},
    "preset vsc": {},
    "preset vsc-wu": WU,
    "preset vsc-learned": {"model.prior": "learned"},
    "preset vsc-pseudo": MIXED,
    "preset vsc-mixture": {"model.prior": "mixture"},
    "preset beta-tcvae": {"model.name": "tcvae", "train.penalty": 3.0},
    "preset laplace": {"model.name": "laplace"},
    "preset thresholded-laplace": {"model.name": "thresholded-laplace"},
    "preset vsc-paper": PAPER,
    "smiley VSC 18": SMILEY | {"train.price_start": -7.0 / 18, "model.latent_dim": 18},
    "smiley VSC 60": SMILEY | {"train.price_start": -7.0 / 60, "model.latent_dim": 60},
    "smiley VSC, pseudo-inputs 60": PSEUDO | {"model.latent_dim": 60},
    "smiley VSC, pseudo-inputs, unit slabs 60": UNIT | {"model.latent_dim": 60},
    "smiley beta-TCVAE (4) 40": LEARNING | {"model.name": "tcvae", "train.penalty": 3.0, "model.latent_dim": 40},
    "smiley beta-VAE (8) 40": LEARNING | {"model.name": "vae", "train.beta": 8.0, "model.latent_dim": 40},
    "kind VSC-WU dynamic": MIXED
    | FULL
    | {"train.lam_hold": 15 / 70, "train.lam_ramp": 5 / 70, "train.lr_drop": 2 / 7, "model.latent_dim": 60},
    "kind VSC dynamic": MIXED | FULL | {"train.lr_drop": 2 / 7, "model.latent_dim": 60},
    "collapse VSC, no warm-up": FULL | {"train.kl_warmup": 0.0, "train.lr_drop": 20 / 70},
    "collapse VSC, lambda warm-up": FULL
    | {"train.kl_warmup": 0.0, "train.lr_drop": 20 / 70, "train.lam_hold": 15 / 70, "train.lam_ramp": 5 / 70},
    "collapse VSC-WU: both, T = 1": FULL
    | WU
    | {"train.lr_drop": 20 / 70, "train.lam_hold": 15 / 70, "train.lam_ramp": 5 / 70},
    "stability sigmoid, c = 10": {"model.spikes": "sigmoid", "train.sharpness": 10.0, "train.sharpness_final": None},
    "stability concrete, T = 2": {
        **{"model.spikes": "concrete", "train.temperature": 2.0, "train.temperature_final": 2.0},
    },
    "stability disarm": {"model.spikes": "disarm"},
    "a target that falls": {"train.target_l0": 6.0, "train.penalty_hold": 0.1, "train.penalty_ramp": 0.3},
    "a target after a hold": MIXED | {"train.target_l0": 11.0, "train.penalty_hold": 0.5},
    "a target, thresholded": {"model.name": "thresholded-laplace", "train.target_l0": 8.0, "model.alpha": 0.01},
    "a target while the KL rises to 4": {"train.target_l0": 5.0, "train.beta": 4.0, "train.kl_warmup": 0.4},
    "lr_hold after lr_drop": {
        **{"train.lr_first": 1e-4, "train.lr_hold": 0.75, "train.lr_final": 1e-5, "train.lr_drop": 0.5},
        "train.lr_ramp": 0.5,
    },
    "settings that did nothing": {
        **{"model.name": "vae", "model.alpha": 0.3, "model.prior": "mixture", "train.lam_hold": 0.2},
        **{"train.penalty": 2.0, "train.slab_beta": 2.0, "train.prior_lr": 3.0, "train.price_start": 1.0},
    },
}


def then(name, steps=200):
    """Return what format 1 saved of a run: every setting, resolved."""
    own = {"train.steps": steps} | THEN[name]
    model = as_plain(vars(Config().model)) | {k[6:]: v for k, v in own.items() if k.startswith("model.")}
    train = OLD | {k[6:]: v for k, v in own.items() if k.startswith("train.")}
    gated = model["name"] in ("vsc", "thresholded-laplace")
    if train["kl_warmup"] is None:
        train["kl_warmup"] = 0.1 if gated else 0.0
    mixture = model["name"] == "vsc" and model["prior"] in ("pseudo-inputs", "mixture")
    if train["target_l0"] is None and mixture and not (train["penalty"] or train["price"] or train["price_start"]):
        train["target_l0"] = model["alpha"] * model["latent_dim"]
    return {"data": {"name": "digits"}, "model": model | {"likelihood": "bernoulli", "components": 64}, "train": train}


@pytest.mark.parametrize("steps", [97, 200])
@pytest.mark.parametrize("name", THEN)
def test_a_saved_run_has_the_same_knobs_at_every_step(name, steps):
    plain = then(name, steps)
    old, model = plain["train"], plain["model"]
    config = from_plain(upgraded(plain), "config.yaml")
    assert build.unused(config) == []
    assert (config.train.steps, config.train.clip, config.train.prior_lr) == (steps, None, old["prior_lr"]) or (
        name == "settings that did nothing"
    )
    heard = build.schedules(config.model) | {"lr"}
    compared = set(knobs(old, 0, model["spikes"])) & heard
    assert compared >= {"lr"} | ({"beta"} if model["name"] != "ae" else set())
    renamed = {"total_correlation": "penalty"} if model["name"] == "tcvae" else {}
    for step in range(steps + 1):
        new, was = config.train.knobs(step), knobs(old, step, model["spikes"])
        for knob in compared:
            if name == "lr_hold after lr_drop":  # no corner of its own where it enters the fall: off by one step
                assert getattr(new, knob) == pytest.approx(was[renamed.get(knob, knob)], abs=1e-3 / 48)
            else:
                assert getattr(new, knob) == was[renamed.get(knob, knob)], (knob, step)


@pytest.mark.parametrize("name", [name for name in THEN if then(name)["train"]["target_l0"] is not None])
def test_a_target_asks_the_same_price_at_every_step(name):
    """Along an l0 that falls from all latents, past the target and back, bit for bit."""
    plain = then(name)
    old, J = plain["train"], plain["model"]["latent_dim"]
    config = from_plain(upgraded(plain), "config.yaml")
    if not old["target_l0"]:
        assert not config.train.target_l0
        return
    integral, held = 0.0, 0.0
    for step in range(old["steps"]):
        l0 = old["target_l0"] * (1.3 + math.cos(step / 18)) if step > 20 else J * 0.999
        beta = knobs(old, step, "")["beta"]
        expected, held = asked(old, step, J, l0, held, beta)
        price, integral = pressure.asked(integral, l0, config.train.knobs(step), config.train, step)
        assert (price, integral) == (expected, held), step


# ---- the recipes of today


def today():
    found = {f"preset {name}": settings for name, (_, settings) in PRESETS.items()}
    ask = Ask(DIGITS, full=True)
    for row in smiley.rows(ask):
        found[f"smiley {row.facets['model']} {row.facets['J']}"] = row.settings
    for row in models.dense(ask, 60):
        found[f"kind {row.facets['model']}"] = row.settings
    for row in collapse.rows(ask):
        found[f"collapse {row.facets['model']}"] = row.settings
    for label, (name, own) in stability.estimators().items():
        found[f"stability {label}"] = own | {"model.spikes": name}
    return found


TODAY = today()


@pytest.mark.parametrize("name", [name for name in THEN if name in TODAY])
def test_the_recipes_are_those_of_then(name):
    config = build.resolve(changed(Config(), TODAY[name] | {"train.steps": 200}), DIGITS)
    was = from_plain(upgraded(then(name)), "")
    heard = build.schedules(config.model) | {"lr", "prior_lr"}
    assert {one: getattr(config.train, one) for one in heard} == {one: getattr(was.train, one) for one in heard}


def test_the_recipes_of_then_are_looked_at():
    assert {name for name in THEN if name in TODAY} >= {f"preset {name}" for name in PRESETS}
    assert sum(name.startswith("smiley") for name in THEN if name in TODAY) == 6
    assert sum(name.startswith(("kind", "collapse", "stability")) for name in THEN if name in TODAY) == 8


@pytest.mark.parametrize("likelihood", by_dim.LIKELIHOODS)
@pytest.mark.parametrize("beta", [1.0, 4.0])
def test_the_studies_over_dimensions_let_the_kl_rise_where_variances_are_learned(likelihood, beta):
    row = by_dim.row(Ask(DIGITS), likelihood, "VAE", 8, beta=beta)
    config = build.resolve(changed(Config(), row.settings | {"train.steps": 100}), DIGITS)
    warmup = 0.1 if "gaussian" in likelihood else 0.0
    old = OLD | {"steps": 100, "beta": beta, "kl_warmup": warmup}
    for step in range(100):
        assert config.train.knobs(step).beta == knobs(old, step, "")["beta"]


@pytest.mark.parametrize("recipe", [settings for _, settings in PRESETS.values()])
def test_a_recipe_is_few_settings(recipe):
    assert len(recipe) <= 6


# ---- in part, and wrong


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"lam_hold": 0.2}, {"lam": "0 -> 1 at 0.2"}),
        ({"lam_hold": 0.2, "lam_ramp": 0.1}, {"lam": "0 -> 1 at 0.2 over 0.1"}),
        ({"lr_final": 1e-4}, {"lr": "0.001 -> 0.0001 at 0.5"}),
        ({"lr": 2e-3, "lr_final": 1e-4, "lr_ramp": 0.5}, {"lr": "0.002 -> 0.0001 at 0.5 over 0.5"}),
        ({"kl_warmup": 0.0}, {"beta": 1.0}),
        ({"kl_warmup": None}, {"beta": None}),
        ({"kl_warmup": None, "beta": 4.0}, {"beta": "0 -> 4 at 0 over 0.1"}),
        ({"temperature": 1.0, "temperature_final": None}, {"relaxation": 1.0}),
        ({"sharpness": 20.0}, {"relaxation": "20 -> 200"}),
        ({"target_l0": 8.0, "penalty_hold": 0.5}, {"target_l0": "32 -> 8 at 0.5"}),
        ({"steps": 5, "lr": 1e-3, "beta": 4.0}, {"steps": 5, "lr": 1e-3, "beta": 4.0}),  # of today
    ],
)
def test_what_is_given_in_part_is_translated_in_part(old, new):
    found = upgraded({"train": old})["train"]
    assert {name: value for name, value in found.items() if value or name not in ("penalty", "price")} == new


def test_today_is_left_as_it_is():
    for name in PRESETS:
        config = build.resolve(changed(Config(), PRESETS[name][1] | {"train.steps": 10}), DIGITS)
        plain = as_plain({part: vars(getattr(config, part)) for part in ("data", "model", "train")})
        for given in (plain, plain | {"format": FORMAT}):
            assert upgraded(given) == plain
        assert from_plain(upgraded(json.loads(json.dumps(plain))), "") == config


@pytest.mark.parametrize(
    ("plain", "says"),
    [
        ({"format": 99}, "mine.yaml was written by a newer version (format 99, not 2); update"),
        ({"format": "x"}, "format is a whole number"),
        ({"format": True}, "format is a whole number"),
        ({"train": {"lam_hold": "x"}}, "mine.yaml: lam_hold cannot be read"),
        ({"train": {"lam_hold": [1]}}, "mine.yaml: lam_hold cannot be read"),
        ({"train": {"lr_final": 1e-4, "lr_drop": 7}}, "lr_drop, lr_final cannot be read"),
    ],
)
def test_what_cannot_be_upgraded_is_named(plain, says):
    with pytest.raises(UsageError) as error:
        upgraded(plain, "mine.yaml")
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("plain", "says"),
    [
        ({"train": {"stepz": 5}}, "mine.yaml has the unknown setting train.stepz"),
        ({"model": {"name": "vsc", "x" * 500: 1}}, "has the unknown setting model.xxx"),
        ({"model": [1]}, "mine.yaml is damaged: model is no group of settings"),
        ({"train": {"steps": "many"}}, "mine.yaml is damaged: train"),
        ({"train": {"lr": "fast"}}, "mine.yaml is damaged: train.lr: 'fast' is no schedule"),
    ],
)
def test_what_is_no_setting_is_named(plain, says):
    with pytest.raises(UsageError) as error:
        from_plain(plain, "mine.yaml")
    assert says in str(error.value)
    assert len(str(error.value)) < 300


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: &x [1]\nb: *x", "aliases"),
        ("a: &x [*x]", ""),
        ("[" * 20_000, ""),
        ("train: {steps: " + "9" * 5000 + "}", ""),
        ("data: [1]", "data is a group of settings"),
        ("model:", "model is a group of settings"),
        ("3", "holds no settings"),
        ("# " + "x" * 200_000, "more than 100 kB"),
        ("\0", ""),
    ],
)
def test_yaml_that_is_none_is_one_short_line(tmp_path, text, says):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(UsageError) as error:
        read_settings(path)
    assert says in str(error.value)
    assert "mine.yaml is damaged" in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value).replace(str(tmp_path), "")) <= 300


def test_what_has_gone_is_in_today_s_settings_by_another_name():
    today = set(vars(Config().train))
    assert not GONE.keys() & today
    assert {part for parts in GONE.values() for part in parts} <= today
    assert set(OLD) - set(GONE) <= today


def test_estimators_and_models_say_what_bears_on_them():
    """Of format 1 by name, of today by what they say themselves."""
    assert {name for name, kind in MODELS.items() if "relaxation" in kind.schedules} == {"vsc", "thresholded-laplace"}
    assert set(RELAXATION) == {"sigmoid", "concrete", "straight-through"}
