"""Say what a comparison page holds, and write it as one self-contained HTML file."""

import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from vsc.files import whole
from vsc.measure.scores import without_latents
from vsc.measure.showcase import Showcase
from vsc.report import figures, lead, opening, scores, settings, stability, summary, words
from vsc.report.entry import Entry
from vsc.report.lead import Contest
from vsc.report.material import Material


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
    likelihood: str  # name of p(x|z), the same for all models
    test_examples: int  # number of held-out examples behind the scores
    features: Sequence[str] = ()  # names of a table's columns; empty where there are none
    contest: Contest | None = None  # who is compared at equal non-zeros; None where no model is sparse


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
    labels = words.labels([one.name for one in page.entries], [one.title for one in page.entries])
    entries = [replace(one, title=label) for one, label in zip(page.entries, labels, strict=True)]
    shown = [one.showcase for one in entries if one.showcase is not None]
    rows = [one.mean for one in entries]
    baseline = without_latents(rows[0])
    nothing = [] if baseline is None else [baseline]
    columns = scores.columns([*rows, *nothing])
    table = scores.table([*rows, *nothing], [*(one.spread for one in entries), *(None for _ in nothing)])
    columns, table = stability.beside(columns, table, [one.returning for one in entries])
    differing, common = settings.compare([one.settings for one in entries])
    return ENVIRONMENT.get_template("comparison.html.j2").render(
        page=page,
        lead=_lead(page, entries),
        labels=labels,
        models=[_model(page, one, arrays) for one, arrays in zip(entries, shown, strict=True)],
        sentences=summary.sentences(entries, page.data, page.test_examples),
        cautions=[f"{one.title} {said}" for one in entries for said in one.cautions],
        columns=columns,
        table=list(zip([*labels, *("no latents" for _ in nothing)], table, strict=True)),
        returning=stability.section(entries, page.shape, page.features),
        curves=figures.training({one.title: one.history for one in entries}),
        denoising=figures.denoising(shown, labels, page.shape, page.features),
        differing=differing,
        common=common,
        several_seeds=any(len(one.scores) > 1 for one in entries),
        has_relaxed=any(row.relaxed_elbo is not None for row in rows),
    )


def _model(page: Page, entry: Entry, shown: Showcase) -> dict[str, Any]:
    """Collect the section of one model."""
    label, shape, features = entry.title, page.shape, page.features
    scale = str(settings.flatten(entry.settings).get("data.scale", ""))
    return {
        "entry": entry,
        "seconds": statistics.fmean(entry.seconds),
        "codes": figures.codes(shown, label, shape, page.classes, features),
        "effects": figures.effects(shown, label, shape, features, scale),
        "classes": figures.classes(shown, label, page.classes),
        "grid": figures.grid(shown, label, shape),
    }


def _lead(page: Page, entries: Sequence[Entry]) -> dict[str, Any] | None:
    """Collect what the page opens with; None where no model is sparse."""
    if (contest := page.contest) is None:
        return None
    first = entries[contest.lead]
    shown: dict[str, Any] = {"m": None, "detectors": []}
    if first.seen is not None:
        m = Material(first.seen)
        shown = opening.pictures(m, first.detected) | {"detectors": opening.detectors(entries, contest, m)}
    frontiers = {one.title: one.frontier for one in entries if one.frontier is not None}
    small = () if contest.small is None else (entries[contest.small].title,)
    return shown | {
        "label": first.title,
        "link": first.link,
        "dense": None if contest.dense is None else entries[contest.dense].title,
        "kept": contest.kept,
        "labelled": any(one.probe is not None for one in frontiers.values()),
        "findings": lead.findings(entries, contest),
        "rows": lead.rows(entries, contest),
        "curves": figures.nonzeros(frontiers, small) if frontiers else None,
        "detected": first.detected,
    }


ENVIRONMENT = Environment(
    loader=PackageLoader("vsc.report", "."),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
ENVIRONMENT.filters.update(duration=words.duration, count=words.count, shape=words.shape, number=words.number)
