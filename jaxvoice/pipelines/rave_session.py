"""A real-time session of RAVE: audio to latents and latents to audio, block by block."""

from typing import Any

import equinox as eqx
import jax
import numpy as np
from jax import numpy as jnp
from jaxtyping import Array, Float32, PRNGKeyArray, Shaped

from jaxvoice.errors import AudioError, ShapeError
from jaxvoice.models.rave.config import BottleneckConfig
from jaxvoice.models.rave.latent_pca import LatentPCA
from jaxvoice.models.rave.network import Rave, RaveState
from jaxvoice.models.rave.quantizer import ResidualQuantizer, ResidualQuantizerState
from jaxvoice.models.rave.streaming import audio_latency, decoder_form, encoder_form
from jaxvoice.nn import IndexForm, Module, PointwiseForm, SequenceForm, Stream, StreamingForm, draw_for_positions
from jaxvoice.pipelines.rave_arguments import check_results
from jaxvoice.pipelines.stream_session import StreamSession

_RESET = " Call reset, because the session remembers them."


class RaveSession:
    """Audio through a RAVE model, block by block; `Rave.stream` makes it.

    ```python
    session = jaxvoice.Rave.load("percussion").stream()
    for block in blocks:  # (samples,) in float32, a multiple of session.hop_length
        play(session(block))  # as many samples, session.latency samples later
    ```

    `session(block)` is `session.decode(session.encode(block))`, between which the latents can be changed. The result
    does not depend on the lengths of the blocks. The first call, and the first one with a new length, may compile
    programs; call the session with a block of silence and `reset` before sound is played.

    **Attributes:** `latency`, the samples by which the audio is late; `encoder_delay` and `decoder_delay`, its parts,
    without the delay of the filter bank that audio also has offline; `hop_length`, the samples of a frame of latents.
    """

    def __init__(
        self,
        network: Rave,
        state: RaveState,
        *,
        pca: LatentPCA | None,
        latent_size: int,
        quantizes: bool,
        noise_key: PRNGKeyArray | None,
        key: PRNGKeyArray | None,
        rows: int,
    ):
        """**Arguments:** as `Rave.stream` passes them: the `network` and its `state`; `pca` of the latents, of which
        there are `latent_size`; `quantizes`, whether latents are codes; `noise_key` of the noise branch, `None` without
        noise; `key` of random latents, `None` for their means; `rows`, channels that are encoded on their own.
        """
        config = network.config
        self.hop_length, self._channels, self._rows = config.hop_length, config.n_channels, rows
        self._latents, self._codebook_size = latent_size, config.bottleneck.codebook_size if quantizes else None
        reduced = _Reduced(None if quantizes else config.bottleneck.latent_size, pca, latent_size)

        def encode(start: int) -> StreamingForm:
            form = encoder_form(network, state, start, quantize=quantizes, codes=quantizes)
            return SequenceForm([form, PointwiseForm(reduced, form.next_start)])

        rvq = network.encoder.rvq if quantizes else None
        restored = _Restored(config.bottleneck, pca, rvq, state.encoder.rvq if quantizes else None, key)

        def decode(start: int) -> StreamingForm:
            form = IndexForm(restored, start)
            return SequenceForm([form, decoder_form(network, state, start, noise=noise_key is not None)])

        encoder, decoder = Stream(encode, config.n_channels), Stream(decode, latent_size, input_delay=0)
        self.encoder_delay, self.decoder_delay = encoder.input_delay, decoder.output_delay
        self.latency = audio_latency(network, encoder, decoder)
        self._dtype = np.dtype(np.int32 if quantizes else np.float32)
        self._encoder = StreamSession(encoder, 64 * encoder.multiple, factor=2, batch=(rows,), key=key)
        self._decoder = StreamSession(decoder, 64, factor=2, batch=(rows,), dtype=self._dtype, key=noise_key)

    def __call__(self, audio: Float32[np.ndarray, "*channels samples"]) -> Float32[np.ndarray, "*channels samples"]:
        """The audio of the latents of a block, `latency` samples late; arguments and errors are those of `encode`."""
        return self.decode(self.encode(audio))

    def encode(self, audio: Float32[np.ndarray, "*channels samples"]) -> Shaped[np.ndarray, "*channels latents frames"]:
        """The latents of a block: one frame for each `hop_length` samples.

        **Arguments:** `audio`, `(samples,)`, or `(channels, samples)` for several channels.

        **Raises:** `AudioError` for another shape or type, a length that is no multiple of `hop_length`, or NaN and
        infinity. The state of the session does not change then. `AudioError` also for latents that are NaN or infinite,
        because the level is too high or the weights are damaged; call `reset` then.
        """
        several = self._rows > 1 or self._channels > 1
        count = max(self._rows, self._channels)
        audio = np.asarray(audio)
        shape = (count, *audio.shape[-1:]) if several else audio.shape[-1:]
        if audio.shape != shape or audio.ndim == 0 or audio.dtype != np.float32:
            raise AudioError(
                f"The block has shape {audio.shape} and type {audio.dtype}; it should be float32 of shape "
                f"{f'({count}, samples)' if several else '(samples,)'} with full scale at 1."
            )
        samples = audio.shape[-1]
        if samples == 0 or samples % self.hop_length:
            raise AudioError(
                f"The block has {samples} samples; it should have a multiple of {self.hop_length}, the hop length of "
                "the model. Collect samples until there are enough."
            )
        # They would stay in the states of layers, and so in later blocks.
        if not np.isfinite(audio).all():
            bad = int(np.count_nonzero(~np.isfinite(audio)))
            raise AudioError(
                f"The block is NaN or infinite in {bad} of {audio.size} samples; it should be finite. Send silence "
                "instead, or skip the block."
            )
        rows = audio.T[None] if self._channels > 1 else audio.reshape(self._rows, samples, 1)
        latents = self._encoder(np.ascontiguousarray(rows)).swapaxes(1, 2)
        check_results("latents of the block", "its level is too high", latents, _RESET)
        return latents if self._rows > 1 else latents[0]

    def decode(self, latents: Shaped[Any, "*channels latents frames"]) -> Float32[np.ndarray, "*channels samples"]:
        """The audio of a block of latents, as `encode` returns them: `hop_length` samples for each frame.

        **Raises:** `ShapeError` for another shape or type, NaN and infinity, or codes outside the codebooks. The state
        of the session does not change then. `AudioError` if the audio is NaN or infinite, because the latents are too
        large or the weights are damaged; call `reset` then.
        """
        latents = np.asarray(latents)
        rows = (self._rows,) if self._rows > 1 else ()
        frames = latents.shape[-1] if latents.ndim else 0
        if latents.shape != (*rows, self._latents, frames) or not frames or latents.dtype != self._dtype:
            shape = ", ".join((*map(str, rows), str(self._latents), "frames"))
            raise ShapeError(
                f"The latents have shape {latents.shape} and type {latents.dtype}; they should be {self._dtype} of "
                f"shape ({shape})."
            )
        if self._codebook_size is None and not np.isfinite(latents).all():
            raise ShapeError("The latents contain NaN or infinity; they should be finite. Check how they were changed.")
        if self._codebook_size is not None and not (latents.min() >= 0 and latents.max() < self._codebook_size):
            raise ShapeError(
                f"The codes are from {latents.min()} to {latents.max()}; they should be from 0 to "
                f"{self._codebook_size - 1}."
            )
        block = latents.reshape(self._rows, self._latents, frames).swapaxes(1, 2)
        audio = self._decoder(np.ascontiguousarray(block))
        check_results("samples of the block", "the latents are too large", audio, _RESET)
        return self._audio(audio)

    def finish(self) -> Float32[np.ndarray, "*channels samples"]:
        """The audio after the last block, as after silence, of at least `latency` samples; the session starts again.

        **Raises:** `AudioError` if the audio is NaN or infinite, as in `decode`.
        """
        silence = np.zeros((self._rows, -(-self.latency // self.hop_length) * self.hop_length, self._channels))
        audio = self._decoder(self._encoder(silence.astype(np.float32)))
        self.reset()
        check_results("last samples", "the level of an earlier block is too high", audio)
        return self._audio(audio)

    def reset(self) -> None:
        """Start again, without what was heard before."""
        self._encoder.reset()
        self._decoder.reset()

    def _audio(self, rows: Float32[np.ndarray, "rows samples channels"]) -> Float32[np.ndarray, "*channels samples"]:
        if self._channels > 1:
            return rows[0].T
        return rows[..., 0] if self._rows > 1 else rows[0, :, 0]


class _Reduced(Module):
    """The latents without noise channels, or their first principal components; codes are unchanged."""

    size: int | None = eqx.field(static=True)
    pca: LatentPCA | None
    components: int = eqx.field(static=True)

    def __call__(self, z: Shaped[Array, "*batch frames channels"]) -> Shaped[Array, "*batch frames latents"]:
        if self.size is None:
            return z
        z = z[..., : self.size]
        return z if self.pca is None else self.pca.reduce(z, self.components)


class _Restored(Module):
    """The input of the generator from latents, principal components or codes.

    Missing components and noise channels are drawn with `key`; they are 0 without it.
    """

    config: BottleneckConfig = eqx.field(static=True)
    pca: LatentPCA | None
    rvq: ResidualQuantizer | None
    codebooks: ResidualQuantizerState | None
    key: PRNGKeyArray | None

    def __call__(self, latents: Array, numbers: Array, _: Any) -> Float32[Array, "*batch frames channels"]:
        batch, z = latents.shape[:-2], latents
        if self.rvq is not None and self.codebooks is not None:
            z = self.rvq.decode(latents, self.codebooks)
        elif self.pca is not None:
            missing = self.config.latent_size - latents.shape[-1]
            z = self.pca.restore(jnp.concatenate([latents, self._drawn(numbers, batch, missing, 1)], -1))
        if self.config.noise_channels:
            z = jnp.concatenate([z, self._drawn(numbers, batch, self.config.noise_channels, 2)], -1)
        return z

    def _drawn(self, numbers: Array, batch: tuple[int, ...], size: int, use: int) -> Array:
        if self.key is None or not size:
            return jnp.zeros((*batch, numbers.size, size))
        own = jax.random.fold_in(self.key, use)
        return draw_for_positions(lambda key: jax.random.normal(key, (*batch, size)), own, numbers, len(batch))
