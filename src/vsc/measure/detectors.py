"""Single latents as detectors of what is there: of attributes that are present or absent, or of classes."""

from typing import Any, NamedTuple

import numpy as np

from vsc import metrics
from vsc.measure.measured import Measured
from vsc.metrics import Detectors, attributes


class Detected(NamedTuple):
    """
    The latent of one model that tells best of each of G things that it is there.

    With gates, it is one of the used latents, since a gate that never opens is no part of a code; its score is gamma,
    and it says "there" where gamma > 1/2. A latent without a gate has no such word, and
    may tell by any end of its values: its score is the best of z, -z and the distance |z - mean|.

    Attributes
    ----------
    names : tuple of str, length G
        What is detected.
    classes : bool
        Whether that are classes; attributes otherwise.
    share : numpy.ndarray, shape (G,)
        Share of the examples that have each.
    best : Detectors
        The latents and how good they are.
    """

    names: tuple[str, ...]
    classes: bool
    share: np.ndarray
    best: Detectors

    def plain(self) -> list[dict[str, Any]]:
        """Return a mapping for each thing, for a JSON file: None for what is not known."""
        rows = []
        for g, name in enumerate(self.names):
            row: dict[str, Any] = {"name": name, "share": float(self.share[g]), "latent": int(self.best.latent[g])}
            for key in ("auroc", "hits", "alarms", "precision"):
                part = getattr(self.best, key)
                row[key] = None if part is None or np.isnan(part[g]) else float(part[g])
            rows.append(row)
        return rows


def detected(seen: Measured) -> Detected | None:
    """Measure the best detectors of the attributes whose presence is known, else of classes; None without either."""
    part, data, found = seen.part, seen.data, seen.survey
    if part.presence is not None:
        grouped = attributes(part.presence.numpy(), data.groups or None)
        names, present = grouped.names, grouped.presence
    elif part.y is not None:
        y = part.y.numpy()
        known = np.unique(y)
        names = tuple(data.classes[c] if c < len(data.classes) else str(c) for c in known)
        present = y[:, None] == known
    else:
        return None
    if found.gated:
        used = np.isin(np.arange(len(found.rate)), found.shown)
        best = metrics.detectors(np.where(used, seen.codes.gamma.numpy(), 0), present, found.on)
    else:
        away = found.value - found.rest
        best = metrics.detectors(np.concatenate([away, -away, np.abs(away)], 1), present)
        best = best._replace(latent=best.latent % found.value.shape[1])
    return Detected(names, part.presence is None, present.mean(0), best)
