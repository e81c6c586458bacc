"""What a bound makes of the true directions: linear VSCs that start at the features of the world `synth`.

usage: python benchmarks/features.py [--models vsc-linear vsc-lista] [--steps 2000] [--seeds 1]

If training finds features less well from random directions, the search is what fails; if it leaves the true ones for a
better bound, the bound prefers other answers. "Refined" codes took one sweep of coordinate ascent. Everything is
measured on validation rows, with the settings of `vsc study features`: hard spikes, the ELBO in nats per row.
"""

import argparse

import torch

import vsc
from vsc.data.synth import world
from vsc.measure.measured import Measured
from vsc.model import VSC
from vsc.settings.build import new_model
from vsc.settings.resolve import resolve

METRICS = ("feature-f1", "feature-mcc", "fvu")


def row(model: "vsc.Autoencoder", data: "vsc.Dataset", title: str) -> None:
    seen = Measured(model.eval(), data, "valid")
    found, scores = seen.metrics(METRICS), seen.scores()
    print(f"{title:50}", *(f"{v:9.3f}" for v in (scores.elbo, scores.active, *(found[name] for name in METRICS))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["vsc-linear", "vsc-lista"])
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=1)
    asked = parser.parse_args()
    data, truth = vsc.load_data("synth"), world("synth")
    most = truth.rates.topk(256).indices
    print(f"{'':50}", *(f"{name:>9}" for name in ("ELBO", "on", "F1", "MCC", "FVU")))
    for name in asked.models:
        for seed in range(asked.seeds):
            for known in (False, True):
                settings = {"model.latent_dim": 256, "train.batch_size": 1024, "train.steps": asked.steps}
                config = resolve(vsc.preset(name, settings | {"train.seed": seed, "data.name": "synth"}), data)
                torch.manual_seed(seed)
                model = new_model(config, data)
                if known:
                    with torch.no_grad():
                        model.decoder.get_parameter("directions").copy_(truth.directions[most])
                        model.encoder.get_parameter("projections").copy_(truth.directions[most])
                found = vsc.train(data, vsc.Config(train=config.train), model=model)
                begin = f"{name}, seed {seed}, from {'true' if known else 'random'} directions"
                assert isinstance(found, VSC)
                for sweeps in (0, 1):
                    found.sweeps = sweeps
                    row(found, data, begin + ", refined" * sweeps)


if __name__ == "__main__":
    main()
