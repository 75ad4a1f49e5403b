"""The WaveGlow pipeline, compared with one call of its network on the whole input, and with scipy."""

import dataclasses

import equinox as eqx
import jax
import numpy as np
import pytest
import scipy.signal
from jax import numpy as jnp

from jaxvoice.errors import AudioError, CheckpointError, ConfigError, JaxvoiceWarning, MelError
from jaxvoice.models.waveglow import WaveGlow, frame_noise
from jaxvoice.models.waveglow.family import FAMILY
from jaxvoice.pipelines import Vocoder, WaveGlowVocoder
from tests.pipelines.small_waveglow import random_waveglow, waveglow_config

CONFIG = waveglow_config()
EXACT = max(CONFIG.receptive_field)
WINDOW = 48
PLAIN = {"denoise": 0, "check": False}


@pytest.fixture(scope="module")
def network() -> WaveGlow:
    return random_waveglow(CONFIG)


@pytest.fixture(scope="module")
def vocoder(network) -> WaveGlowVocoder:
    return WaveGlowVocoder(network, CONFIG, window=WINDOW, overlap=EXACT)


def mel_of(frames: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(-6, 2, (8, frames)).clip(-11.5, -1.5).astype(np.float32)


def noise_of(frames: int, seed: int = 0) -> jax.Array:
    return frame_noise(jnp.arange(frames), CONFIG, key=jax.random.key(seed))


run_whole = eqx.filter_jit(lambda network, mel, noise: network(mel.T, noise)[:, 0])


def whole(network: WaveGlow, mel: np.ndarray, sigma: float = 0.75, seed: int = 0) -> np.ndarray:
    return np.asarray(run_whole(network, jnp.asarray(mel), sigma * noise_of(mel.shape[1], seed)))


def denoised(audio: np.ndarray, bias: np.ndarray, strength: float, hop: int = 16) -> np.ndarray:
    """The denoiser of the release, for a whole number of frames, with scipy's transforms."""
    sizes = {"window": "hann", "nperseg": 64, "noverlap": 64 - hop}
    reflected = np.pad(audio.astype(np.float64), 32, mode="reflect")
    spectra = scipy.signal.stft(reflected, **sizes, boundary=None, padded=False)[2]
    spectra *= scipy.signal.get_window("hann", 64).sum()
    reduced = np.maximum(np.abs(spectra) - strength * bias[:, None], 0) * np.exp(1j * np.angle(spectra))
    restored = scipy.signal.istft(reduced, **sizes)[1]
    return restored / scipy.signal.get_window("hann", 64).sum()


def assert_same(found, expected, atol=2e-5):
    assert found.dtype == np.float32 and found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=atol)


def test_test_audio_is_loud(network):
    with_noise, without = whole(network, mel_of(60)), whole(network, mel_of(60), sigma=0)
    assert 0.3 < with_noise.std() < 3 and without.std() > 0.05


@pytest.mark.parametrize("frames", [1, 16, 17, WINDOW - 1, WINDOW, WINDOW + 1, 200])
def test_padding_and_windows_do_not_change_audio(vocoder, network, frames):
    mel = mel_of(frames, seed=frames)
    assert_same(vocoder.synthesize(mel, **PLAIN), whole(network, mel))


def test_smaller_overlaps_change_audio_near_the_ends_of_windows(network):
    mel, errors = mel_of(200), {}
    expected = whole(network, mel)
    for overlap in (0, 2, 5, EXACT):
        found = WaveGlowVocoder(network, CONFIG, window=WINDOW, overlap=overlap).synthesize(mel, **PLAIN)
        errors[overlap] = np.abs(found - expected).max()
    assert errors[0] > errors[2] > errors[5] > 1e-4 and errors[EXACT] < 2e-5
    found = WaveGlowVocoder(network, CONFIG, window=WINDOW, overlap=0).synthesize(mel, **PLAIN)
    middle = slice(EXACT * 16, (WINDOW - EXACT) * 16)
    assert_same(found[middle], expected[middle])


def test_latents_of_the_audio_are_the_noise(vocoder, network):
    mel = mel_of(200)
    audio = vocoder.synthesize(mel, sigma=0.5, seed=7, **PLAIN)
    latents = np.asarray(network.encode(jnp.asarray(audio)[:, None], jnp.asarray(mel.T)).latents)
    np.testing.assert_allclose(latents, 0.5 * np.asarray(noise_of(200, seed=7)), atol=1e-4)
    assert abs(latents.std() - 0.5) < 0.02 and abs(latents.mean()) < 0.02
    frames = latents.reshape(200, -1)
    assert np.abs(np.corrcoef(frames)[~np.eye(200, dtype=bool)]).max() < 0.999, "every frame has its own noise"


