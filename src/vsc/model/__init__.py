"""AE, VAE, beta-TCVAE, VSC and their soft-sparse relatives."""

from vsc.model.base import Autoencoder as Autoencoder
from vsc.model.base import Codes as Codes
from vsc.model.dense import AE as AE
from vsc.model.dense import TCVAE as TCVAE
from vsc.model.dense import VAE as VAE
from vsc.model.dense import LaplaceVAE as LaplaceVAE
from vsc.model.sparse import HEADS as HEADS
from vsc.model.sparse import VSC as VSC
from vsc.model.sparse import ThresholdedLaplaceVSC as ThresholdedLaplaceVSC

MODELS: dict[str, type[Autoencoder]] = {
    "ae": AE,
    "vae": VAE,
    "tcvae": TCVAE,
    "laplace": LaplaceVAE,
    "vsc": VSC,
    "thresholded-laplace": ThresholdedLaplaceVSC,
}
