import dataclasses
import importlib.util
import math
import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.fft
import scipy.signal
from jax.test_util import check_grads

from jaxvoice.dsp import MelConfig, log_mel, mel_cepstral_distortion, mel_l1, pesq, stft_distance, stoi
from jaxvoice.dsp.dtw import time_warping_path
from jaxvoice.dsp.measures import STFT_RESOLUTIONS
from jaxvoice.errors import AudioError, MissingExtraError, ShapeError

CONFIG = MelConfig()


@pytest.fixture(scope="module")
def noisy(speech):
    return (speech + 0.02 * np.random.default_rng(1).standard_normal(speech.size)).astype(np.float32)


def test_mel_l1_of_a_gain_equals_its_logarithm(speech):
    loud = np.random.default_rng(0).standard_normal(8192).astype(np.float32)
    assert float(mel_l1(loud, 2 * loud, CONFIG)) == pytest.approx(math.log(2), rel=1e-4)
    assert float(mel_l1(speech, speech, CONFIG)) == 0


def test_mel_l1_measures_the_full_band():
    """A tone at 9.5 kHz lies above the input mel and inside the measured one."""
    base = 1e-3 * np.random.default_rng(0).standard_normal(8192)
    tone = 0.3 * np.sin(2 * np.pi * 9500 / 22050 * np.arange(8192))
    inputs = [np.asarray(log_mel(x.astype(np.float32), CONFIG)) for x in (base, base + tone)]
    # A Hann window leaks little: below 8 kHz the tone hardly shows, apart from the reflected edges.
    assert np.abs(inputs[0] - inputs[1])[:, 2:-2].mean() < 0.01
    assert float(mel_l1(base.astype(np.float32), (base + tone).astype(np.float32), CONFIG)) > 0.1


