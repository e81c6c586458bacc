"""Hard spike-and-slab against Laplace and thresholded Laplace at equal l0: reconstruction (report 7.2.1)."""

from typing import NamedTuple

import torch
from torch import Tensor

from vsc.data.split import Dataset
from vsc.measure.measured import Measured
from vsc.model import Autoencoder
from vsc.plots.charts import Curve, lines
from vsc.settings.presets import PRESETS
from vsc.studies.base import Ask, Finding, Group, Row, Study, Table, steps
from vsc.torchstate import seeded

TARGETS = (4.0, 8.0, 16.0)
J = 60
SPARSE = {"VSC": PRESETS["vsc-fixed"][1], "thresholded Laplace": PRESETS["thresholded-laplace"][1]}
DENSE = {"Laplace VAE": "laplace", "VAE": "vae"}
"""Without zeros: of their codes only the largest are kept, after training."""

DRAWS = 5
MISSED = 0.1
"""Share of the l0 asked by which a run may miss it."""


def rows(ask: Ask) -> list[Row]:
    """Return the sparse models over l0, and the dense ones."""
    dim = (ask.dims or (J,))[0]
    common = {"train.steps": steps(ask, 6000, 20_000), "model.latent_dim": dim}
    found = [  # alpha is target / J
        Row({"model": title, "l0 asked": l0}, common | settings | {"train.target_l0": l0})
        for title, settings in SPARSE.items()
        for l0 in targets(dim)
    ]
    for title, name in DENSE.items():
        found.append(Row({"model": title, "l0 asked": float(dim)}, common | {"model.name": name}))
    return found


def targets(dim: int) -> list[float]:
    """Return the l0 to ask of J latents: `TARGETS`, or what there is below J."""
    return [l0 for l0 in TARGETS if l0 < dim] or [dim / 4]


class Kept(NamedTuple):
    """
    Reconstruction by codes of which only the k largest are kept.

    `mse` is the squared error per output of the reconstruction from the mean code, in model units; `log_px` is
    E_q log p(x|z) at draws of q whose other latents are zero, in nats per example.
    """

    mse: float
    log_px: float


def largest(mu: Tensor, k: int) -> Tensor:
    """Say which latents of mu (B, J) are among the k of largest magnitude of their example, (B, J), bool."""
    return torch.zeros_like(mu, dtype=torch.bool).scatter_(1, mu.abs().topk(k, dim=1).indices, True)


@torch.no_grad()
def truncated(model: Autoencoder, data: Dataset, k: int, seed: int = 0) -> Kept:
    """Reconstruct the test set from the k largest means of each code; the model has no gates and is in eval mode."""
    mse, log_px, n = 0.0, 0.0, len(data.test)
    with seeded(seed):
        for chunk in Measured(model, data, seed=seed).x.split(1000):
            qz = model.posterior(chunk)
            keep = largest(qz.mean, k)
            decoded = model.decode(torch.where(keep, qz.mean, 0.0))
            mse += (decoded - chunk).square().mean(1).sum().item() / n
            for _ in range(DRAWS):
                z = torch.where(keep, qz.sample(), 0.0)
                log_px += model.log_px(chunk, z).sum().item() / (n * DRAWS)
    return Kept(mse, log_px)


def draw(ask: Ask, groups: list[Group]) -> Finding:
    """Draw the error and log p(x|z) over the latents that the decoder is given."""
    sparse = [g for g in groups if g["model"] in SPARSE]
    dense = [g for g in groups if g["model"] in DENSE]
    asked = sorted({g["l0 asked"] for g in sparse})
    kept = {g["model"]: {k: _over_seeds(ask, g, round(k)) for k in asked} for g in dense}
    panels: dict[str, dict[str, Curve]] = {"mean reconstruction": {}, "draws of the code": {}}
    for title in SPARSE:
        own = [g for g in sparse if g["model"] == title]
        for panel, x, y in zip(panels.values(), ("active", "l0"), ("mse", "log_px"), strict=True):
            panel[title] = Curve([g.mean(x) for g in own], [g.mean(y) for g in own], [g.spread(y) for g in own])
    for title, found in kept.items():
        for panel, i in zip(panels.values(), (0, 1), strict=True):
            panel[f"{title}, k largest kept"] = Curve(asked, [one[i] for one in found.values()])
    for group in dense:
        for panel, y in zip(panels.values(), ("mse", "log_px"), strict=True):
            ends = [min(min(c.x) for c in panel.values()), max(max(c.x) for c in panel.values())]
            panel[f"{group['model']}, all latents"] = Curve(ends, [group.mean(y)] * 2, dashed=True)
    figure = lines(
        panels,
        "non-zero latents given to the decoder (per example)",
        ("squared error (per output, model units)", "log p(x|z) (nats per example)"),
    )
    hard = {g["l0 asked"]: g for g in sparse if g["model"] == "VSC"}
    words = [
        "Dense models have no zeros: of each of their codes only the k means of largest magnitude are kept when it is "
        "decoded, with k the l0 that was asked of the others; their ELBO is that of the whole code.",
        *(_words(l0, {g["model"]: g for g in sparse if g["l0 asked"] == l0}, kept) for l0 in asked),
        _verdict(sparse),
        *(_cut_verdict(title, found, hard) for title, found in kept.items()),
    ]
    alt = "Reconstruction against the number of non-zero latents."
    return Finding(figure, alt, _table(groups, kept), words)


