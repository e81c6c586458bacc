"""
Speed and memory against bare PyTorch, as ratios measured in one run.

Absolute times differ between machines and moments, so everything is measured in alternation and compared as a ratio:

- a whole training step (`vsc.train`: batch, schedules, estimator, bound, backward, Adam, log) against the bare step of
  the same layers on a fixed batch (forward, cross-entropy, backward, fused Adam, nothing else);
- a whole step of other priors and estimators against that of fixed gates; the floor of pseudo-inputs is what it
  takes to pass U more examples through the encoder and Adam;
- making the batch, as a share of the whole step;
- `import vsc` and `vsc --help` against `import torch`;
- the peak memory of a training process beyond that of `import torch` and the data.

Run with `make bench`, or `python benchmarks/speed.py --help` for its options.
"""

import argparse
import statistics
import subprocess
import sys
import time

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

import vsc
from vsc.data.batches import Batches
from vsc.model.scaling import fit_scaler

M, J, HIDDEN, B = 784, 200, 400, 128


FAMILY = {
    "pseudo-inputs, U = 100": {"gates": "pseudo-inputs", "components": 100},
    "pseudo-inputs, U = 500": {"gates": "pseudo-inputs", "components": 500},
    "mixture, U = 100": {"gates": "mixture", "components": 100},
    "mixture, U = 500": {"gates": "mixture", "components": 500},
    "learned": {"gates": "learned"},
    "disarm": {"spikes": "disarm"},
}
"""What a step of these costs is compared with a step of the default VSC."""


def data(n: int) -> vsc.data.split.Dataset:
    """Random bytes of MNIST's shape: speed does not depend on what they show."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (n, M), dtype=torch.uint8, generator=generator)
    return vsc.from_arrays(x.reshape(n, 28, 28), name="random")


def whole_step(examples, steps: int, **model) -> float:
    """Seconds per step of `vsc.train`: the difference of a long and a short run, so that the start does not count."""
    times = []
    for n in (20, 20 + steps):
        config = vsc.Config(
            data=vsc.DataConfig(scale="unit-interval"),
            model=vsc.ModelConfig(latent_dim=J, hidden=(HIDDEN,), **{"gates": "fixed"} | model),
            train=vsc.TrainConfig(steps=n, batch_size=B, valid_every=10**9),
        )
        start = time.perf_counter()
        vsc.train(examples, config)
        times.append(time.perf_counter() - start)
    return (times[1] - times[0]) / steps


def bare_step(steps: int, pseudo_inputs: int = 0) -> float:
    """Seconds per step of the same layers on a fixed batch; with pseudo-inputs, the encoder passes them too."""
    encoder = nn.Sequential(nn.Linear(M, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 3 * J))
    decoder = nn.Sequential(nn.Linear(J, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, M))
    parameters = [*encoder.parameters(), *decoder.parameters()]
    more = torch.rand(pseudo_inputs, M, requires_grad=True)
    optimizer = torch.optim.Adam([*parameters, more] if pseudo_inputs else parameters, lr=1e-3, fused=True)
    x = torch.rand(B, M)
    start = 0.0
    for step in range(20 + steps):
        if step == 20:
            start = time.perf_counter()
        loss = binary_cross_entropy_with_logits(decoder(encoder(x)[:, :J]), x)
        loss = loss + encoder(more).mean() if pseudo_inputs else loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return (time.perf_counter() - start) / steps


def batch_seconds(examples, steps: int) -> float:
    """Seconds to make one batch."""
    x = examples.train.x
    batches = Batches(x, fit_scaler("unit-interval", x, examples.high), B, seed=0)
    start = time.perf_counter()
    for step in range(steps):
        batches(step)
    return (time.perf_counter() - start) / steps


def process_seconds(*words: str) -> float:
    """Seconds that a fresh Python takes."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


PEAK = "import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)"


def peak_megabytes(code: str) -> int:
    """Peak resident memory in MB of a fresh Python that runs `code` (Linux)."""
    return int(subprocess.run([sys.executable, "-c", f"{code}\n{PEAK}"], check=True, capture_output=True).stdout)


def spread(ratios: list[float]) -> str:
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f} in {len(ratios)} rounds)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="alternations to take the median of")
    parser.add_argument("--steps", type=int, default=300, help="training steps per measurement")
    asked = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, batch {B}, {M}-{HIDDEN}-{J}")
    torch.set_flush_denormal(True)  # as the command line does, before torch starts its threads
    examples = data(10_000)
    steps, share = [], []
    for _ in range(asked.rounds):
        bare, whole, batch = (
            bare_step(asked.steps),
            whole_step(examples, asked.steps),
            batch_seconds(examples, asked.steps),
        )
        steps.append(whole / bare)
        share.append(batch / whole)
        print(f"  bare {bare * 1e3:.2f} ms, whole {whole * 1e3:.2f} ms, batch {batch * 1e3:.3f} ms")
    print("whole step / bare step:       ", spread(steps))
    print("batch / whole step:           ", spread(share))
    family = {name: [] for name in FAMILY}
    floors = {U: [] for U in (100, 500)}
    for _ in range(asked.rounds):
        fixed = whole_step(examples, asked.steps)
        for name, model in FAMILY.items():
            family[name].append(whole_step(examples, asked.steps, **model) / fixed)
        bare = bare_step(asked.steps)
        for U, ratios in floors.items():
            ratios.append(1 + (bare_step(asked.steps, U) - bare) / fixed)
    for U, ratios in floors.items():
        print(f"floor of pseudo-inputs, U = {U}:", spread(ratios))
    for name, ratios in family.items():
        print(f"{name + ' / default step:':31}", spread(ratios))
    imports = [(process_seconds("-c", "import torch"), process_seconds("-c", "import vsc, torch")) for _ in range(5)]
    print("import vsc / import torch:    ", spread([ours / torch_ for torch_, ours in imports]))
    helps = [(process_seconds("-c", "import torch"), process_seconds("-m", "vsc", "--help")) for _ in range(5)]
    print("vsc --help / import torch:    ", spread([ours / torch_ for torch_, ours in helps]))
    trains = [
        (process_seconds("-c", "import torch"), process_seconds("-m", "vsc", "train", "--help")) for _ in range(5)
    ]
    print("vsc train --help / import torch:", spread([ours / torch_ for torch_, ours in trains]))
    code = (
        "import vsc, torch\n"
        "x = torch.randint(0, 256, (70_000, 28, 28), dtype=torch.uint8)\n"
        "data = vsc.from_arrays(x, name='random')\n"
        f"model = vsc.ModelConfig(latent_dim={J}, gates='fixed')\n"
        "config = vsc.Config(model=model, train=vsc.TrainConfig(steps=200, valid_every=100))\n"
        "vsc.train(data, config)"
    )
    beyond = peak_megabytes(code) - peak_megabytes("import torch") - 70_000 * M // 2**20
    print(f"training memory beyond import torch and the data: {beyond} MB")
    for U in (100, 500):
        own = code.replace("gates='fixed'", f"gates='pseudo-inputs', components={U}")
        more = peak_megabytes(own) - peak_megabytes(code)
        print(f"further memory with {U} pseudo-inputs: {more} MB (B U J floats are {B * U * J * 4 // 2**20} MB)")


if __name__ == "__main__":
    main()
