"""The speaker consistency loss of YourTTS: a frozen speaker encoder compares generated speech with the recording.

Families that train a generator of speech share it.

"Frozen" has four parts. The encoder is no part of the trained networks, so that no update and no weight decay reaches
it. It contains its running statistics, so that they do not change, and an embedding does not depend on the rest of the
batch. And the gradient passes through it to its input: without this, the loss has a value, but trains nothing.
"""

import math
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxvoice.dsp.sinc_resampling import sinc_resample
from jaxvoice.errors import ConfigError
from jaxvoice.models.speaker_encoder.config import GE2EConfig, SpeakerEncoderConfig
from jaxvoice.models.speaker_encoder.embedding import SpeakerNetwork

_SILENCE = 1e-3
"""Root mean square of a recorded segment below which its embedding is not compared: -60 dB."""


def check_encoder(encoder: SpeakerNetwork, *, samples: int, sample_rate: int, flag: str) -> None:
    """Check that `encoder` can compare segments of `samples` samples at `sample_rate`.

    **Arguments:** `flag`, the setting that makes segments longer, for the message.

    **Raises:** `ConfigError` for an encoder that reads mels, or segments that are too short.
    """
    mel = encoder.config.mel
    if not encoder.config.reads_audio:
        raise ConfigError(
            "The speaker encoder reads mels; it should read audio, so that the gradient of the speaker consistency "
            "loss reaches the decoder. Use an encoder whose front end is part of it, such as H/ASP."
        )
    length = -(-samples * mel.sample_rate // sample_rate)
    if length < mel.min_samples:
        raise ConfigError(
            f"The segments have {length} samples at the {mel.sample_rate} Hz of the speaker encoder; they should have "
            f"at least {mel.min_samples}. Raise {flag}."
        )


def speaker_similarity(
    encoder: SpeakerNetwork,
    recorded: Float[Array, "batch samples"],
    generated: Float[Array, "batch samples"],
    *,
    sample_rate: int,
) -> Float[Array, ""]:
    """The mean cosine between the embeddings of recorded and of generated segments, at least in float32.

    The loss is its negative times a weight. Its gradient reaches `generated` only. Segments whose recording is silent
    are left out. For a GE2E encoder, `shared_gains` scale both segments.

    **Arguments:** `encoder`, which contains its running statistics; `sample_rate`, that of the segments in Hz, from
    which they are resampled if the encoder has another.

    **Raises:** `ConfigError` for an encoder whose running statistics are separate.

    arXiv 2112.02418, equation 1; coqui-ai/TTS `TTS/tts/models/vits.py`.
    """
    # Without a gradient of its own, the recorded half keeps no activations.
    recorded, generated = (x.astype(np.promote_types(x.dtype, np.float32)) for x in (recorded, generated))
    recorded = jax.lax.stop_gradient(recorded)
    resampled = [sinc_resample(audio, sample_rate, encoder.config.sample_rate) for audio in (recorded, generated)]
    gains = shared_gains(resampled[0], encoder.config)
    of_recorded, of_generated = (encoder(audio if gains is None else gains * audio) for audio in resampled)
    cosines = jnp.sum(jax.lax.stop_gradient(of_recorded) * of_generated, axis=-1)
    compared = audible(recorded)
    return jnp.sum(jnp.where(compared, cosines, 0)) / jnp.maximum(jnp.sum(compared, dtype=cosines.dtype), 1)


def shared_gains(
    recorded: Float[Array, "*batch samples"], config: SpeakerEncoderConfig
) -> Float[Array, "*batch 1"] | None:
    """The gain of each pair of a recorded and a generated segment before the encoder; `None` if it needs none.

    The mels of a `GE2EConfig` depend on the level of the audio, and the encoder knows speech at `config.level`. The
    gain brings the recorded segment to this level, and is not differentiated. The generated segment has the same gain,
    so that a difference of the levels is part of the loss, but the level of the corpus is not. Louder segments are
    attenuated, even with `config.only_raise`. Other encoders normalise every band, and have no gain, as in the release.

    **Arguments:** `recorded`, at the sample rate of the encoder; `config`, that of the encoder.
    """
    if config.level is None or not isinstance(config.network, GE2EConfig):
        return None
    power = jnp.mean(jnp.square(jax.lax.stop_gradient(recorded)), axis=-1, keepdims=True)
    return 10 ** (config.level / 20) * jax.lax.rsqrt(jnp.maximum(power, _SILENCE**2))


def audible(audio: Float[Array, "*batch samples"]) -> Bool[Array, "*batch"]:
    """Which segments are louder than -60 dB, so that their embeddings are compared."""
    return jnp.mean(jnp.square(audio), axis=-1) > _SILENCE**2


def with_gradient(function: Any, x: Float[Array, "*shape"]) -> tuple[Float[Array, ""], Any, Float[Array, ""]]:
    """The value of `function(x)`, a pair of a loss and other results, and the norm of the gradient of the loss.

    The loss is a linear function of `x` with this gradient, so that a gradient of sums with other losses uses it, and
    `function` is differentiated once.

    **Returns:** the loss; the other results; the norm of its gradient, which is not differentiated.
    """
    (loss, others), gradient = jax.value_and_grad(function, has_aux=True)(jax.lax.stop_gradient(x))
    loss, gradient = jax.lax.stop_gradient((loss, gradient))
    zero = x - jax.lax.stop_gradient(x)
    return loss + jnp.sum(zero * gradient), jax.lax.stop_gradient(others), jnp.sqrt(jnp.sum(jnp.square(gradient)))


def gradient_warnings(metrics: Mapping[str, float]) -> list[str]:
    """A warning for each loss whose gradient at the generated samples is zero or not finite, so that it trains nothing.

    The speaker consistency loss of a batch in which all recorded segments are silent is zero, without a warning.

    **Arguments:** `metrics`, the logged values of a step, with `speaker_gradient` and `mel_gradient`, the norms of
    `with_gradient`, and `compared_segments`, the number of segments that are `audible`.
    """
    names = {"speaker_gradient": "speaker consistency loss", "mel_gradient": "mel loss"}
    if metrics.get("compared_segments") == 0 and metrics.get("speaker_gradient") == 0:
        del names["speaker_gradient"]
    return [
        f"the norm of the gradient of the {loss} at the generated samples is {metrics[name]}, so the loss does "
        "not train the decoder."
        for name, loss in names.items()
        if name in metrics and (metrics[name] == 0 or not math.isfinite(metrics[name]))
    ]
