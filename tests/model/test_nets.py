"""Nets: the shapes that they take and give, and what they refuse."""

import copy
import math

import pytest
import torch
from torch import nn

from vsc.errors import UsageError
from vsc.model.nets import NETS, Dictionary, Refining, conv, conv1d, linear, lista, mlp

IMAGES = [(1, 28, 28), (1, 8, 8), (3, 32, 32), (1, 5, 7), (1, 4, 4), (2, 9, 6)]
SIGNALS = [(9, 128), (1, 7), (3, 1), (2, 2), (50,), (1,), (1, 4, 33)]
SHAPES = [("mlp", shape) for shape in (*IMAGES, *SIGNALS)] + [("conv", shape) for shape in IMAGES]
SHAPES += [(name, shape) for name in ("conv1d", "linear") for shape in SIGNALS]


@pytest.mark.parametrize(("name", "shape"), SHAPES)
@pytest.mark.parametrize("outputs", [1, 2])
def test_shapes(name, shape, outputs):
    M = math.prod(shape)
    encoder, decoder = NETS[name](shape, 6, 2, outputs)
    assert encoder(torch.randn(3, M)).shape == (3, 6)
    assert decoder(torch.randn(3, 2)).shape == (3, outputs * M)
    assert encoder(torch.randn(0, M)).shape == (0, 6)


def test_mlp_is_mirrored():
    encoder, decoder = mlp((12,), 6, 2, 1, (20, 10))
    widths = [[(m.in_features, m.out_features) for m in net if hasattr(m, "in_features")] for net in (encoder, decoder)]
    assert widths == [[(12, 20), (20, 10), (10, 6)], [(2, 10), (10, 20), (20, 12)]]


def test_mlp_without_hidden_layers_is_linear():
    encoder, decoder = mlp((12,), 6, 2, 1, ())
    for net, width in ((encoder, 12), (decoder, 2)):
        a, b = torch.randn(2, 4, width)
        torch.testing.assert_close(net(a + b) - net(a), net(b) - net(torch.zeros(4, width)), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", NETS)
def test_last_layer_has_no_activation(name):
    encoder, decoder = NETS[name]((1, 8, 8), 6, 2, 1)
    assert (encoder(torch.randn(200, 64)) < 0).any()
    assert (decoder(torch.randn(200, 2)) < 0).any()


@pytest.mark.parametrize("name", NETS)
def test_examples_do_not_mix(name):
    encoder, decoder = NETS[name]((1, 8, 8), 6, 2, 1)
    for net, width in ((encoder, 64), (decoder, 2)):
        x = torch.randn(5, width)
        torch.testing.assert_close(net(x)[2:3], net(x[2:3]))


def test_conv_with_two_outputs_gives_one_half_after_the_other():
    """The second half of the outputs is a map of its own: changing its bias leaves the first half alone."""
    _, decoder = conv((3, 8, 8), 6, 2, 2)
    z = torch.randn(4, 2)
    before = decoder(z)
    with torch.no_grad():
        decoder[-2].bias[3:] += 1
    change = decoder(z) - before
    first, second = change.chunk(2, -1)
    torch.testing.assert_close(first, torch.zeros_like(first))
    torch.testing.assert_close(second, torch.ones_like(second))


@pytest.mark.parametrize("shape", [(12,), (8, 8)])
def test_conv_wants_images(shape):
    with pytest.raises(UsageError, match="mlp"):
        conv(shape, 6, 2, 1)


@pytest.mark.parametrize("shape", [(1, 3, 8), (1, 8, 3)])
def test_conv_wants_four_by_four(shape):
    with pytest.raises(UsageError, match="4 x 4"):
        conv(shape, 6, 2, 1)


@pytest.mark.parametrize("outputs", [1, 2])
def test_conv1d_sees_and_makes_what_is_near_in_time(outputs):
    """
    A value reaches, and is reached by, no more than the kernels let it.

    Three kernels of 5 with stride 2 see 1 + 4 + 8 + 16 = 29 values. On the way back output t hears input i of a layer
    where |t - 2 i| <= 2, so that after three layers it hears those with |t - 8 i| <= 14.
    """
    encoder, decoder = conv1d((3, 64), 5, 2, outputs)
    x = torch.randn(1, 3, 64, requires_grad=True)
    encoder[:-2](x.flatten(1))[0, :, 4].sum().backward()
    assert x.grad[0].abs().sum(0).nonzero().flatten().tolist() == list(range(4 * 8 - 14, 4 * 8 + 15))
    hidden = torch.randn(1, 64, 8, requires_grad=True)
    decoder[2:](hidden).reshape(3 * outputs, 64)[:, 32].sum().backward()
    assert hidden.grad[0].abs().sum(0).nonzero().flatten().tolist() == [3, 4, 5]


def test_conv1d_with_two_outputs_gives_one_half_after_the_other():
    _, decoder = conv1d((3, 20), 6, 2, 2)
    z = torch.randn(4, 2)
    before = decoder(z)
    with torch.no_grad():
        decoder[-2].bias[3:] += 1
    first, second = (decoder(z) - before).chunk(2, -1)
    torch.testing.assert_close(first, torch.zeros_like(first))
    torch.testing.assert_close(second, torch.ones_like(second))


@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 1, 8)])
def test_conv1d_wants_signals(shape):
    with pytest.raises(UsageError, match="net 'conv1d' needs signals"):
        conv1d(shape, 6, 2, 1)


