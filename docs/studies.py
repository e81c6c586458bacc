"""docs/studies.md: what each study found, beside what its source says, from the folders that `vsc study` wrote.

usage: python docs/studies.py [FOLDER, by default runs/studies]
"""

import csv
import json
import sys
from pathlib import Path

from PIL import Image

from vsc.studies import STUDIES

HERE = Path(__file__).parent
PICTURES = HERE / "studies"
LONGEST = 20  # rows of a table that is printed whole

HEAD = """# The experiments of the sources

What each study says and what came out here, with hard spikes on the test set. `vsc study list` names them all; each
section's command makes it again, and `python docs/studies.py` writes this page from what the commands left. Numbers
are means over the seeds; `sd` is their standard deviation. Where there is one seed, small differences mean nothing.
Minutes are those of training, on one of two CPU cores that were busy with other runs.
"""


def main(root: Path) -> None:
    PICTURES.mkdir(exist_ok=True)
    parts = [HEAD]
    for name, study in STUDIES.items():
        found = sorted(path.parent for split in ("", "-valid") for path in root.glob(f"*-{name}{split}/study.json"))
        if not found:
            continue
        parts += [f"## {study.title}", f"*{study.source}.* **The source:** {study.claim}"]
        for folder in found:
            parts += section(folder)
    (HERE / "studies.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def section(folder: Path) -> list[str]:
    about = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    seeds = max(len(run["folders"]) for run in about["runs"])
    pictures = []
    for path in sorted(folder.glob("figure*.png" if about["split"] == "test" else "figure.png")):
        shown = PICTURES / f"{folder.name}{path.stem.removeprefix('figure')}.png"
        with Image.open(path) as image:
            small = image.convert("RGB").resize((image.width * 2 // 3, image.height * 2 // 3), Image.Resampling.LANCZOS)
            small.quantize(128).save(shown, optimize=True)
        pictures.append(f"![{about['study']} on {about['data']}](studies/{shown.name})")
    minutes = about["seconds_of_training"] / 60
    facts = f"{about['examples']} {about['split']} examples, {len(about['runs'])} rows, {seeds} seed{'s' * (seeds > 1)}"
    return [
        f"### {about['data']}",
        " ".join(about["words"]),
        *pictures,
        *table(folder),
        f"`{command(about)}` ({facts}, {minutes:.0f} minutes of training)",
    ]


def command(about: dict) -> str:
    words = about["command"].split()
    for option in ("--out", "--workers"):
        if option in words:
            place = words.index(option)
            del words[place : place + 2]
    return " ".join(words)


def table(folder: Path) -> list[str]:
    with (folder / "table.csv").open(encoding="utf-8", newline="") as file:
        head, *rows = csv.reader(file)
    if len(rows) > LONGEST:
        return []
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(cell(value) for value in row) + " |" for row in rows]
    return ["<details><summary>The numbers</summary>", "\n".join(lines), "</details>"]


def cell(text: str) -> str:
    try:
        value = float(text)
    except ValueError:
        return text or "–"
    return text if value == int(value) else f"{value:.3f}" if abs(value) < 2 else f"{value:.2f}"


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/studies"))
