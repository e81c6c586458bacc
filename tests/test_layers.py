"""The architecture, read from the code: imports point down the list of layers, never up."""

import ast
import re
import subprocess
import sys
from functools import cache
from importlib.metadata import version
from pathlib import Path

import pytest

import vsc

SOURCE = Path(vsc.__file__).parent

LAYERS = [
    "errors",  # the two failures that a user can act on; looking up a name
    "files",  # whole files or none
    "arrays",  # whatever users hold numbers in, as a plain array
    "fields",  # what the columns of a table are
    "torchstate",  # what torch keeps for a whole process or thread: borrowed, and put back
    "model",  # the method: knows no files, no settings, no command line
    "data",  # data sets; Split; batches
    "settings",  # every setting, once; build is the only place that maps names to objects
    "training",  # the loop, and the folder that a run leaves
    "metrics",  # arrays in, numbers out
    "measure",  # a split encoded once, and its scores
    "estimator",  # the model as scikit-learn has transformers
    "sweep",  # many runs, each found again by its settings
    "plots",  # arrays in, matplotlib Figure out
    "report",  # what was measured -> pages
    "studies",  # one file per experiment; a comparison is one of them
    "export",  # a model as ONNX graphs
    "saelens",  # to and from SAELens
    "hub",  # to and from a model hub
    "cli",  # commands, options, tables
    "__main__",  # python -m vsc
    "__init__",  # the public names, each imported when it is first used
]

DRAWING = {"plots", "studies", "report"}
FRAMES = {"arrays", "fields", "data/table", "measure/gaps", "estimator", "cli/codes"}
HEAVY = {
    # library -> (where it may be imported, where even at module level)
    "matplotlib": (DRAWING, DRAWING),
    "sklearn": ({"data/digits", "measure", "metrics", "estimator"}, {"estimator"}),
    "lightning_fabric": ({"training/processes"}, set()),
    "pandas": (FRAMES, FRAMES),  # for annotations only at module level, as the tests of what is loaded see
    "huggingface_hub": ({"hub"}, set()),
    "onnxruntime": ({"export"}, set()),
    "onnxscript": ({"export"}, set()),
    "optuna": ({"sweep"}, set()),
    "sqlalchemy": ({"sweep"}, set()),
}

FILES = sorted(SOURCE.rglob("*.py"))


def name(path):
    """Return a file's name without its suffix, relative to the package: `data/idx`."""
    return path.relative_to(SOURCE).with_suffix("").as_posix()


def layer(file):
    return file.split("/")[0]


@cache
def parsed(path):
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imports(path):
    """List each import's full dotted name, and whether it stands at module level."""
    found, tree = [], parsed(path)
    inner = {
        node
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, node not in inner) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name(path)} has a relative import, which this test does not read"
            found += [(f"{node.module}.{alias.name}", node not in inner) for alias in node.names]
    return found


def test_every_file_has_a_layer():
    assert {layer(name(path)) for path in FILES} == set(LAYERS)


def test_imports_point_down():
    up = []
    for path in FILES:
        mine = LAYERS.index(layer(name(path)))
        for imported, _ in imports(path):
            package, *rest = imported.split(".")
            theirs = LAYERS.index(rest[0] if rest and rest[0] in LAYERS else "__init__")
            inside = theirs == mine and (SOURCE / LAYERS[mine]).is_dir()
            if package == "vsc" and theirs >= mine and not inside:
                up.append(f"{name(path)} imports {imported}, which lies above it")
    assert up == []


def test_heavy_libraries_stay_in_their_place():
    astray = []
    for path in FILES:
        here = {name(path), layer(name(path))}
        for imported, at_module_level in imports(path):
            allowed, at_top = HEAVY.get(imported.split(".")[0], (here, here))
            if not here & (at_top if at_module_level else allowed):
                astray.append(f"{name(path)} imports {imported}" + " at module level" * at_module_level)
    assert astray == []


def test_packages_are_acyclic():
    """Inside a package, no two files import each other."""
    circles = []
    for path in FILES:
        mine = "vsc." + name(path).replace("/", ".")
        for imported, _ in imports(path):
            other = SOURCE / (imported.removeprefix("vsc.").replace(".", "/") + ".py")
            other = other if other.exists() else other.parent.with_suffix(".py")
            if imported.startswith("vsc.") and other.exists() and other != path:
                back = [theirs for theirs, _ in imports(other)]
                circles += [(mine, theirs) for theirs in back if theirs == mine or theirs.startswith(mine + ".")]
    assert circles == []


def loaded_by(statement):
    command = f"{statement}; import sys; print(*(sys.modules.keys() & {set(HEAVY) | {'torch'}!r}))"
    environment = {"PYTHONPATH": str(SOURCE.parent), "PATH": ""}
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, env=environment, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("statement", ["import vsc", "import vsc.cli.running"])
def test_import_and_help_are_quick(statement):
    assert loaded_by(statement) == set()


