"""The posterior encoder of VITS: linear spectrograms to the distribution of the latents."""

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from jaxvoice.models.vits.config import VITSConfig
from jaxvoice.models.vits.layers import WaveNet
from jaxvoice.models.vits.text_encoder import Gaussian
from jaxvoice.nn import Conv1d, Module, masked


class PosteriorEncoder(Module):
    """Maps a linear spectrogram to the distribution of the latents of each frame (arXiv 2106.06103, section 2.2.3).

    jaywalnut310/vits `models.py:PosteriorEncoder`; coqui-ai/TTS `layers/vits/networks.py`.
    """

    pre: Conv1d
    enc: WaveNet
    proj: Conv1d

    def __init__(self, config: VITSConfig, *, key: PRNGKeyArray):
        pre_key, enc_key, proj_key = jax.random.split(key, 3)
        self.pre = Conv1d(config.spectrogram_bins, config.channels, 1, key=pre_key)
        self.enc = WaveNet(config.channels, config.posterior, config.speaker_channels, key=enc_key)
        self.proj = Conv1d(config.channels, 2 * config.channels, 1, key=proj_key)

    def __call__(
        self,
        spectrogram: Float[Array, "*batch frames bins"],
        speaker: Float[Array, "*batch speaker"] | None = None,
        *,
        mask: Bool[Array, "*batch frames"] | None = None,
    ) -> Gaussian:
        """**Arguments:** `spectrogram`, magnitudes `(*batch, frames, bins)`, whose dtype is the precision of the
        computation; `speaker`, the speaker vector, `None` without one; `mask`, true at valid frames.

        **Returns:** the distribution, at least float32.

        **Raises:** `ShapeError` for a wrong number of bins, or a mask of another shape.
        """
        x = self.enc(masked(self.pre(masked(spectrogram, mask)), mask), speaker, mask=mask)
        projected = masked(self.proj(x), mask)
        projected = projected.astype(np.promote_types(projected.dtype, np.float32))
        channels = projected.shape[-1] // 2
        return Gaussian(projected[..., :channels], projected[..., channels:])
