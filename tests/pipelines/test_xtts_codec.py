"""The codec pipeline: round trips of small random models, windows, lengths, timing, and bad arguments."""

from dataclasses import replace

import equinox as eqx
import jax
import numpy as np
import pytest
import soundfile
from jax import numpy as jnp

import jaxvoice
from jaxvoice import Codec
from jaxvoice.cli import main
from jaxvoice.errors import AudioError, ConfigError, JaxvoiceWarning, ShapeError
from jaxvoice.models.xtts_dvae import FAMILY, CodecNetwork, normalized_log_mel
from jaxvoice.pipelines.served_models import ServedModel
from tests.models.xtts_dvae.small import SMALL, VOCODER

RATE = SMALL.mel.sample_rate
WITH_VOCODER = replace(SMALL, vocoder=VOCODER)


def random_network(config=WITH_VOCODER) -> CodecNetwork:
    """A network whose codes differ along a recording, although it is not trained."""
    network = eqx.filter_jit(CodecNetwork)(config, key=jax.random.key(0))
    stats = np.linspace(4, 9, config.mel.num_mels).astype(np.float32)
    network = eqx.tree_at(lambda n: n.mel_stats, network, jnp.asarray(stats))

    @eqx.filter_jit
    def book_of(network, audio):
        latents = network.dvae.latents(network.mel(audio))
        return network.dvae.codebook.restarted(latents, below=0.5, key=jax.random.key(1))[0]

    return eqx.tree_at(lambda n: n.dvae.codebook, network, book_of(network, jnp.asarray(noise(2 * RATE))))


def noise(samples: int) -> np.ndarray:
    random = np.random.default_rng(samples)
    envelope = 0.2 + 0.2 * np.sin(np.arange(samples) / 900)
    return (envelope * random.normal(size=samples)).clip(-1, 1).astype(np.float32)


@pytest.fixture(scope="module")
def codec() -> Codec:
    return Codec(random_network(), WITH_VOCODER)


