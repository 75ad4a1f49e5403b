"""The vectors of references: of the language model from parts of a recording, and of the speaker."""

import jax
from jax import numpy as jnp
from jaxtyping import Array, Float

from jaxvoice.dsp.sinc_resampling import sinc_resample
from jaxvoice.errors import ShapeError
from jaxvoice.models.xtts.gpt import GPT
from jaxvoice.models.xtts_dvae.front_end import normalized_log_mel

SHORTEST_PART = 0.33
"""Seconds below which the last part of a reference is left out."""


def reference_parts(samples: int, sample_rate: int, *, seconds: float, part: float) -> list[tuple[int, int]]:
    """The first and last sample (exclusive) of the parts of a reference that `condition_on_parts` averages.

    **Arguments:** `samples` of the reference at `sample_rate` in Hz; `seconds`, how much of it is used; `part`, the
    length of a part in seconds.

    A part of less than 0.33 s is left out, unless it is the only one.

    coqui-ai/TTS `TTS/tts/models/xtts.py:get_gpt_cond_latents`.
    """
    end, size = min(samples, int(sample_rate * seconds)), int(sample_rate * part)
    parts = [(start, min(start + size, end)) for start in range(0, end, size)]
    long = [(start, stop) for start, stop in parts if stop - start >= SHORTEST_PART * sample_rate]
    return long or parts[:1]


def condition_on_parts(
    gpt: GPT, parts: list[Float[Array, " samples"]], statistics: Float[Array, " mels"]
) -> Float[Array, "vectors channels"]:
    """The vectors that the language model reads, averaged over the parts of a reference.

    A model without a perceiver has a vector for each frame, so it takes one part.

    **Arguments:** `parts`, at the sample rate of the mel; `statistics`, those of `mel_stats.pth`.

    **Raises:** `ShapeError` without parts, for several parts and a model without a perceiver, or for a part that is
    too short for a frame.
    """
    if not parts or (len(parts) > 1 and gpt.conditioning_perceiver is None):
        raise ShapeError(f"The reference has {len(parts)} parts; it should have one, or with a perceiver at least one.")
    mel = gpt.config.conditioning.mel
    vectors = [gpt.condition(normalized_log_mel(part, statistics, mel)) for part in parts]
    return jnp.mean(jnp.stack(vectors), axis=0)


def speaker_audio(audio: Float[Array, "*batch samples"], sample_rate: int) -> Float[Array, "*batch new_samples"]:
    """A reference at the sample rate of the speaker encoder, 16 kHz, resampled as in the release."""
    with jax.named_scope("speaker_audio"):
        return sinc_resample(audio, sample_rate, 16000)
