"""
Wide linear VSCs and many rows: time and peak memory.

- `step`: a training step of a linear VSC with 16 384 and with 65 536 latents on 384 values, in batches of 1024;
- `encode`: `vsc encode` of 10^6 rows of 384 values in a .npy file to sparse codes, against the model's codes alone.

Everything runs in a process of its own, whose peak memory is what the system says of it. `python benchmarks/scale.py
step --latents 65536`, `python benchmarks/scale.py encode --rows 1000000`.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

import vsc
from vsc.settings.presets import PRESETS, changed

M, B = 384, 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["step", "encode"])
    parser.add_argument("--latents", type=int, nargs="+", default=[16_384, 65_536])
    parser.add_argument("--preset", default="vsc-linear")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--rows", type=int, default=1_000_000)
    ask = parser.parse_args()
    if ask.what == "encode":
        encode(ask.rows)
    elif len(ask.latents) == 1:
        step(ask.latents[0], ask.preset, ask.steps)
    else:
        for J in ask.latents:
            words = ["step", "--latents", str(J), "--preset", ask.preset, "--steps", str(ask.steps)]
            subprocess.run([sys.executable, "-W", "ignore", __file__, *words], check=True)


def step(J: int, preset: str, steps: int) -> None:
    """Train on noise, and say what a step takes; the first does not count."""
    x = torch.randn(2 * B, M, generator=torch.Generator().manual_seed(0))
    settings = {"model.latent_dim": J, "train.batch_size": B, "train.steps": steps + 1, "train.log_every": 1}
    config = changed(vsc.Config(), PRESETS[preset][1] | settings | {"train.device": "cpu", "train.patience": 0})
    with tempfile.TemporaryDirectory() as folder:
        vsc.train(vsc.from_arrays(x.numpy()), config, Path(folder) / "run", tell=lambda said: None)
        lines = (Path(folder) / "run" / "metrics.jsonl").read_text().splitlines()
    stamps = [row["seconds"] for row in map(json.loads, lines) if row["split"] == "train"]
    each = (stamps[-1] - stamps[0]) / steps
    print(f"{preset}, {J} latents: {each:.1f} s a step, with validation and log; peak {peak():.1f} GB; ", end="")
    print(f"longest line of metrics.jsonl {max(map(len, lines))} characters")


def encode(rows: int) -> None:
    """Encode rows of noise from disk, by the command and by the model alone on one block."""
    with tempfile.TemporaryDirectory() as folder:
        run, file, out = Path(folder) / "run", Path(folder) / "x.npy", Path(folder) / "codes.csr.npz"
        rng = np.random.default_rng(0)
        settings = {"model.latent_dim": 2048, "train.batch_size": B, "train.steps": 50, "train.device": "cpu"}
        data = vsc.from_arrays(rng.standard_normal((20_000, M), np.float32))
        model = vsc.train(data, changed(vsc.Config(), PRESETS["vsc-linear"][1] | settings), run)
        mapped = np.lib.format.open_memmap(file, "w+", np.float32, (rows, M))
        for block in np.array_split(np.arange(rows), max(1, rows // 100_000)):
            mapped[block] = rng.standard_normal((len(block), M), np.float32)
        mapped.flush()
        x = torch.from_numpy(np.array(mapped[: 20 * B]))
        start = time.perf_counter()
        for part in x.split(B):
            with torch.no_grad():
                model.codes(model.scaler(part))
        alone = (time.perf_counter() - start) / len(x)
        words = ["encode", str(run), "--data", str(file), "--out", str(out)]
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "vsc", *words], check=True)
        whole = (time.perf_counter() - start) / rows
        children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
        print(f"{rows} rows: {1e6 * whole:.0f} us each, {alone / whole:.0%} of the speed of the codes alone; ", end="")
        print(f"peak {children:.1f} GB")


def peak() -> float:
    """Return the largest memory of this process so far, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


if __name__ == "__main__":
    main()
