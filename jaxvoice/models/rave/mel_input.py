"""The mel spectrogram that RAVE's encoder reads instead of sub-bands, in `hybrid` and `v2_with_augs`."""

import functools

import equinox as eqx
import jax
import numpy as np
from jax import numpy as jnp
from jaxtyping import Array, Float

from jaxvoice.dsp.mel_config import htk_corners, triangular_filters
from jaxvoice.dsp.transforms import frame_spectra
from jaxvoice.errors import ShapeError
from jaxvoice.models.rave.config import MelInputConfig
from jaxvoice.nn import Module, SequenceForm, StreamingForm, WindowForm


@functools.lru_cache(maxsize=8)
def _filters(config: MelInputConfig, sample_rate: int) -> Float[np.ndarray, "mels bins"]:
    corners = htk_corners(config.num_mels, sample_rate / 2)
    return triangular_filters(corners, sample_rate, config.n_fft, equal_area=False)


class MelInput(Module):
    """`log(1 + mel)` of audio, with `torchaudio.transforms.MelSpectrogram`'s defaults: power, and HTK filters.

    Frames are centred on multiples of `hop_length`; the last frame is left out, so that there is one frame for each
    `hop_length` samples. acids-ircam/RAVE `rave/model.py:encode`.
    """

    config: MelInputConfig = eqx.field(static=True)
    sample_rate: int = eqx.field(static=True)

    def __call__(self, audio: Float[Array, "*batch samples channels"]) -> Float[Array, "*batch frames mels"]:
        """The mel spectrogram of each channel: first all mels of the first channel.

        **Raises:** `ShapeError` unless the number of samples is a multiple of the hop length, and larger than half of
        `n_fft`, because both ends are continued by reflection.
        """
        hop, least = self.config.hop_length, self.config.n_fft // 2 + 1
        if audio.ndim < 2 or audio.shape[-2] % hop or audio.shape[-2] < least:
            raise ShapeError(
                f"The shape of the audio is {audio.shape}; it should be (*batch, samples, channels) with a multiple of "
                f"{hop} samples, at least {least}. Append zeros."
            )
        return self._mel(audio, pad=None)[..., :-1, :]

    def streaming_form(self, start: int) -> StreamingForm:
        """The form with the last samples as state.

        Streams know no samples with which the start of the audio could be continued. It is continued with zeros, which
        is the same if the audio is delayed by half of `n_fft`, or begins with as many zeros.
        """
        half, hop = self.config.n_fft // 2, self.config.hop_length
        windows = _MelOfWindows(self.config, self.sample_rate)
        # One frame for each hop, as in a call without its last frame.
        padding = (half, half - hop)
        form = WindowForm(windows, start, span=2 * half, padding=padding, stride=hop, keeps_zeros=True)
        return form if self.path is None else SequenceForm([form], path=self.path)

    def _mel(self, audio: Array, pad: int | None) -> Float[Array, "*batch frames mels"]:
        """All frames of `audio` continued by `pad` samples on each side, by default half of `n_fft`."""
        options = {"n_fft": self.config.n_fft, "hop_length": self.config.hop_length, "pad": pad}
        rows = audio.astype(jnp.float32).swapaxes(-1, -2)
        signals = rows.reshape(-1, rows.shape[-1])
        spectra = jax.vmap(lambda signal: frame_spectra(signal, **options))(signals)
        power = jnp.square(spectra.real) + jnp.square(spectra.imag)
        filters = jnp.asarray(_filters(self.config, self.sample_rate))
        mel = jnp.log1p(jnp.einsum("mb,nfb->nfm", filters, power, precision="highest"))
        mel = mel.reshape(*rows.shape[:-1], *mel.shape[1:]).swapaxes(-3, -2)
        return mel.reshape(*mel.shape[:-2], -1).astype(audio.dtype)


class _MelOfWindows(MelInput):
    """The mel spectrogram of the windows that are in the audio."""

    def __call__(self, audio: Float[Array, "*batch samples channels"]) -> Float[Array, "*batch frames mels"]:
        return self._mel(audio, pad=0)
