"""The denoiser of the release: subtracts the spectrum of the constant noise that a WaveGlow adds to every recording."""

import equinox as eqx
import jax
from jax import numpy as jnp
from jaxtyping import Array, Float

from jaxvoice.dsp.mel_config import MelConfig
from jaxvoice.dsp.transforms import frame_spectra, overlap_add
from jaxvoice.models.waveglow.config import WaveGlowConfig
from jaxvoice.models.waveglow.network import WaveGlow

# The length of the mel in the release. Only its first STFT frame is used.
_FRAMES = 88


@eqx.filter_jit
def bias_spectrum(network: WaveGlow) -> Float[Array, " bins"]:
    """The magnitudes of the noise of `network`, for `denoise`.

    They are those of the first STFT frame of the waveform for a mel of zeros and no noise, as in the release
    (NVIDIA/waveglow `denoiser.py`, mode `zeros`).
    """
    config = network.config
    return jnp.abs(_spectra(network(*bias_inputs(config))[:, 0], config.mel)[0])


def bias_inputs(config: WaveGlowConfig) -> tuple[Float[Array, "frames mels"], Float[Array, "positions group"]]:
    """The inputs of the network for `bias_spectrum`: a mel of zeros, and zeros as noise."""
    mel = jnp.zeros((_FRAMES, config.mel.num_mels))
    return mel, jnp.zeros((_FRAMES * config.positions_per_frame, config.group))


def denoise(
    audio: Float[Array, "*batch samples"],
    bias: Float[Array, " bins"],
    mel: MelConfig,
    *,
    strength: float | Float[Array, ""] = 0.1,
) -> Float[Array, "*batch new_samples"]:
    """`audio` whose STFT magnitudes are reduced by `strength * bias`, to zero at least. Phases stay the same.

    **Arguments:** `audio`, waveform in [-1, 1]; `bias`, the result of `bias_spectrum`; `mel`, the mel contract of the
    network, whose frames are used; `strength`, 0.1 in the release.

    **Returns:** the waveform, shortened to a multiple of the hop length.

    **Raises:** `ShapeError` if `audio` has no more samples than half of an STFT frame.
    """
    if audio.ndim > 1:
        return jax.vmap(lambda one: denoise(one, bias, mel, strength=strength))(audio)
    spectra = _spectra(audio, mel)
    magnitude = jnp.abs(spectra)
    reduced = jnp.maximum(magnitude - strength * bias[None], 0)
    scale = reduced / jnp.maximum(magnitude, jnp.finfo(magnitude.dtype).tiny)
    return overlap_add(
        jax.lax.complex(spectra.real * scale, spectra.imag * scale),
        n_fft=mel.n_fft,
        hop_length=mel.hop_length,
        win_length=mel.win_length,
    )


def _spectra(audio: Array, mel: MelConfig) -> Array:
    return frame_spectra(audio, n_fft=mel.n_fft, hop_length=mel.hop_length, win_length=mel.win_length)