def test_seeds_and_keys_choose_the_noise(vocoder):
    mel = mel_of(20)
    first = vocoder.synthesize(mel, **PLAIN)
    assert_same(vocoder.synthesize(mel, seed=0, **PLAIN), first, atol=0)
    assert_same(vocoder.synthesize(mel, key=jax.random.key(0), **PLAIN), first, atol=0)
    assert np.abs(vocoder.synthesize(mel, seed=1, **PLAIN) - first).max() > 0.1
    assert_same(vocoder.synthesize(mel, seed=5, sigma=0, **PLAIN), vocoder.synthesize(mel, sigma=0, **PLAIN), atol=0)
    for seed in (-(2**63), 2**63 - 1, np.int64(3)):
        assert np.isfinite(vocoder.synthesize(mel, seed=seed, **PLAIN)).all()


@pytest.mark.parametrize("frames", [1, 2, 3, 15, 16, 17, 200, 201])
def test_denoiser_in_windows_equals_the_whole(vocoder, monkeypatch, frames):
    monkeypatch.setattr("jaxvoice.pipelines.waveglow_vocoder._DENOISED_FRAMES", 32)
    mel = mel_of(frames, seed=frames)
    noisy = vocoder.synthesize(mel, **PLAIN)
    expected = denoised(np.pad(noisy, (0, max(0, 48 - len(noisy)))), vocoder.bias, 2.0)[: len(noisy)]
    assert_same(vocoder.synthesize(mel, denoise=2.0, check=False), expected)
    assert np.abs(expected - noisy).max() > 0.01


def test_bias_is_the_spectrum_of_silence(vocoder, network):
    audio = whole(network, np.zeros((8, 88), np.float32), sigma=0)
    frame = np.pad(audio, (32, 0), mode="reflect")[:64]
    expected = np.abs(np.fft.rfft(frame * scipy.signal.get_window("hann", 64)))
    np.testing.assert_allclose(vocoder.bias, expected, atol=1e-4)


def test_batch_equals_single_calls(vocoder):
    mels = [mel_of(frames, seed=frames) for frames in (5, 130, 20, 48, 7, 1, 16)]
    singles = [vocoder.synthesize(mel, check=False) for mel in mels]
    for found, expected in zip(vocoder.synthesize(mels, check=False), singles, strict=True):
        assert_same(found, expected)
    stacked = np.stack([mel_of(12, seed=seed) for seed in range(3)])
    expected = np.stack([vocoder.synthesize(mel, sigma=1, check=False) for mel in stacked])
    assert_same(vocoder.synthesize(stacked, sigma=1, check=False), expected)
    assert vocoder.synthesize([], check=False) == []


@pytest.mark.slow
def test_many_lengths_compile_few_programs(monkeypatch):
    traced, run = [], WaveGlow.__call__

    def counting(self, mel, noise, *, length=None):
        traced.append(mel.shape)
        return run(self, mel, noise, length=length)

    monkeypatch.setattr(WaveGlow, "__call__", counting)
    config = waveglow_config(channels=4)  # not yet compiled by another test
    vocoder = WaveGlowVocoder(random_waveglow(config), config, window=64, overlap=4)
    for number, frames in enumerate([*range(1, 130), 500]):
        vocoder.synthesize(mel_of(frames), sigma=0.1 * number, seed=number, **PLAIN)
    assert len(traced) == 5  # 16, 24, 32, 48, 64


