import dataclasses

import jax
import numpy as np
import pytest

from jaxvoice.dsp import MelConfig, griffin_lim, log_mel, mel_filterbank, mel_to_audio, mel_to_magnitude, stft
from jaxvoice.errors import ShapeError

SIZES = {"n_fft": 1024, "hop_length": 256}


def convergence(audio, magnitude, **sizes):
    made = np.abs(np.asarray(stft(audio, **sizes)))
    return np.linalg.norm(made - magnitude) / np.linalg.norm(magnitude)


@pytest.mark.parametrize("momentum", [0.0, 0.99])
def test_griffin_lim_converges_as_in_librosa(librosa, speech, momentum):
    magnitude = np.abs(np.asarray(stft(speech, **SIZES)))
    sizes = {"hop_length": 256, "momentum": momentum, "length": speech.size}
    chance = "random_state" if librosa.__version__.startswith("0.") else "rng"
    ours, theirs = [], []
    for seed in range(3):
        audio = griffin_lim(magnitude, n_fft=1024, iterations=32, key=jax.random.key(seed), **sizes)
        assert audio.shape == speech.shape
        ours.append(convergence(audio, magnitude, **SIZES))
        audio = librosa.griffinlim(magnitude, n_iter=32, pad_mode="reflect", **{chance: seed}, **sizes)
        theirs.append(convergence(audio, magnitude, **SIZES))
    assert np.mean(ours) < 1.1 * np.mean(theirs)


def test_one_iteration_equals_the_projections_of_librosa(librosa, key):
    rng = np.random.default_rng(0)
    magnitude = np.abs(rng.standard_normal((33, 12))).astype(np.float32)
    phases = np.asarray(jax.random.uniform(key, (12, 33), minval=-np.pi, maxval=np.pi)).T
    audio = librosa.istft(magnitude * np.exp(1j * phases), hop_length=16, n_fft=64)
    again = librosa.stft(audio, n_fft=64, hop_length=16, pad_mode="reflect")
    expected = librosa.istft(magnitude * again / np.abs(again), hop_length=16, n_fft=64)
    found = griffin_lim(magnitude, n_fft=64, hop_length=16, iterations=1, key=key)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_iterations_and_momentum_reduce_the_error(speech):
    magnitude = np.abs(np.asarray(stft(speech, **SIZES)))
    few, many, plain = (
        convergence(griffin_lim(magnitude, **SIZES, iterations=n, momentum=m, length=speech.size), magnitude, **SIZES)
        for n, m in ((4, 0.99), (32, 0.99), (32, 0.0))
    )
    assert many < 0.5 * few
    assert many < plain


def test_keys_determine_the_initial_phases(key):
    magnitude = np.abs(np.random.default_rng(0).standard_normal((33, 12))).astype(np.float32)
    make = lambda **kwargs: np.asarray(griffin_lim(magnitude, n_fft=64, hop_length=16, iterations=2, **kwargs))  # noqa: E731
    np.testing.assert_array_equal(make(), make())
    assert abs(make(key=key) - make(key=jax.random.key(7))).max() > 1e-3
    assert np.isfinite(np.asarray(griffin_lim(0 * magnitude, n_fft=64, hop_length=16))).all()


@pytest.mark.parametrize(
    "config",
    [MelConfig(), MelConfig(log="log10", power=2.0, center=True, mel_scale="htk", magnitude_floor=0.0)],
    ids=["hifigan", "powers"],
)
def test_mel_of_mel_to_audio_is_close_to_the_mel(speech, config):
    mel = log_mel(speech, config)
    audio = mel_to_audio(mel, config, 60, length=speech.size)
    again = np.asarray(log_mel(audio, config))
    scale = 1 if config.log == "ln" else np.log(10)
    assert np.abs(again - mel).mean() * scale / config.power < 0.25
    assert np.abs(np.asarray(mel).mean() - mel).mean() * scale / config.power > 1.5


def test_mel_to_magnitude_has_the_error_of_librosa(librosa, speech):
    config = MelConfig(magnitude_floor=0.0)
    mel = np.asarray(log_mel(speech[:12000], config))
    theirs = librosa.feature.inverse.mel_to_stft(np.exp(mel), sr=22050, n_fft=1024, power=1.0, fmax=8000)
    ours = np.asarray(mel_to_magnitude(mel, config))
    assert (ours >= 0).all()
    error = [np.linalg.norm(mel_filterbank(config) @ found - np.exp(mel)) for found in (ours, theirs)]
    assert error[0] < 1e-2 * np.linalg.norm(np.exp(mel))
    assert error[0] < 1.5 * error[1] or error[0] < 1e-3 * np.linalg.norm(np.exp(mel))
    np.testing.assert_array_equal(ours[400:], 0)  # above 8 kHz no filter sees anything


def test_length_follows_the_frames(speech):
    config = MelConfig()
    mel = log_mel(speech[: 256 * 20], config)
    assert mel_to_audio(mel, config, 2).shape == (256 * 20,)
    centred = dataclasses.replace(config, center=True)
    assert mel_to_audio(log_mel(speech[: 256 * 20], centred), centred, 2).shape == (256 * 20,)


def test_griffin_lim_raises_for_bad_shapes():
    with pytest.raises(ShapeError, match=r"\(80, 4\); it should be \(513, frames\)"):
        griffin_lim(np.ones((80, 4), np.float32), **SIZES)
    with pytest.raises(ShapeError, match="2 frames; it should have at least 4, so that 512 samples"):
        griffin_lim(np.ones((513, 2), np.float32), **SIZES)
    with pytest.raises(ShapeError, match=r"\(4, 80\); it should be \(80, frames\)"):
        mel_to_audio(np.ones((4, 80), np.float32), MelConfig())
