"""Reconstructions of clean and of noisy images, against the clean ones (course report, section 5.3)."""

import math

import numpy as np
import torch

from vsc.measure.scores import add_noise
from vsc.measure.showcase import choose_examples
from vsc.model.sampling import decode
from vsc.plots.charts import strips
from vsc.studies import models
from vsc.studies.base import Ask, Finding, Group, Numbers, Row, Study, described, tabulate

SHOWN = 6
MARGIN = 0.3
"""dB that a sparse model may lie below the VAE and still count as its equal."""
MEAN = "denoise_psnr, mean code"


def rows(ask: Ask) -> list[Row]:
    """Return the report's models of two latents, and at every J the dynamic prior with and without a limit on l0."""
    many = ask.dims or ((2, 20, 60) if ask.full else (20, 60))
    return [
        *models.planar(ask),
        models.row(ask, models.FREE, "conv", 2),
        *(row for J in many for row in (*models.dense(ask, J), models.row(ask, models.FREE, "mlp", J))),
    ]


def describe(ask: Ask, group: Group, seed: int) -> Numbers:
    """Return error and PSNR against the clean images where the posterior-mean code gamma mu is decoded."""
    model = group.model(seed)
    if not model.spiked:
        return {"mse, mean code": None, "denoise_mse, mean code": None, MEAN: None}
    clean = model.scaler(ask.data.test.x)
    with torch.no_grad():
        found = []
        for x in (clean, add_noise(clean, group.results[seed].seed)):
            z = torch.cat([model.codes(chunk).z for chunk in x.split(1000)])
            found.append((torch.from_numpy(decode(model, z.numpy())) - clean).square().mean().item())
    peak = (clean.max() - clean.min()).item() or 1.0
    return {
        "mse, mean code": found[0],
        "denoise_mse, mean code": found[1],
        MEAN: 10 * math.log10(peak**2 / max(found[1], 1e-12)),
    }


def draw(ask: Ask, groups: list[Group]) -> Finding:
    """Draw clean and noisy images with what each model makes of them, and say who denoises."""
    groups = described(ask, groups, describe)
    columns = ("noisy_psnr", "denoise_psnr", "denoise_mse", "mse", "elbo", "l0", "active", "minutes")
    words = [_overall(groups)]
    for net, J in dict.fromkeys((group["net"], group["J"]) for group in groups):
        words.append(_verdict(net, J, [g for g in groups if (g["net"], g["J"]) == (net, J)]))
    alt = "Clean and noisy images, and what each model makes of them."
    return Finding(_figure(ask, groups), alt, tabulate(groups, columns), words)


def _overall(groups: list[Group]) -> str:
    noisy = groups[0].mean("noisy_psnr")
    better = [group.row.label for group in groups if group.mean("denoise_psnr") > noisy]
    return (
        f"The noisy images themselves are at {noisy:.1f} dB of the clean ones: "
        f"{'no model denoises' if not better else 'only ' + '; '.join(better) + ' denoise'}, in the sense of coming "
        "closer."
    )


def _verdict(net: str, J: int, own: list[Group]) -> str:
    hard = {group["model"]: group.mean("denoise_psnr") for group in own}
    vae, ae = hard[models.VAE], hard[models.AE]
    said = []
    for group in own:
        name = group["model"]
        if name in (models.AE, models.VAE):
            continue
        gap = hard[name] - vae
        verdict = f"within {MARGIN} dB of the VAE or above" if gap >= -MARGIN else "below the VAE"
        said.append(
            f"{name} {hard[name]:.2f} ({gap:+.2f} to the VAE: {verdict}; "
            f"{'above' if hard[name] > ae else 'not above'} the AE; mean code {group.mean(MEAN):.2f})"
        )
    listed = "; ".join(said).replace("-0.00", "0.00")
    return f"J = {J}, {net}, PSNR in dB of the denoised images: AE {ae:.2f}, VAE {vae:.2f}; {listed}."


def _figure(ask: Ask, groups: list[Group]):
    model = groups[0].model()
    test = ask.data.test
    chosen = choose_examples(test, SHOWN)
    clean = model.scaler(test.x)
    noisy = add_noise(clean, groups[0].results[0].seed)[chosen]
    clean = clean[chosen]
    high = max(clean.max().item(), 1e-9)
    gap = torch.full((1, clean.shape[1]), high)
    rows = {"input": torch.cat([clean, gap, noisy]).numpy()}
    notes = {"input": f"{groups[0].mean('noisy_psnr'):.1f} dB"}
    for group in groups:
        model = group.model()
        with torch.no_grad():
            pictures = [model.decode(model.codes(x).hard).clamp(max=high) for x in (clean, noisy)]
        name = f"{group['model']}, J {group['J']}"
        name = f"{name} ({group['net']})" if name in rows else name
        rows[name] = np.concatenate([pictures[0], gap, pictures[1]])
        notes[name] = f"{group.mean('denoise_psnr'):.1f} dB"
    heads = [""] * (2 * SHOWN + 1)
    heads[len(clean) // 2], heads[len(clean) + 1 + len(clean) // 2] = "clean", "noisy"
    return strips(rows, ask.data.shape, heads[: 2 * len(clean) + 1], cell=0.55, notes=notes)


STUDY = Study(
    title="Denoising",
    source="course report, section 5.3",
    claim=(
        "The AE's reconstructions are sharp but fail to denoise, the VAE's are more robust with partial suppression "
        "of the noise, and those of VSC and VSC-WU are of low quality."
    ),
    minutes=3,
    rows=rows,
    draw=draw,
    needs=("images",),
)
