"""Synthesis and conversion with a small VITS: voices, languages, long texts, and errors of the user."""

import dataclasses
import json

import equinox as eqx
import jax
import numpy as np
import pytest
import soundfile

import jaxvoice
from jaxvoice.data.audio import Audio
from jaxvoice.dsp.framing import bucket_size
from jaxvoice.dsp.resampling import resample
from jaxvoice.errors import AudioError, ConfigError, JaxvoiceWarning, MissingExtraError, TextError
from jaxvoice.models import speaker_encoder
from jaxvoice.models.vits import FAMILY, VITS, VITSConfig, inference
from jaxvoice.models.vits.inference import conversion_reach, piece_key
from jaxvoice.pipelines import SpeakerEncoder, VITSSynthesizer, Voice
from jaxvoice.pipelines.speaker_encoder import scaled_to_level
from jaxvoice.pipelines.synthesizer import BLANK
from jaxvoice.pipelines.vits_arguments import split_text
from jaxvoice.text import VITS_SYMBOLS
from jaxvoice.text.ipa import text_to_ipa, texts_to_ipa
from jaxvoice.weights import named_arrays
from tests.models.speaker_encoder.small import SMALL as ENCODER, random_encoder
from tests.models.vits.released import linear_spectrogram
from tests.models.vits.small import SMALL
from tests.random_networks import random_network

RATE = SMALL.mel.sample_rate
TABLE = dataclasses.replace(SMALL, num_speakers=3, languages=())


@pytest.fixture(scope="module", autouse=True)
def few_sizes():
    """Pad to at least 128 tokens or frames, so that few programs are compiled."""
    padded = lambda count, largest: bucket_size(max(count, 128), largest)  # noqa: E731
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inference, "bucket_size", padded)
        yield


@pytest.fixture(scope="module")
def encoder():
    return SpeakerEncoder(random_encoder(ENCODER), ENCODER)


@pytest.fixture(scope="module")
def config(encoder):
    decoder = dataclasses.replace(SMALL.decoder, cond_channels=encoder.dim)
    return dataclasses.replace(SMALL, speaker_channels=encoder.dim, decoder=decoder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, config, encoder):
    """A model folder with speakers and the folder of the speaker encoder."""
    place = tmp_path_factory.mktemp("vits") / "model"
    FAMILY.save_network(place, random_network(VITS, config), config)
    speaker_encoder.FAMILY.save_network(place / "speaker_encoder", encoder.network, ENCODER)
    vectors = np.random.default_rng(3).normal(size=(2, encoder.dim))
    table = {
        name: {"name": name, "embedding": [*map(float, v)]} for name, v in zip(("anna", "ben"), vectors, strict=True)
    }
    (place / "speakers.json").write_text(json.dumps(table), encoding="utf-8")
    return place


@pytest.fixture(scope="module")
def model(folder):
    return VITSSynthesizer.load(folder)


@pytest.fixture(scope="module")
def table_model():
    from jaxvoice.models.vits.speakers import Speakers

    return VITSSynthesizer(random_network(VITS, TABLE), TABLE, Speakers({"p225": 0, "p226": 1, "p301": 2}, {}))


@pytest.fixture(scope="module")
def recording():
    random, time = np.random.default_rng(0), np.arange(2 * RATE) / RATE
    tone = np.sin(2 * np.pi * 150 * time) * (0.5 + 0.4 * np.sin(2 * np.pi * 3 * time))
    return (0.3 * tone + 0.02 * random.normal(size=len(time))).astype(np.float32)


def test_speech_has_the_durations_of_its_symbols(model, monkeypatch):
    speech = model.speak("Hello, you.", speaker="anna", language="en", seed=1)
    assert speech.sample_rate == 22050 and speech.audio.dtype == np.float32
    assert len(speech.audio) == 256 * speech.durations.sum() == 256 * speech.mel.shape[1]
    assert "".join(speech.phonemes) == BLANK + "".join(f"{one}{BLANK}" for one in "hello, you.")
    assert speech.num_symbols == len("hello, you.") and f" {speech.num_symbols} symbols, " in repr(speech)
    assert np.abs(speech.audio).max() > 0
    np.testing.assert_array_equal(speech.alignment.sum(0), speech.durations)
    again = model.speak("Hello, you.", speaker="anna", language="en", seed=1)
    np.testing.assert_array_equal(again.audio, speech.audio)
    # With the sizes of `few_sizes`, padding is longer.
    monkeypatch.setattr(inference, "bucket_size", bucket_size)
    shorter = model.speak("Hello, you.", speaker="anna", language="en", seed=1)
    np.testing.assert_allclose(shorter.audio, speech.audio, atol=1e-5)
    other = model.speak("Hello, you.", speaker="anna", language="en", seed=2)
    assert len(other.audio) != len(speech.audio) or np.abs(other.audio - speech.audio).max() > 1e-4