@pytest.mark.slow
@pytest.mark.parametrize("samples", [160, 161, 8009])
def test_resynthesis_keeps_the_length(vocoder, network, samples):
    audio = np.sin(np.arange(samples) * 0.3).astype(np.float32) * 0.5
    found = vocoder.resynthesize(audio, 8000, sigma=0.5, denoise=0)
    mel = vocoder.log_mel(np.pad(audio, (0, -samples % 16)), 8000)
    assert mel.shape == (8, -(-samples // 16) + 1) and found.shape == (samples,)
    assert_same(found, whole(network, mel, sigma=0.5)[:samples], atol=1e-4)
    assert vocoder.resynthesize(audio, 16000).shape == (-(-samples // 2),)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sigma": -0.1}, r"sigma is -0\.1; it should be a finite number of at least 0"),
        ({"sigma": np.nan}, "sigma is nan"),
        ({"sigma": 1e39}, r"sigma is 1e\+39; it should be .* in float32"),
        ({"sigma": "1"}, "sigma is '1'"),
        ({"sigma": True}, "sigma is True"),
        ({"denoise": np.inf}, r"denoise is inf; it should be .* 0 disables the denoiser"),
        ({"denoise": None}, "denoise is None"),
        ({"seed": 0.5}, r"seed is 0\.5; it should be a whole number"),
        ({"key": 3}, r"key is 3; it should be one key, such as jax\.random\.key\(0\)"),
        ({"key": jax.random.split(jax.random.key(0))}, "it should be one key"),
    ],
)
def test_invalid_options_raise(vocoder, options, message):
    with pytest.raises(ConfigError, match=message):
        vocoder.synthesize(mel_of(3), **options)
    with pytest.raises(ConfigError, match=message):
        vocoder.resynthesize(np.zeros(800, np.float32), 8000, **options)


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize(
    ("mel", "message"),
    [
        (np.where(np.arange(80).reshape(8, 10) == 13, np.nan, -5.0), "1 values.*band 1 at frame 3"),
        (np.zeros((9, 10), np.float32), "9 bands.*should have 8"),
        (np.zeros((8, 0), np.float32), "at least one frame"),
        (np.zeros((10, 8), np.float32), "transposed"),
        (np.zeros(8, np.float32), r"shape \(8,\)"),
        (np.zeros((8, 10), np.int32), "int32"),
        (np.zeros((0, 8, 10), np.float32), "it should contain at least one mel"),
    ],
)
def test_invalid_mels_raise(vocoder, mel, message, check):
    with pytest.raises(MelError, match=message):
        vocoder.synthesize(mel, check=check)


def test_mels_of_another_scale_raise(vocoder):
    audio = np.random.default_rng(0).normal(0, 0.2, 8000).astype(np.float32)
    audio[2000:5000] = 0
    mel = vocoder.log_mel(audio, 8000)
    assert vocoder.synthesize(mel).shape == (8016,)
    with pytest.raises(MelError, match=r"base 10.*2\.3026"):
        vocoder.synthesize(mel / np.log(10))
    with pytest.warns(JaxvoiceWarning, match="below the logarithm's floor") as caught:
        vocoder.synthesize(np.where(mel < -11, mel - 1, mel))
    assert caught[0].filename == __file__
    with pytest.raises(AudioError, match="it should be a positive whole number of Hz"):
        vocoder.resynthesize(audio, 0)


def test_damaged_weights_raise(network):
    singular = eqx.tree_at(lambda one: one.convinv[2].conv.weight, network, jnp.zeros((6, 6, 1)))
    with pytest.raises(CheckpointError, match=r"convinv\.2\.conv\.weight"):
        WaveGlowVocoder(singular, CONFIG)
    damaged = eqx.tree_at(lambda one: one.WN[1].end.bias, network, jnp.full(network.WN[1].end.bias.shape, jnp.nan))
    for denoise in (0, 0.04):
        with pytest.raises(
            AudioError, match=r"NaN or infinity; it should be finite\. The first layer .* is WN\.1\.end\. Check"
        ):
            WaveGlowVocoder(damaged, CONFIG).synthesize(mel_of(4), denoise=denoise, check=False)


def test_denoiser_of_a_network_without_finite_bias_raises(network):
    size = network.WN[1].end.bias.shape
    damaged = eqx.tree_at(lambda one: one.WN[1].end.bias, network, jnp.full(size, jnp.nan))
    with pytest.raises(
        AudioError, match=r"for a mel of zeros, which the denoiser needs, contains NaN .* is WN\.1\.end\."
    ):
        _ = WaveGlowVocoder(damaged, CONFIG).bias


def test_denoised_audio_that_is_not_finite_raises(vocoder):
    with pytest.raises(AudioError, match=r"The denoised audio contains NaN.* peak before the denoiser is 3e\+38"):
        vocoder._denoised(np.full(256, 3e38, np.float32), 0.1)


def test_contradictory_arguments_raise(network):
    with pytest.raises(ConfigError, match=r"network != config: channels: 8 != 16"):
        WaveGlowVocoder(network, dataclasses.replace(CONFIG, channels=16))
    for window, overlap in [(32, 16), (64, -1), (64.5, 2), (64, True), (None, 2)]:
        with pytest.raises(ConfigError, match=f"window is {window} frames and overlap is {overlap}"):
            WaveGlowVocoder(network, CONFIG, window=window, overlap=overlap)


def test_loaded_vocoder_equals_the_saved_one(tmp_path, network, vocoder, capsys):
    FAMILY.save_network(tmp_path / "run" / "model", network, CONFIG, info={"licence": "CC BY 4.0"})
    mel = mel_of(200)
    for load, folder in [(Vocoder.load, tmp_path / "run" / "model"), (WaveGlowVocoder.load, str(tmp_path / "run"))]:
        loaded = load(folder, window=WINDOW, overlap=EXACT)
        assert isinstance(loaded, WaveGlowVocoder) and loaded.config == CONFIG and loaded.mel == CONFIG.mel
        assert (loaded.sample_rate, loaded.hop_length, loaded.channels) == (8000, 16, 8)
        assert_same(loaded.synthesize(mel, check=False), vocoder.synthesize(mel, check=False))
    assert "CC BY 4.0" in capsys.readouterr().err
    assert repr(loaded) == "WaveGlowVocoder(8000 Hz, 8 mels, 8 channels)"


@pytest.mark.parametrize("frames", [17, 23, 40, 100])
def test_denoiser_has_room_for_frames_that_overlap_often(frames):
    mel = dataclasses.replace(CONFIG.mel, hop_length=8)
    config = waveglow_config(mel=mel, channels=2, flows=2, layers=1)
    vocoder = WaveGlowVocoder(random_waveglow(config), config)
    audio = vocoder.synthesize(mel_of(frames), denoise=0, check=False)
    found = vocoder.synthesize(mel_of(frames), denoise=0.5, check=False)
    assert_same(found, denoised(audio, vocoder.bias, 0.5, hop=8))
    assert np.abs(found - audio).max() > 1e-2
