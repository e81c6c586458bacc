"""Priors p(z) over the latent code: a posterior's divergence from them, samples, and densities at hard codes."""

from vsc.model.priors.base import Divergence as Divergence
from vsc.model.priors.base import Posterior as Posterior
from vsc.model.priors.base import Prior as Prior
from vsc.model.priors.mixtures import SELECTORS as SELECTORS
from vsc.model.priors.mixtures import FreeMixturePrior as FreeMixturePrior
from vsc.model.priors.mixtures import MixturePrior as MixturePrior
from vsc.model.priors.mixtures import PseudoInputPrior as PseudoInputPrior
from vsc.model.priors.single import LaplacePrior as LaplacePrior
from vsc.model.priors.single import LearnedPrior as LearnedPrior
from vsc.model.priors.single import NormalPrior as NormalPrior
from vsc.model.priors.single import SpikeSlabPrior as SpikeSlabPrior
from vsc.model.priors.single import ThresholdedLaplacePrior as ThresholdedLaplacePrior

PRIORS: dict[str, type[Prior]] = {
    "normal": NormalPrior,
    "spike-slab": SpikeSlabPrior,
    "learned": LearnedPrior,
    "pseudo-inputs": PseudoInputPrior,
    "mixture": FreeMixturePrior,
}