def test_a_dictionary_is_linear_in_unit_directions():
    dictionary = Dictionary(5, 7)
    with torch.no_grad():
        dictionary.directions.mul_(torch.rand(5, 1) * 9).add_(0.1)
        dictionary.bias.normal_()
    assert dictionary.weight.shape == (5, 7)
    torch.testing.assert_close(dictionary.weight.square().sum(1), torch.ones(5))
    torch.testing.assert_close(dictionary(torch.eye(5)), dictionary.weight + dictionary.bias)
    torch.testing.assert_close(dictionary(torch.zeros(2, 5)), dictionary.bias.expand(2, 7))


def test_a_linear_encoder_starts_at_projections():
    encoder, decoder = linear((3, 4), 15, 5, 1)
    x = torch.randn(6, 12)
    mu, logvar, gate = encoder(x).chunk(3, -1)
    u = x @ decoder.weight.T
    torch.testing.assert_close(mu, u)
    assert (logvar == logvar[:1, :1]).all()
    for a, b in ((0, 1), (2, 3)):  # a gate opens with the projection, at one slope for all
        slope = (gate[a] - gate[b]) / (u[a] - u[b])
        torch.testing.assert_close(slope, slope[0].expand(5), rtol=1e-3, atol=1e-3)
        assert slope[0] > 0


@pytest.mark.parametrize("refinements", [0, 1, 2, 3])
def test_refinements_see_what_the_others_left(refinements):
    """The same by a loop over latents: what a direction projects of x less what all others decode to."""
    torch.manual_seed(2)
    encoder, decoder = lista((12,), 15, 5, 1, refinements)
    assert isinstance(encoder, Refining)
    with torch.no_grad():
        decoder.bias.normal_()
        encoder.steps.normal_()
        encoder.read.normal_()
    x, D, b = torch.randn(12), decoder.weight, decoder.bias
    z = torch.zeros(5)
    for t in range(refinements + 1):
        u = torch.stack([D[j] @ (x - b - (z @ D - z[j] * D[j])) for j in range(5)])  # E is D' at the start
        if t < refinements:
            (p, a), (q, c) = encoder.steps[t]
            z = torch.sigmoid(a * u + c) * (p * u + q)
    expected = torch.cat([encoder.read[0, k] * u + encoder.read[1, k] for k in range(3)])
    torch.testing.assert_close(encoder(x[None])[0], expected, rtol=1e-4, atol=1e-4)


def test_the_dictionary_that_an_encoder_shares_is_one_in_a_copy_and_saved_once():
    encoder, decoder = lista((12,), 15, 5, 1)
    both = nn.ModuleDict({"encoder": encoder, "decoder": decoder})
    twin = copy.deepcopy(both)
    assert twin["encoder"].shared[0] is twin["decoder"]
    assert {name for name in both.state_dict() if "directions" in name} == {"decoder.directions"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"outputs": 2}, "gaussian-shared"),
        ({"inputs": 24}, "complete data"),
        ({"refinements": 11}, "from 0 to 10, not 11"),
    ],
)
def test_lista_refuses(given, message):
    with pytest.raises(UsageError, match=message):
        lista(**{"shape": (12,), "features": 15, "latent_dim": 5, "outputs": 1} | given)