def test_synthesizer_and_converter_load_the_model(folder):
    for load in (jaxvoice.Synthesizer.load, jaxvoice.VoiceConverter.load, jaxvoice.load):
        loaded = load(folder)
        assert isinstance(loaded, VITSSynthesizer) and loaded.speakers == ("anna", "ben")
    assert repr(loaded) == f"VITSSynthesizer(22050 Hz, speaker vectors of {loaded.config.speaker_channels})"


def test_without_noise_speech_does_not_depend_on_the_seed(model):
    options = {"speaker": "ben", "language": "pt", "noise_scale": 0.0, "duration_noise_scale": 0.0}
    first, second = (model.speak("um dois", seed=seed, **options) for seed in (1, 2))
    np.testing.assert_array_equal(first.audio, second.audio)
    slow = model.speak("um dois", length_scale=np.float32(3), **options)
    assert 2 * first.durations.sum() < slow.durations.sum() <= 3 * first.durations.sum()


def test_speaker_and_language_change_the_speech(model):
    audio = [
        model.speak("abc", speaker=speaker, language=language, seed=0, length_scale=2.0).audio
        for speaker, language in (("anna", "en"), ("ben", "en"), ("anna", "pt"))
    ]
    assert all(len(a) != len(audio[0]) or np.abs(a - audio[0]).max() > 1e-4 for a in audio[1:])


def test_recordings_give_the_voice_of_the_speaker_encoder(model, encoder, recording, tmp_path):
    vector = encoder.embed(recording, RATE)
    expected = model.speak("abc", speaker=vector, language="en").audio
    soundfile.write(tmp_path / "a.wav", recording, RATE, subtype="FLOAT")
    voice = model.encode_voice(recording, RATE)
    voice.save(tmp_path / "voice.json")
    for reference in (tmp_path / "a.wav", [tmp_path / "a.wav"], voice, tmp_path / "voice.json"):
        found = model.speak("abc", reference=reference, language="en").audio
        np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(
        model.speak("abc", reference=recording, sample_rate=RATE, language="en").audio, expected, atol=1e-5
    )
    other = np.random.default_rng(5).normal(0, 0.1, 2 * RATE).astype(np.float32)
    both, second = model.encode_voice([recording, other], RATE), encoder.embed(other, RATE)
    assert both.references == 2 and both.seconds == 4 and np.abs(second - vector).max() > 0.01
    np.testing.assert_allclose(both.embedding, (vector + second) / 2, atol=1e-6)


def test_long_texts_are_divided_at_sentences(model):
    assert split_text("One two. Three? Four, five", 12) == ["One two.", "Three?", "Four, five"]
    assert split_text("One two. Three.", 100) == ["One two. Three."]
    assert split_text("aaaa bbbb, cccc dddd", 10) == ["aaaa bbbb,", "cccc dddd"]
    assert split_text("aaaa bbbb cccc", 9) == ["aaaa bbbb", "cccc"]
    assert split_text("Yes. - !", 4) == ["Yes."]
    text = "this is a sentence of some length, said again and again. " * 8
    speech = model.speak(text, speaker="anna", language="en", length_scale=0.2)
    assert len(speech.blocks) == 2 and len(speech.audio) == 256 * speech.durations.sum()
    second = speech.blocks[1]
    assert second.frame == len(speech.blocks[0].weights) and second.phone == speech.blocks[0].weights.shape[1]
    # Both parts have the same text, but not the same noise.
    assert speech.phonemes[: second.phone] == speech.phonemes[second.phone :]
    halves = np.split(speech.audio, [256 * second.frame])
    assert len(halves[0]) != len(halves[1]) or np.abs(halves[0] - halves[1]).max() > 1e-4
    parts = model.speak(text, speaker="anna", language="en", length_scale=0.2, stream=True)
    for part, half in zip(parts, halves, strict=True):
        np.testing.assert_array_equal(part, half)


