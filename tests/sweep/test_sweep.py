"""Sweeps: runs found again by their settings, several workers, killed workers, edited folders."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import yaml

from vsc.errors import Busy, Interrupted, RunError, UsageError
from vsc.files import claimed
from vsc.settings.config import Config
from vsc.settings.presets import changed
from vsc.settings.resolve import resolve
from vsc.sweep import jobs as sweep
from vsc.training import runs

SMALL = {"train.steps": 20, "model.latent_dim": 3, "model.hidden": (8,), "train.valid_every": 10}
BASE = changed(Config(), SMALL)


def jobs_in(folder, seeds=2, **settings):
    return [
        sweep.plan(f"seed {seed}", changed(BASE, {"train.seed": seed, **settings}), folder) for seed in range(seeds)
    ]


def test_the_key_stands_for_what_the_numbers_depend_on_and_nothing_else():
    data = sweep.dataset(BASE.data)
    resolved = resolve(BASE, data)
    for same in ({"data.root": "/elsewhere"}, {"train.device": "cpu"}, {"train.log_every": 7}):
        assert sweep.key(changed(resolved, same), data) == sweep.key(resolved, data)
    for other in ({"train.seed": 1}, {"model.alpha": 0.2}, {"train.steps": 21}, {"data.seed": 1}):
        assert sweep.key(changed(resolved, other), data)[:8] != sweep.key(resolved, data)[:8]


def test_settings_left_to_auto_and_the_same_ones_written_out_are_one_run(tmp_path):
    automatic = sweep.plan("a", BASE, tmp_path)
    written = sweep.plan("b", automatic.config, tmp_path)
    assert automatic.folder == written.folder


def test_finished_runs_are_found_again(tmp_path):
    lines = []
    first = sweep.sweep(jobs_in(tmp_path), tell=lines.append)
    assert [line.split(":")[0] for line in lines] == ["[1/2] seed 0", "[2/2] seed 1"]
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    lines.clear()
    again = sweep.sweep(jobs_in(tmp_path), tell=lines.append)
    assert again == first
    assert lines == []
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}


def test_the_same_run_asked_for_twice_is_trained_once(tmp_path):
    job = jobs_in(tmp_path, 1)[0]
    lines = []
    a, b = sweep.sweep([job, job._replace(label="twin", metrics=("l0",))], tell=lines.append)
    assert len(lines) == 1
    assert a.scores == b.scores
    assert b.metrics["l0"] == pytest.approx(b.scores.l0)


@pytest.mark.slow
def test_several_workers_finish_all_with_the_numbers_of_one(tmp_path):
    one = sweep.sweep(jobs_in(tmp_path / "one", 3), tell=lambda line: None)
    two = sweep.sweep(jobs_in(tmp_path / "two", 3), workers=2, tell=lambda line: None)
    assert [a.scores.elbo for a in one] == pytest.approx([b.scores.elbo for b in two], rel=1e-4)


def test_a_run_that_another_process_is_at_is_left_to_it(tmp_path):
    job = jobs_in(tmp_path, 1)[0]
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    other = context.Process(target=hold, args=(job.folder, ready))
    other.start()
    try:
        assert ready.wait(60)
        with pytest.raises(Busy, match="another process is at work in"):
            sweep.finish(job)
    finally:
        os.kill(other.pid, signal.SIGKILL)
        other.join()
    assert sweep.finish(job).scores.elbo  # a claim ends with its process, however that ends


def hold(folder, ready):
    with claimed(folder):
        ready.set()
        time.sleep(600)


def test_a_failed_run_does_not_stop_the_others(tmp_path):
    bad, good = jobs_in(tmp_path)
    (bad.folder / "model").mkdir(parents=True)
    (bad.folder / "config.yaml").write_text(yaml.safe_dump({"not": "ours"}))
    lines = []
    with pytest.raises(RunError, match=r"1 of 2 runs failed; seed 0: .* is not a run folder"):
        sweep.sweep([bad, good], tell=lines.append)
    assert runs.is_finished(good.folder)
    assert "failed" in lines[0]


def test_a_folder_edited_by_hand_is_noticed(tmp_path):
    job = jobs_in(tmp_path, 1)[0]
    sweep.finish(job)
    path = job.folder / "config.yaml"
    path.write_text(path.read_text().replace("alpha: 0.1", "alpha: 0.2"))
    with pytest.raises(UsageError, match="not what its name stands for"):
        jobs_in(tmp_path, 1)


def test_numbers_edited_by_hand_are_measured_again(tmp_path):
    job = jobs_in(tmp_path, 1)[0]
    right = sweep.finish(job)
    path = job.folder / "results.json"
    said = json.loads(path.read_text())
    said["scores"]["elbo"] += 10
    path.write_text(json.dumps(said))
    assert sweep.finish(job) == right


def test_wrong_settings_are_refused_before_anything_is_trained(tmp_path):
    with pytest.raises(UsageError, match="unknown gates"):
        sweep.plan("x", changed(BASE, {"model.gates": "x"}), tmp_path)
    with pytest.raises(UsageError, match="workers must be at least 1, not 0"):
        sweep.sweep([], workers=0)
    assert list(tmp_path.iterdir()) == []


def test_a_finished_run_is_read_even_while_another_process_has_its_folder(tmp_path):
    job = jobs_in(tmp_path, 1)[0]
    found = sweep.finish(job)
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    other = context.Process(target=hold, args=(job.folder, ready))
    other.start()
    try:
        assert ready.wait(60)
        assert sweep.sweep([job]) == [found]
    finally:
        os.kill(other.pid, signal.SIGKILL)
        other.join()


def table(path, shift=0.0):
    """Write 60 rows of three numbers, the last one shifted."""
    x = np.random.default_rng(0).normal(size=(60, 3))
    x[-1] += shift
    np.savetxt(path, x, delimiter=",")
    return changed(BASE, {"data.name": str(path)})


def test_edited_data_are_another_run_and_that_is_said(tmp_path):
    lines = []
    before = sweep.plan("a", table(tmp_path / "mine.csv"), tmp_path / "runs")
    first = sweep.sweep([before], tell=lines.append)
    after = sweep.plan("a", table(tmp_path / "mine.csv", 1.0), tmp_path / "runs")
    assert after.folder != before.folder
    assert after.folder.name[:-8] == before.folder.name[:-8]  # the settings are the same
    with pytest.raises(RunError, match=r"mine have changed since this was begun"):  # a worker looks for itself
        sweep.finish(before)
    lines.clear()
    second = sweep.sweep([after], tell=lines.append)
    assert second != first
    assert "the data have changed since" in lines[0]
    lines.clear()
    assert sweep.sweep([after], tell=lines.append) == second
    assert lines == []
    again = sweep.plan("a", table(tmp_path / "mine.csv"), tmp_path / "runs")
    assert sweep.sweep([again], tell=lines.append) == first  # what they were is found again
    assert lines == []


SCRIPT = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_sweep import jobs_in
from vsc.sweep import jobs as sweep
if __name__ == "__main__":
    sweep.sweep(jobs_in(Path(sys.argv[2]), 2, **{"train.steps": 1000}), workers=int(sys.argv[3]))
"""


