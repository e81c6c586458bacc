"""What is published: the files that are built, what they say of themselves, and the workflows that publish them."""

import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def text(name):
    return (ROOT / name).read_text(encoding="utf-8")


def steps(path):
    for job in yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"].values():
        yield from job["steps"]


def test_version_and_date_are_the_same_everywhere():
    version = re.fullmatch(r"(\d+\.\d+\.\d+)(\.dev\d+)?", PROJECT["version"])
    cited = yaml.safe_load(text("CITATION.cff"))
    newest, date = re.search(r"^## (\S+) \((.*)\)$", text("CHANGELOG.md"), re.MULTILINE).groups()
    assert cited["version"] == newest == version[1]
    if version[2]:  # in the making
        assert date == "unreleased"
        assert "date-released" not in cited
    else:
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", date)
        assert str(cited["date-released"]) == date
    assert cited["license"] == PROJECT["license"]


def test_the_version_stands_nowhere_else():
    for path in (ROOT / "src").rglob("*.py"):
        assert PROJECT["version"] not in path.read_text(encoding="utf-8"), path


def test_workflows_are_there():
    assert {path.name for path in WORKFLOWS} == {"tests.yml", "release.yml"}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_and_may_only_read(path):
    """A tag can be moved to other code; a commit cannot."""
    for step in steps(path):
        if "uses" in step:
            assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", step["uses"])
    for line in path.read_text(encoding="utf-8").splitlines():
        assert "uses:" not in line or re.search(r" # v\d+\.\d+\.\d+$", line), line
    assert yaml.safe_load(path.read_text(encoding="utf-8"))["permissions"] == {"contents": "read"}
    assert "secrets." not in path.read_text(encoding="utf-8")


def test_the_tested_pythons_are_those_that_are_promised():
    job = yaml.safe_load(text(".github/workflows/tests.yml"))["jobs"]["check"]
    tested = job["strategy"]["matrix"]["python"]
    named = [found[1] for line in PROJECT["classifiers"] if (found := re.search(r"Python :: (3\.\d+)$", line))]
    assert tested == named
    assert PROJECT["requires-python"] == f">={tested[0]}"
    assert "make check" in [step.get("run") for step in job["steps"]]


def test_only_the_job_that_publishes_may_say_who_it_is():
    jobs = yaml.safe_load(text(".github/workflows/release.yml"))["jobs"]
    assert "permissions" not in jobs["build"]
    assert jobs["publish"]["permissions"] == {"id-token": "write"}
    assert jobs["publish"]["environment"] == "pypi"
    assert jobs["publish"]["needs"] == "build"
    assert not any("run" in step for step in jobs["publish"]["steps"])


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Return the folder with a wheel and a source distribution, built without a network."""
    if not find_spec("hatchling") or not find_spec("build"):
        pytest.skip("needs build and hatchling")
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    return folder


def only(folder, pattern):
    (path,) = folder.glob(pattern)
    return path


@pytest.mark.slow
def test_the_wheel_has_the_package_and_nothing_else(built):
    source = ROOT / "src"
    here = {path.relative_to(source).as_posix() for path in (source / "vsc").rglob("*") if path.is_file()}
    here = {name for name in here if "__pycache__" not in name}
    assert {"vsc/py.typed", "vsc/report/run.css", "vsc/report/run.js", "vsc/report/modelcard.md.j2"} <= here
    names = set(zipfile.ZipFile(only(built, "*.whl")).namelist())
    assert {name for name in names if ".dist-info/" not in name} == here
    about = {name.partition(".dist-info/")[2] for name in names} - {""}
    assert about == {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"}


@pytest.mark.slow
def test_the_source_has_what_the_tests_need_and_no_more(built):
    with tarfile.open(only(built, "*.tar.gz")) as archive:
        names = {member.name.partition("/")[2] for member in archive.getmembers()}
    tops = {name.partition("/")[0] for name in names}
    folders = {"src", "tests", "docs", "examples", "benchmarks", ".github"}
    files = {"README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md", "Makefile", "constraints.txt"}
    assert tops == folders | files | {"pyproject.toml", "PKG-INFO", ".gitignore"}
    assert not [name for name in names if re.search(r"__pycache__|\.pyc$|(^|/)(runs|\.venv|_build)/", name)]
    assert {path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("*.py")} <= names


@pytest.mark.slow
def test_registries_take_both(built):
    pytest.importorskip("twine")
    command = [sys.executable, "-m", "twine", "check", "--strict", *map(str, sorted(built.iterdir()))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("PASSED") == 2


@pytest.fixture(scope="module")
def elsewhere(built, tmp_path_factory):
    """Return the `vsc` of a bare environment that has the wheel, and sees the libraries of this one."""
    bare = tmp_path_factory.mktemp("bare")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(bare)], check=True)
    binaries = bare / ("Scripts" if os.name == "nt" else "bin")
    pip = [sys.executable, "-m", "pip", "--python", str(binaries / "python"), "install", "--quiet"]
    subprocess.run([*pip, "--no-deps", "--no-index", str(only(built, "*.whl"))], check=True)
    site = sysconfig.get_path("purelib", vars={"base": str(bare), "platbase": str(bare)})
    Path(site, "here.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return binaries / "vsc"


@pytest.mark.slow
def test_the_wheel_works_where_there_is_no_clone(elsewhere, tmp_path):
    inherited = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}

    def says(*words):
        done = subprocess.run(
            [*map(str, words)], cwd=tmp_path, env=inherited, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert says(elsewhere, "--version") == f"vsc {PROJECT['version']}\n"
    assert str(elsewhere.parent.parent) in says(elsewhere.with_name("python"), "-c", "import vsc; print(vsc.__file__)")
    assert "digits" in says(elsewhere, "data", "digits")
    says(elsewhere, "train", "--steps", "5", "--latent-dim", "4", "--out", "run")
    says(elsewhere, "report", "run")
    assert "</html>" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
