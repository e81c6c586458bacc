"""Priors p(z) over the latent code: a posterior's divergence from them, samples, and densities at hard codes."""

from vsc.priors.base import Divergence as Divergence
from vsc.priors.base import Posterior as Posterior
from vsc.priors.base import Prior as Prior
from vsc.priors.mixtures import SELECTORS as SELECTORS
from vsc.priors.mixtures import FreeMixturePrior as FreeMixturePrior
from vsc.priors.mixtures import MixturePrior as MixturePrior
from vsc.priors.mixtures import PseudoInputPrior as PseudoInputPrior
from vsc.priors.single import LaplacePrior as LaplacePrior
from vsc.priors.single import LearnedPrior as LearnedPrior
from vsc.priors.single import NormalPrior as NormalPrior
from vsc.priors.single import SpikeSlabPrior as SpikeSlabPrior
from vsc.priors.single import ThresholdedLaplacePrior as ThresholdedLaplacePrior

PRIORS: dict[str, type[Prior]] = {
    "normal": NormalPrior,
    "spike-slab": SpikeSlabPrior,
    "learned": LearnedPrior,
    "pseudo-inputs": PseudoInputPrior,
    "mixture": FreeMixturePrior,
}
