"""Model folders of XTTS: voices, vocabularies and descriptions; speech of given codes."""

import json

import equinox as eqx
import jax
import numpy as np
import pytest

from jaxvoice.config import from_dict
from jaxvoice.errors import CheckpointError, ConfigError
from jaxvoice.models.xtts import FAMILY, StoredVoice, XTTSConfig, read_voices, write_voices
from jaxvoice.models.xtts.bundle import check_vocabulary, folder_contents, read_vocabulary
from jaxvoice.models.xtts.references import speaker_audio
from jaxvoice.weights.file_writing import write_safetensors
from tests.models.xtts.small import SMALL, random_xtts, vocabulary


def voice(seed=0):
    random = np.random.default_rng(seed)
    conditioning = random.normal(size=(3, 16)).astype(np.float32)
    return StoredVoice(conditioning, random.normal(size=12).astype(np.float32))


def test_voices_are_read_as_written(tmp_path):
    assert read_voices(tmp_path, SMALL) == {}
    voices = {"Zoë /x": voice(), "Ann": voice(1)}
    write_voices(tmp_path, voices)
    found = read_voices(tmp_path, SMALL)
    assert list(found) == ["Zoë /x", "Ann"]
    for name, one in voices.items():
        np.testing.assert_array_equal(found[name].conditioning, one.conditioning)
        np.testing.assert_array_equal(found[name].speaker, one.speaker)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"conditioning/a": None}, "does not match at 'conditioning/a'"),
        ({"other": np.ones(1, np.float32)}, "does not match at 'other/'"),
        ({"speaker/a": np.ones(11, np.float32)}, r"shapes \(3, 16\) and \(11,\); they should be \(3, 16\) and \(12,\)"),
        ({"conditioning/a": np.ones((2, 16), np.float32)}, r"shapes \(2, 16\) and \(12,\)"),
        ({"speaker/a": np.full(12, np.nan, np.float32)}, "speaker vectors of the voice 'a' .* contain NaN"),
        ({"conditioning/a": np.zeros((3, 16), np.float32)}, "conditioning vectors of the voice 'a' .* only zeros"),
        ({"speaker/a": np.ones(12, np.float16)}, "have the type float16"),
    ],
)
def test_wrong_voices_raise_errors(tmp_path, change, message):
    given = {"conditioning/a": voice().conditioning, "speaker/a": voice().speaker} | change
    arrays = {name: array for name, array in given.items() if array is not None}
    specs = {name: (array.shape, array.dtype) for name, array in arrays.items()}
    write_safetensors(tmp_path / "voices.safetensors", specs, arrays.items())
    with pytest.raises(CheckpointError, match=message):
        read_voices(tmp_path, SMALL)


def test_damaged_voices_raise_an_error(tmp_path):
    write_voices(tmp_path, {"a": voice()})
    path = tmp_path / "voices.safetensors"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(CheckpointError, match=r"voices\.safetensors"):
        read_voices(tmp_path, SMALL)


def test_vocabularies_are_checked(tmp_path):
    path = tmp_path / "vocab.json"
    path.write_text(json.dumps(vocabulary()), encoding="utf-8")
    found = check_vocabulary(path, SMALL)
    assert found == read_vocabulary(path) and (found.size, found.start, found.stop) == (30, 5, 0)
    for other, message in (
        (vocabulary(29), "has 29 text ids; it should be 30, .* another model"),
        (vocabulary(31), "has 31 text ids; it should be 30, .* another model"),
        (vocabulary(start=6), r"\[START\] with the id 6; it should be 5"),
        (vocabulary(stop=6), r"\[STOP\] with the id 6; it should be 0"),
        ({"model": {}}, r"vocab\.json: pre_tokenizer is None"),
    ):
        path.write_text(json.dumps(other), encoding="utf-8")
        with pytest.raises(CheckpointError, match=message):
            check_vocabulary(path, SMALL)
    with pytest.raises(CheckpointError, match=r"other\.json cannot be read"):
        read_vocabulary(tmp_path / "other.json")


def test_contents_of_folders_are_described(tmp_path):
    expected = {"languages": "en, pt", "voices": "none", "vocabulary": "none", "DVAE": "none; only training needs it"}
    assert folder_contents(tmp_path, SMALL) == expected
    write_voices(tmp_path, {"a": voice(), "b": voice(1)})
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary()), encoding="utf-8")
    (tmp_path / "dvae").mkdir()
    (tmp_path / "dvae" / "model.safetensors").touch()
    full = {"voices": "2: 'a', 'b'", "vocabulary": "30 text ids", "DVAE": "dvae"}
    assert folder_contents(tmp_path, SMALL) == expected | full


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"speaker_encoder": {"network": {"hidden": 8, "layers": 1, "dim": 12}}}, "should be a residual network"),
        ({"speaker_encoder": {"network": {"dim": 10}}}, "cond_channels is 512; it should be 10"),
    ],
)
def test_other_speaker_encoders_raise_errors(change, message):
    with pytest.raises(ConfigError, match=message):
        from_dict(XTTSConfig, change)


@pytest.mark.slow
def test_speech_of_codes_is_that_of_their_latents():
    network = random_xtts()
    args, _ = FAMILY.example_inputs(SMALL, key=jax.random.key(0))

    @eqx.filter_jit
    def parts(network, reference, text, codes):
        speaker = network.embed_speaker(speaker_audio(reference, 22050))
        latents = network.gpt.latents(network.condition(reference), text, codes)
        return network.hifigan_decoder(latents, speaker), network.hifigan_decoder(latents, -speaker)

    audio = eqx.filter_jit(network)(*args)
    same, other = parts(network, *args)
    assert audio.shape == (network.hifigan_decoder.samples(4), 1)
    np.testing.assert_allclose(audio, same, atol=1e-6)
    assert np.abs(audio - other).max() > 1e-5
