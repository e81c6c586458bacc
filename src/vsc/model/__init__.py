"""AE, VAE, beta-TCVAE, VSC, their soft-sparse relatives, and sparse autoencoders to compare with."""

from vsc.model import front as front
from vsc.model.base import Autoencoder as Autoencoder
from vsc.model.base import Codes as Codes
from vsc.model.dense import AE as AE
from vsc.model.dense import TCVAE as TCVAE
from vsc.model.dense import VAE as VAE
from vsc.model.dense import LaplaceVAE as LaplaceVAE
from vsc.model.peers import BatchTopK as BatchTopK
from vsc.model.peers import Gated as Gated
from vsc.model.peers import JumpReLU as JumpReLU
from vsc.model.peers import Matryoshka as Matryoshka
from vsc.model.peers import TopK as TopK
from vsc.model.peers import VAEase as VAEase
from vsc.model.sparse import HEADS as HEADS
from vsc.model.sparse import VSC as VSC
from vsc.model.sparse import ThresholdedLaplaceVSC as ThresholdedLaplaceVSC
from vsc.model.sparse import ThresholdedNormalVSC as ThresholdedNormalVSC

MODELS: dict[str, type[Autoencoder]] = {
    "ae": AE,
    "vae": VAE,
    "tcvae": TCVAE,
    "laplace": LaplaceVAE,
    "vsc": VSC,
    "thresholded-laplace": ThresholdedLaplaceVSC,
    "thresholded-normal": ThresholdedNormalVSC,
    "topk": TopK,
    "batch-topk": BatchTopK,
    "matryoshka": Matryoshka,
    "jumprelu": JumpReLU,
    "gated": Gated,
    "vaease": VAEase,
}
