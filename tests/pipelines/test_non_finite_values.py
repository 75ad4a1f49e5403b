"""Weights, mels and audio with NaN or infinity, and invalid seeds, raise errors."""

from typing import cast

import equinox as eqx
import numpy as np
import pytest
from jax import numpy as jnp

from jaxvoice.errors import AudioError, CheckpointError, ConfigError, MelError
from jaxvoice.pipelines import HiFiGANVocoder, Synthesizer
from tests.pipelines.conftest import loud_generator, small_config
from tests.pipelines.test_synthesizer import HELLO, hum, synthesizer, trained


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("vocoder", [hum, None])
def test_mels_with_nan_or_infinity_raise(bad, vocoder):
    """Infinite values raise too, although clipping of the mel would remove them."""
    model, norms, config = trained()
    where = model.acoustic.postnet.linear.bias
    broken = eqx.tree_at(lambda tts: tts.acoustic.postnet.linear.bias, model, jnp.full(where.shape, bad))
    for durations in (None, [3] * 5):
        with pytest.raises(CheckpointError, match=r"its weights are damaged\.$"):
            Synthesizer(broken, norms, config, vocoder).speak_phonemes(HELLO, durations)
    lasting = eqx.tree_at(lambda tts: tts.durations.linear.bias, model, jnp.full((1,), bad))
    with pytest.raises(CheckpointError, match=r"its weights are damaged\.$"):
        Synthesizer(lasting, norms, config, vocoder).speak_phonemes(HELLO)


def test_nan_in_mels_and_audio_raises(monkeypatch):
    mels = [np.full((8, 300), -2.0, np.float32), np.full((8, 300), -2.0, np.float32)]
    mels[1][3, 299] = np.nan
    for vocoder in (hum, None):
        with pytest.raises(MelError, match="NaN or infinity"):
            synthesizer(vocoder).mel_to_audio(mels)
    generator = loud_generator(small_config())
    damaged = eqx.tree_at(lambda one: one.conv_post.bias, generator, jnp.full((1,), jnp.nan))
    with pytest.raises(AudioError, match="NaN or infinity"):
        synthesizer(HiFiGANVocoder(damaged, small_config())).mel_to_audio(mels[:1])
    monkeypatch.setattr("jaxvoice.pipelines.mel_to_audio._invert", lambda mel, *_: np.full(mel.shape[1] * 16, np.inf))
    with pytest.raises(AudioError, match="NaN or infinity"):
        synthesizer(None).mel_to_audio(mels[:1])


@pytest.mark.parametrize("seed", [99999999999999999999999, -(2**63) - 1, 2**63, "a", 1.5, None, True])
def test_invalid_seeds_raise(seed):
    for say in (synthesizer(hum).speak, synthesizer(None).speak):
        with pytest.raises(ConfigError, match=r"^seed is .*; it should be a whole number"):
            say("Hello.", seed=seed)


def test_seeds_are_whole_numbers_of_64_bits():
    for seed in (-(2**63), -1, cast(int, np.int64(7)), 2**63 - 1):
        assert np.isfinite(synthesizer(None).speak_phonemes(HELLO, [3] * 5, seed=seed).audio).all()
