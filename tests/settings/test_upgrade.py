"""Settings of earlier formats mean today what they meant: schedules at every step, priors by their names of now."""

import json

import pytest
import torch
import yaml
from safetensors.torch import load_file, save

import vsc
from vsc import data
from vsc.errors import UsageError
from vsc.files import write_json
from vsc.settings.config import Config, as_plain
from vsc.settings.presets import PRESETS, changed
from vsc.settings.resolve import resolve, schedules, unused
from vsc.settings.upgrade import FORMAT, GONE, INSTEAD, LEFT, PRIORS, from_plain, read_settings, upgraded
from vsc.training import runs

DIGITS = data.load("digits")

# ---- format 1: its training settings, and what they gave at each step

OLD = {
    **{"steps": 200, "batch_size": 128, "lr": 1e-3, "lr_first": None, "lr_hold": 0.0, "lr_final": None},
    **{"lr_drop": 0.5, "lr_ramp": 0.0, "prior_lr": 1.0, "beta": 1.0, "slab_beta": 1.0, "spike_beta": 1.0},
    **{"spike_hold": 0.0, "spike_ramp": 0.0, "kl_warmup": 0.1, "total_correlation": 0.0, "penalty": 0.0},
    **{"price": 0.0, "price_start": 0.0, "target_l0": None, "penalty_hold": 0.0, "penalty_ramp": 0.0, "clip": None},
    **{"lam_hold": 0.0, "lam_ramp": 0.0, "temperature": 0.7, "temperature_final": 0.3, "sharpness": 50.0},
    **{"sharpness_final": 200.0, "patience": None, "seed": 0, "device": "auto"},
}
MODEL = {
    **{"name": "vsc", "latent_dim": 32, "net": "mlp", "hidden": [400], "likelihood": "bernoulli", "variance": None},
    **{"alpha": 0.1, "prior": "spike-slab", "components": 64, "selector": "optimal", "unit_slab": False, "nu": None},
    **{"spikes": "straight-through", "head": "logit", "gate_init": 0.0, "off_value": 0.0},
}


def ramp(step, start, end, begin, length, geometric=False):
    if step < begin:
        return start
    share = 1.0 if step >= begin + length else (step - begin) / length
    return start ** (1 - share) * end**share if geometric else start + (end - start) * share


def knobs(old, step, spikes, J=32):
    """What `TrainConfig.knobs` of format 1 returned, and the l0 that its price went to."""
    n = old["steps"]
    later = (round(old["penalty_hold"] * n), round(old["penalty_ramp"] * n))
    first, last = (old[f"{'sharpness' if spikes == 'sigmoid' else 'temperature'}{end}"] for end in ("", "_final"))
    lr = ramp(step, old["lr"], old["lr_final"] or old["lr"], round(old["lr_drop"] * n), round(old["lr_ramp"] * n))
    target = old["target_l0"]
    return {
        "lam": ramp(step, 0.0, 1.0, round(old["lam_hold"] * n), round(old["lam_ramp"] * n)),
        "beta": ramp(step, 0.0, old["beta"], 0, round((old["kl_warmup"] or 0.0) * n)),
        "penalty": ramp(step, 0.0, old["penalty"], *later),
        "relaxation": ramp(step, first, first if last is None else last, 0, n),
        "lr": old["lr_first"] if old["lr_first"] and step < round(old["lr_hold"] * n) else lr,
        "target_l0": ramp(step, J if any(later) else target, target, *later, geometric=True) if target else 0.0,
    }


FALL = {"lr": 2e-3, "lr_final": 4e-5, "lr_ramp": 0.5}
THEN = {
    "vsc": {},
    "lambda warm-up": {
        "lam_hold": 0.2,
        "lam_ramp": 0.1,
        "kl_warmup": 0.3,
        "temperature": 1.0,
        "temperature_final": 1.0,
    },
    "beta-vae": {"model.name": "vae", "beta": 4.0, "kl_warmup": 0.0},
    "tcvae": {"model.name": "tcvae", "penalty": 3.0, "penalty_hold": 0.2, "penalty_ramp": 0.3},
    "learned": {"model.prior": "learned", "prior_lr": 5.0, **FALL},
    "a jump, then a fall": {"lr_first": 1e-3, "lr_hold": 0.2, **FALL},
    "a jump within the fall": {"lr_first": 1e-4, "lr_hold": 0.75, "lr_final": 1e-5, "lr_ramp": 0.5},
    "sigmoid": {"model.spikes": "sigmoid", "sharpness": 10.0, "sharpness_final": None},
    "no relaxation": {
        "model.spikes": "disarm",
        "price": 0.7,
        "price_start": -0.2,
        "spike_beta": 5.0,
        "spike_hold": 0.2,
    },
    "penalty": {"model.prior": "pseudo-inputs", "model.alpha": 0.15, "penalty": 1.0, "penalty_hold": 0.4},
    "a target that falls": {"target_l0": 6.0, "penalty_hold": 0.1, "penalty_ramp": 0.3},
    "a target after a hold": {"model.prior": "mixture", "target_l0": 11.0, "penalty_hold": 0.5},
    "a target, thresholded": {"model.name": "thresholded-laplace", "target_l0": 8.0, "model.alpha": 0.01},
    "what did nothing": {
        "model.name": "vae",
        "model.alpha": 0.3,
        "model.prior": "mixture",
        "lam_hold": 0.2,
        "penalty": 2,
    },
}


