"""AE, VAE, beta-TCVAE, VSC and their soft-sparse relatives."""

from vsc.models.base import Autoencoder as Autoencoder
from vsc.models.base import Codes as Codes
from vsc.models.dense import AE as AE
from vsc.models.dense import TCVAE as TCVAE
from vsc.models.dense import VAE as VAE
from vsc.models.dense import LaplaceVAE as LaplaceVAE
from vsc.models.sparse import HEADS as HEADS
from vsc.models.sparse import VSC as VSC
from vsc.models.sparse import ThresholdedLaplaceVSC as ThresholdedLaplaceVSC

MODELS: dict[str, type[Autoencoder]] = {
    "ae": AE,
    "vae": VAE,
    "tcvae": TCVAE,
    "laplace": LaplaceVAE,
    "vsc": VSC,
    "thresholded-laplace": ThresholdedLaplaceVSC,
}