def test_pieces_of_different_seeds_have_different_noise():
    seeds = *range(8), 2**32, 2**32 + 1, 2**63 - 1, -1, -(2**63), np.int64(-2)
    keys = [tuple(jax.random.key_data(piece_key(seed, piece)).tolist()) for seed in seeds for piece in range(8)]
    assert len(set(keys)) == len(keys)
    assert keys[8] == tuple(jax.random.key_data(jax.random.key(1)).tolist())
    for piece in range(1, 4):
        parts = jax.random.key_data(jax.random.split(piece_key(1, 0))).tolist()
        assert jax.random.key_data(piece_key(1, piece)).tolist() not in parts


def test_lists_of_texts_are_spoken_one_by_one(model):
    texts = ["one", "two three"]
    speech = model.speak(texts, speaker="anna", language="en", seed=5)
    for text, one in zip(texts, speech, strict=True):
        np.testing.assert_array_equal(model.speak(text, speaker="anna", language="en", seed=5).audio, one.audio)


def test_numbers_are_spelled_in_the_language(model):
    options = {"speaker": "anna", "noise_scale": 0.0, "duration_noise_scale": 0.0}
    for language, words in (("en", "forty-two"), ("pt", "quarenta e dois")):
        found = model.speak("42", language=language, **options)
        np.testing.assert_array_equal(found.audio, model.speak(words, language=language, **options).audio)


def test_models_of_the_ipa_read_texts_and_phonemes(monkeypatch):
    pytest.importorskip("espeakng_loader", reason="the extra demo is not installed")
    ipa = "h\u0259l\u02c8o\u028a, w\u02c8\u025c\u02d0ld!"
    assert text_to_ipa("Hello, world!") == ipa
    assert text_to_ipa("Bonjour", "fr-fr") == "b\u0254\u0303\u0292\u02c8u\u0281"
    config = dataclasses.replace(
        SMALL,
        symbols=VITS_SYMBOLS,
        speaker_channels=0,
        languages=(),
        decoder=dataclasses.replace(SMALL.decoder, cond_channels=0),
    )
    model = VITSSynthesizer(random_network(VITS, config), config)
    found = model.speak("(Hello), world!", seed=1)
    np.testing.assert_array_equal(found.audio, model.speak_phonemes(ipa, seed=1).audio)
    assert "".join(found.phonemes).replace(BLANK, "") == ipa
    assert texts_to_ipa(["Hello, world!", "", "(Bonjour)", "Hello, world!"] * 200) == [
        *[ipa, "", text_to_ipa("(Bonjour)"), ipa] * 200
    ]
    with pytest.raises(TextError, match="espeak-ng cannot read 'a' in the language 'xx'"):
        text_to_ipa("a", "xx")
    with pytest.raises(TextError, match="cannot read 2 texts from 'a' on in the language 'xx'"):
        texts_to_ipa(["a", "b"], "xx")
    with pytest.raises(TextError, match="language is ''; it should be a voice of espeak-ng"):
        text_to_ipa("a", "")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'jaxvoice\[demo\]'"):
        model.speak("hello")


def test_conversion_in_windows_equals_that_of_the_whole(model, recording):
    """The window is shorter than the recording, so that it is divided."""
    reach = conversion_reach(model.config)
    audio = np.tile(recording, 8)
    found = model.convert(audio, "ben", speaker="anna", sample_rate=RATE, seed=3)
    assert found.shape == audio.shape and len(audio) > 256 * 1024 > 256 * 4 * reach
    spectrogram = linear_spectrogram(np.pad(audio, (0, -len(audio) % 256)))
    frames = len(spectrogram)
    key = jax.random.key(3)

    @eqx.filter_jit
    def whole(network):
        draw = jax.vmap(lambda i: jax.random.normal(jax.random.fold_in(key, i), (network.config.channels,)))
        noise = draw(np.arange(frames, dtype=np.uint32))
        vectors = [np.asarray(model._speakers.vectors[name], np.float32) for name in ("anna", "ben")]
        return network.convert(spectrogram, noise, *vectors).audio[:, 0]

    np.testing.assert_allclose(found, np.asarray(whole(model.network))[: len(audio)], atol=2e-5)


