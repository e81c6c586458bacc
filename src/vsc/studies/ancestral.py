"""Samples from each model's own prior (ICLR figure 12)."""

import torch

from vsc.measure.scores import encode, reconstruct
from vsc.model.sampling import ancestral
from vsc.plots.pictures import mosaics
from vsc.studies import models
from vsc.studies.base import Ask, Finding, Group, Numbers, Study, described, listed, tabulate
from vsc.studies.nearest import Known, known, nearest

KINDS = (models.VAE, models.VSC, models.LEARNED, models.DYNAMIC, models.MIXTURE)
"""A VAE, and a VSC with each prior."""
MANY, ACROSS, DOWN = 1000, 8, 5
AWAY, COVER = "samples to training, relative", "training to samples, relative"
TOLD = "told from reconstructions"


def describe(ask: Ask, group: Group, seed: int) -> Numbers:
    """
    Return how many latents are on in samples, and how far samples and training images are from each other.

    Reconstructions of as many test images are the measure: they are as blurred as the samples are. At a distance of 1
    samples are as near to training images (realism), and training images as near to samples (coverage), as with them.
    """
    model = group.model(seed)
    samples = ancestral(model, MANY)
    x, training = torch.from_numpy(samples.x), known(ask, model)
    order = torch.randperm(len(ask.data.test), generator=torch.Generator().manual_seed(0))[:MANY]
    x = x[: len(order)]
    with torch.no_grad():
        again = reconstruct(model, encode(model, model.scaler(ask.data.test.x[order])))
    some = training.x[: len(order)]

    def mean_distance(a: torch.Tensor, b: torch.Tensor) -> float:
        return nearest(a, Known(b, None)).distance.mean().item()

    return {
        "on in samples": float((samples.z != 0).sum(1).mean()),
        TOLD: told_apart(x, again),
        AWAY: mean_distance(x, training.x) / max(mean_distance(again, training.x), 1e-9),
        COVER: mean_distance(some, x) / max(mean_distance(some, again), 1e-9),
    }


def told_apart(a: torch.Tensor, b: torch.Tensor) -> float:
    """
    Return the share of pictures whose nearest other picture is of their own kind (Lopez-Paz and Oquab 2017).

    As many pictures (n, M) of two kinds: about 1/2 where both are from one distribution, 1 where no picture of one kind
    lies among those of the other.
    """
    both = torch.cat([a, b])
    distance = torch.cdist(both, both).fill_diagonal_(torch.inf)
    kind = torch.arange(len(both)) < len(a)
    return (kind[distance.argmin(1)] == kind).double().mean().item()


def draw(ask: Ask, groups: list[Group]) -> Finding:
    """Draw samples of each prior, and say how near to the data they are."""
    groups = described(ask, groups, describe)
    panels = {group["model"]: ancestral(group.model(), ACROSS * DOWN).x for group in groups}
    figure = mosaics(panels, ask.data.shape, ACROSS)

    vae = next(group for group in groups if group["model"] == models.VAE)
    worse = [group["model"] for group in groups if group.mean(TOLD) > vae.mean(TOLD)]
    better = [group["model"] for group in groups if group is not vae and group["model"] not in worse]
    best = max(groups, key=lambda group: group.mean("elbo"))
    verdict = "for none of the priors."
    if worse:
        verdict = f"for {', '.join(worse)}, {'and not for ' + ', '.join(better) if better else 'for all of them'}."
    words = [
        "Samples are told from the same model's reconstructions of test images, by their nearest neighbour (50 % is "
        f"chance), in {listed(groups, TOLD, '.0%')}.",
        f"That samples from a sparse prior are less realistic than the VAE's shows by this measure {verdict}",
        "Distance of samples to the nearest training image, as a multiple of that of the reconstructions: "
        f"{listed(groups, AWAY, '.2f')}; and of training images to the nearest sample: "
        f"{listed(groups, COVER, '.2f')}. The first is small for blurred or empty pictures too.",
        f"Latents on in a sample: {listed(groups, 'on in samples', '.1f')}; in a test image's code: "
        f"{listed(groups, 'active', '.1f')}. The highest ELBO is that of {best['model']}, {best.mean('elbo'):.1f} nats "
        f"(VAE {vae.mean('elbo'):.1f}).",
    ]
    table = tabulate(groups, ("elbo", "kl_selection", "l0", "active", "used", "minutes"))
    return Finding(figure, "For each prior a grid of decoded samples.", table, words)


STUDY = Study(
    title="Samples from the prior",
    source="ICLR figure 12",
    claim=(
        "Samples directly from the sparse prior are not as realistic as the VAE's, since not just any combination of "
        "sparse features is a feasible one."
    ),
    minutes=2,
    rows=lambda ask: models.many(ask, KINDS),
    draw=draw,
    needs=("images",),
    data="fashion-mnist",
)
