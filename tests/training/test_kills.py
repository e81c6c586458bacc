"""The kill drill: a run that is killed again and again at random moments ends as one that was left alone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import vsc
from vsc.training import runs

DRILL = '''
import os, random, signal, sys, time
from pathlib import Path
import filelock, lightning_fabric, safetensors.torch, torch, yaml
torch.set_num_threads(1)
from vsc import data
from vsc.cli.running import main
from vsc.training import diagnosis, loop, runs

data.load("digits")
root, kills, words = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
sys.stdout.flush()

def begin(folder):
    """Train in a process of its own, which starts at once: all is imported already."""
    child = os.fork()
    if child:
        return child
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    resumed = ["--resume"] if (folder / "checkpoints" / "last.pt").is_file() else [*words, "--overwrite"]
    os._exit(main(["train", "--out", str(folder), *resumed]))

def end(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

assert end(begin(root / "whole")) == 0
moments, killed, round_ = random.Random(0), 0, 0
while killed < kills:
    folder, round_ = root / f"killed-{round_}", round_ + 1
    while not runs.is_finished(folder) and killed < kills:
        child = begin(folder)
        time.sleep(moments.uniform(0.0, 0.4))
        os.kill(child, signal.SIGKILL)
        killed += end(child) == -signal.SIGKILL
    if not runs.is_finished(folder):
        assert end(begin(folder)) == 0
print(killed, round_)
'''

SMALL = ["--latent-dim", "4", "--model.hidden", "[16]", "--device", "cpu", "--steps", "800", "--batch-size", "32"]
OFTEN = ["--train.checkpoint_every", "7", "--train.log_every", "10", "--train.valid_every", "20"]
RUNS = {
    "pseudo-inputs": ["--gates", "pseudo-inputs", "--model.components", "10", "--data.binarise", "true"],
    "bf16-true": ["--target-l0", "2", "--train.precision", "bf16-true", "--train.patience", "30"],
    "bf16-mixed": ["--gates", "mixture", "--model.components", "5", "--train.precision", "bf16-mixed"],
}


def history(run):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in runs.read_history(run)]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("name", RUNS)
def test_a_run_that_is_killed_at_random_moments_ends_bit_for_bit_as_if_it_were_not(tmp_path, name):
    kills = 34  # 102 in all
    environment = os.environ | {"PYTHONPATH": str(Path(vsc.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", DRILL, str(tmp_path), str(kills), *SMALL, *OFTEN, *RUNS[name]]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    killed, rounds = map(int, done.stdout.split())
    assert killed == kills
    whole = tmp_path / "whole"
    for number in range(rounds):
        run = tmp_path / f"killed-{number}"
        weights = Path("model") / "model.safetensors"
        assert (run / weights).read_bytes() == (whole / weights).read_bytes()
        assert history(run) == history(whole)
        files = [{path.relative_to(one) for path in one.rglob("*")} for one in (run, whole)]
        assert files[0] == files[1]  # nothing that was being written is left
