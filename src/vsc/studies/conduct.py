"""Conduct a study: make or find its runs, measure them, and write table, figures and page."""

import csv
import io
import time
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from vsc.data.split import Dataset
from vsc.data.synth import WORLDS
from vsc.errors import UsageError, at_least, choose
from vsc.files import whole, write_json
from vsc.measure.measured import pick
from vsc.model import MODELS
from vsc.report.settings import flatten
from vsc.report.study import Section, write
from vsc.settings.commands import RunStudy
from vsc.settings.config import Config, as_plain
from vsc.settings.presets import changed
from vsc.settings.resolve import unused, without
from vsc.studies.base import Ask, Finding, Group, Row, Study
from vsc.sweep.jobs import Job, Tell, dataset, plan, sweep
from vsc.torchstate import cpu_threads
from vsc.training import runs

NEEDS = {
    "images": (lambda ask: ask.image, "draws images, and {data} has none"),
    "labels": (lambda ask: bool(ask.data.classes), "needs class labels, and {data} has none"),
    "attributes": (
        lambda ask: ask.data.test.presence is not None,
        "needs true factors that can be absent, which {data} does not know; take --data smiley",
    ),
    "features": (
        lambda ask: ask.data.name in WORLDS,
        "needs features whose directions and rates are known, and {data} has none; take --data synth",
    ),
}
"""What a study can need of its data -> whether it is there, and what to say if not."""


def conduct(
    name: str, study: Study, asked: RunStudy, command: str, tell: Tell = print, progress: bool = False
) -> Finding:
    """
    Conduct one study, and return what was written; whatever is wrong is said before anything is trained.

    Settings that are asked for hold for all runs, unless the study sets them. The study goes into `folder_of` the
    folder of all studies, `asked.out`, whose runs are in `runs` there; `command` is what to type to make it again.
    """
    begun = time.monotonic()
    ask, folder = ask_of(asked), Path(asked.out)
    if lacking := lacks(name, study, ask):
        raise UsageError(lacking)
    pick(ask.data, asked.split)
    at_least(1, asked.seeds, "seeds")
    common = Config(asked.data, asked.model, asked.train)
    plans = [(row, _jobs(row, common, folder / "runs", asked.seeds, ask)) for row in study.rows(ask)]
    jobs = [job for _, group in plans for job in group]
    missing = len({job.folder for job in jobs if not runs.is_finished(job.folder)})
    count = len({job.folder for job in jobs})
    tell(f"{name} on {ask.data.name}: {count} run{'s' * (count > 1)}, {missing} of them to be trained")
    results = iter(sweep(jobs, asked.workers, asked.split, tell, command, progress, asked.engine))
    groups = [Group(row, group, [next(results) for _ in group]) for row, group in plans]
    with cpu_threads(groups[0].model()):
        finding = study.draw(ask, groups)
    alt = " ".join([finding.alt, *finding.words])
    finding = finding._replace(alt=alt, words=[*finding.words, *cautions(groups)])
    out = folder_of(folder, ask.data, name, asked.split)
    _write(name, study, ask, groups, finding, out, command, time.monotonic() - begun)
    return finding


def ask_of(asked: RunStudy) -> Ask:
    """Load the data, and read the numbers that were typed."""
    dims, alphas = _numbers(asked.dims, int, "dims"), _numbers(asked.alphas, float, "alphas")
    if any(J < 1 for J in dims):
        raise UsageError(f"dims must be at least 1, not {min(dims)}")
    if any(not 0 < alpha <= 1 for alpha in alphas):
        raise UsageError(f"alphas are probabilities in (0, 1], not {asked.alphas!r}")
    return Ask(dataset(asked.data), asked.full, asked.train.steps, dims, alphas)


def _numbers(text: str | None, kind: type, what: str) -> tuple:
    if text is not None and not text.strip(" ,"):
        raise UsageError(f"{what} is empty; give numbers separated by commas, or leave it out")
    try:
        return tuple(kind(part) for part in (text or "").split(",") if part.strip())
    except ValueError:
        words = {int: "whole numbers", float: "numbers"}[kind]
        raise UsageError(f"{what} needs {words} separated by commas, not {text!r}") from None


