"""
Time and peak memory of a training step of wide linear VSCs: 384 values, batches of 1024.

Each number of latents has a process of its own, whose peak memory is what the system says of it, all of `vsc.train`
included: the model, Adam, validation, log and checkpoint.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

import vsc

M, B = 384, 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latents", type=int, nargs="+", default=[16_384, 65_536])
    parser.add_argument("--preset", default="vsc-linear")
    parser.add_argument("--steps", type=int, default=3)
    ask = parser.parse_args()
    if len(ask.latents) == 1:
        step(ask.latents[0], ask.preset, ask.steps)
    else:
        for J in ask.latents:
            words = ["--latents", str(J), "--preset", ask.preset, "--steps", str(ask.steps)]
            subprocess.run([sys.executable, "-W", "ignore", __file__, *words], check=True)


def step(J: int, preset: str, steps: int) -> None:
    """Train on noise, and say what a step takes; the first does not count."""
    x = torch.randn(2 * B, M, generator=torch.Generator().manual_seed(0))
    settings = {"model.latent_dim": J, "train.batch_size": B, "train.steps": steps + 1, "train.log_every": 1}
    config = vsc.preset(preset, settings | {"train.device": "cpu", "train.patience": 0})
    with tempfile.TemporaryDirectory() as folder:
        vsc.train(vsc.from_arrays(x.numpy()), config, Path(folder) / "run", tell=lambda said: None)
        lines = (Path(folder) / "run" / "metrics.jsonl").read_text().splitlines()
    stamps = [row["seconds"] for row in map(json.loads, lines) if row["split"] == "train"]
    each = (stamps[-1] - stamps[0]) / steps
    print(f"{preset}, {J} latents: {each:.1f} s a step, with validation and log; peak {peak():.1f} GB; ", end="")
    print(f"longest line of metrics.jsonl {max(map(len, lines))} characters")


def peak() -> float:
    """Return the largest memory of this process so far, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


if __name__ == "__main__":
    main()
