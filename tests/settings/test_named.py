"""A model's name stands for its settings, in Python and on the command line."""

import pytest

import vsc
from vsc.cli.options import parse
from vsc.settings.commands import TrainRun, Tune
from vsc.settings.presets import PRESETS


def typed(*words, kind=TrainRun):
    found = parse("train", kind, list(words))
    return vsc.Config(found.data, found.model, found.train)


@pytest.mark.parametrize("name", PRESETS)
def test_a_name_is_its_settings_in_python_and_as_an_option(name):
    config = vsc.preset(name)
    assert typed("--model", name) == typed(f"--model={name}") == config


def test_the_name_of_a_linear_vsc():
    model = vsc.preset("vsc-linear").model
    assert (model.name, model.net, model.gates, model.spikes) == ("vsc", "linear", "learned", "analytic")


def test_other_settings_override_a_name_wherever_they_stand(tmp_path):
    config = vsc.preset("vsc-linear", {"model.latent_dim": 7, "model.gates": "fixed"})
    words = ["--gates", "fixed", "--model", "vsc-linear", "--latent-dim", "7"]
    assert typed(*words) == config == typed(*words, kind=Tune)
    (tmp_path / "own.yaml").write_text("model: {name: vae, net: conv, latent_dim: 7}")
    assert typed("--config", str(tmp_path / "own.yaml"), "--model", "vsc-linear", "--gates=fixed") == config


def test_the_kind_alone_is_named_in_full():
    """As in the commands that runs are made again by, which give all that differs."""
    assert typed("--model.name", "topk").model.net == "mlp"
    assert typed("--model", "topk").model.net == "linear"


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("vsc-liner", {}, "unknown preset 'vsc-liner'; did you mean 'vsc-linear'"),
        ("vsc", {"lr": 1}, "settings cannot have 'lr'; names are dotted"),
        ("vsc", {"model.x": 1}, "settings cannot have 'model.x'"),
        ("vsc", {"model.latent_dim": "many"}, "model.latent_dim must be a whole number"),
    ],
)
def test_names_that_are_none_are_one_line(name, settings, said):
    with pytest.raises(vsc.UsageError, match=said):
        vsc.preset(name, settings)


def test_a_misspelt_name_is_told_with_the_nearest():
    with pytest.raises(vsc.UsageError, match="unknown model 'vsc-liner'; did you mean 'vsc-linear'"):
        typed("--model", "vsc-liner")


@pytest.mark.parametrize("asked", [vsc.preset, lambda name: typed("--model", name)])
def test_a_name_of_earlier_versions_is_told_with_todays(asked):
    with pytest.raises(vsc.UsageError, match="the model vsc-paper is now called vsc-iclr"):
        asked("vsc-paper")
