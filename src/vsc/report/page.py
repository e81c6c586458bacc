"""Say what a comparison page holds, and write it as one self-contained HTML file."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from vsc.files import whole
from vsc.measure.detectors import Detected
from vsc.measure.frontier import Frontier
from vsc.measure.measured import Measured
from vsc.measure.returning import Returning
from vsc.measure.scores import Scores, without_latents
from vsc.measure.showcase import Showcase
from vsc.report import figures, lead, opening, scores, settings, stability, summary, words
from vsc.report.lead import Contest
from vsc.report.material import Material


@dataclass(frozen=True)
class Entry:
    """One trained model on the page."""

    name: str  # short name, as on the command line
    title: str  # the name that readers see; if two entries share it, the short name is added
    scores: Scores  # on the held-out split, with hard spikes; the mean where there are several seeds
    settings: Mapping[str, Any]  # the nested configuration that the model was trained with
    # rows with "step", "split" and, where the model has them, "elbo", "l0" and "used"
    history: Sequence[Mapping[str, Any]]
    showcase: Showcase  # the arrays behind the pictures
    seconds: float  # training time, seconds
    parameters: int  # number of trained parameters
    cautions: Sequence[str] = ()  # what is easily misread in its scores: sentences to follow its name
    seeds: int = 1  # number of runs behind the scores. Curves, pictures and settings are of the first
    spread: Scores | None = None  # standard deviation of each score over the seeds; None for a single one
    link: str = ""  # where, relative to the page, the page of this run alone lies; empty where there is none
    returning: Returning | None = None  # which of its latents come back in the other seeds; None for a single one
    # of the first seed: what its code is worth cut to few elements, and what its latents detect
    frontier: Frontier | None = None
    detected: Detected | None = None


@dataclass(frozen=True)
class Page:
    """A comparison of models on one data set."""

    title: str  # heading of the page
    data: str  # name of the data set
    shape: Sequence[int]  # (C, H, W) for images, (M,) for tables
    classes: Sequence[str]  # class names; empty where there are none
    entries: Sequence[Entry]  # the models, in the order in which they are shown
    command: str  # what to type to make this page again
    environment: Mapping[str, str]  # versions, device, threads
    latent_dim: int  # J, the same for all models
    likelihood: str  # name of p(x|z), the same for all models
    test_examples: int  # number of held-out examples behind the scores
    features: Sequence[str] = ()  # names of a table's columns; empty where there are none
    contest: Contest | None = None  # who is compared at equal non-zeros; None where no model is sparse
    # the model that the page opens with, for its pictures; without it, the page has none of them
    lead: Measured | None = None


def write(page: Page, path: str | os.PathLike[str]) -> Path:
    """Render a page and write it as one HTML file that loads nothing from anywhere, whole or not at all."""
    return put(render(page), Path(path))


def put(html: str, path: Path) -> Path:
    """Write a page, whole or not at all, and return where."""
    with whole(path) as unfinished:
        unfinished.write_text(html, encoding="utf-8")
    return path


def render(page: Page) -> str:
    """Return the page's HTML, a complete document; ValueError if it has no entries."""
    if not page.entries:
        raise ValueError("a page needs at least one entry")
    labels = words.labels([entry.name for entry in page.entries], [entry.title for entry in page.entries])
    models = [
        {
            "label": label,
            "entry": entry,
            "codes": figures.codes(entry.showcase, label, page.shape, page.classes, page.features),
            "spikes": entry.showcase.class_gamma is not None,
            "effects": figures.effects(entry.showcase, label, page.shape, page.features, _scale(entry)),
            "classes": figures.classes(entry.showcase, label, page.classes),
            "grid": figures.grid(entry.showcase, label, page.shape),
        }
        for label, entry in zip(labels, page.entries, strict=True)
    ]
    differing, common = settings.compare([entry.settings for entry in page.entries])
    rows = [entry.scores for entry in page.entries]
    spreads = [entry.spread for entry in page.entries]
    baseline = without_latents(rows[0])
    all_rows, all_labels = (rows, labels) if baseline is None else ([*rows, baseline], [*labels, "no latents"])
    columns, table = scores.columns(all_rows), scores.table(all_rows, [*spreads, None][: len(all_rows)])
    columns, table = stability.beside(columns, table, [entry.returning for entry in page.entries])
    facts = summary.Facts(
        labels=labels,
        scores=rows,
        spreads=spreads,
        runs=[entry.seeds for entry in page.entries],
        spikes=[entry.showcase.class_gamma is not None for entry in page.entries],
        latent_dim=page.latent_dim,
        data=page.data,
        test_examples=page.test_examples,
        seeds=sorted({str(v) for e in page.entries for k, v in settings.flatten(e.settings).items() if _is_seed(k)}),
    )
    return ENVIRONMENT.get_template("comparison.html.j2").render(
        page=page,
        lead=_lead(page, labels),
        labels=labels,
        models=models,
        sentences=summary.sentences(facts),
        cautions=[f"{label} {said}" for label, one in zip(labels, page.entries, strict=True) for said in one.cautions],
        columns=columns,
        table=list(zip(all_labels, table, strict=True)),
        returning=stability.section(
            [(entry.name, label, entry.returning) for entry, label in zip(page.entries, labels, strict=True)],
            int(settings.flatten(page.entries[0].settings).get("train.seed", 0)),
            page.shape,
            page.features,
        ),
        curves=figures.training(dict(zip(labels, (entry.history for entry in page.entries), strict=True))),
        denoising=figures.denoising([e.showcase for e in page.entries], labels, page.shape, page.features),
        differing=differing,
        common=common,
        several_seeds=any(entry.seeds > 1 for entry in page.entries),
        has_relaxed=any(row.relaxed_elbo is not None for row in rows),
    )


def _lead(page: Page, labels: Sequence[str]) -> dict[str, Any] | None:
    """Collect what the page opens with; None where no model is sparse."""
    if (contest := page.contest) is None:
        return None
    models = [
        lead.Contender(label, one.showcase.code.shape[1], one.scores, one.spread, one.frontier, one.detected)
        for label, one in zip(labels, page.entries, strict=True)
    ]
    base = page.lead
    shown: dict[str, Any] = {"m": None, "detectors": []}
    if base is not None:
        shown = opening.pictures(m := Material(base), page.entries[contest.lead].detected) | {
            "detectors": opening.detectors(models, contest, m)
        }
    frontiers = {one.label: one.frontier for one in models if one.frontier is not None}
    small = () if contest.small is None else (labels[contest.small],)
    return shown | {
        "label": labels[contest.lead],
        "link": page.entries[contest.lead].link,
        "dense": None if contest.dense is None else labels[contest.dense],
        "kept": contest.kept,
        "labelled": any(one.probe is not None for one in frontiers.values()),
        "findings": lead.findings(models, contest),
        "rows": lead.rows(models, contest, None if base is None else base.no_latents[1]),
        "curves": figures.nonzeros(frontiers, small) if frontiers else None,
        "detected": models[contest.lead].detected,
    }


def _scale(entry: Entry) -> str:
    """How the model scaled its data, as far as its settings say so."""
    return str(settings.flatten(entry.settings).get("data.scale", ""))


def _is_seed(key: str) -> bool:
    # the seed of the data's split is part of the data, the same in every run
    return key.split(".")[-1] == "seed" and not key.startswith("data.")


ENVIRONMENT = Environment(
    loader=PackageLoader("vsc.report", "."),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
ENVIRONMENT.filters.update(duration=words.duration, count=words.count, shape=words.shape, number=words.number)
