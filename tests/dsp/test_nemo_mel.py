"""NeMo's log-mel front end compared with golden values of two releases and with librosa."""

import dataclasses

import jax
import librosa
import numpy as np
import pytest
from jax import numpy as jnp

from jaxvoice.dsp import NemoMelConfig, bucketed_nemo_log_mel, nemo_log_mel, nemo_mel
from jaxvoice.errors import AudioError, ConfigError, ShapeError
from tests.reference import golden

RELEASES = pytest.mark.parametrize("release", ["1.7", "2.6"])
CONFIG = NemoMelConfig()


@pytest.fixture(scope="module")
def case():
    return golden.case("conformer/mel")


def recording(samples, seed=0):
    random = np.random.default_rng(seed)
    return (0.1 * random.normal(size=samples) * np.sin(np.arange(samples) / 900)).astype(np.float32)


def with_librosa(audio, release):
    """The features of one recording, in float64."""
    audio = audio.astype(np.float64)
    audio = np.concatenate([audio[:1], audio[1:] - 0.97 * audio[:-1]])
    window = np.pad(np.hanning(400), 56)
    mode = "reflect" if release == "1.7" else "constant"
    spectrum = librosa.stft(audio, n_fft=512, hop_length=160, window=window, pad_mode=mode, dtype=np.complex128)
    mel = librosa.filters.mel(sr=16000, n_fft=512, n_mels=80) @ np.abs(spectrum) ** 2
    log = np.log(mel + 2.0**-24)[:, : len(audio) // 160 + (release == "1.7")]
    return (log - log.mean(1, keepdims=True)) / (log.std(1, ddof=1, keepdims=True) + 1e-5)


@RELEASES
def test_features_equal_the_golden_values(case, release):
    name = "r" + release.replace(".", "")
    features, count = nemo_log_mel(case["wav"], CONFIG, length=case["length"], release=release)
    np.testing.assert_array_equal(count, case[f"{name}_features_length"])
    np.testing.assert_allclose(features, case[f"{name}_features"], atol=1e-3)
    # The golden values of the other release are different.
    other = case["r26_features" if release == "1.7" else "r17_features"]
    assert np.abs(features - other).max() > 1


@RELEASES
@pytest.mark.parametrize("samples", [1600, 20_807])
def test_features_of_one_recording_equal_librosa(release, samples):
    audio = recording(samples)
    expected = with_librosa(audio, release)
    features, count = nemo_log_mel(audio, CONFIG, release=release)
    assert count == expected.shape[1] and features.shape == (80, samples // 160 + 1)
    np.testing.assert_allclose(features[:, :count], expected, atol=1e-3)
    np.testing.assert_allclose(bucketed_nemo_log_mel(audio, CONFIG, release=release), expected, atol=1e-3)


def test_bucketed_features_are_computed_with_few_lengths(monkeypatch):
    sizes = []

    def features(padded, valid, config):
        sizes.append(len(padded))
        return np.zeros((80, (len(padded) - 512) // 160 + 1), np.float32)

    monkeypatch.setattr(nemo_mel, "_bucketed_features", features)
    for samples in (9000, 9300, 9700, 20_000, 29_000):
        assert bucketed_nemo_log_mel(recording(samples), CONFIG).shape == (80, samples // 160)
    assert sizes == [63 * 160 + 512] * 3 + [127 * 160 + 512, 191 * 160 + 512]


@RELEASES
@pytest.mark.parametrize("samples", [160 * 200, 160 * 256, 160 * 129 + 7])
def test_parts_of_long_recordings_are_normalised_together(samples, release, monkeypatch):
    audio = recording(samples) * np.linspace(0.1, 1, samples, dtype=np.float32)
    expected = with_librosa(audio, release)
    sizes = []
    compute = nemo_mel._log_mel_part
    monkeypatch.setattr(nemo_mel, "_LARGEST", 128)
    monkeypatch.setattr(
        nemo_mel, "_log_mel_part", lambda part, config: sizes.append(len(part)) or compute(part, config)
    )
    found = bucketed_nemo_log_mel(audio, CONFIG, release=release)
    assert found.shape == expected.shape and found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-3)
    assert set(sizes) == {127 * 160 + 512} and len(sizes) >= 2


def test_rows_of_a_batch_equal_single_recordings_in_the_newer_release():
    audio = np.stack([recording(8000, 1), recording(8000, 2)])
    audio[1, 5000:] = 0
    together, counts = nemo_log_mel(audio, CONFIG, length=jnp.array([8000, 5000]))
    for row, samples in enumerate((8000, 5000)):
        alone, count = nemo_log_mel(audio[row, :samples], CONFIG)
        assert counts[row] == count
        # Logarithms of weak bands amplify the rounding errors of sums, whose order depends on the shapes.
        np.testing.assert_allclose(together[row, :, :count], alone[:, :count], atol=5e-5)
    assert not np.asarray(together)[1, :, 31:].any()
    # What lies past the length does not matter.
    audio[1, 5000:] = 0.3
    np.testing.assert_array_equal(nemo_log_mel(audio, CONFIG, length=jnp.array([8000, 5000]))[0], together)


def test_vmap_equals_the_batch():
    audio, length = np.stack([recording(4000, 1), recording(4000, 2)]), jnp.array([4000, 3000])
    together = nemo_log_mel(audio, CONFIG, length=length)
    apart = jax.vmap(lambda x, n: nemo_log_mel(x, CONFIG, length=n))(audio, length)
    for a, b in zip(together, apart, strict=True):
        np.testing.assert_allclose(a, b, atol=5e-5)


def test_silence_is_finite():
    features, _ = nemo_log_mel(np.zeros(4000, np.float32), CONFIG)
    assert np.abs(features).max() < 1


def test_wrong_audio_raises_an_error():
    with pytest.raises(ShapeError, match="audio has 300 samples; it should have at least 320 for two frames"):
        nemo_log_mel(np.zeros(300, np.float32), CONFIG)
    with pytest.raises(ShapeError, match="Divide int16 samples by 32768"):
        nemo_log_mel(np.zeros(4000, np.int16), CONFIG)
    with pytest.raises(AudioError, match="too short, 300 samples; it should have at least 320"):
        bucketed_nemo_log_mel(np.zeros(300), CONFIG)
    with pytest.raises(AudioError, match="1 of the 4000 samples are NaN or infinite in float32, the first at 3999"):
        bucketed_nemo_log_mel(np.r_[np.zeros(3999), np.nan], CONFIG)
    with pytest.raises(ConfigError, match=r"release is '1\.8'; it should be '1\.7' or '2\.6'"):
        nemo_log_mel(np.zeros(4000, np.float32), CONFIG, release="1.8")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("preemphasis", 1.0, "NemoMelConfig.preemphasis is 1.0; it should be in"),
        ("log_guard", 0.0, "NemoMelConfig.log_guard is 0.0; it should be positive"),
        ("win_length", 600, "win_length is 600; it should be at most n_fft, 512"),
        ("num_mels", 512, "num_mels is 512; it should be smaller"),
    ],
)
def test_impossible_configurations_raise_an_error(field, value, message):
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(CONFIG, **{field: value})
