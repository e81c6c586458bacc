"""To SAELens and back: what its architecture computes, by an independent reader, is what the model does."""

import json
import re

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from vsc import saelens
from vsc.cli.running import main
from vsc.errors import RunError, UsageError
from vsc.hub import load
from vsc.model import AE, VSC
from vsc.model.likelihoods import Bernoulli, GaussianShared
from vsc.model.nets import Dictionary, linear, mlp
from vsc.model.peers import BatchTopK, Gated, JumpReLU, Matryoshka, TopK
from vsc.model.peers.topk import Counted
from vsc.model.scaling import Scaler

M, J = 6, 9
X = torch.randn(300, M, generator=torch.Generator().manual_seed(1)) * 3 + 1
SCALERS = {
    "none": lambda: Scaler("none", torch.zeros(1), torch.ones(1)),
    "standard": lambda: Scaler("standard", X.mean(0).double(), 1 / X.std(0)),
}


def model_of(scaler="none", shared=True, signed=False, likelihood=None, net=linear, kind=VSC):
    """Make a linear VSC: if `shared`, values are 1.5 times the logits plus 2; if `signed`, some are turned around."""
    torch.manual_seed(0)
    encoder, decoder = net((M,), kind.features * J, J, 1)
    if net is linear and kind is VSC:
        encoder = torch.nn.Linear(M, 3 * J)  # each feature has a direction of its own
        with torch.no_grad():
            encoder.weight.normal_()
            encoder.bias.normal_()
            if shared:
                turn = torch.where(torch.arange(J) % 2 == 1, -1.0, 1.0) if signed else torch.ones(J)
                encoder.weight[:J] = 1.5 * turn[:, None] * encoder.weight[2 * J :]
                encoder.bias[:J] = turn * (1.5 * encoder.bias[2 * J :] + 2)
            decoder.bias.normal_()
    known = {"likelihood": likelihood or GaussianShared(), "scaler": SCALERS[scaler]()}
    return kind(encoder, decoder, shape=(M,), latent_dim=J, **known).eval()


class Reader:
    """SAELens' `gated` as its documentation has it, in NumPy."""

    def __init__(self, folder):
        self.config = json.loads((folder / "cfg.json").read_text())
        vars(self).update(load_file(folder / "sae_weights.safetensors"))

    def encode(self, x):
        assert (self.config["architecture"], self.config["normalize_activations"]) == ("gated", "none")
        x = x - self.b_dec * self.config["apply_b_dec_to_input"]
        on = x @ self.W_enc + self.b_gate > 0
        return on * np.maximum(x @ (self.W_enc * np.exp(self.r_mag)) + self.b_mag, 0)

    def decode(self, z):
        return z @ self.W_dec + self.b_dec


@pytest.mark.parametrize("scaler", SCALERS)
@pytest.mark.parametrize("signed", [False, True])
def test_a_vsc_whose_values_share_their_gates_direction_is_written_as_it_is(scaler, signed, tmp_path):
    model = model_of(scaler, signed=signed)
    told = saelens.write(model, tmp_path, X)
    theirs, codes = Reader(tmp_path), model.encode(X)
    z = theirs.encode(X.numpy())
    np.testing.assert_array_equal(z != 0, codes.active.numpy())
    np.testing.assert_allclose(np.linalg.norm(theirs.W_dec, axis=1), 1, rtol=1e-5)
    output = model.scaler.inverse(model.decode(codes.hard)).detach().numpy()
    np.testing.assert_allclose(theirs.decode(z), output, atol=1e-3)
    assert told.values < 1e-3
    assert told.fvu == pytest.approx(told.ours, rel=1e-3)


