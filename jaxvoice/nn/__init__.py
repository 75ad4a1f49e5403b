"""Layers that two or more models share: convolutions, weight norm, spectral norm."""

from jaxvoice.nn._conv import Conv1d as Conv1d, Conv2d as Conv2d, ConvTranspose1d as ConvTranspose1d
from jaxvoice.nn._frozen import freeze as freeze
from jaxvoice.nn._norm import (
    SpectralConv1d as SpectralConv1d,
    SpectralVectors as SpectralVectors,
    fold_weight_norm as fold_weight_norm,
    spectral_sigma as spectral_sigma,
    weight_norm as weight_norm,
)
from jaxvoice.nn._pool import average_pool1d as average_pool1d
