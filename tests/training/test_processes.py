"""Real processes: signals and exit codes, a kill in the middle, and several processes that train as one."""

import io
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import vsc
from vsc.cli.running import main
from vsc.training import runs

SMALL = ["--latent-dim", "4", "--model.hidden", "[16]", "--device", "cpu"]
LONG = ["--steps", "1500", *SMALL, "--train.checkpoint_every", "7", "--train.log_every", "50"]


def environment():
    source = str(Path(vsc.__file__).parents[1])
    return os.environ | {"PYTHONPATH": source, "OMP_NUM_THREADS": "1"}


def start(*words, module=("-m", "vsc")):
    return subprocess.Popen(
        [sys.executable, *module, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )


def stop_after_checkpoint(folder, signum):
    """Start a long run, send it a signal once it has a checkpoint, and return its exit code, stdout and stderr."""
    process = start("train", "--out", str(folder), *LONG)
    try:
        deadline = time.monotonic() + 60
        while not (folder / "checkpoints" / "last.pt").is_file():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signum)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert not runs.is_finished(folder), "the run was over before the signal came; make it longer"
    return process.returncode, out, err


def same_run(a, b):
    drop = [[{k: v for k, v in row.items() if k != "seconds"} for row in runs.read_history(run)] for run in (a, b)]
    assert drop[0] == drop[1]
    ours, theirs = (load_file(run / "model" / "model.safetensors") for run in (a, b))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


THREE = """
import sys, vsc.cli
for precision in ("32-true", "bf16-mixed", "16-mixed"):
    sys.argv[2:4] = ["--train.precision=" + precision, "--out=" + precision]
    assert vsc.cli.main() == 0
"""


def test_runs_print_no_control_characters_and_nothing_on_stderr_where_that_is_no_terminal(tmp_path, monkeypatch):
    """Nor does another library have a word to say on a precision; in one process, whose start takes longest."""
    monkeypatch.chdir(tmp_path)
    process = start("train", "", "", "--steps", "3", *SMALL, module=("-c", THREE))
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert "\r" not in out
    assert "\x1b" not in out
    assert out.count("vsc evaluate") == 3


@pytest.mark.slow
def test_a_stopped_or_killed_process_is_resumed_bit_for_bit(tmp_path):
    code, _, err = stop_after_checkpoint(tmp_path / "term", signal.SIGTERM)
    assert code == 143
    assert err.startswith("vsc: stopped at step ")
    assert err.endswith(f"of 1500; go on with: vsc train --out {tmp_path / 'term'} --resume\n")
    code, _, err = stop_after_checkpoint(tmp_path / "int", signal.SIGINT)
    assert code == 130
    assert err.endswith(f"--out {tmp_path / 'int'} --resume\n")
    code, _, err = stop_after_checkpoint(tmp_path / "kill", signal.SIGKILL)
    assert code == -signal.SIGKILL
    assert err == ""
    assert main(["train", "--out", str(tmp_path / "whole"), *LONG]) == 0
    for name in ("term", "int", "kill"):
        assert main(["train", "--out", str(tmp_path / name), "--resume"]) == 0
        same_run(tmp_path / name, tmp_path / "whole")


TOGETHER = ["--model", "ae", "--steps", "8", "--batch-size", "64", "--train.log_every", "4", *SMALL]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["torchrun", "devices"])
def test_two_processes_train_as_one_with_the_joined_batch(tmp_path, how):
    if how == "torchrun":
        launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "vsc")
        process = start("train", "--out", str(tmp_path / "two"), *TOGETHER, module=launcher)
    else:
        process = start("train", "--out", str(tmp_path / "two"), "--train.devices", "2", *TOGETHER)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert out.count("saved in") == 1  # one of the processes speaks
    assert main(["train", "--out", str(tmp_path / "one"), *TOGETHER]) == 0
    one, two = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("one", "two"))
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=0, atol=1e-6)
    ours, theirs = (
        [row["log_px"] for row in runs.read_history(tmp_path / name) if row["split"] == "train"]
        for name in ("one", "two")
    )
    assert theirs == pytest.approx(ours, rel=1e-4)  # over the batch of both, not the writer's own
    state = runs.load_checkpoint(tmp_path / "two" / "checkpoints" / "last.pt")
    assert len(state["rng"]) == 2
    assert not torch.equal(state["rng"][0], state["rng"][1])  # the noise of the two differs


