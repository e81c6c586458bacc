"""The page of one run: what each of its latents does, as one self-contained HTML file."""

import json
import shlex
from base64 import b64encode
from dataclasses import asdict
from hashlib import sha256
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

from markupsafe import Markup

from vsc.errors import UsageError
from vsc.measure.measured import Measured
from vsc.measure.showcase import choose_examples
from vsc.report import cards, examples, figures, latents, page, scores, settings, sprites, summary, words
from vsc.report.entry import Entry
from vsc.report.live import live
from vsc.report.material import Material
from vsc.settings.config import as_plain
from vsc.settings.presets import training_command
from vsc.training import runs

EXAMPLES = 12
"""Examples on the page: one of each class first."""

HELD_OUT = {"test": "test", "valid": "validation"}


def write(folder: Path, seen: Measured, path: Path | None = None, decodes: bool = True) -> Path:
    """
    Write the page of the run in a `folder`, whole or not at all, and return where it lies; it loads nothing.

    What it says is of the run's model as `seen` on a held-out split: UsageError if that is `train`. The page is
    report.html in the folder if no `path` is given; it `decodes` if it carries the decoder, so that its reader can
    alter codes.
    """
    if seen.split not in HELD_OUT:
        raise UsageError(f"the report is on held-out examples: split must be test or valid, not {seen.split!r}")
    path = folder / "report.html" if path is None else path
    return page.put(_render(folder, seen, path, decodes), path)


def _render(folder: Path, seen: Measured, path: Path, decodes: bool) -> str:
    config, history, model = runs.read_config(folder), runs.read_history(folder), seen.model
    m, label, found = Material(seen), type(model).__name__, seen.scores()
    K = range(len(m.found.shown))
    own = ["vsc", "report", str(folder), *(["--split", seen.split] if seen.split != "test" else [])]
    own += ["--out", str(path)] if path != folder / "report.html" else []
    asked = as_plain(asdict(config))
    entry = Entry(folder.name, label, model.latent_dim, model.spiked, [found], asked)
    said = summary.sentences([entry], seen.data.name, len(seen))
    if m.kind == "table":  # of which a PSNR says nothing
        said = [sentence for sentence in said if sentence.topic != "Noise"]
    if most := latents.worth_most(m):
        said.insert(-1, summary.Sentence("Latents", most))
    own += [] if decodes else ["--live", "no"]
    chosen = choose_examples(seen.part, EXAMPLES).tolist()
    carried = live(m, chosen) if decodes and len(K) else None
    sources = ["run.js", *(["decode.js", "live.js"] if carried and carried.carried else [])]
    script = "".join((files("vsc.report") / name).read_text(encoding="utf-8") for name in sources)
    named = latents.groups(m)
    numbers = zip(scores.columns([found]), scores.table([found])[0], strict=True)
    return page.ENVIRONMENT.get_template("run.html.j2").render(
        m=m,
        K=len(K),
        title=f"{label} on {seen.data.name}",
        data=seen.data.name,
        folder=folder.resolve().name,
        split=HELD_OUT[seen.split],
        model=model,
        sentences=said,
        cautions=[f"{label} {said}" for said in seen.cautions(config=config, history=history)],
        numbers=[(column, cell) for column, cell in numbers if cell.text != "–"],
        aspects=latents.aspects(m),
        groups=named,
        choices=sorted({(name, named.count(name)) for name in named if name}),
        cards=[cards.card(m, k) for k in K],
        scale=sprites.legend() if m.kind == "images" else None,
        peak=words.number(m.peak, ".2g"),
        examples=[examples.example(m, i) for i in chosen],
        live=carried,
        curves=figures.training({label: history}) if history else None,
        parameters=sum(p.numel() for p in model.parameters()),
        seconds=history[-1]["seconds"] if history else None,
        settings=settings.compare([asked])[1],
        commands=[training_command(config, folder), shlex.join(own)],
        environment=_environment(folder),
        version=version("variational-sparse-coding"),
        script=Markup(script),
        script_hash=b64encode(sha256(script.encode()).digest()).decode(),
    )


def _environment(folder: Path) -> dict[str, str]:
    """Read what the run was trained with; nothing, if that cannot be read."""
    try:
        found = json.loads((folder / "environment.json").read_text(encoding="utf-8"))
        return {str(key): str(value) for key, value in found.items() if not isinstance(value, dict)}
    except (OSError, ValueError, AttributeError, RecursionError):
        return {}
