"""A whole model on a pretended accelerator: a step of training, its codes, its samples; nothing is left on the CPU."""

from itertools import cycle
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vsc.model.bounds import TERMS
from vsc.settings.config import Config, ModelConfig, TrainConfig
from vsc.settings.presets import PRESETS, changed
from vsc.settings.resolve import resolve, unused, without
from vsc.training import loop
from vsc.training.checkpoint import Progress

DEVICE = torch.device("meta")


class Elsewhere(TorchDispatchMode):
    """A pretended accelerator: refuses float64, and tensors of two devices in one operation that is no copy."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        seen = [t for t in tree_leaves((args, kwargs, out)) if isinstance(t, Tensor) and t.ndim]
        assert len({t.device.type for t in seen}) < 2 or "copy" in str(func), f"{func} mixes devices"
        made = [t for t in tree_leaves(out) if isinstance(t, Tensor) and t.device == DEVICE]
        assert all(t.dtype != torch.float64 for t in made), f"{func} makes float64"
        return out


def config_of(name, **model):
    own = ModelConfig(hidden=(8,), latent_dim=4, **model)
    config = changed(Config(model=own, train=TrainConfig(steps=10, batch_size=16, device="cpu")), PRESETS[name][1])
    config = without(config, set(unused(config)) & {"model.hidden"})
    return config if config.model.components is None else changed(config, {"model.components": 5})


LIKELIHOODS = ["bernoulli", "gaussian", "continuous-bernoulli"]
CASES = {("vae", one) for one in LIKELIHOODS} | set(zip(PRESETS, cycle(LIKELIHOODS), strict=False))
ANALYTIC = [name for name, (_, settings) in PRESETS.items() if settings.get("model.spikes") == "analytic"]
CASES = {(name, "gaussian-shared" if name in ANALYTIC else likelihood) for name, likelihood in CASES}


@pytest.mark.parametrize(("name", "likelihood"), sorted(CASES))
def test_a_model_trains_and_is_asked_where_it_is(tiny, name, likelihood):
    config = resolve(config_of(name, likelihood=likelihood), tiny)
    fabric = SimpleNamespace(
        device=DEVICE,
        world_size=1,
        global_rank=0,
        setup=lambda module, optimizer: (module.to(DEVICE), optimizer),
        backward=lambda loss: loss.backward(),
        clip_gradients=lambda module, optimizer, max_norm: torch.nn.utils.clip_grad_norm_(
            module.parameters(), max_norm
        ),
    )
    session, batch_of = loop._set_up(fabric, config, tiny, None)
    module = session.module
    fields = Progress(window=torch.zeros(len(TERMS), device=DEVICE))
    with Elsewhere():
        for step in range(2):
            x = batch_of(step)
            assert x.device == DEVICE
            bound, fields = loop.step(session, x, fields, look=False)
            fields = fields.seen(bound)
        with torch.no_grad():
            module.eval()
            codes = module.codes(x)
            found = [*codes, codes.hard, module.decode(codes.hard), *module(x)]
            if module.bounded:
                z = module.sample_code(3)
                latent_kl = module.prior.latent_kl(module.posterior(x), x, module.posterior)
                found += [z, module.decode(z), module.log_weights(x, 2), latent_kl]
    assert {t.device for t in found} == {DEVICE}
    assert all(w.grad is None or w.grad.device == DEVICE for w in module.parameters())