LAUNCHER = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "vsc")


@pytest.mark.slow
@pytest.mark.parametrize(("signum", "whom"), [(signal.SIGINT, "ranks"), (signal.SIGTERM, "launcher")])
def test_two_processes_that_are_stopped_go_on_bit_for_bit(tmp_path, signum, whom):
    words = [*LONG, "--train.log_every", "10", "--steps", "300"]
    whole = start("train", "--out", str(tmp_path / "whole"), *words, module=LAUNCHER)
    _, err = whole.communicate(timeout=180)
    assert whole.returncode == 0, err
    process = start("train", "--out", str(tmp_path / "parts"), *words, module=LAUNCHER)
    deadline = time.monotonic() + 60
    while not (tmp_path / "parts" / "checkpoints" / "last.pt").is_file():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    ranks = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    for one in ranks if whom == "ranks" else [process.pid]:
        os.kill(int(one), signum)
    _, err = process.communicate(timeout=60)
    assert err.count("vsc: stopped at step ") == 2
    assert not runs.is_finished(tmp_path / "parts")
    again = start("train", "--out", str(tmp_path / "parts"), "--resume", module=LAUNCHER)
    _, err = again.communicate(timeout=180)
    assert again.returncode == 0, err
    same_run(tmp_path / "parts", tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize(
    "prior", [["fixed"], ["learned", "--model.slab", "learned"], ["pseudo-inputs"], ["mixture", "--model.slab", "unit"]]
)
def test_two_processes_train_every_prior(tmp_path, prior):
    words = ["--train.devices", "2", "--gates", *prior, "--steps", "6", "--batch-size", "32", *SMALL]
    process = start("train", "--out", str(tmp_path / "run"), *words)
    _, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")
    assert runs.is_finished(tmp_path / "run")


@pytest.mark.parametrize(
    "words", [["study", "by-dim"], ["tune"], ["compare"], ["evaluate", "run"], ["report", "run"], ["sample", "run"]]
)
def test_commands_of_one_process_refuse_several_in_one_line(capsys, monkeypatch, words):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(words) == 2
    assert capsys.readouterr().err == (
        f"vsc: vsc {words[0]} is the work of one process; vsc train alone is shared by several (torchrun)\n"
    )


def test_a_comparison_does_not_start_processes_that_would_each_be_one(capsys):
    assert main(["compare", "--train.devices", "2"]) == 2
    assert "is the work of one process" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_at_any_moment_is_one_line(tmp_path, times):
    moments = random.Random(times)
    for number in range(12):
        process = start("train", "--out", str(tmp_path / str(number)), *LONG)
        time.sleep(moments.uniform(0.15, 3.0))  # before, Python itself is not there yet
        for _ in range(times):
            process.send_signal(signal.SIGINT)
            time.sleep(moments.uniform(0.0, 0.1))
        _, err = process.communicate(timeout=60)
        assert process.returncode == 130
        assert err.startswith("vsc: stopped")
        assert err.count("\n") == 1


def test_a_terminal_without_a_character_shows_a_plain_one(monkeypatch):
    import vsc.cli

    shown = io.BytesIO()
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, io.TextIOWrapper(shown, encoding="ascii", write_through=True))
    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr("vsc.cli.running.main", lambda ready: print("1 ± 2 – ≥ 3 \u6f22"))
    try:
        vsc.cli.main()
    finally:
        signal.signal(signal.SIGINT, before)
    assert shown.getvalue() == b"1 +- 2 - >= 3 ?\n"


@pytest.mark.slow
def test_two_processes_agree_on_what_latents_cost(tmp_path):
    words = ["--target-l0", "1", "--cap", "0.4", "--steps", "20", *SMALL]
    process = start("train", "--out", str(tmp_path / "two"), "--train.devices", "2", "--batch-size", "64", *words)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert out.count("saved in") == 1
    assert runs.load_checkpoint(tmp_path / "two" / "checkpoints" / "last.pt")["progress"]["pressure"]["total"] != 0


@pytest.mark.slow
def test_processes_that_may_not_write_all_end(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("mine")
    process = start("train", "--out", str(tmp_path / "mine"), "--train.devices", "2", *TOGETHER)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "is not a run folder" in err
