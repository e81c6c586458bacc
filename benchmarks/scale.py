"""
Time and peak memory of a training step of wide linear VSCs: 384 values, batches of 1024.

Each number of latents has a process of its own, whose peak memory is what the system says of it, all of `vsc.train`
included: the model, Adam, validation, log and checkpoint.

`--encode ROWS` writes so many rows of noise into a folder of shards, has `vsc encode` write their sparse codes, and
says how fast that is beside `model.encode_parts` of rows in memory, before and after. The model is untrained: 2 % of
its 2048 latents (`--latents`) are on.
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
from scipy.sparse import load_npz

import vsc
from vsc.cli.running import main as command
from vsc.model import Autoencoder

M, B = 384, 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latents", type=int, nargs="+", default=[16_384, 65_536])
    parser.add_argument("--preset", default="vsc-linear")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--encode", type=int, metavar="ROWS")
    ask = parser.parse_args()
    if ask.encode:
        encode(ask.encode, ask.latents[0] if len(ask.latents) == 1 else 2048, ask.preset)
    elif len(ask.latents) == 1:
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


def encode(rows: int, J: int, preset: str) -> None:
    """Write codes of rows on disk, and say how fast, and in how much memory."""
    begun = peak()
    rng, shards = np.random.default_rng(0), min(8, rows // B)
    config = vsc.preset(preset, {"model.latent_dim": J, "train.batch_size": B, "train.steps": 1, "train.device": "cpu"})
    with tempfile.TemporaryDirectory() as folder:
        run, data, out = Path(folder, "run"), Path(folder, "data"), Path(folder, "codes.csr.npz")
        data.mkdir()
        for i in range(shards):
            shard = np.lib.format.open_memmap(data / f"{i}.npy", "w+", np.float32, (rows // shards, M))
            for part in np.array_split(shard, max(1, len(shard) // B)):
                part[:] = rng.normal(size=part.shape)
            shard.flush()
        x = torch.randn(4 * B, M)
        model = vsc.train(vsc.from_arrays(x.numpy()), config, run, tell=lambda said: None)
        rates = [in_memory(model, x)]
        start = clocks()
        assert command(["encode", str(run), "--data", str(data), "--out", str(out)]) == 0
        (seconds, busy), most = clocks() - start, peak()
        rates.append(in_memory(model, x))
        codes, size = load_npz(out), out.stat().st_size
    n, (own, own_busy) = codes.shape[0], sum(rates) / len(rates)
    print(
        f"{n} rows of {M} values, {J} latents, {codes.nnz / n:.1f} on: {seconds:.0f} s, {n / seconds:.0f} rows a second"
    )
    print(
        f"encoding alone {rates[0][0]:.0f} before and {rates[1][0]:.0f} after: {n / seconds / own:.0%} of it, or ",
        end="",
    )
    print(f"{n / busy / own_busy:.0%} by the processor's time, which other processes hardly change")
    print(f"peak {most:.2f} GB, {begun:.2f} of it after the imports; file {size / 1e6:.0f} MB")


def in_memory(model: Autoencoder, x: torch.Tensor, least: float = 15.0) -> np.ndarray:
    """Return how many rows a second the model makes codes of over `least` seconds, a batch at a time, by `clocks`."""
    done, start = 0, clocks()
    while (clocks() - start)[0] < least:
        done += sum(len(part.z) for part in model.encode_parts(x, B))
    return done / (clocks() - start)


def clocks() -> np.ndarray:
    """Return the seconds by the clock and of the processor for this process."""
    return np.array([time.perf_counter(), time.process_time()])


def peak() -> float:
    """Return the largest memory of this process so far, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


if __name__ == "__main__":
    main()
