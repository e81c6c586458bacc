"""Every experiment of the sources by its name; each is one `Study` in a file of this folder."""

import tempfile
from dataclasses import replace
from pathlib import Path

from vsc.errors import UsageError, choose
from vsc.settings.commands import RunStudy
from vsc.studies import (
    activations,
    ancestral,
    by_alpha,
    by_dim,
    codes,
    collapse,
    conditional,
    denoise,
    features,
    interpolation,
    latent_grid,
    smiley,
    soft_sparsity,
    stability,
    traversal,
)
from vsc.studies.base import Ask, Finding, Group, Row, Study, Table
from vsc.studies.conduct import ask_of, conduct, folder_of, lacks

__all__ = ["STUDIES", "Ask", "Finding", "Group", "Row", "Study", "Table", "conduct"]

STUDIES: dict[str, Study] = {
    "latent-grid": latent_grid.STUDY,
    "activations": activations.STUDY,
    "denoise": denoise.STUDY,
    "elbo-vs-dim": by_dim.ELBO,
    "probe-vs-dim": by_dim.PROBE,
    "codes": codes.STUDY,
    "sparsity-vs-alpha": by_alpha.SPARSITY,
    "elbo-vs-alpha": by_alpha.ELBO,
    "probe-vs-alpha": by_alpha.PROBE,
    "traversal": traversal.STUDY,
    "interpolation": interpolation.STUDY,
    "ancestral": ancestral.STUDY,
    "conditional": conditional.STUDY,
    "stability": stability.STUDY,
    "collapse": collapse.STUDY,
    "smiley": smiley.STUDY,
    "soft-sparsity": soft_sparsity.STUDY,
    "features": features.STUDY,
}


def listing() -> str:
    """Return what `vsc study list` prints: every study's name, source, time and title."""
    width = max(map(len, STUDIES))
    lines = [f"{'study':{width}}  {'quick':>6}  {'needs':15} what it shows (source)"]
    for name, one in STUDIES.items():
        lines.append(f"{name:{width}}  {one.minutes:>2} min  {' '.join(one.needs):15} {one.title} ({one.source})")
    return "\n".join(
        [*lines, "", "vsc study NAME conducts one, vsc study all all of them; times are for two CPU cores."]
    )


def run(asked: RunStudy, command: str, progress: bool = False) -> None:
    """Conduct the studies that a command line asks for, and say where their pages are."""
    if asked.quick and asked.full:
        raise UsageError("--quick and --full exclude each other; choose one of them")
    chosen = STUDIES if asked.study == "all" else {asked.study: choose(STUDIES, asked.study, "study")}
    root = Path(asked.out)
    place = next(path for path in (root.absolute(), *root.absolute().parents) if path.exists())
    with tempfile.TemporaryFile(dir=place):  # a folder that cannot be written to is known before anything is trained
        pass
    for name, one in chosen.items():
        usual = (asked.full and one.full_data) or one.data
        own = replace(asked, data=replace(asked.data, name=usual if asked.data.name == "auto" else asked.data.name))
        ask = ask_of(own)
        if asked.study == "all" and (lacking := lacks(name, one, ask)):
            print(f"left out: {lacking}")
            continue
        finding = conduct(name, one, own, command, progress=progress)
        page = folder_of(root, ask.data, name, asked.split) / "report.html"
        print("\n".join(["", *finding.words, "", f"The page: {page}"]), flush=True)
