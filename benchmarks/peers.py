"""
Speed and memory beside other libraries, as ratios measured in one run.

Everything is measured in alternation and compared as a ratio, since absolute times vary with machines and moments:

- a whole training step of VAE and VSC (`vsc.train`) against pythae's VAE (its model, a loader's batches, Adam) on the
  same nets, batch and data;
- a step of `vsc-linear` against one of `batch-topk` of the same width, and against SAELens' BatchTopK;
- the seconds until `vsc-linear` and scikit-learn's MiniBatchDictionaryLearning leave the same share of the variance
  unexplained;
- the peak memory of a training process of each.

A library that is not installed is left out, with what to install. `python benchmarks/peers.py --help` has the options.
"""

import argparse
import statistics
import subprocess
import sys
import time
from importlib.util import find_spec

import torch
from torch import nn

import vsc

M, J, HIDDEN, B = 784, 200, 400, 128
D, WIDTH, ROWS = 128, 1024, 1024
INSTALL = {
    "pythae": "pip install pythae==0.1.2",
    "sae_lens": "pip install sae-lens",
    "sklearn": "pip install scikit-learn",
}


def missing(library: str) -> bool:
    """Whether a library is not here, and say so."""
    if find_spec(library):
        return False
    print(f"{library} is not installed and left out: {INSTALL[library]}")
    return True


def images(n: int = 10_000) -> torch.Tensor:
    """Random bytes of MNIST's shape: speed does not depend on what they show."""
    return torch.randint(0, 256, (n, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def activations(n: int = 20_000, features: int = 512, on: float = 8.0) -> torch.Tensor:
    """Return sums (n, D) of few of more directions than there are columns, some noise beside them."""
    generator = torch.Generator().manual_seed(0)
    directions = nn.functional.normalize(torch.randn(features, D, generator=generator))
    gates = torch.rand(n, features, generator=generator) < on / features
    x = (gates * (1 + 0.3 * torch.randn(n, features, generator=generator)).abs()) @ directions
    return x + 0.02 * torch.randn(n, D, generator=generator)


def per_step(train, steps: int, clock) -> float:
    """Seconds per step: the difference of a long and a short run, so that the start does not count."""
    times = []
    for n in (20, 20 + steps):
        start = clock()
        train(n)
        times.append(clock() - start)
    return (times[1] - times[0]) / steps


def ours(data, preset: str, **settings):
    """Return what trains a preset for some steps."""

    def train(steps):
        config = vsc.preset(preset, settings | {"train.steps": steps, "train.valid_every": 10**9})
        return vsc.train(data, config)

    return train


def pythae_vae(x: torch.Tensor):
    """Return what trains pythae's VAE of the same layers: its model, batches of a loader, Adam, as its trainer does."""
    from pythae.models import VAE, VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder

    class Encoder(BaseEncoder):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Flatten(), nn.Linear(M, HIDDEN), nn.ReLU())
            self.mu, self.logvar = nn.Linear(HIDDEN, J), nn.Linear(HIDDEN, J)

        def forward(self, x):
            h = self.body(x)
            return ModelOutput(embedding=self.mu(h), log_covariance=self.logvar(h))

    class Decoder(BaseDecoder):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Linear(J, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, M), nn.Sigmoid())

        def forward(self, z):
            return ModelOutput(reconstruction=self.body(z).reshape(-1, 1, 28, 28))

    from pythae.data.datasets import BaseDataset

    rows = BaseDataset(x[:, None].float() / 255, torch.ones(len(x)))

    def train(steps):
        config = VAEConfig(input_dim=(1, 28, 28), latent_dim=J, reconstruction_loss="bce")
        model = VAE(config, encoder=Encoder(), decoder=Decoder())
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        loader = torch.utils.data.DataLoader(rows, batch_size=B, shuffle=True)
        done = 0
        while done < steps:
            for batch in loader:
                loss = model(batch, epoch=1, dataset_size=len(x)).loss
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                loss.item()  # its trainer sums what it has lost
                if (done := done + 1) == steps:
                    break

    return train


def saelens_batch_topk(x: torch.Tensor, k: float):
    """Return what trains SAELens' BatchTopK on the same rows: its step of training, Adam and random batches."""
    from sae_lens import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig
    from sae_lens.saes.sae import TrainStepInput

    def train(steps):
        sae = BatchTopKTrainingSAE(BatchTopKTrainingSAEConfig(d_in=D, d_sae=WIDTH, k=k))
        optimizer = torch.optim.Adam(sae.parameters(), lr=1e-3)
        for step in range(steps):
            batch = x[torch.randint(len(x), (ROWS,))]
            given = TrainStepInput(
                sae_in=batch, coefficients={}, dead_neuron_mask=None, n_training_steps=step, is_logging_step=False
            )
            loss = sae.training_forward_pass(given).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return train


def unexplained(x: torch.Tensor, rebuilt: torch.Tensor) -> float:
    """FVU: what a reconstruction leaves of the variance."""
    return ((x - rebuilt).square().sum() / (x - x.mean(0)).square().sum()).item()


