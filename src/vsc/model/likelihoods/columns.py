"""The likelihood of a table whose columns are of several kinds: each column has its own."""

from collections import Counter
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from vsc.errors import UsageError, choose
from vsc.fields import Field, parts
from vsc.model.likelihoods.base import Likelihood, mean_there
from vsc.model.likelihoods.bernoulli import Bernoulli
from vsc.model.likelihoods.counts import NegativeBinomial, Poisson
from vsc.model.likelihoods.gaussian import Gaussian


class Categorical(Likelihood):
    """
    Categorical variables beside each other, each one-hot, with a logit per level: x ln softmax(l).

    Parameters
    ----------
    levels : sequence of int
        How many levels each has; M is their sum.
    """

    def __init__(self, levels: Sequence[int]):
        super().__init__()
        self.levels = list(levels)

    def terms(self, x, out):
        return x * torch.cat([part.log_softmax(-1) for part in out.split(self.levels, -1)], -1)

    def mean(self, out):
        return torch.cat([part.softmax(-1) for part in out.split(self.levels, -1)], -1)

    def sample(self, out):
        return torch.cat([_one_of(part) for part in out.split(self.levels, -1)], -1)

    def responses(self, M):
        return [("softmax", sum(self.levels[:k]), n) for k, n in enumerate(self.levels)]

    def constant(self, x):
        """Return the logarithms of the shares, with an example of each kind shared out among its levels."""
        there = (~x.cpu().isnan()).sum(0)
        levels = torch.tensor(self.levels).repeat_interleave(torch.tensor(self.levels))
        return torch.log((mean_there(x) * there + 1 / levels) / (there + 1)).to(x)


def _one_of(logits: Tensor) -> Tensor:
    """Draw one level for each row, one-hot."""
    drawn = torch.distributions.Categorical(logits=logits, validate_args=False).sample()
    return nn.functional.one_hot(drawn, logits.shape[-1]).to(logits)


class Columns(Likelihood):
    """
    Each column's own: gaussian, bernoulli, categorical, poisson or negative-binomial, and log p is their sum.

    The decoder's outputs stand in groups, those of one likelihood together, as `outputs` and M of each say.

    Parameters
    ----------
    fields : sequence of vsc.fields.Field
        The table's columns; a categorical one of K levels has K values of x.
    variance_floor : float
        As for `Gaussian`.

    Raises
    ------
    UsageError
        If there are no fields, or the floor is not positive.
    """

    own_units = True

    def __init__(self, fields: Sequence[Field], variance_floor: float = 1e-6):
        super().__init__()
        if not fields:
            raise UsageError("likelihood columns is for tables of known columns; give a data frame or a .csv file")
        places: dict[str, list[int]] = {}
        for field, place in parts(fields):
            places.setdefault(field.likelihood, []).extend(range(place.start, place.stop))
        kinds: dict[str, Callable[[], Likelihood]] = {
            "gaussian": lambda: Gaussian(variance_floor),
            "bernoulli": Bernoulli,
            "categorical": lambda: Categorical([f.width for f in fields if f.likelihood == "categorical"]),
            "poisson": Poisson,
            "negative-binomial": NegativeBinomial,
        }
        self.kinds = nn.ModuleDict({name: choose(kinds, name, "likelihood of a column")() for name in places})
        self._places = places
        self.sizes, self.fields = [len(own) for own in places.values()], Counter(f.likelihood for f in fields)
        self.learns_variances = "gaussian" in places
        order = torch.tensor([m for own in places.values() for m in own])
        self.order: Tensor  # the columns of each kind, one kind after the other
        self.back: Tensor
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("back", order.argsort(), persistent=False)

    def width(self, M):
        return sum(kind.width(n) for kind, n in self._kinds())

    def unscaled(self, M):
        return self._marked(*(name for name in self._places if name != "gaussian"))

    def counted(self, M):
        return self._marked(*(name for name, kind in self.kinds.items() if kind.counts))

    def terms(self, x, out):
        own = zip(self._kinds(), x[:, self.order].split(self.sizes, -1), self._parted(out), strict=True)
        return self._joined([kind.terms(x, out) for (kind, _), x, out in own])

    def mean(self, out):
        return self._joined([kind.mean(own) for (kind, _), own in zip(self._kinds(), self._parted(out), strict=True)])

    def sample(self, out):
        return self._joined([kind.sample(own) for (kind, _), own in zip(self._kinds(), self._parted(out), strict=True)])

    def constant(self, x):
        own = zip(self._kinds(), x[:, self.order].split(self.sizes, -1), strict=True)
        return torch.cat([kind.constant(x) for (kind, _), x in own])

    def at_floor(self, out):
        """Return the share of the gaussian columns' variances that are there; None without such columns."""
        shares = [kind.at_floor(own) for (kind, _), own in zip(self._kinds(), self._parted(out), strict=True)]
        return next((share for share in shares if share is not None), None)

    def responses(self, M):
        found, first, at = [], 0, 0
        for kind, n in self._kinds():
            for name, start, count in kind.responses(n):
                step = count if name == "softmax" else 1
                for i in range(0, count, step):
                    found.append((int(self.order[at + start + i]), (name, first + start + i, step)))
            first, at = first + kind.width(n), at + n
        return [told for _, told in sorted(found)]

    @property
    def label(self):
        counted = ", ".join(f"{n} {name}" for name, n in self.fields.items())
        floor = "; variance floor {:g}".format(self.kinds["gaussian"].variance_floor) if self.learns_variances else ""
        return f"columns ({counted}{floor})"

    def _kinds(self) -> list[tuple[Likelihood, int]]:
        """Return each kind, and how many values of x it is of."""
        return list(zip(self.kinds.values(), self.sizes, strict=True))  # pyright: ignore[reportReturnType]

    def _marked(self, *kinds: str) -> Tensor:
        """Return which of the M values are of some kinds, (M,), bool."""
        marked = torch.zeros(sum(self.sizes), dtype=torch.bool, device="cpu")
        marked[[m for name in kinds for m in self._places[name]]] = True
        return marked

    def _parted(self, out: Tensor) -> tuple[Tensor, ...]:
        """Return each kind's outputs."""
        return out.split([kind.width(n) for kind, n in self._kinds()], -1)

    def _joined(self, groups: list[Tensor]) -> Tensor:
        return torch.cat(groups, -1)[:, self.back]