def test_what_is_lost_of_other_values_is_told(tmp_path):
    model = model_of(shared=False)
    told = saelens.write(model, tmp_path, X)
    theirs, codes = Reader(tmp_path), model.encode(X)
    z = theirs.encode(X.numpy())
    assert not (z[~codes.active.numpy()] != 0).any()
    gates = X.numpy() @ theirs.W_enc + theirs.b_gate > 0
    np.testing.assert_array_equal(gates, codes.active.numpy())
    sign = np.sign((theirs.W_dec * model.decoder.weight.detach().numpy()).sum(1))
    hard = codes.hard.numpy()
    expected = np.sqrt(((z - sign * hard) ** 2).sum() / (hard**2).sum())
    assert told.values == pytest.approx(expected, rel=1e-4)
    error = ((X.numpy() - theirs.decode(z)) ** 2).sum() / ((X - X.mean(0)) ** 2).sum().item()
    assert told.fvu == pytest.approx(error, rel=1e-4)
    for j in range(J):  # least squares of the value over the gate, where it is on
        on = codes.active[:, j].numpy()
        logit = X.numpy()[on] @ theirs.W_enc[:, j]
        slope, shift = np.polyfit(logit, sign[j] * hard[on, j], 1)
        if slope > saelens.FLAT:
            np.testing.assert_allclose((np.exp(theirs.r_mag[j]), theirs.b_mag[j]), (slope, shift), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("known", "said"),
    [
        ({"kind": AE}, "only a vsc or sae with model.net linear"),
        ({"net": mlp}, "only a vsc or sae with model.net linear"),
        ({"likelihood": Bernoulli()}, "model.likelihood gaussian-shared"),
    ],
)
def test_what_saelens_cannot_do_is_refused(known, said, tmp_path):
    with pytest.raises(UsageError, match=said):
        saelens.write(model_of(**known), tmp_path / "out", X)
    assert not (tmp_path / "out").exists()


def test_an_encoder_that_bends_is_refused(tmp_path):
    encoder, _ = mlp((M,), 3 * J, J, 1)
    model = VSC(encoder, Dictionary(J, M), shape=(M,), latent_dim=J, likelihood=GaussianShared()).eval()
    with pytest.raises(UsageError, match="linear encoders"):
        saelens.write(model, tmp_path / "out", X)


def sae_of(kind, scaler="none"):
    """Make a sparse autoencoder with weights of its own."""
    known = {"k": 3} if issubclass(kind, Counted) else {}
    torch.manual_seed(0)
    encoder, decoder = linear((M,), J, J, 1)
    scaled = {"likelihood": GaussianShared(), "scaler": SCALERS[scaler]()}
    model = kind(encoder, decoder, shape=(M,), latent_dim=J, **scaled, **known).eval()
    with torch.no_grad():
        for weight in (encoder.weight, encoder.bias, decoder.bias):
            weight.normal_()
        if kind is Gated:
            model.log_scale.normal_()
            model.shift.normal_()
        elif kind is JumpReLU:
            model.log_threshold.normal_()
        elif kind is not TopK:
            model.threshold.fill_(0.7)
    return model


SAES = (TopK, BatchTopK, Matryoshka, JumpReLU, Gated)


@pytest.mark.parametrize("scaler", SCALERS)
@pytest.mark.parametrize("kind", SAES)
def test_a_sparse_autoencoder_comes_back_as_it_went(kind, scaler, tmp_path):
    model = sae_of(kind, scaler)
    told = saelens.write(model, tmp_path, X)
    assert told.values < 1e-5
    assert told.fvu == pytest.approx(told.ours, rel=1e-4)
    if kind is TopK and scaler == "standard":  # the largest are others where directions have another length
        with pytest.raises(UsageError, match="several lengths"):
            load(tmp_path)
        return
    back = load(tmp_path)
    assert type(back) is {BatchTopK: JumpReLU, Matryoshka: JumpReLU}.get(kind, kind)
    there, here = model.encode(X), back.encode(X)
    np.testing.assert_array_equal(there.active, here.active)
    output = model.scaler.inverse(model.decode(there.hard))
    np.testing.assert_allclose(back.decode(here.hard).detach(), output.detach(), atol=1e-3)


@pytest.mark.parametrize("kind", [VSC, *SAES])
def test_saelens_reads_it(kind, tmp_path):
    sae_lens = pytest.importorskip("sae_lens", reason="sae-lens is not installed; the reader above stands in for it")
    model = model_of("standard") if kind is VSC else sae_of(kind)
    saelens.write(model, tmp_path, X)
    sae = sae_lens.SAE.load_from_disk(tmp_path)
    codes = model.encode(X)
    with torch.no_grad():
        z, output = sae.encode(X), sae(X)
        expected = model.scaler.inverse(model.decode(codes.hard))
    np.testing.assert_array_equal(z != 0, codes.active)
    np.testing.assert_allclose(output, expected, atol=1e-3)