@pytest.mark.parametrize("samples", [513, 1024, 21_000])
def test_codes_are_those_of_the_network_for_the_whole_recording(codec, samples):
    @eqx.filter_jit
    def expected(network, audio):
        codes = network.dvae.encode(normalized_log_mel(audio, network.mel_stats, SMALL.mel))
        mel = network.dvae.decode(codes)
        return codes, mel * network.mel_stats[None], network.vocoder(mel)[:, 0]

    codes, mel, generated = expected(codec.network, jnp.asarray(noise(samples)))
    found = codec.encode(noise(samples), RATE)
    assert found.dtype == np.int32 and len(found) == -(-(samples // 256 + 1) // 4)
    np.testing.assert_array_equal(found, codes)
    np.testing.assert_allclose(codec.decode_mel(found), mel.T, atol=1e-4)
    audio = codec.decode(found)
    assert audio.shape == (len(found) * 1024,) and audio.dtype == np.float32
    np.testing.assert_allclose(audio, generated, atol=1e-5)
    np.testing.assert_array_equal(codec.resynthesize(noise(samples), RATE), audio[:samples])


def test_windows_do_not_change_the_result(codec):
    small, audio = Codec(codec.network, WITH_VOCODER, window=12), noise(60_000)
    codes = codec.encode(audio, RATE)
    assert len(np.unique(codes)) > 4
    np.testing.assert_array_equal(small.encode(audio, RATE), codes)
    np.testing.assert_allclose(small.decode(codes), codec.decode(codes), atol=1e-5)
    np.testing.assert_allclose(small.decode_mel(codes), codec.decode_mel(codes), atol=1e-4)
    with pytest.raises(ConfigError, match="window is 8; it should be larger than the context of a code, 8 codes"):
        Codec(codec.network, WITH_VOCODER, window=8)
    with pytest.raises(ConfigError, match="The configuration of the network differs from config"):
        Codec(codec.network, SMALL)


def test_model_folder_gives_the_same_codes_and_audio(codec, tmp_path, capsys):
    FAMILY.save_network(tmp_path / "model", codec.network, WITH_VOCODER)
    loaded = jaxvoice.load(tmp_path / "model")
    assert isinstance(loaded, Codec)
    assert repr(loaded) == "Codec(22050 Hz, 16 codes, 21.53 per second, a vocoder)"
    soundfile.write(tmp_path / "speech.wav", noise(9000), 16_000, subtype="FLOAT")
    codes = codec.encode(noise(9000), 16_000)
    np.testing.assert_array_equal(loaded.encode(tmp_path / "speech.wav"), codes)
    np.testing.assert_array_equal(loaded.encode(jaxvoice.read_audio(tmp_path / "speech.wav")), codes)
    command = ["vocode", tmp_path / "speech.wav", tmp_path / "copy.wav", "--model", tmp_path / "model"]
    command = [str(part) for part in [*command, "--subtype", "float"]]
    assert main(command) == 0
    written, rate = soundfile.read(tmp_path / "copy.wav", dtype="float32")
    assert rate == RATE and len(written) == -(-9000 * RATE // 16_000)
    np.testing.assert_allclose(written, loaded.resynthesize(tmp_path / "speech.wav"), atol=1e-6)
    assert (
        main([*command, "--sigma", "0.5"]) == 2 and "is a codec, which has no option 'sigma'" in capsys.readouterr().err
    )
    np.save(tmp_path / "mel.npy", np.zeros((10, 20), np.float32))
    assert main([*command[:1], str(tmp_path / "mel.npy"), *command[2:]]) == 2
    assert "is a codec, which reads recordings" in capsys.readouterr().err


def test_codec_without_a_vocoder_says_that_it_uses_griffin_lim():
    codec = Codec(random_network(SMALL), SMALL)
    assert repr(codec).endswith("Griffin-Lim)")
    for samples in (513, 5000):
        with pytest.warns(JaxvoiceWarning, match="has no vocoder, so its audio is computed by the Griffin-Lim"):
            found = codec.resynthesize(noise(samples), RATE)
        assert found.shape == (samples,) and np.isfinite(found).all() and np.abs(found).max() > 0


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        ([], "it should be whole numbers of shape"),
        ([[1, 2]], "codes has shape"),
        ([0.5], "type float64"),
        ([True], "type bool"),
        ([3, 16], r"codes contains 16; codes should be from 0 to 15"),
        ([-1], "codes contains -1"),
        (["1"], "it should be whole numbers"),
    ],
)
def test_invalid_codes_are_errors(codec, codes, message):
    for decode in (codec.decode, codec.decode_mel):
        with pytest.raises(ShapeError, match=message):
            decode(codes)


@pytest.mark.parametrize(
    ("audio", "rate", "message"),
    [
        (np.zeros(0, np.float32), RATE, "empty"),
        (np.full(2000, np.nan, np.float32), RATE, "NaN or infinite in 2000"),
        (np.zeros((2, 2000), np.float32), RATE, "shape"),
        (np.zeros(2000, np.int16), RATE, "int16"),
        (np.zeros(2000, np.float32), None, "sample_rate is None"),
        (np.zeros(512, np.float32), RATE, "has a length of 512 samples at 22050 Hz; it should have at least 513"),
    ],
)
def test_invalid_audio_is_an_error(codec, audio, rate, message):
    for method in (codec.encode, codec.resynthesize):
        with pytest.raises(AudioError, match=message):
            method(audio, rate)
    for samples in (2.5, "5", True):
        with pytest.raises(ConfigError, match=r"samples is .*; it should be from 1 to 1024"):
            codec.decode(np.zeros(1, int), samples=samples)
    for window in (64.0, "64", True):
        with pytest.raises(ConfigError, match=r"window is .*; it should be a whole number of codes"):
            Codec(codec.network, codec.config, window=window)
    with pytest.raises(ConfigError, match="samples is 2000; it should be from 1 to 1024"):
        codec.decode([1], samples=2000)


def test_silence_is_encoded(codec):
    found = codec.resynthesize(np.zeros(3000, np.float32), RATE)
    assert found.shape == (3000,) and np.isfinite(found).all()


def test_codec_is_served_as_a_vocoder(codec):
    served = ServedModel("codec", codec)
    assert served.tasks == ("vocode",) and served.options("vocode") == ()
    parts = list(served.vocode(noise(30_000), RATE))
    np.testing.assert_array_equal(np.concatenate(parts), codec.resynthesize(noise(30_000), RATE))
