"""The front ends of XTTS: normalised logarithms of mel power spectrograms."""

import jax
from jax import numpy as jnp
from jaxtyping import Array, Float, Int

from jaxvoice.dsp.mel_config import MelConfig, PowerMelConfig
from jaxvoice.dsp.power_mels import power_mel
from jaxvoice.models.xtts_dvae.config import LOG_FLOOR


def normalized_log_mel(
    audio: Float[Array, "*batch samples"],
    statistics: Float[Array, " mels"],
    config: PowerMelConfig,
    *,
    length: Int[Array, "*batch"] | int | None = None,
) -> Float[Array, "*batch frames mels"]:
    """The logarithms of the mel power spectrogram, divided by the `statistics` of each band.

    **Arguments:** `audio` at `config.sample_rate`; `statistics`, those of `mel_stats.pth`; `config`, that of a DVAE or
    of a network for references; `length`, the valid samples of each row, by default all.

    **Returns:** `samples // hop_length + 1` frames, channels last.

    **Raises:** `ShapeError` as `jaxvoice.dsp.power_mel`.

    coqui-ai/TTS `TTS/tts/layers/xtts/dvae.py:dvae_wav_to_mel`, `TTS/tts/models/xtts.py:wav_to_mel_cloning`.
    """
    with jax.named_scope("normalized_log_mel"):
        mel = jnp.log(jnp.maximum(power_mel(audio, config, length=length), LOG_FLOOR)).swapaxes(-1, -2)
        return mel / statistics.astype(mel.dtype).reshape((1,) * (mel.ndim - 1) + (-1,))


def inversion_config(config: PowerMelConfig) -> MelConfig:
    """The `MelConfig` of the log-mels of `normalized_log_mel` before their division, for `jaxvoice.dsp.mel_to_audio`.

    Pre-emphasis and the Hamming window, which it cannot express, are left out.
    """
    return MelConfig(
        sample_rate=config.sample_rate,
        n_fft=config.n_fft,
        hop_length=config.hop_length,
        win_length=config.win_length,
        num_mels=config.num_mels,
        fmin=config.fmin,
        fmax=config.fmax,
        mel_scale=config.mel_scale,
        mel_norm=config.mel_norm,
        power=2.0,
        log_floor=LOG_FLOOR,
        magnitude_floor=0.0,
        center=True,
    )
