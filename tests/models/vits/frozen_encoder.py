"""A small speaker encoder for tests of the speaker consistency loss, and wrong forms of it."""

import copy
import functools
import hashlib
from dataclasses import replace
from typing import Any

import equinox as eqx
import numpy as np
from jax import lax, numpy as jnp

from jaxvoice.dsp.mel_config import PowerMelConfig
from jaxvoice.models.speaker_encoder import ResNetConfig, SpeakerEncoderConfig
from jaxvoice.models.speaker_encoder.front_end import instance_norm, read_mels, unit_length
from jaxvoice.weights import named_arrays
from tests.models.speaker_encoder.small import random_encoder

RATE, SAMPLES = 16000, 2048
ENCODER = SpeakerEncoderConfig(
    ResNetConfig(blocks=(1, 1, 1, 1), channels=(8, 8, 8, 8), attention=4, dim=12), PowerMelConfig(num_mels=16)
)


@functools.cache
def encoder():
    """An encoder with random weights, biases and running statistics."""
    return random_encoder(ENCODER)


def voiced(seed, samples=SAMPLES, rows=2):
    """Pulses at different rates in noise, loud enough in all bands."""
    generator = np.random.default_rng(seed)
    audio = 0.05 * generator.standard_normal((rows, samples))
    for row, period in zip(audio, generator.integers(40, 160, rows), strict=True):
        row[::period] += 0.5
    return jnp.asarray(audio, jnp.float32)


def digest(tree) -> str:
    """The SHA-256 of names, dtypes, shapes and bytes of all arrays: weights, statistics, window and filterbank."""
    found = hashlib.sha256()
    for name, array in named_arrays(tree).items():
        values = np.asarray(array)
        found.update(f"{name} {values.dtype} {values.shape} ".encode() + values.tobytes())
    return found.hexdigest()


PLACES = ("waveform", "mels", "logarithm", "instance norm", "embedding")
"""Places in which no gradient passes a `Blocked` encoder."""


class Blocked(eqx.Module):
    """An encoder in which the gradient stops at one place of the path from the waveform to the embedding.

    At `"half"`, it stops at the first half of the waveform only. At `"float32"`, the mels are rounded.
    """

    encoder: Any
    place: str = eqx.field(static=True)

    @property
    def config(self):
        return self.encoder.config

    def __call__(self, audio):
        if self.place == "waveform":
            return self.encoder(lax.stop_gradient(audio))
        if self.place == "half":
            first, second = jnp.split(audio, 2, axis=-1)
            return self.encoder(jnp.concatenate([lax.stop_gradient(first), second], axis=-1))
        if self.place == "embedding":
            return lax.stop_gradient(self.encoder(audio))
        mels = read_mels(audio, self.config, self.encoder.torch_spec)
        if self.place == "mels":
            return unit_length(self.encoder.embed_mels(lax.stop_gradient(mels)))
        if self.place == "float32":
            return unit_length(self.encoder.embed_mels(mels.astype(jnp.float32).astype(mels.dtype)))
        # The rest of the network, whose input is the logarithm.
        plain = replace(self.config, network=replace(self.config.network, log_input=False))
        rest = copy.copy(self.encoder)
        object.__setattr__(rest, "config", plain)
        logs = jnp.log(mels + 1e-6)
        hidden = lax.stop_gradient(logs) if self.place == "logarithm" else lax.stop_gradient(instance_norm(logs))
        return unit_length(rest.embed_mels(hidden))