def _over_seeds(ask: Ask, group: Group, k: int) -> Kept:
    found = [truncated(group.model(i), ask.data, k) for i in range(len(group.jobs))]
    return Kept(*(sum(column) / len(found) for column in zip(*found, strict=True)))


def _words(l0: float, own: dict[str, Group], kept: dict[str, dict[float, Kept]]) -> str:
    parts = [
        f"{title} {g.mean('log_px'):.1f} and {g.mean('mse'):.4f} (l0 {g.mean('l0'):.1f}, {g.mean('active'):.1f} active)"
        for title, g in own.items()
    ]
    parts += [f"{title} cut to {l0:g} {found[l0].log_px:.1f} and {found[l0].mse:.4f}" for title, found in kept.items()]
    return f"l0 {l0:g}, log p(x|z) in nats and squared error per output: {'; '.join(parts)}."


def _verdict(sparse: list[Group]) -> str:
    """Say whether soft sparsity helps, as the report supposes it may."""
    hard, soft = ([g for g in sparse if g["model"] == title] for title in SPARSE)
    gains = [b.mean("elbo") - a.mean("elbo") for a, b in zip(hard, soft, strict=True)]
    errors = [b.mean("mse") / a.mean("mse") for a, b in zip(hard, soft, strict=True)]
    verdict = "no gain from soft sparsity" if max(gains) < 0 else "a gain at some l0" if min(gains) < 0 else "a gain"
    missed = [g for g in sparse if abs(g.mean("l0") - g["l0 asked"]) > MISSED * g["l0 asked"]]
    caution = "".join(
        f" {g['model']} missed the l0 of {g['l0 asked']:g} ({g.mean('l0'):.1f}): that comparison is not at equal l0."
        for g in missed
    )
    return (
        f"At equal l0 the thresholded Laplace's ELBO less VSC's is {min(gains):.1f} to {max(gains):.1f} nats, and its "
        f"squared error {min(errors):.2g} to {max(errors):.2g} times VSC's: {verdict}.{caution}"
    )


def _cut_verdict(title: str, found: dict[float, Kept], hard: dict[float, Group]) -> str:
    """Say at which l0 a dense model's largest latents explain more than VSC's."""
    gains = {k: one.log_px - hard[k].mean("log_px") for k, one in found.items()}
    said = ", ".join(f"{gain:+.1f} at l0 {k:g}" for k, gain in gains.items())
    above = sum(gain > 0 for gain in gains.values())
    verdict = "nowhere" if not above else "everywhere" if above == len(gains) else "at some l0"
    return (
        f"{title}, cut to its largest latents, reconstructs better than VSC {verdict}: log p(x|z) differs by {said} "
        "nats. Neither the choice of these latents nor their cost is charged in that."
    )


def _table(groups: list[Group], kept: dict[str, dict[float, Kept]]) -> Table:
    """Return the models as trained, and the dense ones once more for each k."""
    scores = ("elbo", "log_px", "mse", "l0", "active", "used", "probe")
    found = []
    for g in groups:
        cells = [g.mean(name) if g.values(name) else None for name in scores]
        spreads = [g.spread(name) if len(g.values(name)) > 1 else None for name in ("elbo", "log_px", "mse")]
        found.append((g["model"], g["l0 asked"], len(g.jobs), *cells, *spreads))
        for k, one in kept.get(g["model"], {}).items():
            cut = (None, one.log_px, one.mse, float(round(k)), float(round(k)), None, None, None, None, None)
            found.append((f"{g['model']}, largest kept", k, len(g.jobs), *cut))
    return Table(("model", "l0 asked", "seeds", *scores, "elbo sd", "log_px sd", "mse sd"), found)


STUDY = Study(
    title="Hard against soft sparsity",
    source="course report 7.2.1",
    claim="The spike-and-slab prior assumes hard sparsity, with exact zeros; for some tasks soft sparsity, such as a "
    "Laplace prior, may be more appropriate.",
    minutes=5,
    rows=rows,
    draw=draw,
)
