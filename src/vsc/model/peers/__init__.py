"""Sparse autoencoders of the literature, to stand beside VSC: their codes have exact zeros, but there is no bound."""

from vsc.model.peers.gated import Gated as Gated
from vsc.model.peers.gated import JumpReLU as JumpReLU
from vsc.model.peers.gated import VAEase as VAEase
from vsc.model.peers.topk import BatchTopK as BatchTopK
from vsc.model.peers.topk import Matryoshka as Matryoshka
from vsc.model.peers.topk import TopK as TopK