def test_models_and_settings_load_no_heavy_library():
    modules = "model, settings.build, data, training.loop, measure.scores, cli"
    assert loaded_by(", ".join(f"import vsc.{one}" for one in modules.split(", ")).replace(", import", "; import")) == {
        "torch"
    }


def public(tree, prefix=""):
    """Yield (dotted name, node, node of the class that it belongs to) of what a file offers."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield prefix + node.name, node, tree if isinstance(tree, ast.ClassDef) else None
            if isinstance(node, ast.ClassDef):
                yield from public(node, f"{prefix}{node.name}.")


CLASSES = {node.name: node for path in FILES for node in ast.walk(parsed(path)) if isinstance(node, ast.ClassDef)}


def overrides(method, owner):
    """Whether a base class of ours has this method too, and so explains its parameters."""
    bases = [CLASSES[b.id] for b in owner.bases if isinstance(b, ast.Name) and b.id in CLASSES] if owner else []
    return any(
        any(isinstance(n, ast.FunctionDef) and n.name == method for n in base.body) or overrides(method, base)
        for base in bases
    )


def members(tree):
    """Names of the functions of a family, which end the file in a table of one type: the type explains them."""
    tables = [node.value for node in tree.body if isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Dict)]
    return {value.id for table in tables for value in table.values if isinstance(value, ast.Name)}


def in_words(own, dotted, owner, path):
    """Whether few parameters, the type of a family, the class, the file or the package need no section for them."""
    tree, package = parsed(path), parsed(path.parent / "__init__.py")
    function = next((node for dotted_, node, _ in public(tree) if dotted_ == dotted), None)
    said = " ".join(ast.get_docstring(node) or "" for node in (owner, tree, package, function) if node)
    return len(own) < 3 or dotted in members(tree) or all(f"`{a}`" in said for a in own)


INTERNAL = {
    name(path)
    for path in FILES
    if layer(name(path)) in ("files", "torchstate", "arrays", "sweep", "report", "studies", "cli")
    or name(path) in {f"training/{file}" for file in ("checkpoint", "pressure", "processes", "diagnosis")}
    or (
        layer(name(path)) == "data" and name(path) not in ("data/__init__", "data/arrays", "data/pytorch", "data/split")
    )
}
"""Files whose names nobody outside of the project is told of: their functions are explained in a few words."""


def unexplained(path):
    """Yield what lacks: a docstring each, a Parameters section from three on; a command has its settings class's."""
    tree = parsed(path)
    if not ast.get_docstring(tree):
        yield "what it is for"
    for dotted, node, owner in public(tree) if name(path) not in ("cli/commands", "plots/drawing") else ():
        doc = ast.get_docstring(node)
        inherited = isinstance(node, ast.FunctionDef) and overrides(node.name, owner)
        if not doc and not inherited:
            yield dotted
        if isinstance(node, ast.FunctionDef) and doc and not inherited:
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            own = [a.arg for a in arguments if a.arg not in ("self", "cls")]
            section = doc.partition("Parameters\n---")[2]
            if not (section or name(path) in INTERNAL or in_words(own, dotted, owner, path)):
                yield f"parameters of {dotted}"
            if len(own) > 1 and section:
                yield from (f"{a} of {dotted}" for a in own if not re.search(rf"\b{a}\b", section))


def test_every_public_name_is_explained():
    assert [f"{name(path)} does not explain {lack}" for path in FILES for lack in unexplained(path)] == []


def test_the_site_lists_what_import_vsc_offers():
    page = (Path(__file__).parent.parent / "docs" / "api.md").read_text(encoding="utf-8")
    section = page.partition("## What import vsc offers\n")[2].partition("\n## ")[0]
    assert set(re.findall(r"`vsc\.(\w+)`", section)) == {*vsc.__all__, "__version__"}


def test_every_public_name_of_the_package_is_there():
    assert set(vsc.__all__) == {*vsc._HOME, *vsc._MODULES}
    for public_name in vsc.__all__:
        assert getattr(vsc, public_name).__doc__
    assert dir(vsc) == sorted([*vsc.__all__, "__version__"])
    assert vsc.__version__ == version("variational-sparse-coding")
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        vsc.nothing  # noqa: B018


def test_modules_are_there_by_the_names_that_pages_and_messages_give():
    names = "vsc.model.front.Front, vsc.model.nets.Dictionary, vsc.measure.gaps.hidden_errors, vsc.hub.push"
    subprocess.run([sys.executable, "-c", f"import vsc; {names}"], check=True)
    with pytest.raises(AttributeError, match="module 'vsc' has no attribute 'modle'"):
        _ = vsc.modle
