"""Whether seeds trained as one batched model would be faster: a step of three, stacked by torch.func, over one's.

usage: python benchmarks/seeds.py [--seeds 3] [--rounds 8]

The VAE and the default VSC on the digits, batch 128, one thread, alternating; ratios of CPU seconds, medians over the
rounds with their range.
"""

import argparse
import copy
import statistics
import time
from collections.abc import Callable

import torch
from torch.func import functional_call, stack_module_state, vmap

import vsc
from vsc.settings.build import new_model
from vsc.settings.resolve import resolve

STEPS = 15


def made(preset: str, seed: int) -> tuple[vsc.Autoencoder, torch.Tensor]:
    """Return a model as before its first step, and a batch of its own."""
    data = vsc.load_data("digits")
    torch.manual_seed(seed)
    model = new_model(resolve(vsc.preset(preset), data), data).train()
    return model, model.scaler(data.train.x[128 * seed :][:128])


def stacked(preset: str, seeds: int) -> Callable[[], None]:
    """Return a step of so many seeds as one model."""
    models, batches = zip(*(made(preset, seed) for seed in range(seeds)), strict=True)
    x = torch.stack(batches)
    weights, buffers = stack_module_state(models)
    adam, shell = torch.optim.Adam(weights.values(), fused=True), copy.deepcopy(models[0])

    def loss(weights, buffers, x):
        return -functional_call(shell, (weights, buffers), (x,)).elbo.mean()

    def step():
        adam.zero_grad()
        vmap(loss, randomness="different")(weights, buffers, x).sum().backward()
        adam.step()

    return step


def plain(preset: str) -> Callable[[], None]:
    """Return a step of one seed."""
    model, x = made(preset, 0)
    adam = torch.optim.Adam(model.parameters(), fused=True)

    def step():
        adam.zero_grad()
        (-model(x).elbo.mean()).backward()
        adam.step()

    return step


def seconds(step: Callable[[], None]) -> float:
    step()
    start = time.process_time()
    for _ in range(STEPS):
        step()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=8)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    for preset in ("vae", "vsc"):
        one, many = plain(preset), stacked(preset, asked.seeds)
        ratios = [seconds(many) / seconds(one) for _ in range(asked.rounds)]
        spread = f"({min(ratios):.2f} to {max(ratios):.2f})"
        print(f"{preset}: {asked.seeds} seeds / one: {statistics.median(ratios):.2f} {spread}", flush=True)


if __name__ == "__main__":
    main()
