"""Comparison at equal non-zeros: who is compared, the VAE that is trained for it, and what is measured."""

import math
from collections.abc import Sequence
from dataclasses import replace

from vsc.data.split import Dataset
from vsc.measure.detectors import detected
from vsc.measure.frontier import frontier
from vsc.measure.measured import Measured
from vsc.report.entry import Entry
from vsc.report.lead import Contest
from vsc.settings.presets import PRESETS, changed
from vsc.sweep.jobs import Job, checked, key
from vsc.torchstate import cpu_threads
from vsc.training import runs

LEAD, SMALL = "vsc", "vae-small"
"""The model that a page opens with, where it is there; and a VAE with as many latents as an input of it has on."""


def small(vae: list[Job], lead: Entry, data: Dataset) -> dict[str, list[Job]]:
    """Plan a VAE of as many latents as the first run of `lead` has on for validation examples, if there are any."""
    if not len(data.valid):
        return {}
    assert lead.seen is not None
    with cpu_threads(lead.seen.model):
        active = Measured(lead.seen.model, data, "valid").codes.active.sum(1).double().mean().item()
    if not 1 <= (J := round(active)) < lead.latent_dim:
        return {}
    title, jobs = f"VAE, J = {J}", []
    for job in vae:
        config = checked(changed(job.config, {"model.latent_dim": J}), data)
        run = job.folder.with_name(job.folder.name.replace("vae", SMALL, 1))
        if runs.is_run(run) and key(runs.read_config(run), data) != key(config, data):
            runs.remove(run)  # vsc is another than it was
        label = job.label.replace(PRESETS["vae"][0], title, 1)
        jobs.append(job._replace(label=label, config=config, folder=run))
    return {title: jobs}


def contest(trained: Sequence[Entry]) -> Contest | None:
    """Choose who is compared at equal non-zeros: the default VSC, or the best sparse model, and the VAE."""
    names = [one.name for one in trained]

    def best(spiked: bool) -> int | None:
        known = [i for i, one in enumerate(trained) if one.spiked == spiked and one.name != SMALL]
        bounds = {i: -math.inf if (elbo := trained[i].mean.elbo) is None else elbo for i in known}
        return max(known, key=bounds.__getitem__, default=None)

    lead = names.index(LEAD) if LEAD in names else best(True)
    if lead is None:
        return None
    few = names.index(SMALL) if SMALL in names else None
    active = trained[lead].scores[0].active
    kept = max(1, round(active)) if few is None else trained[few].latent_dim
    return Contest(lead, names.index("vae") if "vae" in names else best(False), few, kept)


def looked_into(one: Entry, who: Contest | None) -> Entry:
    """Measure its code at several numbers of non-zeros, and what single latents detect."""
    assert one.seen is not None
    with cpu_threads(one.seen.model):
        cut = frontier(one.seen, () if who is None else (who.kept,))
        return replace(one, frontier=cut, detected=detected(one.seen))