def test_conversions_keep_the_duration_and_depend_on_the_voice(model, recording):
    found = model.convert([recording, recording[:24001]], "anna", sample_rate=RATE)
    assert [len(one) for one in found] == [len(recording), 24001]
    assert np.abs(found[0] - model.convert(recording, "ben", sample_rate=RATE)).max() > 1e-4
    (chunk,) = model.convert_chunks(recording, model.encode_voice(recording, RATE), sample_rate=RATE)
    assert chunk.shape == recording.shape
    half = model.convert(recording[::2], "anna", sample_rate=RATE // 2)
    assert abs(len(half) - len(recording)) <= 2


def test_conversions_accept_the_vector_of_a_voice(model, recording, encoder):
    vector = encoder.embed(recording, RATE)
    voice = model.encode_voice(recording, RATE)
    expected = model.convert(recording, voice, sample_rate=RATE)
    for given in (vector, 3 * vector, [float(one) for one in vector], jax.numpy.asarray(vector)):
        np.testing.assert_allclose(model.convert(recording, given, sample_rate=RATE), expected, atol=1e-5)
    with pytest.raises(ConfigError, match=r"^voice contains only zeros, NaN or infinity"):
        model.convert(recording, 0 * vector, sample_rate=RATE)
    for factor in (1e25, 1e-25):  # the squares are not in float32
        scaled = dataclasses.replace(voice, embedding=np.float32(factor) * vector)
        np.testing.assert_allclose(model.convert(recording, scaled, sample_rate=RATE), expected, atol=1e-5)
    with pytest.raises(ConfigError, match=r"^The embedding of voice contains only zeros"):
        model.convert(recording, dataclasses.replace(voice, embedding=0 * vector), sample_rate=RATE)
    with pytest.raises(ConfigError, match=r"^voice has shape .* and type int"):
        model.convert(recording, np.ones(encoder.dim, np.int64), sample_rate=RATE)


def test_models_with_a_table_have_names_and_ids(table_model, recording):
    by_name = table_model.speak("abc", speaker="p226").audio
    np.testing.assert_array_equal(table_model.speak("abc", speaker=1).audio, by_name)
    assert repr(table_model) == "VITSSynthesizer(22050 Hz, 3 speakers)"
    converted = table_model.convert(recording, "p301", speaker="p225", sample_rate=RATE)
    assert converted.shape == recording.shape
    for call, message in (
        (lambda: table_model.speak("abc"), "speaker is None; it should be one of the known names: 'p225', 'p226'"),
        (
            lambda: table_model.speak("abc", speaker="p225b"),
            "speaker is 'p225b'; the nearest known names are 'p225', 'p226'",
        ),
        (lambda: table_model.speak("abc", speaker=3), "speaker is 3; it should be a name or an id from 0 to 2"),
        (lambda: table_model.speak("abc", reference=recording), "has a table of speakers and no speaker vectors"),
        (lambda: table_model.speak("abc", speaker=0, language="en"), "^language is 'en', but the model has no lang"),
        (lambda: table_model.speak("abc", speaker=0, reference=recording), "speaker and reference are both given"),
        (
            lambda: table_model.convert(recording, "p225b", speaker="p225", sample_rate=RATE),
            "^voice is 'p225b'; the nearest known names are 'p225', 'p226'",
        ),
        (lambda: table_model.convert(recording, "p301", sample_rate=RATE), "speaker is None; it should be the speaker"),
        (lambda: table_model.encode_voice(recording, RATE), "reads no speaker vectors"),
    ):
        with pytest.raises(ConfigError, match=message):
            call()


def test_models_of_one_voice_have_no_speakers():
    config = dataclasses.replace(
        SMALL, speaker_channels=0, languages=("en",), decoder=dataclasses.replace(SMALL.decoder, cond_channels=0)
    )
    model = VITSSynthesizer(random_network(VITS, config), config)
    assert len(model.speak("abc").audio) > 0 and model.speakers == ()
    for call, message in (
        (lambda: model.speak("abc", speaker="anna"), "^speaker is 'anna', but the model has one voice; omit it"),
        (lambda: model.speak("abc", reference="a.wav"), r"reads no recordings. Omit the reference \(jaxvoice speak\)"),
        (lambda: model.encode_voice("a.wav"), "no voices of recordings. Pass a model that reads speaker vectors"),
        (lambda: model.check_voice(Voice(np.ones(3), None, 1.0, 1, "x")), "no voices of recordings. Pass a model that"),
        (lambda: model.convert(np.ones(3000, np.float32), "anna", sample_rate=RATE), "needs a model of several voices"),
        (lambda: model.check_speaker("anna"), "conversion needs a model of several voices"),
        (lambda: VITSSynthesizer(model.network, config, encoder=object()), "encoder is given, but the model has one"),
    ):
        with pytest.raises(ConfigError, match=message):
            call()


def test_missing_and_unknown_voices_raise_errors(model, recording, config):
    size = config.speaker_channels
    silence, short = np.zeros(RATE, np.float32), recording[: RATE // 10]
    for options, error, message in (
        ({}, ConfigError, r"known speaker \('anna', 'ben'\) as speaker \(--speaker\), a recording of the speaker"),
        ({"speaker": "anne"}, ConfigError, "speaker is 'anne'; the nearest known name is 'anna'"),
        ({"speaker": "xyz"}, ConfigError, "speaker is 'xyz'; it should be one of the known names: 'anna', 'ben'"),
        ({"speaker": np.ones(3)}, ConfigError, rf"speaker has shape \(3,\) .* vector of floats of shape \({size},\)"),
        ({"speaker": np.full(size, np.nan)}, ConfigError, "speaker contains only zeros, NaN or infinity"),
        ({"speaker": np.zeros(size)}, ConfigError, "speaker contains only zeros, NaN or infinity"),
        ({"speaker": [[1.0], [1.0, 2.0]]}, ConfigError, r"speaker is \[\[1.0\], \[1.0, 2.0\]\]; it should be a name"),
        ({"speaker": "anna", "reference": recording}, ConfigError, "speaker and reference are both given"),
        ({"reference": silence, "sample_rate": RATE}, AudioError, "The audio is silent"),
        (
            {"reference": short, "sample_rate": RATE},
            AudioError,
            r"reference is 0.100 s long; it should be at least 0.2",
        ),
        ({"reference": [recording, short], "sample_rate": RATE}, AudioError, "reference 2 is 0.100 s long"),
        ({"reference": []}, ConfigError, "reference is an empty list"),
        (
            {"reference": ["v.json", "a.wav"]},
            ConfigError,
            "^v.json is a voice file, not a recording; pass recordings o",
        ),
        ({"reference": {"a.wav"}}, AudioError, "^reference has type set; it should be the path of a file, an Audio"),
        (
            {"speaker": Voice(np.ones(size), None, 1.0, 1, "x")},
            ConfigError,
            r"^speaker is Voice\(.* Pass a voice as ref",
        ),
        *(
            ({"reference": vector, **rate}, ConfigError, rf"reference has {size} values.* Pass a .* vector as speaker")
            for vector in (np.ones(size, np.float32), [1.0] * size)
            for rate in ({}, {"sample_rate": RATE})
        ),
    ):
        with pytest.raises(error, match=message):
            model.speak("abc", language="en", **options)
    with pytest.raises(ConfigError, match="language is None; it should be one of the known names: 'en', 'pt'"):
        model.speak("abc", speaker="anna")
    with pytest.raises(ConfigError, match="language is 'en-us'; the nearest known name is 'en'"):
        model.speak("abc", speaker="anna", language="en-us")
    with pytest.raises(ConfigError, match="language is ''; it should be one of the known names: 'en', 'pt'"):
        model.speak("abc", speaker="anna", language="")
    with pytest.raises(ConfigError, match=r"language is array.*; it should be one of the known names: 'en', 'pt'"):
        model.speak("abc", speaker="anna", language=np.array(["en", "pt"]))
    with pytest.raises(ConfigError, match="voice is 'anne', which is neither a known speaker nor a file; the nearest"):
        model.convert(recording, "anne", sample_rate=RATE)
    with pytest.raises(ConfigError, match="voice is None; it should be the name of a known speaker"):
        model.convert(recording, None, sample_rate=RATE)
    with pytest.raises(ConfigError, match=rf"^voice has shape \({size - 1},\); .* a speaker vector of {size} numbers"):
        model.convert(Audio(recording, RATE), np.ones(size - 1, np.float32))
    with pytest.raises(AudioError, match=r"^voice: sample_rate is None; it should be the sample rate of the array"):
        model.convert(Audio(recording, RATE), recording)
    with pytest.raises(AudioError, match=r"^source: sample_rate is 16000; it should be 22050.* rate as Audio"):
        model.convert(Audio(recording, RATE), recording, sample_rate=16000)
    with pytest.raises(AudioError, match=r"source is 0.100 s long; it should be at least 0.2 s"):
        model.convert(short, "anna", sample_rate=RATE)
    with pytest.warns(JaxvoiceWarning, match="depend on what is said"):
        model.speak("abc", reference=recording[: RATE // 2], sample_rate=RATE, language="en")


def test_vectors_of_any_length_give_the_same_voice(model, config):
    vector = np.random.default_rng(4).normal(size=config.speaker_channels)
    speech = [
        model.speak("abc", speaker=scale * vector, language="en", duration_noise_scale=0.0).audio
        for scale in (1.0, 1e300, 1e-300)
    ]
    for other in speech[1:]:
        np.testing.assert_allclose(other, speech[0], atol=1e-5)


def test_clipped_references_give_one_warning(model, recording, tmp_path):
    soundfile.write(tmp_path / "a.wav", np.clip(20 * recording, -1, 1), RATE)
    with pytest.warns(JaxvoiceWarning) as warnings:
        model.encode_voice(tmp_path / "a.wav")
    assert len(warnings) == 1 and "a.wav" in str(warnings[0].message) and "clipped" in str(warnings[0].message)


def test_models_without_their_encoder_raise_errors(folder, config, recording, encoder):
    network, _ = FAMILY.load_network(folder)
    bare = VITSSynthesizer(network, config)
    assert not bare.reads_references and VITSSynthesizer(network, config, encoder=encoder).reads_references
    with pytest.raises(ConfigError, match="which was not loaded; pass encoder"):
        bare.speak("abc", reference=recording, sample_rate=RATE, language="en")
    with pytest.raises(
        ConfigError, match=r"Pass a recording of the speaker as reference \(--reference\), or, in Python"
    ):
        bare.speak("abc", language="en")
    with pytest.raises(ConfigError, match=rf"encoder have {encoder.dim} components; they should have 10, the size"):
        VITSSynthesizer(random_network(VITS, SMALL), SMALL, encoder=encoder)
    with pytest.raises(ConfigError, match=r"^encoder is 5; it should be a SpeakerEncoder, or the path"):
        VITSSynthesizer(network, config, encoder=5)
    voice = Voice(encoder.embed(recording, RATE), None, 2.0, 1, "of another encoder")
    with pytest.warns(JaxvoiceWarning, match="not checked that the voice was computed by it"):
        bare.check_voice(voice)
    with pytest.raises(ConfigError, match="voice is 'anna', which is not a file, and the model knows no speakers"):
        bare.convert(recording, "anna", sample_rate=RATE)


def test_voices_of_encoders_with_other_settings_raise_errors(model, encoder, recording):
    """The weights are the same, but recordings have another level, or are resampled to another rate."""
    voice = model.encode_voice(recording, RATE)
    for changes in ({"level": -20.0}, {"mel": dataclasses.replace(ENCODER.mel, sample_rate=22050)}):
        settings = dataclasses.replace(ENCODER, **changes)
        network = random_encoder(settings)
        assert named_arrays(network).keys() == named_arrays(encoder.network).keys()
        other = VITSSynthesizer(model.network, model.config, encoder=SpeakerEncoder(network, settings))
        with pytest.raises(ConfigError, match="another speaker encoder, or one with other settings"):
            other.speak("abc", reference=voice, language="en")


def test_another_encoder_than_that_in_the_folder_gives_a_warning(folder, encoder, recording):
    same = VITSSynthesizer.load(folder, encoder=folder / "speaker_encoder")
    assert same.encoder.identity == encoder.identity
    other = SpeakerEncoder(random_encoder(ENCODER, seed=2), ENCODER)
    with pytest.warns(JaxvoiceWarning, match=r"encoder is another speaker encoder than that in .*speaker_encoder"):
        loaded = VITSSynthesizer.load(folder, encoder=other)
    assert loaded.encoder is other


def test_voices_of_other_encoders_raise_errors(model, recording):
    voice = model.encode_voice(recording, RATE)
    for changes, message in (
        ({"model": "another"}, "was computed by another speaker encoder"),
        (
            {"embedding": np.ones(5, np.float32)},
            f"has 5 components; it should have {model.config.speaker_channels}, the",
        ),
    ):
        with pytest.raises(ConfigError, match=message):
            model.speak("abc", reference=dataclasses.replace(voice, **changes), language="en")


@pytest.mark.slow
def test_references_of_an_hour_give_the_voice_of_their_windows(model, encoder, recording):
    hour = np.tile(recording, 1800)
    voice = model.encode_voice(hour, RATE)
    assert voice.seconds == 3600
    audio = scaled_to_level(resample(hour, RATE, ENCODER.sample_rate), ENCODER)
    window = 250 * ENCODER.mel.hop_length
    windows = [audio[start : start + window] for start in np.linspace(0, len(audio) - window, 10).astype(int)]
    expected = eqx.filter_jit(lambda network, rows: network(rows).mean(axis=0))(encoder.network, np.stack(windows))
    np.testing.assert_allclose(voice.embedding, expected, atol=2e-5)
    speech = model.speak("abc", reference=hour, sample_rate=RATE, language="en")
    np.testing.assert_allclose(speech.audio, model.speak("abc", reference=voice, language="en").audio, atol=1e-6)


def test_texts_that_cannot_be_read_raise_errors(model):
    options = {"speaker": "anna", "language": "en"}
    with pytest.raises(
        TextError, match=r"'ß' \(character 5\), 'я' \(character 7\) in 'straß я' cannot be read by this"
    ):
        model.speak("straß я", **options)
    with pytest.raises(TextError, match=r"^'я' \(character 4\) in '25 я' cannot be read"):
        model.speak("25 я", **options)
    with pytest.raises(TextError, match=r"^'2' \(character 1\), '5' \(character 2\) in '25' cannot be read"):
        model.speak_phonemes("25", **options)
    long = "a sentence of some length. " * 20
    with pytest.raises(TextError, match=rf"'я' \(character {len(long) + 1}\)"):
        model.speak(f"{long}я", **options)
    for text in ("", "   ", "?!"):
        with pytest.raises(TextError, match="contains nothing to read"):
            model.speak(text, **options)
    with pytest.raises(TextError, match="text 2: 'я'"):
        model.speak(["a", "я"], **options)
    with pytest.raises(TextError, match="The text has type int"):
        model.speak([3], **options)


def test_wrong_options_raise_errors(model, recording):
    options = {"speaker": "anna", "language": "en"}
    for changes, message in (
        ({"seed": 1.5}, "seed is 1.5"),
        ({"noise_scale": -1.0}, "^noise_scale is -1.0; it should be at least 0"),
        ({"noise_scale": 1e38}, r"^noise_scale is 1e\+38; it should be at most 100"),
        ({"duration_noise_scale": 1e30}, r"^duration_noise_scale is 1e\+30; it should be at most 100"),
        ({"length_scale": 0.0}, "^length_scale is 0.0; it should be positive"),
        ({"length_scale": 1e-40}, "^length_scale is 1e-40; it should be from 1e-6 to 1e6"),
        ({"length_scale": np.float32(np.nan)}, "^length_scale is nan; it should be a finite"),
        ({"length_scale": 1e6}, "s long; a piece should have at most 32768 frames"),
    ):
        with pytest.raises(ConfigError, match=message):
            model.speak("abc", **options, **changes)
    with pytest.raises(ConfigError, match=r"^text has type list; it should be one text, because stream is True"):
        model.speak(["abc"], **options, stream=True)
    with pytest.raises(ConfigError, match='pitch is 3; it should be "match"'):
        model.convert(recording, "anna", sample_rate=RATE, pitch=3)
    assert VITSConfig().sampling.noise_scale == 0.667


def test_other_pipelines_do_not_load_models_of_another_kind(tmp_path):
    from jaxvoice.models import hifigan
    from tests.models.hifigan.small import SMALL as VOCODER

    hifigan.FAMILY.save_network(tmp_path / "v", random_network(hifigan.FAMILY.build, VOCODER), VOCODER)
    for load in (jaxvoice.Synthesizer.load, jaxvoice.VoiceConverter.load):
        with pytest.raises(ConfigError, match="is a model of the family 'hifigan'; it should be a"):
            load(tmp_path / "v")
