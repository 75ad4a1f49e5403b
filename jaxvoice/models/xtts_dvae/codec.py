"""The network in a model folder of the DVAE of XTTS: the autoencoder, the statistics of its mel spectrograms, and a
vocoder."""

import equinox as eqx
import jax
from jax import numpy as jnp
from jaxtyping import Array, Float, Int, Int32, PRNGKeyArray

from jaxvoice.models.hifigan.generator import Generator
from jaxvoice.models.xtts_dvae.config import CodecConfig
from jaxvoice.models.xtts_dvae.front_end import normalized_log_mel
from jaxvoice.models.xtts_dvae.network import DVAE, Reconstruction
from jaxvoice.nn import Module, operation


class CodecNetwork(Module):
    """Audio to codes, and codes to mel spectrograms and, with a vocoder, to audio.

    The names of weights in a model folder are those of `dvae.pth`, `mel_stats`, and those of the vocoder below
    `vocoder`.
    """

    dvae: DVAE
    mel_stats: Float[Array, " mels"]
    vocoder: Generator | None
    config: CodecConfig = eqx.field(static=True)

    def __init__(self, config: CodecConfig, *, key: PRNGKeyArray):
        dvae_key, vocoder_key = jax.random.split(key)
        self.dvae = DVAE(config.dvae, key=dvae_key)
        self.mel_stats = jnp.ones(config.mel.num_mels)
        self.vocoder = None if config.vocoder is None else Generator(config.vocoder, key=vocoder_key)
        self.config = config

    def __call__(self, audio: Float[Array, "*batch samples"]) -> Reconstruction:
        """The mel spectrogram of `audio` at the rate of `config.mel`, encoded and decoded; divided by the statistics.

        **Raises:** `ShapeError` for audio that is shorter than half a frame of the Fourier transform.
        """
        return self.dvae(self.mel(audio))

    @operation
    def mel(self, audio: Float[Array, "*batch samples"]) -> Float[Array, "*batch frames mels"]:
        """The mel spectrogram that the autoencoder reads. Raises as the call does."""
        return normalized_log_mel(audio, self.mel_stats, self.config.mel)

    @operation
    def encode(self, audio: Float[Array, "*batch samples"]) -> Int32[Array, "*batch codes"]:
        """The codes of `audio` at the rate of `config.mel`. Raises as the call does."""
        return self.dvae.encode(self.mel(audio))

    @operation
    def decode(self, codes: Int[Array, "*batch codes"]) -> Float[Array, "*batch frames mels"]:
        """The log-mel spectrogram of `codes`, not divided by the statistics; NaN for codes outside the book."""
        return self.dvae.decode(codes) * self.mel_stats
