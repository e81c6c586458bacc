"""A run's README on a model hub: what the model is, how to use it, what was measured of it, and by which commands."""

from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from vsc.errors import listed
from vsc.files import is_path, read_json
from vsc.measure import results
from vsc.measure.results import Results
from vsc.metrics import METRICS, metric_of
from vsc.model import MODELS
from vsc.report.scores import columns
from vsc.report.words import number
from vsc.settings.build import CUSTOM
from vsc.settings.commands import Evaluate
from vsc.settings.config import Config
from vsc.settings.presets import training_command
from vsc.training import runs

TAGS = ("variational-sparse-coding", "sparse-coding", "variational-autoencoder", "representation-learning")


def write(folder: Path, name: str, license: str | None = None) -> str:
    """Return the model card, as Markdown with YAML in front, of the run in `folder`, which is called `name` there."""
    config, saved = runs.read_config(folder), read_json(folder / "model" / "config.json")
    environment = read_json(folder / "environment.json")
    found = results.read(folder / "results.json")
    found = None if found is None or found.weights != results.weights(folder) else found
    front = {"license": license or "other", "library_name": TAGS[0], "tags": [*TAGS, config.model.name]}
    kind = MODELS.get(config.model.name)
    page = Environment(
        loader=PackageLoader("vsc.report", ""), trim_blocks=True, undefined=StrictUndefined, autoescape=False
    ).get_template("modelcard.md.j2")
    return page.render(
        front=yaml.safe_dump(front, sort_keys=False).strip(),
        name=name,
        kind="A model of its maker's own"
        if kind is None
        else f"{'An' if kind.__name__ == 'AE' else 'A'} {kind.__name__}",
        own=config.model.name == CUSTOM,
        spiked=kind is not None and kind.spiked,
        latents=config.model.latent_dim,
        shape="(N, {})".format(", ".join(map(str, saved["shape"]))),
        data=_data(environment, config),
        columns=listed(saved["columns"], 20) if saved["columns"] else "",
        classes=listed(saved["classes"], 20) if saved["classes"] else "",
        rows=[] if found is None else list(_rows(found)),
        found=found,
        commands=_commands(folder, config, found),
        seed=config.train.seed,
        versions={package: environment[package] for package in ("python", "torch", TAGS[0]) if package in environment},
        license=license,
    )


def _rows(found: Results) -> Iterator[tuple[str, str, str, str]]:
    for column in columns([found.scores]):
        if (value := column.value(found.scores)) is not None:
            yield f"{column.title}", number(value, column.spec), column.unit, column.why
    for name, value in found.metrics.items():
        yield name, number(value, ".4g"), METRICS[metric_of(name)].unit, "a metric of the codes"


def _data(environment: dict, config: Config) -> str:
    """Say what a model was trained on, without the folder that a file lay in."""
    known = environment.get("data") or {"name": config.data.name}
    sizes = ", ".join(f"{known[part]} {word}" for part, word in runs.PARTS.items() if part in known)
    return f"`{_bare(str(known['name']))}`" + (f" ({sizes} examples)" if sizes else "")


def _commands(folder: Path, config: Config, found: Results | None) -> list[str]:
    """Return what to type to make the run and its numbers again; of a run made in Python, its settings."""
    name, given = _bare(config.data.name), runs.name_of_data(folder)
    out = f"runs/{folder.resolve().name}"
    if config.model.name == CUSTOM or (given != name and not name.startswith(given + ".")):
        settings = training_command(replace(config, data=Config().data)).removeprefix("vsc train").strip()
        return [f"vsc.train(data, config)  # in Python; config: {settings or 'the default'}"]
    train = training_command(replace(config, data=replace(config.data, name=name, root=None)), Path(out))
    if found is None:
        return [train]
    metrics = ",".join(dict.fromkeys(metric_of(part) for part in found.metrics)) or None
    asked = {"split": found.split, "samples": found.samples, "seed": found.seed, "iwae": found.iwae_draws}
    usual = {field.name: field.default for field in fields(Evaluate)} | {"metrics": None}
    options = [f"--{name} {value}" for name, value in (asked | {"metrics": metrics}).items() if value != usual[name]]
    return [train, " ".join(["vsc evaluate", out, *options])]


def _bare(name: str) -> str:
    return Path(name).name if is_path(name) else name