@pytest.mark.parametrize("norm", [1.0, 3.0])
def test_what_saelens_saves_is_read(norm, tmp_path):
    """Of architecture standard, whose directions have any length and whose input has b_dec taken off."""
    rng = np.random.default_rng(0)
    shapes = {"W_enc": (M, J), "W_dec": (J, M), "b_enc": J, "b_dec": M}
    weights = {name: (norm * rng.normal(size=shape)).astype(np.float32) for name, shape in shapes.items()}
    config = {"architecture": "standard", "metadata": {"sae_lens_version": "6.54.12"}}
    (tmp_path / "cfg.json").write_text(json.dumps(config))
    save_file(weights, tmp_path / "sae_weights.safetensors")
    z = np.maximum((X.numpy() - weights["b_dec"]) @ weights["W_enc"] + weights["b_enc"], 0)
    model = load(tmp_path)
    hard = model.encode(X).hard
    np.testing.assert_allclose(hard, z * np.linalg.norm(weights["W_dec"], axis=1), rtol=1e-3, atol=1e-3 * norm**3)
    output = z @ weights["W_dec"] + weights["b_dec"]
    np.testing.assert_allclose(model.decode(hard).detach(), output, rtol=1e-3, atol=1e-3 * norm**3)


GOOD = {"architecture": "jumprelu", "metadata": {"sae_lens_version": "6.0.0"}}


@pytest.mark.parametrize(
    ("config", "error", "said"),
    [
        (GOOD | {"metadata": {"sae_lens_version": "7.1.0"}}, UsageError, "is of SAELens '7.1.0', and 6 can be read"),
        ({"architecture": "jumprelu"}, UsageError, "is of SAELens 'None', and 6 can be read"),
        (GOOD | {"architecture": "temporal"}, UsageError, "architecture 'temporal'; read are standard, jumprelu"),
        (GOOD | {"normalize_activations": "layer_norm"}, UsageError, "normalize_activations 'layer_norm'"),
        (GOOD | {"architecture": "gated"}, RunError, "its arrays do not fit each other"),
        ([], RunError, "damaged, or not of SAELens 6"),
        ("{", RunError, "damaged, or not of SAELens 6"),
    ],
)
def test_foreign_files_are_refused_in_a_line(config, error, said, tmp_path):
    saelens.write(sae_of(JumpReLU), tmp_path, X)
    (tmp_path / "cfg.json").write_text(config if config == "{" else json.dumps(config))
    with pytest.raises(error, match=said) as found:
        load(tmp_path)
    assert len(str(found.value).replace(str(tmp_path), "")) < 200


def test_weights_that_are_cut_short_are_refused(tmp_path):
    saelens.write(sae_of(JumpReLU), tmp_path, X)
    weights = tmp_path / "sae_weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-40])
    with pytest.raises(RunError, match="damaged"):
        load(tmp_path)
    weights.unlink()
    with pytest.raises(UsageError, match="holds no model of SAELens"):
        saelens.read(tmp_path)


def test_the_command_says_what_is_lost_which_of_net_linear_is_nothing(tmp_path, capsys):
    np.save(tmp_path / "x.npy", X.numpy())
    options = ["--model.net=linear", "--latent-dim=8", "--model.likelihood=gaussian-shared", "--steps=20"]
    run, x = str(tmp_path / "run"), str(tmp_path / "x.npy")
    assert main(["train", f"--data={x}", f"--out={run}", *options]) == 0
    assert main(["export", run, "--saelens"]) == 0
    said = capsys.readouterr().out
    assert re.search(
        r"run/saelens: SAELens' gated, .* differ by 0\.0% .*\nunexplained variance .* (\d\.\d+), .* \1\n", said
    )
    assert {path.name for path in (tmp_path / "run" / "saelens").iterdir()} == {"cfg.json", "sae_weights.safetensors"}
    assert main(["encode", f"{run}/saelens", f"--data={x}", f"--out={tmp_path / 'theirs.npz'}"]) == 0
    theirs, ours = np.load(tmp_path / "theirs.npz")["hard"], load(run).encode(X).hard.numpy()
    np.testing.assert_array_equal(theirs != 0, ours != 0)
    capsys.readouterr()
    for command in (["evaluate"], ["report"], ["encode", f"--out={tmp_path / 'theirs.npz'}"]):
        assert main([*command, f"{run}/saelens"]) == 2
    assert capsys.readouterr().err.count("is a model that SAELens reads, without data: vsc encode") == 3
    assert main(["export", run]) == 2
    assert main(["export", run, "--saelens", f"--out={x}"]) == 2
    assert "is a file's name" in capsys.readouterr().err
