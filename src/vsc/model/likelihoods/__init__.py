"""Likelihoods: what the decoder's output says of p(x|z), summed over the M values that are there, in nats."""

from vsc.model.likelihoods.base import RESPONSES as RESPONSES
from vsc.model.likelihoods.base import Likelihood as Likelihood
from vsc.model.likelihoods.bernoulli import Bernoulli as Bernoulli
from vsc.model.likelihoods.bernoulli import ContinuousBernoulliLogits as ContinuousBernoulliLogits
from vsc.model.likelihoods.columns import Columns as Columns
from vsc.model.likelihoods.counts import NegativeBinomial as NegativeBinomial
from vsc.model.likelihoods.counts import Poisson as Poisson
from vsc.model.likelihoods.gaussian import Gaussian as Gaussian
from vsc.model.likelihoods.gaussian import GaussianFixed as GaussianFixed
from vsc.model.likelihoods.gaussian import GaussianShared as GaussianShared
from vsc.model.likelihoods.gaussian import Laplace as Laplace

LIKELIHOODS: dict[str, type[Likelihood]] = {
    "bernoulli": Bernoulli,
    "gaussian": Gaussian,
    "gaussian-fixed": GaussianFixed,
    "gaussian-shared": GaussianShared,
    "laplace": Laplace,
    "continuous-bernoulli": ContinuousBernoulliLogits,
    "poisson": Poisson,
    "negative-binomial": NegativeBinomial,
    "columns": Columns,
}
