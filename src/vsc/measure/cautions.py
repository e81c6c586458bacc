"""What is easily misread in a model's scores, in sentences."""

import math

from torch import Tensor

from vsc.measure.scores import Scores
from vsc.settings.config import Config
from vsc.training.diagnosis import collapse, missed, worthless

FAR = 50
"""A value so many times further from the median than three quarters of the others rules the mean."""

LEANS_ON_FLOOR = 0.01
"""Share of variances at the floor from which a result is said to lean on it."""


def far_out(values: Tensor, most: float = 0.05) -> Tensor:
    """
    Find the examples whose `values`, (N,), rule their mean: their indices, (K,), int64.

    Those are values that are not finite, and those `FAR` times further from the median than most others. Where more
    than a share `most` is far out, the values are simply spread, and only those that are not finite count.
    """
    away = (values - values[values.isfinite()].median()).abs() if values.isfinite().any() else values.abs()
    finite = away[away.isfinite()]
    limit = FAR * max(finite.quantile(0.75).item(), 1.0) if len(finite) else 0.0
    far = ~(away <= limit)
    return (far if far.double().mean() <= most else ~values.isfinite()).nonzero().flatten()


def cautions(
    scores: Scores, spiked: bool, latent_dim: int, config: Config | None = None, rows: str = "", overfits: str = ""
) -> list[str]:
    """
    Point out what is easily misread in the `scores`, the likeliest cause first: sentences to follow the model's name.

    Often there are none: that some latents are dead is how a sparse model finds its size.

    Parameters
    ----------
    scores, spiked, latent_dim
        The numbers, whether the model has gates, and J.
    config : Config, optional
        What it was trained with, so that the advice is not what is in force already.
    rows, overfits : str
        What `Measured.far` and `vsc.training.diagnosis.overfitting` say.
    """
    out = [rows, overfits]
    if not rows and not all(value is None or math.isfinite(value) for value in scores):
        return ["has scores that are not finite: the training most likely diverged; lower train.lr."]
    elbo, keeps = scores.elbo, bool(overfits or (config is not None and config.train.patience))
    out.append(worthless(elbo, scores.no_latents, keeps, config))
    if spiked:
        closed = collapse(scores.used, scores.always_on, latent_dim, config)
        out += [closed] if closed else [missed(scores.active, scores.l0, config)]
    out = [said for said in out if said]
    if scores.at_floor is not None and scores.at_floor > LEANS_ON_FLOOR:
        out.append(
            f"leans on model.variance_floor, where {scores.at_floor:.0%} of the outputs' variances lie; "
            "the bound says as much about that setting as about the data. Raise it to the noise of the data, or leave "
            "out constant columns."
        )
    if elbo is not None and scores.relaxed_elbo is not None and scores.relaxed_elbo - elbo >= 1:
        out.append(
            f"seems {scores.relaxed_elbo - elbo:.2f} nats better than it is with the relaxed spikes of training: the "
            "decoder reads small mask values that hard spikes set to zero. Only the hard figure is a bound."
        )
    return out
