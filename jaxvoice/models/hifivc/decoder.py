"""The decoder of HiFi-VC: a HiFi-GAN generator that is conditioned on the speaker."""

import equinox as eqx
import jax
from jax import numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxvoice.errors import ShapeError
from jaxvoice.models.hifigan.generator import (
    ResBlock1,
    generate,
    residual_blocks,
    upsampling_layers,
    valid_frames,
    zero_unless,
)
from jaxvoice.models.hifivc.config import DecoderConfig
from jaxvoice.models.hifivc.harmonic_source import HarmonicSource
from jaxvoice.nn import Conv1d, ConvTranspose1d, LayerNorm, Linear, Module


class Decoder(Module):
    """Maps content features, a pitch code and a speaker vector to a waveform.

    `conv_pre` reads the content features. The pitch code is concatenated with its output, or added to it. The speaker
    vector is added in every pair of convolutions of the residual blocks, or to the input of each stage, or not at all
    (`config.conditioning`).
    """

    input_norm: LayerNorm | None
    conv_pre: Conv1d
    ups: list[ConvTranspose1d]
    resblocks: list[ResBlock1]
    conv_post: Conv1d
    stage_conds: list[Linear] | None
    source: HarmonicSource | None
    content_channels: int = eqx.field(static=True)
    pitch_channels: int = eqx.field(static=True)
    speaker_size: int = eqx.field(static=True)
    config: DecoderConfig = eqx.field(static=True)

    def __init__(
        self,
        config: DecoderConfig,
        *,
        content_channels: int = 512,
        pitch_channels: int = 0,
        speaker_size: int = 128,
        subframes: int = 4,
        sample_rate: int = 24000,
        key: PRNGKeyArray,
    ):
        """Draw weights from torch's default distribution; `pitch_channels=0` is a decoder without pitch code.

        `subframes`, the values of F0 per frame, and `sample_rate` of the output in Hz are those of a harmonic source.

        The N(0, 0.01) of HiFi-GAN has no effect, since weight norm overwrites it.
        """
        pre_key, ups_key, blocks_key, post_key, cond_key = jax.random.split(key, 5)
        widths, first = config.widths, config.first_width(pitch_channels)
        self.config = config
        self.content_channels, self.pitch_channels, self.speaker_size = content_channels, pitch_channels, speaker_size
        self.input_norm = LayerNorm(content_channels) if config.input_norm else None
        self.conv_pre = Conv1d(
            content_channels,
            config.pre_channels,
            config.pre_kernel_size,
            padding=config.pre_kernel_size // 2,
            weight_norm=True,
            key=pre_key,
        )
        self.ups = upsampling_layers(
            widths, config.upsample_rates, config.upsample_kernel_sizes, first_width=first, key=ups_key
        )
        in_blocks = speaker_size if config.conditioning == "resblocks" else 0
        self.resblocks = residual_blocks(
            lambda width, kernel, dilations, key: ResBlock1(width, kernel, dilations, cond_channels=in_blocks, key=key),
            widths,
            config.resblock_kernel_sizes,
            config.resblock_dilation_sizes,
            key=blocks_key,
        )
        self.conv_post = Conv1d(widths[-1], 1, 7, padding=3, weight_norm=True, key=post_key)
        self.source = None
        if config.harmonic_source:
            self.source = HarmonicSource(
                widths[1:],
                config.upsample_rates,
                sample_rate=sample_rate,
                subframe=config.hop_length // subframes,
                key=jax.random.fold_in(cond_key, 1),
            )
        self.stage_conds = None
        if config.conditioning == "stage_inputs":
            keys = jax.random.split(cond_key, len(self.ups))
            self.stage_conds = [
                Linear(speaker_size, up.in_channels, key=k) for up, k in zip(self.ups, keys, strict=True)
            ]

    def __call__(
        self,
        content: Float[Array, "*batch frames channels"],
        pitch_code: Float[Array, "*batch frames pitch_channels"] | None,
        speaker: Float[Array, "*batch size"],
        *,
        length: Int[Array, "*batch"] | int | None = None,
    ) -> Float[Array, "*batch samples 1"]:
        """**Arguments:**

        - `content`: content features `(*batch, frames, content_channels)`; their dtype is the precision of the
            computation.
        - `pitch_code`: the output of the pitch encoder, with as many frames; `None` if `pitch_channels` is 0.
        - `speaker`: speaker vectors `(*batch, speaker_size)`; axes of size 1 are broadcast.
        - `length`: number of valid frames; the rest is padding, of which the samples of valid frames are independent.

        **Returns:** waveform `(*batch, frames * config.hop_length, 1)` in [-1, 1], at least float32.

        **Raises:** `ShapeError` if a shape does not match the configuration or the batch of `content`.
        """
        self._check(content, pitch_code, speaker)
        length = None if length is None else jnp.asarray(length)
        mask = valid_frames(length, content.shape[-2], content.shape[:-2])
        signals = None
        if self.source is not None and pitch_code is not None:
            kept = zero_unless(mask, pitch_code[..., self.pitch_channels :])
            signals = self.source(kept.reshape(*kept.shape[:-2], -1, 3))
            pitch_code = pitch_code[..., : self.pitch_channels]
        content = zero_unless(mask, content)
        if self.input_norm is not None:
            content = zero_unless(mask, self.input_norm(content))
        x = self.conv_pre(content)
        if pitch_code is not None:
            pitch_code = pitch_code.astype(x.dtype)
            x = x + pitch_code if self.config.fusion == "sum" else jnp.concatenate([x, pitch_code], axis=-1)
        speaker = speaker[..., None, :].astype(content.dtype)
        stage_conds = self.stage_conds
        return generate(
            self,
            x,
            mask,
            speaker if self.config.conditioning == "resblocks" else None,
            length=length,
            final_slope=self.config.final_slope,
            before=None if stage_conds is None else lambda i, x: x + stage_conds[i](speaker),
            after=None if signals is None else lambda i, x: x + signals[i].astype(x.dtype),
        )

    def _check(self, content: Array, pitch_code: Array | None, speaker: Array) -> None:
        if content.ndim < 2 or content.shape[-1] != self.content_channels or content.shape[-2] == 0:
            raise ShapeError(
                f"The shape of content is {content.shape}; it should be (*batch, frames, {self.content_channels}), "
                "with at least one frame."
            )
        batch = content.shape[:-2]
        kept = 0 if self.source is None else 3 * (self.config.hop_length // self.source.subframe)
        expected = (*content.shape[:-1], self.pitch_channels + kept) if self.pitch_channels else None
        given = None if pitch_code is None else pitch_code.shape
        if given != expected:
            raise ShapeError(
                f"The shape of pitch_code is {given}; it should be {expected}, to match content of shape "
                f"{content.shape} and the pitch encoder."
            )
        if (
            speaker.ndim != len(batch) + 1
            or speaker.shape[-1] != self.speaker_size
            or any(n not in (1, m) for n, m in zip(speaker.shape, batch, strict=False))
        ):
            raise ShapeError(
                f"The shape of speaker is {speaker.shape}; it should be {(*batch, self.speaker_size)}, a vector per "
                "example."
            )