def cautions(groups: Sequence[Group]) -> list[str]:
    """Say which models have collapsed or not learned, so that no word about their codes is believed; one sentence."""
    bad = [
        group.row.label
        for group in groups
        if choose(MODELS, group.config.model.name, "model").spiked
        and group.config.model.latent_dim > 2
        and group.mean("used") < 2
    ]
    said = f"CAUTION: hardly a latent is used by {'; '.join(bad)}: what is said of their codes means little."
    return [said] if bad else []


def folder_of(root: Path, data: Dataset, name: str, split: str = "test") -> Path:
    """Return where a study is written: `root/DATA-NAME`, with the split where it is not the test set."""
    return root / (f"{data.name}-{name}" + ("" if split == "test" else f"-{split}"))


def lacks(name: str, study: Study, ask: Ask) -> str:
    """Say what the data lack for a study, in a sentence; empty where nothing is lacking."""
    for need in study.needs:
        there, said = NEEDS[need]
        if not there(ask):
            return f"the study {name} {said.format(data=ask.data.name)}"
    return ""


def _jobs(row: Row, common: Config, root: Path, seeds: int, ask: Ask) -> list[Job]:
    one = changed(common, row.settings)
    one = without(one, unused(one))  # what was asked for all models alike
    many = seeds if row.seeds is None else row.seeds
    return [
        plan(
            f"{ask.data.name}, {row.label}" + (f", seed {seed}" if many > 1 else ""),
            changed(one, {"train.seed": seed}),
            root,
            row.metrics,
        )
        for seed in range(common.train.seed, common.train.seed + many)
    ]


def _write(
    name: str, study: Study, ask: Ask, groups: list[Group], finding: Finding, out: Path, command: str, seconds: float
) -> None:
    pictures = []
    for stem, one in {"figure": finding, **{f"figure-{key}": more for key, more in finding.more.items()}}.items():
        png, svg = _picture(one.figure, "png"), _picture(one.figure, "svg")
        for suffix, content in (("png", png), ("svg", svg)):
            with whole(out / f"{stem}.{suffix}") as temporary:
                temporary.write_bytes(content)
        pictures.append((f"data:image/png;base64,{b64encode(png).decode()}", one.alt))
    with whole(out / "table.csv") as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(finding.table.columns)
        writer.writerows(["" if cell is None else cell for cell in row] for row in finding.table.rows)
    shared = _shared(groups)
    split = groups[0].results[0]
    trained = sum(group.history(i)[-1]["seconds"] for group in groups for i in range(len(group.jobs)))
    write_json(
        out / "study.json",
        {
            "study": name,
            "source": study.source,
            "command": command,
            "data": ask.data.name,
            "split": split.split,
            "examples": split.examples,
            "full": ask.full,
            "seconds": round(seconds, 1),
            "seconds_of_training": round(trained, 1),
            "words": finding.words,
            "settings": shared,
            "runs": [
                {"facets": dict(group.row.facets), "settings": dict(group.row.settings)}
                | {"folders": [f"../runs/{job.folder.name}" for job in group.jobs]}
                for group in groups
            ],
            "environment": runs.environment(),
        },
    )
    section = Section(
        name=name,
        title=study.title,
        source=study.source,
        claim=study.claim,
        data=f"{ask.data.name}, {split.examples} {split.split} examples",
        words=finding.words,
        pictures=pictures,
        columns=finding.table.columns,
        rows=finding.table.rows,
        settings=shared,
        command=command,
    )
    write(f"{study.title} on {ask.data.name}", [section], runs.environment(), out / "report.html")


def _shared(groups: Sequence[Group]) -> dict[str, Any]:
    """Return the dotted settings that all runs share."""
    flat = [flatten(as_plain(asdict(group.config))) for group in groups]
    return {key: value for key, value in flat[0].items() if all(other.get(key) == value for other in flat)}


def _picture(figure: Figure, kind: str) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else None)
    return buffer.getvalue()
