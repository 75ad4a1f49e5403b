"""The networks of XTTS that its checkpoints contain."""

import equinox as eqx
import jax
from jax import numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxvoice.models.xtts.config import XTTSConfig
from jaxvoice.models.xtts.decoder import HiFiDecoder
from jaxvoice.models.xtts.gpt import GPT
from jaxvoice.models.xtts.references import speaker_audio
from jaxvoice.models.xtts_dvae.front_end import normalized_log_mel
from jaxvoice.nn import Module, operation


class XTTS(Module):
    """The language model, its decoder and the statistics of mel bands; names of weights are those of `model.pth`.

    arXiv 2406.04904; coqui-ai/TTS `TTS/tts/models/xtts.py`.
    """

    gpt: GPT
    hifigan_decoder: HiFiDecoder
    mel_stats: Float[Array, " mels"]
    config: XTTSConfig = eqx.field(static=True)

    def __init__(self, config: XTTSConfig, *, key: PRNGKeyArray):
        gpt_key, decoder_key = jax.random.split(key)
        self.gpt = GPT(config.gpt, key=gpt_key)
        self.hifigan_decoder = HiFiDecoder(config, key=decoder_key)
        self.mel_stats = jnp.ones(config.dvae.mel.num_mels)
        self.config = config

    def __call__(
        self,
        reference: Float[Array, "*batch samples"],
        text: Int[Array, "*batch tokens"],
        codes: Int[Array, "*batch codes"],
    ) -> Float[Array, "*batch new_samples 1"]:
        """The speech of given codes in the voice of a reference, at `config.output_rate`.

        **Arguments:** `reference` at `config.input_rate`; `text` with its start and stop; `codes` without.

        **Raises:** `ShapeError` for a reference that is too short, more tokens or codes than positions, or no codes.
        """
        latents = self.gpt.latents(self.condition(reference), text, codes)
        return self.hifigan_decoder(latents, self.embed_speaker(speaker_audio(reference, self.config.input_rate)))

    @operation
    def condition(self, audio: Float[Array, "*batch samples"]) -> Float[Array, "*batch vectors channels"]:
        """The vectors of a reference at `config.input_rate`, which the language model reads.

        **Raises:** `ShapeError` for a reference that is shorter than half a frame of the Fourier transform.
        """
        return self.gpt.condition(normalized_log_mel(audio, self.mel_stats, self.config.gpt.conditioning.mel))

    @operation
    def embed_speaker(self, audio: Float[Array, "*batch samples"]) -> Float[Array, "*batch dim"]:
        """The vector of the speaker of a reference at 16 kHz, of norm 1, which the decoder reads."""
        return self.hifigan_decoder.speaker_encoder(audio)