def beside_scikit_learn(x: torch.Tensor, k: int, passes: int) -> None:
    """Print how long dictionary learning takes, and VSC until its codes of as many latents leave as little."""
    from sklearn.decomposition import MiniBatchDictionaryLearning

    train, test = x[:-2000], x[-2000:]
    start = time.perf_counter()
    found = MiniBatchDictionaryLearning(
        WIDTH // 4,
        max_iter=passes,
        batch_size=256,
        transform_algorithm="omp",
        transform_n_nonzero_coefs=k,
        random_state=0,
    ).fit(train.numpy())
    seconds, fvu = (
        time.perf_counter() - start,
        unexplained(test, torch.from_numpy(found.inverse_transform(found.transform(test.numpy())))),
    )
    print(f"scikit-learn, {passes} passes: {seconds:.1f} s, FVU {fvu:.3f} at {k} non-zeros by OMP")
    data = vsc.from_arrays(train.numpy(), name="activations")
    for steps in (250, 500, 1000, 2000, 4000):
        start = time.perf_counter()
        model = ours(data, "vsc-linear", **{"model.latent_dim": WIDTH // 4, "train.batch_size": 256})(steps)
        seconds = time.perf_counter() - start
        codes = model.encode(test)
        left = unexplained(model.scaled(test), model.decode(codes.hard))
        print(f"vsc-linear, {steps} steps: {seconds:.1f} s, FVU {left:.3f} at {codes.active.sum(1).float().mean():.1f}")
        if left <= fvu:
            break


def spread(ratios: list[float]) -> str:
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f} in {len(ratios)} rounds)"


def alternate(what: dict, base: str, rounds: int, steps: int, clock) -> None:
    """Print how much longer or shorter a step of each takes than one of `base`, measured in turn."""
    seconds = {name: [] for name in what}
    for train in what.values():
        train(2)  # what is imported and planned once
    for _ in range(rounds):
        for name, train in what.items():
            seconds[name].append(per_step(train, steps, clock))
    for name, times in seconds.items():
        ratios = [one / other for one, other in zip(times, seconds[base], strict=True)]
        words = f"{name} / {base}:"
        print(f"{words:44} {spread(ratios)}, {1e3 * statistics.median(times):.2f} ms")


PEAK = "import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)"


def peak(call: str) -> int:
    """Peak resident memory in MB of a fresh Python that runs a call of this file's (Linux)."""
    code = f"import sys; sys.path.insert(0, {sys.path[0]!r})\nfrom peers import *\n{call}\n{PEAK}"
    return int(
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()[-1]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="alternations to take the median of")
    parser.add_argument("--steps", type=int, default=200, help="training steps per measurement")
    parser.add_argument("--only", choices=["pythae", "sae", "sklearn", "memory"], help="one part of all")
    parser.add_argument("--cpu", action="store_true", help="count CPU seconds: a busy machine bends them less")
    asked = parser.parse_args()
    clock = time.process_time if asked.cpu else time.perf_counter
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    torch.set_flush_denormal(True)
    pictures, rows, k = images(), activations(), 8
    if asked.only in (None, "pythae") and not missing("pythae"):
        data = vsc.from_arrays(pictures, name="random")
        same = {"model.latent_dim": J, "model.hidden": (HIDDEN,), "data.scale": "unit-interval"}
        same["model.likelihood"] = "bernoulli"  # pythae's bce; of random bytes ours would be gaussian-shared
        nets = {
            "pythae VAE": pythae_vae(pictures),
            "VAE": ours(data, "vae", **same),
            "VSC": ours(data, "vsc-fixed", **same),
        }
        alternate(nets, "pythae VAE", asked.rounds, asked.steps, clock)
    if asked.only in (None, "sae"):
        data = vsc.from_arrays(rows.numpy(), name="activations")
        same = {"model.latent_dim": WIDTH, "train.batch_size": ROWS}
        coders = {"batch-topk": ours(data, "batch-topk", **same, **{"train.target_l0": float(k)})}
        coders["vsc-linear"] = ours(data, "vsc-linear", **same)
        if not missing("sae_lens"):
            coders["SAELens BatchTopK"] = saelens_batch_topk(rows, k)
        alternate(coders, "batch-topk", asked.rounds, max(20, asked.steps // 5), clock)
    if asked.only in (None, "sklearn") and not missing("sklearn"):
        beside_scikit_learn(rows, k, passes=2)
    if asked.only in (None, "memory"):
        alone = peak("images()")
        own = "ours(vsc.from_arrays(images()), 'vae', **{'model.latent_dim': J})(200)"
        print(f"memory beyond the data, VAE: {peak(own) - alone} MB")
        if not missing("pythae"):
            print(f"memory beyond the data, pythae VAE: {peak('pythae_vae(images())(200)') - alone} MB")


if __name__ == "__main__":
    main()