def then(name, steps=200):
    """Return what format 1 saved of a run: every setting, resolved, and no number of its format."""
    own = THEN[name]
    model = MODEL | {key[6:]: value for key, value in own.items() if "." in key}
    train = OLD | {"steps": steps} | {key: value for key, value in own.items() if "." not in key}
    return {"data": {"name": "digits"}, "model": model, "train": train}


@pytest.mark.parametrize("steps", [97, 200])
@pytest.mark.parametrize("name", THEN)
def test_a_saved_run_of_format_1_has_the_same_knobs_at_every_step(name, steps):
    plain = then(name, steps)
    old, model = plain["train"], plain["model"]
    config = from_plain(upgraded(plain), "config.yaml")
    assert unused(config) == []
    assert (config.train.steps, config.train.clip, config.train.patience) == (steps, None, 0)
    heard = schedules(config.model) | {"lr"}
    compared = set(knobs(old, 0, model["spikes"])) & heard
    if model["name"] == "tcvae":
        compared |= {"total_correlation"}
    assert compared >= {"lr", "beta"}
    for step in range(steps + 1):
        new, was = config.train.knobs(step), knobs(old, step, model["spikes"])
        was["total_correlation"] = was["penalty"]
        for knob in compared:
            if name == "a jump within the fall":  # no corner of its own where it enters the fall: off by one step
                assert getattr(new, knob) == pytest.approx(was[knob], abs=1e-3 / 48)
            else:
                assert getattr(new, knob) == pytest.approx(was[knob], rel=1e-12), (knob, step)


# ---- formats 1 and 2: priors

SAVED = {"format": 2, "data": {"name": "digits"}}


@pytest.mark.parametrize("kind", ["ours", "a user's"])
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"prior": "normal"}, {"gates": "fixed", "slab": "unit", "alpha": 1.0}),
        ({"prior": "spike-slab", "alpha": 0.2}, {"gates": "fixed", "slab": "unit", "alpha": 0.2}),
        ({"prior": "learned"}, {"gates": "learned", "slab": "unit"}),
        ({"prior": "pseudo-inputs", "nu": 10.0}, {"gates": "pseudo-inputs", "slab": "own", "nu": 10.0}),
        ({"prior": "mixture", "components": 8}, {"gates": "mixture", "slab": "own", "components": 8}),
        ({"prior": "mixture", "unit_slab": True}, {"gates": "mixture", "slab": "unit"}),
        ({"prior": "learned", "off_value": -3.0}, {"gates": "learned", "slab": "learned", "slab_mean": 3.0}),
        (
            {"prior": "pseudo-inputs", "unit_slab": True, "off_value": 2},
            {"gates": "pseudo-inputs", "slab": "learned", "slab_mean": -2.0},
        ),
        ({"name": "vae"}, {"name": "vae"}),
    ],
)
def test_a_prior_is_gates_and_a_slab(kind, old, new):
    model = {"name": "vsc", "unit_slab": False, "off_value": 0.0} | old
    plain = {"model": model, "train": {"steps": 50}} | (SAVED if kind == "ours" else {})
    config = from_plain(upgraded(plain), "x")
    assert config.model == changed(Config(), {f"model.{name}": value for name, value in new.items()}).model
    resolve(config, DIGITS)


def test_the_prior_of_a_saved_run_that_says_none_is_that_of_then():
    assert upgraded(SAVED | {"model": {"name": "vsc"}})["model"]["gates"] == "fixed"
    assert "gates" not in upgraded({"model": {"name": "vsc"}})["model"]