def scipy_magnitude(audio, n_fft, hop, win):
    padded = np.pad(audio.astype(np.float64), n_fft // 2, mode="reflect")
    window = np.zeros(n_fft)
    left = (n_fft - win) // 2
    window[left : left + win] = scipy.signal.get_window("hann", win)
    frames = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[::hop] * window
    return np.sqrt(np.maximum(np.abs(scipy.fft.rfft(frames, axis=1)) ** 2, 1e-7))


def test_stft_distance_equals_scipy(speech, noisy):
    convergence, difference = [], []
    for sizes in STFT_RESOLUTIONS:
        real, made = scipy_magnitude(speech, *sizes), scipy_magnitude(noisy, *sizes)
        convergence.append(np.linalg.norm(real - made) / np.linalg.norm(real))
        difference.append(np.abs(np.log(real) - np.log(made)).mean())
    found = stft_distance(speech, noisy)
    assert float(found.spectral_convergence) == pytest.approx(np.mean(convergence), rel=1e-4)
    assert float(found.log_magnitude) == pytest.approx(np.mean(difference), rel=1e-4)
    assert float(found.total) == pytest.approx(np.mean(convergence) + np.mean(difference), rel=1e-4)


def test_stft_distance_equals_its_closed_form():
    loud = np.random.default_rng(0).standard_normal(8192).astype(np.float32)
    found = stft_distance(loud, loud / 2)
    assert float(found.spectral_convergence) == pytest.approx(0.5, rel=1e-5)
    assert float(found.log_magnitude) == pytest.approx(math.log(2), rel=1e-3)


def test_stft_distance_of_a_batch_is_that_of_all_its_energy(speech, noisy):
    """The convergence of a quiet clip, whose estimate is twice as loud, hardly changes that of the batch."""
    recordings, estimates = np.stack([speech, 0.01 * noisy]), np.stack([noisy, 0.02 * noisy])
    convergence, difference = [], []
    for sizes in STFT_RESOLUTIONS:
        real, made = (np.stack([scipy_magnitude(x, *sizes) for x in batch]) for batch in (recordings, estimates))
        convergence.append(np.linalg.norm(real - made) / np.linalg.norm(real))
        difference.append(np.abs(np.log(real) - np.log(made)).mean())
    found = stft_distance(recordings, estimates)
    assert float(found.spectral_convergence) == pytest.approx(np.mean(convergence), rel=1e-4)
    assert float(found.log_magnitude) == pytest.approx(np.mean(difference), rel=1e-4)
    first = stft_distance(speech, noisy)
    assert float(found.spectral_convergence) == pytest.approx(float(first.spectral_convergence), rel=0.02)
    assert float(found.log_magnitude) == pytest.approx((float(first.log_magnitude) + math.log(2)) / 2, rel=0.01)


def test_stft_distance_has_finite_gradients(speech, noisy):
    short = ((256, 64, 256), (128, 30, 100))
    loss = lambda x: stft_distance(speech[:1000], x, short).total  # noqa: E731
    with jax.enable_x64(True):
        real, made = speech[:1000].astype(np.float64), noisy[:1000].astype(np.float64)
        precise = lambda x: stft_distance(real, x, short).total  # noqa: E731
        check_grads(precise, (made,), order=1, modes=["rev"], rtol=1e-3, eps=1e-7)
    assert float(loss(speech[:1000])) == pytest.approx(0, abs=1e-6)
    for estimate in (speech[:1000], np.zeros(1000, np.float32)):
        assert np.isfinite(np.asarray(jax.grad(loss)(jnp.asarray(estimate)))).all()


def distortion(left, right, coefficients=13):
    """Per pair of frames, from scipy's unnormalised DCT-II (twice the plain sum)."""
    cepstra = [
        scipy.fft.dct(mel.astype(np.float64), axis=0)[1 : coefficients + 1] / (2 * len(mel)) for mel in (left, right)
    ]
    squares = ((cepstra[0][:, :, None] - cepstra[1][:, None, :]) ** 2).sum(axis=0)
    return 10 / math.log(10) * np.sqrt(2 * squares)


@pytest.mark.parametrize("config", [CONFIG, dataclasses.replace(CONFIG, log="log10", log_floor=1e-12)])
def test_distortion_equals_scipy(speech, noisy, config):
    mels = [np.asarray(log_mel(x, dataclasses.replace(config, log="ln"))) for x in (speech, noisy)]
    expected = np.diagonal(distortion(*mels)).mean()
    assert float(mel_cepstral_distortion(speech, noisy, config)) == pytest.approx(expected, rel=1e-4)
    fewer = np.diagonal(distortion(*mels, coefficients=5)).mean()
    assert float(mel_cepstral_distortion(speech, noisy, config, coefficients=5)) == pytest.approx(fewer, rel=1e-4)


def test_distortion_of_powers_equals_that_of_magnitudes():
    """One band per frequency bin would make them equal; 20 wide bands of a smooth spectrum come close."""
    rng = np.random.default_rng(0)
    left, right = (np.convolve(rng.standard_normal(8192), taps).astype(np.float32) for taps in ([1.0], [1.0, 0.9]))
    single, double = (
        float(mel_cepstral_distortion(left, right[:8192], dataclasses.replace(CONFIG, num_mels=20, power=power)))
        for power in (1.0, 2.0)
    )
    assert double == pytest.approx(single, rel=0.1)


def test_distortion_ignores_loudness(speech):
    config = dataclasses.replace(CONFIG, log_floor=1e-12, magnitude_floor=0.0)
    loud = np.random.default_rng(0).standard_normal(8192).astype(np.float32)
    assert float(mel_cepstral_distortion(loud, 0.5 * loud, config)) == pytest.approx(0, abs=1e-4)


def test_distortion_of_one_cosine_equals_its_closed_form():
    """Log-mels that differ by `a cos(pi d (k + 1/2) / K)` differ by a/2 in c_d alone."""
    from jaxvoice.dsp import mel_cepstrum

    bands, order, height = 80, 4, 0.6
    wave = height * np.cos(np.pi * order * (np.arange(bands) + 0.5) / bands)
    found = np.asarray(mel_cepstrum(np.tile(wave[:, None], (1, 3)).astype(np.float32), CONFIG))
    expected = np.zeros((14, 3))
    expected[order] = height / 2
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_alignment_corrects_a_change_of_speed(speech):
    """One recording repeats a part of the other. After alignment, the distortion is small."""
    tone = np.sin(2 * np.pi * 20 * np.arange(256 * 8) / 256)  # the period divides the hop: its frames are equal
    rng = np.random.default_rng(0)
    head, tail = rng.standard_normal((2, 256 * 12)) * 0.3
    slow = np.concatenate([head, tone, tone, tone, tail]).astype(np.float32)
    fast = np.concatenate([head, tone, tail]).astype(np.float32)
    assert float(mel_cepstral_distortion(fast, slow, CONFIG, align=True)) < 0.01
    assert float(mel_cepstral_distortion(fast, slow[: fast.size], CONFIG)) > 1
    with pytest.raises(ShapeError, match="same shape"):
        mel_cepstral_distortion(fast, slow, CONFIG)


def test_alignment_of_noisy_speech_equals_scipy_and_librosa(librosa, speech, noisy):
    cost = distortion(np.asarray(log_mel(speech, CONFIG)), np.asarray(log_mel(noisy[3000:], CONFIG)))
    total, path = librosa.sequence.dtw(C=cost)
    found = time_warping_path(cost)
    assert cost[tuple(found.T)].sum() == pytest.approx(total[-1, -1], rel=1e-9)
    expected = cost[tuple(path.T)].mean()
    assert float(mel_cepstral_distortion(speech, noisy[3000:], CONFIG, align=True)) == pytest.approx(expected, rel=1e-3)


def test_measures_raise_for_different_lengths(speech):
    for measure in (lambda a, b: mel_l1(a, b, CONFIG), stft_distance, lambda a, b: stoi(a, b, 22050)):
        with pytest.raises(ShapeError, match=r"\(44100,\) and estimate \(44000,\)"):
            measure(speech, speech[:44000])


def test_stoi_prefers_the_better_estimate(speech, noisy):
    assert stoi(speech, speech, 22050) == pytest.approx(1, abs=1e-6)
    worse = np.random.default_rng(2).standard_normal(speech.size) * 0.5 + speech
    for extended in (False, True):
        values = [stoi(speech, x, 22050, extended=extended) for x in (noisy, worse)]
        assert 1 > values[0] > values[1]
    with pytest.raises(AudioError, match=r"0\.20 s"):
        stoi(speech[:4410], speech[:4410], 22050)
    with pytest.raises(AudioError, match="recording is silent"):
        stoi(0 * speech, speech, 22050)


def test_error_for_a_missing_package_names_the_extra(speech, monkeypatch):
    for name, measure in (("pesq", pesq), ("pystoi", stoi)):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(MissingExtraError, match=r"jaxvoice\[measures\]"):
            measure(speech, speech, 22050)


def test_pesq_receives_wide_band_audio_at_16_khz(monkeypatch):
    calls = []

    def stand_in(*arguments):
        calls.append(arguments)
        if len(calls) > 1:
            raise RuntimeError("No utterances detected")
        return 4.5

    monkeypatch.setitem(sys.modules, "pesq", SimpleNamespace(pesq=stand_in))
    time = np.arange(22050) / 22050
    tone = np.sin(2 * np.pi * 440 * time).astype(np.float32)
    assert pesq(tone, tone, 22050) == 4.5
    rate, recording, estimate, mode = calls[0]
    assert (rate, mode, recording.size, estimate.size) == (16000, "wb", 16000, 16000)
    np.testing.assert_allclose(
        recording[800:-800], np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)[800:-800], atol=1e-3
    )
    with pytest.raises(AudioError, match="No utterances"):
        pesq(tone, tone, 16000)


@pytest.mark.skipif(
    importlib.util.find_spec("pesq") is None, reason="needs the package pesq: pip install 'jaxvoice[measures]'"
)
def test_pesq_prefers_the_better_estimate(speech, noisy):
    assert pesq(speech, speech, 22050) == pytest.approx(4.64, abs=0.01)
    assert pesq(speech, noisy, 22050) < 4
