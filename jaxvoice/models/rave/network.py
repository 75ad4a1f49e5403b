"""The network of RAVE: filter bank, encoder, bottleneck and generator."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
from jax import numpy as jnp
from jaxtyping import Array, Float, Float32, Int32, PRNGKeyArray

from jaxvoice.errors import ShapeError
from jaxvoice.models.rave.bottlenecks import Bottleneck, EncoderState, Latents
from jaxvoice.models.rave.config import RaveConfig
from jaxvoice.models.rave.encoder import Encoder
from jaxvoice.models.rave.generators import GeneratorState, GeneratorV1, GeneratorV2
from jaxvoice.models.rave.layers import PQMF, NetState
from jaxvoice.models.rave.mel_input import MelInput
from jaxvoice.nn import Module, operation


class RaveState(eqx.Module):
    """All of RAVE that is not trained by gradients, with the names of the released buffers."""

    encoder: EncoderState
    """Batch norms, adaptive instance norms and codebooks of the encoder."""
    decoder: NetState | GeneratorState | None
    """Adaptive instance norms of the generator; of v1, the phase of training."""
    latent_pca: Float32[Array, "latents latents"]
    """Principal components of the latents, one in each row; see `LatentPCA`."""
    latent_mean: Float32[Array, " latents"]
    """Mean of the latents."""
    fidelity: Float32[Array, " latents"]
    """Share of the variance of the latents that the first components explain, cumulative; 0 if they are unknown."""
    receptive_field: Int32[Array, "2"]
    """Samples before and after a sample of the output on which it depends, as a training measured them; 0 before."""


class Rave(Module):
    """RAVE (arXiv 2111.05011): audio to latents at a low rate, and latents to audio.

    Attribute paths of the network and of its state together are the names in released checkpoints, except
    `target_size`, which follows from the configuration. `warmed_up` and `enabled` are stored only: whether noise is
    added and latents are quantised are arguments (`key` of `decode`, `quantize` of `encode`).
    """

    pqmf: PQMF
    spectrogram: MelInput | None
    encoder: Bottleneck
    decoder: GeneratorV1 | GeneratorV2
    config: RaveConfig = eqx.field(static=True)

    def __init__(self, config: RaveConfig, *, key: PRNGKeyArray):
        encoder_key, decoder_key = jax.random.split(key)
        causal = config.padding == "causal"
        self.config, self.pqmf = config, PQMF(config.pqmf, causal=causal)
        mel = config.encoder.mel if config.encoder.input == "mel" else None
        self.spectrogram = None if mel is None else MelInput(mel, config.sample_rate)
        encoder = Encoder(
            config.encoder,
            config.encoder_inputs,
            config.bottleneck.encoder_channels,
            groups=2 if config.bottleneck.kind == "variational" else 1,
            causal=causal,
            key=encoder_key,
        )
        self.encoder = Bottleneck(encoder, config.bottleneck)
        generator = GeneratorV1 if config.generator.version == "v1" else GeneratorV2
        self.decoder = generator(
            config.generator,
            config.bottleneck.decoder_channels,
            config.generator_outputs,
            causal=causal,
            key=decoder_key,
        )

    def init_state(self) -> RaveState:
        """The initial state: the principal components of the latents are not computed."""
        size = self.config.bottleneck.latent_size
        return RaveState(
            self.encoder.init_state(),
            self.decoder.init_state(),
            jnp.eye(size),
            jnp.zeros(size),
            jnp.zeros(size),
            jnp.zeros(2, jnp.int32),
        )

    def __call__(
        self,
        audio: Float[Array, "*batch samples channels"],
        state: RaveState,
        *,
        key: PRNGKeyArray | None = None,
        inference: bool = False,
    ) -> tuple[Float[Array, "*batch samples channels"], RaveState]:
        """The reconstruction of `audio`; arguments and errors are those of `encode` and `decode`."""
        encode_key, decode_key = (None, None) if key is None else jax.random.split(key)
        latents, state = self.encode(audio, state, key=encode_key, inference=inference)
        return self.decode(latents.z, state, key=decode_key, inference=inference)

    def encoder_input(self, audio: Float[Array, "*batch samples channels"]) -> Float[Array, "*batch time in"]:
        """What the encoder reads: sub-bands, the mel spectrogram, or `audio` itself."""
        if self.spectrogram is not None:
            return self.spectrogram(audio)
        return self.pqmf.analysis(audio) if self.config.encoder.input == "pqmf" else audio

    @operation
    def encode(
        self,
        audio: Float[Array, "*batch samples channels"],
        state: RaveState,
        *,
        key: PRNGKeyArray | None = None,
        noise: Sequence[Float[Array, "..."]] | None = None,
        quantize: bool = True,
        inference: bool = False,
    ) -> tuple[Latents, RaveState]:
        """Audio to latents.

        **Arguments:**

        - `audio`: `(*batch, samples, channels)`; `samples` is a multiple of `config.hop_length`.
        - `state`: from `init_state`, or of a trained model.
        - `key`, `noise` and `quantize`: as for `Bottleneck.draw`.
        - `inference`: running statistics and codebooks are used and not changed; adaptive instance norm acts.

        **Returns:** latents `(*batch, samples / hop_length, channels)` with their regularisation, and the state.

        **Raises:** `ShapeError` for another length or number of channels.
        """
        hop, channels = self.config.hop_length, self.config.n_channels
        if audio.ndim < 2 or audio.shape[-1] != channels or audio.shape[-2] % hop or audio.shape[-2] == 0:
            raise ShapeError(
                f"The shape of the audio is {audio.shape}; it should be (*batch, samples, {channels}) with a multiple "
                f"of {hop} samples. Append zeros."
            )
        x = self.encoder_input(audio)
        encoded, encoder = self.encoder(x, state.encoder, inference=inference)
        latents, encoder = self.encoder.draw(
            encoded, encoder, key=key, noise=noise, quantize=quantize, inference=inference
        )
        return latents, replace(state, encoder=encoder)

    @operation
    def decode(
        self,
        z: Float[Array, "*batch frames channels"],
        state: RaveState,
        *,
        key: PRNGKeyArray | None = None,
        noise: Float[Array, "*batch noise_frames out frame_length"] | None = None,
        inference: bool = False,
    ) -> tuple[Float[Array, "*batch samples channels"], RaveState]:
        """Latents to audio.

        **Arguments:**

        - `z`: latents and noise channels `(*batch, frames, channels)`.
        - `key` and `noise`: as for the generator, which adds no noise without them.
        - `state` and `inference`: as for `encode`.

        **Returns:** audio `(*batch, frames * hop_length, channels)`, and the state. If the generator computes
        sub-bands, the audio is `pqmf.delay` samples late.

        **Raises:** `ShapeError` for another number of channels.
        """
        y, state = self.decode_bands(z, state, key=key, noise=noise, inference=inference)
        return (self.pqmf.synthesis(y) if self.config.generator.output == "pqmf" else y), state

    @operation
    def decode_bands(
        self,
        z: Float[Array, "*batch frames channels"],
        state: RaveState,
        *,
        key: PRNGKeyArray | None = None,
        noise: Float[Array, "*batch noise_frames out frame_length"] | None = None,
        inference: bool = False,
    ) -> tuple[Float[Array, "*batch time out"], RaveState]:
        """Latents to the output of the generator: sub-bands, or audio. Arguments are those of `decode`."""
        channels = self.config.bottleneck.decoder_channels
        if z.ndim < 2 or z.shape[-1] != channels or z.shape[-2] == 0:
            raise ShapeError(f"The shape of z is {z.shape}; it should be (*batch, frames, {channels}).")
        generator: Any = self.decoder  # v1 and v2 have different states
        y, decoder = generator(z, state.decoder, key=key, noise=noise, inference=inference)
        return y, replace(state, decoder=decoder)