@pytest.mark.parametrize(
    ("model", "train", "target"),
    [
        ({"prior": "mixture", "alpha": 0.3}, {}, 0.3 * 32),
        ({"prior": "pseudo-inputs", "latent_dim": 10}, {}, 1.0),
        ({"prior": "mixture"}, {"target_l0": 5.0}, 5),
        ({"prior": "mixture"}, {"target_l0": 0.0}, None),
        ({"prior": "mixture"}, {"penalty": 1.0}, None),
        ({"prior": "mixture"}, {"price": 1.0}, None),
        ({"prior": "learned"}, {}, None),
        ({"prior": "spike-slab"}, {"target_l0": 0.0}, None),
    ],
)
def test_mixtures_went_to_alpha_of_all_latents_unless_told_otherwise(model, train, target):
    found = from_plain(upgraded(SAVED | {"model": model, "train": {"steps": 50} | train}), "").train
    assert (found.target_l0 and found.target_l0.last) == (target and pytest.approx(target))
    assert found.cap == 1  # there was none


@pytest.mark.parametrize("name", LEFT)
def test_what_no_longer_exists_is_left_out_of_ours_and_refused_in_a_user_s_own(tmp_path, name):
    train = {"steps": 50, name: 3.0}
    assert name not in upgraded(SAVED | {"model": {"name": "vsc"}, "train": train})["train"]
    (tmp_path / "mine.yaml").write_text(json.dumps({"train": train}))
    with pytest.raises(UsageError, match=rf"mine\.yaml: train\.{name} no longer exists; take ") as error:
        read_settings(tmp_path / "mine.yaml")
    assert str(error.value).endswith(INSTEAD[f"train.{name}"])
    assert upgraded({"train": {"steps": 50, name: LEFT[name]}}) == {"train": {"steps": 50}}  # which did nothing


# ---- whole folders: what formats 1 and 2 left


def as_then(folder, number, prior):
    """Rewrite a finished run as format 1 or 2 had it."""
    described = json.loads((folder / "model" / "config.json").read_text())
    weights, old = load_file(folder / "model" / "model.safetensors"), {}
    off = weights.pop("prior.own_slab.mean") if prior["off_value"] else None
    if off is not None:
        weights.pop("prior.own_slab.logvar")
        bias = weights["decoder.0.bias"]  # W z + b = W (z + off) + (b - W off)
        weights["decoder.0.bias"] = bias + weights["decoder.0.weight"] @ off
    for name, value in weights.items():
        name = name.replace("prior.gates.", "prior.").replace("prior.own_slab.", "prior.")
        shifted = name.startswith("decoder.") and off is not None and number == 1
        old[name.replace("decoder.", "decoder.1.", 1) if shifted else name] = value
    if off is not None:
        old["decoder.0.value" if number == 1 else "off_value"] = -off
    J = described["model"]["latent_dim"]
    for added in ("gate_init", "scale_init"):
        if added in old and number == 1:
            old["encoder.2.bias"][-J:] += old.pop(added)
    gone = ("gates", "slab", "slab_mean")
    described["model"] = {k: v for k, v in described["model"].items() if k not in gone} | prior
    described |= {"format": number}
    raw = save(old)
    (folder / "model" / "model.safetensors").write_bytes(raw)
    write_json(folder / "model" / "config.json", described | {"sha256": runs.hashlib.sha256(raw).hexdigest()})
    settings = {"data": {"name": "tiny", "scale": "unit-interval"}, "model": described["model"]}
    settings["train"] = (
        OLD if number == 1 else {"steps": 4, "prior_lr": 3.0, "price": "0 -> 1 at 0.5", "target_l0": 0.0}
    )
    (folder / "config.yaml").write_text(yaml.safe_dump(settings | ({} if number == 1 else {"format": 2})))
    state = torch.load(folder / "checkpoints" / "last.pt", weights_only=True)
    runs.save_checkpoint(folder / "checkpoints" / "last.pt", state | {"format": number})


NOW = {
    "spike-slab": {"gates": "fixed"},
    "learned": {"gates": "learned", "gate_init": 2.0},
    "pseudo-inputs": {"gates": "pseudo-inputs", "components": 5},
    "mixture": {"gates": "mixture", "components": 5},
    "mixture, unit": {"gates": "mixture", "slab": "unit", "components": 5},
    "off values": {"gates": "fixed", "slab": "learned", "slab_mean": 1.5, "gate_init": 1.0},
    "vae": {"name": "vae"},
    "thresholded": {"name": "thresholded-laplace"},
}