def commands(tmp_path, count, workers):
    """Start the same sweep several times at once."""
    words = [sys.executable, "-c", SCRIPT, os.path.dirname(__file__), str(tmp_path), str(workers)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return [subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=environment) for _ in range(count)]


@pytest.mark.slow
def test_four_commands_at_once_share_the_runs_and_train_none_twice(tmp_path):
    for process in commands(tmp_path, 4, 1):
        assert process.communicate(timeout=300)[1] == ""
        assert process.returncode == 0
    for folder in tmp_path.iterdir():
        steps = [row["step"] for row in runs.read_history(folder) if row["split"] == "train"]
        assert steps == sorted(set(steps))
        assert steps[-1] == 1000
        assert sorted(one.name for one in folder.glob(".*")) == []
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.slow
def test_a_worker_that_is_asked_to_stop_saves_its_run_which_is_taken_up(tmp_path):
    jobs = jobs_in(tmp_path, 2, **{"train.steps": 4000, "train.checkpoint_every": 4000})
    ended, others = [], set(children())  # those that joblib keeps for other tests

    def ask():
        while not all((job.folder / "metrics.jsonl").is_file() for job in jobs):
            time.sleep(0.05)
        for pid in set(children()) - others:
            os.kill(pid, signal.SIGTERM)

    thread = threading.Thread(target=ask)
    thread.start()
    sweep.sweep(jobs, workers=2, tell=ended.append)
    thread.join()
    assert len(ended) == 2
    for job in jobs:
        steps = [row["step"] for row in runs.read_history(job.folder) if row["split"] == "train"]
        assert steps == sorted(set(steps))  # it went on where it was, and not from the beginning


def children():
    """Return the processes that loky has started for this one."""
    listed = subprocess.run(["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in listed.splitlines()[1:]]
    return [int(pid) for pid, parent, words in rows if int(parent) == os.getpid() and "popen_loky" in words]


@pytest.mark.slow
def test_an_interrupted_sweep_says_how_to_go_on(tmp_path):
    code = (
        "import sys, os, signal, threading, time\n"
        "from pathlib import Path\n"
        f"sys.path.insert(0, {str(os.path.dirname(__file__))!r})\n"
        "from test_sweep import jobs_in\n"
        "from vsc.sweep import jobs as sweep\n"
        "from vsc.errors import Interrupted\n"
        "if __name__ == '__main__':\n"
        f"    jobs = jobs_in(Path({str(tmp_path)!r}), 2, **{{'train.steps': 100_000}})\n"
        "    def stop():\n"
        "        while not all((job.folder / 'metrics.jsonl').is_file() for job in jobs):\n"
        "            time.sleep(0.1)\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "    threading.Thread(target=stop).start()\n"
        "    try:\n"
        "        sweep.sweep(jobs, workers=2, command='vsc study x')\n"
        "    except Interrupted as stop:\n"
        "        print(stop)\n"
    )
    script = tmp_path / "script.py"
    script.write_text(code)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=300, check=True)
    assert "stopped with 0 of 2 runs finished; go on with: vsc study x" in done.stdout
    assert len(list(tmp_path.glob("*/checkpoints/last.pt"))) == 2


def test_an_interrupted_sweep_of_one_worker_keeps_its_signal(tmp_path, monkeypatch):
    def stop(*arguments, **others):
        raise Interrupted("stopped at step 5 of 20", "x", signal.SIGTERM)

    monkeypatch.setattr(sweep, "train", stop)
    with pytest.raises(Interrupted) as error:
        sweep.sweep(jobs_in(tmp_path), command="vsc study x")
    assert str(error.value) == "stopped with 0 of 2 runs finished; go on with: vsc study x"
    assert error.value.code == 143


def test_a_moved_data_folder_is_the_same_run(tmp_path):
    job = jobs_in(tmp_path, 1)[0]
    sweep.finish(job)
    moved = replace(BASE, data=replace(BASE.data, root=str(tmp_path)))
    assert sweep.finish(sweep.plan("moved", moved, tmp_path)) == sweep.finish(job)
