"""
Run the scripts of examples/ cell by cell, and write what they say, print and draw as pages of the site.

python docs/tutorials.py    writes docs/tutorials/NAME.md of each; a script that has not changed is not run again
"""

import ast
import contextlib
import hashlib
import io
import os
import re
import tempfile
from pathlib import Path

from matplotlib.figure import Figure

import vsc

HERE = Path(__file__).parent
PAGES = HERE / "tutorials"


def page(script: Path) -> None:
    text = script.read_text(encoding="utf-8")
    target, key = PAGES / f"{script.stem}.md", hashlib.sha256((text + vsc.__version__).encode()).hexdigest()[:16]
    if target.exists() and target.read_text(encoding="utf-8").startswith(f"% {key}\n"):
        return
    print(f"running {script.name}")
    parts: list[str] = []
    names = {"__name__": "__main__"}
    _, *found = re.split(r"^# %%(.*)\n", text, flags=re.MULTILINE)
    for number, (kind, cell) in enumerate(zip(found[::2], found[1::2], strict=True)):
        if "[markdown]" in kind:
            parts.append(re.sub("^# ?", "", cell.strip(), flags=re.MULTILINE))
        else:
            printed, value = run(cell, names, script.name)
            parts.append(f"```python\n{cell.strip()}\n```")
            parts += [f"```text\n{printed.rstrip()}\n```"] if printed else []
            parts += [] if value is None else [shown(value, f"{script.stem}-{number}.png")]
    parts.append(f"The script: [examples/{script.name}](../../examples/{script.name}).")
    target.write_text("\n\n".join([f"% {key}", *parts]) + "\n", encoding="utf-8")


def run(cell: str, names: dict, name: str) -> tuple[str, object]:
    """Return what a cell prints and the value of the expression that it ends with, as a notebook does."""
    body = ast.parse(cell).body
    last = [body.pop()] if isinstance(body[-1], ast.Expr) else []
    value = None
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(compile(ast.Module(body, []), name, "exec"), names)
        for statement in last:
            value = eval(compile(ast.Expression(statement.value), name, "eval"), names)
    return out.getvalue(), value


def shown(value: object, picture: str) -> str:
    if isinstance(value, Figure):
        value.savefig(PAGES / picture, dpi=110, bbox_inches="tight")
        return f"![What the cell above draws]({picture})"
    if hasattr(value, "_repr_html_"):
        html = re.sub("<style.*?</style>", "", value._repr_html_(), flags=re.DOTALL)
        return f"```{{raw}} html\n{html}\n```"
    return f"```text\n{value!r}\n```"


if __name__ == "__main__":
    PAGES.mkdir(exist_ok=True)
    scripts = sorted((HERE.parent / "examples").resolve().glob("*.py"))
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for script in scripts:
            page(script)
