"""
Run the scripts of examples/ cell by cell, and write what they say, print and draw as pages of the site.

python docs/tutorials.py    writes docs/tutorials/NAME.md for each; a script that has not changed is not run again
"""

import ast
import contextlib
import hashlib
import io
import re
from pathlib import Path

from matplotlib.figure import Figure

HERE = Path(__file__).parent
PAGES = HERE / "tutorials"


def page(script: Path) -> None:
    text, target = script.read_text(encoding="utf-8"), PAGES / f"{script.stem}.md"
    key = f"% {hashlib.sha256(text.encode()).hexdigest()}"
    if target.exists() and target.read_text(encoding="utf-8").startswith(key):
        return
    print(f"running {script.name}")
    parts, names = [key], {"__name__": "__main__"}
    _, *cells = re.split(r"^# %%(.*)\n", text, flags=re.MULTILINE)
    for number, (kind, cell) in enumerate(zip(cells[::2], cells[1::2], strict=True)):
        if "[markdown]" in kind:
            parts.append(re.sub("^# ?", "", cell.strip(), flags=re.MULTILINE))
        else:
            parts += [f"```python\n{cell.strip()}\n```", *run(cell, names, PAGES / f"{script.stem}-{number}.png")]
    parts.append(f"The script: [examples/{script.name}](../../examples/{script.name}).")
    target.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def run(cell: str, names: dict, picture: Path) -> list[str]:
    """Return what a cell prints, and the value of the expression that it ends with, as a notebook shows them."""
    body = ast.parse(cell).body
    last = body.pop().value if isinstance(body[-1], ast.Expr) else ast.parse("None", mode="eval").body
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(compile(ast.Module(body, []), picture.stem, "exec"), names)
        value = eval(compile(ast.Expression(last), picture.stem, "eval"), names)
    said = [f"```text\n{out.getvalue().rstrip()}\n```"] if out.getvalue() else []
    if isinstance(value, Figure):
        value.savefig(picture, dpi=110, bbox_inches="tight")
        said.append(f"![What the cell above draws]({picture.name})")
    elif value is not None:  # a data frame
        said.append(f"```{{raw}} html\n{re.sub('(?s)<style.*?</style>', '', value._repr_html_())}\n```")
    return said


if __name__ == "__main__":
    PAGES.mkdir(exist_ok=True)
    for script in sorted((HERE.parent / "examples").glob("*.py")):
        if script.stem != "activations":  # which needs packages that are none of ours
            page(script)
