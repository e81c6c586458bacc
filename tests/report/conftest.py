"""Made-up models for pages."""

from dataclasses import replace

import numpy as np
import pytest

from vsc.measure.effects import Effects
from vsc.measure.scores import Scores
from vsc.measure.showcase import Showcase
from vsc.report import Entry, Page

SCORES = Scores(
    elbo=-100.0,
    relaxed_elbo=None,
    log_px=-80.0,
    kl_slab=15.0,
    kl_spike=5.0,
    kl_selection=0.0,
    l0=2.5,
    active=1.75,
    used=5,
    always_on=1,
    dead=0,
    mse=0.02,
    denoise_mse=0.01,
    denoise_psnr=21.0,
    noisy_psnr=20.0,
    probe=0.9,
)


def effects_of(latent, rate, change, positive, low=-1.25, high=2.0):
    """Return effects of latents with gates; those whose values have both signs are raised."""
    K, change = len(latent), np.asarray(change, np.float32)
    zero = np.zeros(K)
    known = {"latent": np.asarray(latent, int), "rate": np.asarray(rate, np.float32), "positive": np.asarray(positive)}
    moved = {"presence": change, "raising": change, "observed": change}
    return Effects(**known, low=zero + low, high=zero + high, drop=zero, effect=zero, **moved)


@pytest.fixture(scope="session")
def with_effects():
    """Give an entry other effects: latents, their rates, changes and shares of positive values."""
    return lambda entry, *known: replace(entry, showcase=entry.showcase._replace(effects=effects_of(*known)))


@pytest.fixture(scope="session")
def scores():
    return SCORES


@pytest.fixture(scope="session")
def seeds():
    """Return the scores of three seeds whose bound has so great a standard deviation (n - 1)."""
    return lambda scores, sd: [scores._replace(elbo=scores.elbo + by) for by in (-sd, 0, sd)]


@pytest.fixture(scope="session")
def make_entry(seeds):
    def make(name="vsc", title=None, scores=SCORES, sd=None, settings=None, shape=(1, 4, 4), J=6, spikes=True, **rest):
        rng = np.random.default_rng(0)
        M, n, C = int(np.prod(shape)), 3, 2
        x = rng.random((n, M)).astype(np.float32)
        showcase = Showcase(
            x=x,
            reconstruction=x * 0.9,
            noisy=x + 0.1,
            denoised=x * 0.8,
            code=rng.normal(size=(n, J)).astype(np.float32) * (rng.random((n, J)) < 0.5),
            label=np.arange(n) % C,
            class_code=rng.normal(size=(C, J)).astype(np.float32),
            class_gamma=rng.random((C, J)).astype(np.float32) if spikes else None,
            grid=rng.random((100, M)).astype(np.float32) if J == 2 else None,
            effects=effects_of(
                np.arange(J)[::-1],
                np.linspace(0.8, 0.2, J),
                rng.normal(size=(J, M)),
                np.where(np.arange(J) % 2, 0.5, 1),
            ),
        )
        history = [
            {"step": s, "split": split, "elbo": scores.elbo, "l0": scores.l0, "used": scores.used}
            for s in (0, 50, 100)
            for split in ("train", "valid")
        ]
        fields = {
            "name": name,
            "title": title or name.upper(),
            "latent_dim": J,
            "spiked": spikes,
            "scores": [scores] if sd is None else seeds(scores, sd),
            "settings": {"seed": 0, "model": {"name": name}} if settings is None else settings,
            "history": history,
            "showcase": showcase,
            "seconds": [75.0],
            "parameters": 12345,
        }
        return Entry(**(fields | rest))

    return make


@pytest.fixture(scope="session")
def make_page():
    def make(entries, **rest):
        fields = {
            "title": "Shapes",
            "data": "shapes",
            "shape": (1, 4, 4),
            "classes": ["disc", "square"],
            "command": "vsc compare --data shapes",
            "environment": {"python": "3.11", "threads": "2"},
            "likelihood": "bernoulli",
            "test_examples": 400,
        }
        return Page(entries=entries, **(fields | rest))

    return make
