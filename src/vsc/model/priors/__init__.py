"""Priors p(z) over the latent code: a posterior's divergence from them, samples, and densities at hard codes."""

from vsc.model.priors.base import Divergence as Divergence
from vsc.model.priors.base import Mixture as Mixture
from vsc.model.priors.base import Posterior as Posterior
from vsc.model.priors.base import Prior as Prior
from vsc.model.priors.gates import GATES as GATES
from vsc.model.priors.gates import FixedGates as FixedGates
from vsc.model.priors.gates import Gates as Gates
from vsc.model.priors.gates import LearnedGates as LearnedGates
from vsc.model.priors.gates import MixtureGates as MixtureGates
from vsc.model.priors.gates import PseudoInputGates as PseudoInputGates
from vsc.model.priors.single import LaplacePrior as LaplacePrior
from vsc.model.priors.single import NormalPrior as NormalPrior
from vsc.model.priors.single import ThresholdedLaplacePrior as ThresholdedLaplacePrior
from vsc.model.priors.single import ThresholdedNormalPrior as ThresholdedNormalPrior
from vsc.model.priors.single import ThresholdedPrior as ThresholdedPrior
from vsc.model.priors.slabs import SLABS as SLABS
from vsc.model.priors.slabs import LearnedSlab as LearnedSlab
from vsc.model.priors.slabs import OwnSlab as OwnSlab
from vsc.model.priors.slabs import Slab as Slab
from vsc.model.priors.slabs import UnitSlab as UnitSlab
from vsc.model.priors.spike_slab import SELECTORS as SELECTORS
from vsc.model.priors.spike_slab import SpikeSlabPrior as SpikeSlabPrior