@pytest.mark.filterwarnings("ignore::vsc.errors.Caution")  # of four steps not much can be asked
@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("name", NOW)
def test_a_finished_run_of_then_loads_and_is_measured(tiny, tmp_path, name, number):
    given = {f"model.{key}": value for key, value in NOW[name].items()} | {"train.steps": 4, "data.name": "tiny"}
    given |= {"model.latent_dim": 3, "model.hidden": (7,), "model.likelihood": "bernoulli"}
    folder = tmp_path / "run"
    trained = vsc.train(tiny, changed(Config(), given), folder)
    if name == "off values":  # of then, the slab beside them was N(0, 1)
        torch.nn.init.zeros_(trained.prior.own_slab.logvar)
        runs.save_model(folder, trained, runs.read_config(folder))
    prior = name.split(",")[0] if name.split(",")[0] in PRIORS else "spike-slab"
    then = {"prior": prior, "unit_slab": "unit" in name, "off_value": -1.5 if name == "off values" else 0.0}
    as_then(folder, number, then)
    loaded = vsc.load(folder)
    torch.testing.assert_close(loaded.encode(tiny.test.x), trained.encode(tiny.test.x), rtol=1e-5, atol=1e-5)
    z = trained.encode(tiny.test.x).hard
    torch.testing.assert_close(loaded.decode(z), trained.decode(z))
    assert vsc.evaluate(loaded, tiny).elbo == pytest.approx(vsc.evaluate(trained, tiny).elbo, rel=1e-5)
    saved = runs.read_config(folder)
    assert unused(saved) == []
    assert saved.model.name == given.get("model.name", "vsc")
    with pytest.raises(UsageError, match="was written by an earlier version; start the run anew with --overwrite"):
        runs.load_checkpoint(folder / "checkpoints" / "last.pt")


def test_an_own_slab_with_off_values_is_told_what_to_take():
    with pytest.raises(UsageError, match=r"x: instead of model\.off_value, take model\.slab learned"):
        upgraded(SAVED | {"model": {"prior": "mixture", "off_value": -3.0}}, "x")


def test_a_comparison_of_then_is_not_gone_on_with():
    with pytest.raises(UsageError, match="x was written by an earlier version; start anew with --overwrite"):
        upgraded(SAVED | {"models": "vsc,vae", "model": {}, "train": {}}, "x")
    assert upgraded({"models": "vsc,vae"}) == {"models": "vsc,vae"}  # a user's own


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
        ({"target_l0": 8.0, "penalty_hold": 0.5}, {"target_l0": "32 -> 8 at 0.5", "penalty": 0.0}),
        ({"steps": 5, "lr": 1e-3, "beta": 4.0}, {"steps": 5, "lr": 1e-3, "beta": 4.0}),  # of today
    ],
)
def test_what_is_given_in_part_is_translated_in_part(old, new):
    assert upgraded({"train": old}) == {"train": new}


@pytest.mark.parametrize("name", PRESETS)
def test_today_is_left_as_it_is(name):
    config = resolve(changed(Config(), PRESETS[name][1] | {"train.steps": 10}), DIGITS)
    plain = as_plain({part: vars(getattr(config, part)) for part in ("data", "model", "train")})
    for given in (plain, plain | {"format": FORMAT}):
        assert upgraded(given) == plain
    assert from_plain(upgraded(json.loads(json.dumps(plain))), "") == config


@pytest.mark.parametrize(
    ("plain", "says"),
    [
        ({"format": FORMAT + 1}, f"was written by a newer version (format {FORMAT + 1}, not {FORMAT}); update"),
        ({"format": "x"}, "format is a whole number, not 'x'"),
        ({"format": True}, "format is a whole number"),
        ({"format": 0}, "format is a whole number"),
        ({"format": 2, "model": {"prior": "x"}}, "instead of model.prior, take model.gates, which is fixed"),
        ({"model": {"prior": ["x"]}}, "instead of model.prior, take model.gates"),
        ({"model": {"prior": "learned", "off_value": "x"}}, "instead of model.off_value, take model.slab learned"),
        ({"model": {"prior": "mixture", "alpha": None}}, "model cannot be read"),
        ({"train": {"lam_hold": "x"}}, "lam_hold cannot be read"),
        ({"train": {"lam_hold": [1]}}, "lam_hold cannot be read"),
        ({"train": {"lr_final": 1e-4, "lr_drop": 7}}, "lr_drop, lr_final cannot be read"),
        ({"format": 2, "train": {"steps": "many"}}, "is damaged: train.steps"),
        ({"format": 2, "train": {"stepz": 5}}, "has the unknown setting train.stepz"),
        ({"format": 2, "model": {"name": "nope"}}, "unknown model 'nope'"),
    ],
)
def test_what_cannot_be_upgraded_is_named(plain, says):
    with pytest.raises(UsageError) as error:
        upgraded(plain, "mine.yaml")
    assert says in str(error.value)
    assert "\n" not in str(error.value)
    assert "mine.yaml" in str(error.value) or "unknown model" in says


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
    today = {f"{part}.{name}" for part in ("model", "train") for name in vars(getattr(Config(), part))}
    assert not {f"train.{name}" for name in (*GONE, *LEFT)} & today
    assert {f"train.{name}" for names in GONE.values() for name in names} <= today
    assert not INSTEAD.keys() & today
    assert set(OLD) - set(GONE) - set(LEFT) <= {name.removeprefix("train.") for name in today}
