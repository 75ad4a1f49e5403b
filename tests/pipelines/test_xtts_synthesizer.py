"""The pipeline of XTTS with a small model: streams, batches, voices of references, and errors."""

import dataclasses

import equinox as eqx
import jax
import numpy as np
import pytest
from jax import numpy as jnp

import jaxvoice
from jaxvoice.errors import AudioError, CheckpointError, ConfigError, JaxvoiceWarning, TextError
from jaxvoice.models.xtts import FAMILY, XTTSConfig, inference
from jaxvoice.models.xtts.references import condition_on_parts, reference_parts, speaker_audio
from jaxvoice.pipelines.voice import Voice
from jaxvoice.pipelines.xtts_synthesizer import XTTSSynthesizer
from jaxvoice.pipelines.xtts_voice import XTTSVoice
from tests.models.xtts.small import random_xtts
from tests.pipelines.small_xtts import CONFIG, small_synthesizer, stored_voices, vocabulary, write_small_xtts

TEXT = "The cat sat on the mat. A dog came in, and it ran away."
RATE = 22050
pytestmark = pytest.mark.filterwarnings("ignore:The speech of:jaxvoice.errors.JaxvoiceWarning")


@pytest.fixture(scope="module")
def xtts():
    return small_synthesizer(voices=stored_voices(), batch_size=2)


def tone(seconds, rate=RATE, frequency=220.0):
    time = np.arange(int(seconds * rate)) / rate
    return (0.3 * np.sin(2 * np.pi * frequency * time) * (1 + np.sin(9 * time)) / 2).astype(np.float32)


def test_streamed_speech_equals_the_whole(xtts):
    whole = xtts.speak(TEXT, speaker="Ann", seed=3)
    assert len(whole.pieces) == 2 and [len(piece.tokens) < 40 for piece in whole.pieces] == [True, True]
    assert " ".join(piece.text for piece in whole.pieces) == TEXT
    blocks = list(xtts.speak(TEXT, speaker="Ann", seed=3, stream=True))
    assert len(blocks) > 2 and all(block.dtype == np.float32 and len(block) for block in blocks)
    np.testing.assert_allclose(np.concatenate(blocks), whole.audio, rtol=0, atol=1e-5)
    decoder = xtts.network.hifigan_decoder
    lengths = [decoder.samples(len(piece.latents)) for piece in whole.pieces]
    assert [piece.samples for piece in whole.pieces] == lengths and len(whole.audio) == sum(lengths)


def test_speech_is_that_of_a_second_pass(xtts):
    """The vectors of the language model for the codes, and their audio, computed at once."""
    speech, voice = xtts.speak("the cat sat", speaker="Ben"), stored_voices()["Ben"]
    ids = [CONFIG.gpt.start_text, *speech.tokens, CONFIG.gpt.stop_text]
    codes = np.concatenate([speech.codes, [CONFIG.gpt.stop_audio] * speech.pieces[0].stopped]).astype(np.int32)
    assert len(speech.codes) > 3

    @eqx.filter_jit
    def second_pass(network, conditioning, speaker, text, codes):
        latents = network.gpt.latents(conditioning, text, codes)
        return latents, network.hifigan_decoder(latents, speaker)[:, 0]

    latents, audio = second_pass(xtts.network, voice.conditioning, voice.speaker, np.array(ids, np.int32), codes)
    np.testing.assert_allclose(speech.latents, latents, rtol=0, atol=1e-5 * np.abs(latents).max())
    np.testing.assert_allclose(speech.audio, audio, rtol=0, atol=1e-5)


def test_texts_of_a_list_have_the_speech_that_they_have_alone(xtts):
    texts = [TEXT, "yes", "a dog"]
    together = xtts.speak(texts, speaker=["Ann", "Ben", "Ann"], seed=1)
    for text, name, speech in zip(texts, ("Ann", "Ben", "Ann"), together, strict=True):
        alone = xtts.speak(text, speaker=name, seed=1)
        np.testing.assert_array_equal(speech.codes, alone.codes)
        np.testing.assert_allclose(speech.audio, alone.audio, rtol=0, atol=1e-5)
    assert xtts.speak([], speaker="Ann") == []


def test_seeds_and_values_of_sampling_change_the_codes(xtts):
    codes = [xtts.speak("the cat", speaker="Ann", seed=seed).codes.tolist() for seed in (0, 0, 1, -1)]
    assert codes[0] == codes[1] and codes[0] != codes[2] and codes[0] != codes[3]
    greedy = [xtts.speak("the cat", speaker="Ann", seed=seed, top_k=1).codes.tolist() for seed in (0, 1)]
    assert greedy[0] == greedy[1]
    options = {"temperature": 5.0, "top_k": 0, "top_p": np.float64(1), "repetition_penalty": 1.5}
    assert xtts.speak("the cat", speaker="Ann", penalize_prefix=False, **options).codes.tolist() != codes[0]


def test_the_cache_grows_with_the_codes(xtts, monkeypatch):
    speech = xtts.speak("the cat", speaker="Ann", seed=2)
    sizes, resize = [], inference._resize
    monkeypatch.setattr(inference, "_CACHE", 16)
    monkeypatch.setattr(inference, "_FIRST", 1)
    monkeypatch.setattr(inference, "_resize", lambda *args: sizes.append(args[1]) or resize(*args))
    grown = xtts.speak("the cat", speaker="Ann", seed=2)
    np.testing.assert_array_equal(grown.codes, speech.codes)
    assert len(speech.codes) > 20 and sizes == [112]


def test_the_first_block_of_a_stream_follows_few_codes(xtts, monkeypatch):
    sizes, advance = [], inference._advance

    def counted(inputs, state, steps):
        sizes.append(steps)
        return advance(inputs, state, steps)

    monkeypatch.setattr(inference, "_advance", counted)
    blocks = xtts.speak(TEXT, speaker="Ann", seed=3, stream=True)
    assert len(next(blocks)) > 0 and sizes == [inference.FIRST_CODES]
    blocks.close()


def test_texts_after_warm_up_compile_nothing():
    # Programs of another configuration were not compiled by other tests.
    config = dataclasses.replace(CONFIG, gpt=dataclasses.replace(CONFIG.gpt, max_audio=47))
    xtts, compiled = small_synthesizer(config, stored_voices(), batch_size=2), []

    def listen(event, *_, **__):
        if event.endswith("backend_compile_duration"):
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        for batch in (1, 2):
            xtts.warm_up(batch=batch)
        programs = len(compiled)
        options = {"temperature": 0.6, "top_k": 7, "top_p": 0.7, "repetition_penalty": 3.0, "penalize_prefix": False}
        xtts.speak(["a dog ran away", "yes", TEXT], "pt", speaker="Ben", seed=3, **options)
        assert list(xtts.speak(TEXT, speaker="Ben", stream=True))
        # One for the beginning and one for the steps, for one text and for two; the others may be compiled already.
        assert len(compiled) == programs >= 4
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def test_speed_changes_the_duration(xtts):
    normal = xtts.speak("the cat", speaker="Ann", seed=2)
    fast = xtts.speak("the cat", speaker="Ann", seed=2, speed=2)
    np.testing.assert_array_equal(fast.codes, normal.codes)
    assert abs(len(fast.audio) / len(normal.audio) - 0.5) < 0.1


def test_speech_that_is_ended_gives_a_warning(xtts):
    with pytest.warns(JaxvoiceWarning, match="'the cat' was ended after 2 codes, before the model stopped"):
        speech = xtts.speak("the cat", speaker="Ann", seed=2, max_codes=2)
    assert len(speech.codes) == 2 and not speech.pieces[0].stopped
    assert len(speech.audio) == xtts.network.hifigan_decoder.samples(2)
    assert repr(speech) == f"XTTSSpeech({len(speech.audio) / 24000:.2f} s at 24000 Hz, 2 codes in 1 piece)"
    with pytest.warns(JaxvoiceWarning, match=r"length_penalty is 2, which has no effect"):
        xtts.speak("the cat", speaker="Ann", max_codes=2, length_penalty=2)


def test_voices_of_references_are_those_of_the_networks(xtts):
    """Padding to a few lengths changes nothing. The vectors of parts and of recordings are averaged."""
    first, second = tone(2.7), tone(1.4, frequency=150)
    voice = xtts.voice([first, second], sample_rate=RATE, seconds=3, part=1.5)
    network = xtts.network
    together = np.concatenate([first, second])[: 3 * RATE]
    places = reference_parts(len(together), RATE, seconds=3, part=1.5)
    parts = [jnp.asarray(together[start:stop]) for start, stop in places]
    assert [len(part) for part in parts] == [33075, 33075]
    conditioning = eqx.filter_jit(condition_on_parts)(network.gpt, parts, network.mel_stats)
    np.testing.assert_allclose(voice.conditioning, conditioning, rtol=0, atol=1e-5 * np.abs(conditioning).max())
    embed = eqx.filter_jit(lambda network, clip: network.embed_speaker(speaker_audio(clip, RATE)))
    speaker = np.mean([embed(network, jnp.asarray(clip)) for clip in (first, second)], axis=0)
    np.testing.assert_allclose(voice.speaker, speaker, rtol=0, atol=1e-5)
    assert (voice.references, round(voice.seconds, 1)) == (2, 4.1)


def test_voices_are_saved_and_used_again(xtts, tmp_path):
    voice = xtts.voice(tone(3.5, 16000), sample_rate=16000)
    path = tmp_path / "me.safetensors"
    voice.save(path)
    loaded = XTTSVoice.load(path)
    assert repr(loaded) == repr(voice) == f"XTTSVoice(1 recording, 3.50 s, 3 vectors, model {voice.model[:12]})"
    speech = xtts.speak("the cat", reference=tone(3.5, 16000), sample_rate=16000)
    for reference in (voice, path, [voice], [str(path), voice], [str(path), path]):
        texts = ["the cat"] * len(reference) if isinstance(reference, list) else "the cat"
        again = xtts.speak(texts, reference=reference)
        np.testing.assert_allclose((again if texts == "the cat" else again[0]).audio, speech.audio, rtol=0, atol=1e-5)


def test_voices_of_other_models_raise_errors(xtts, tmp_path):
    voice = xtts.voice(tone(3), sample_rate=RATE)
    other = XTTSSynthesizer(random_xtts(CONFIG, 1), CONFIG)
    with pytest.raises(ConfigError, match="The voice was computed by another model"):
        other.check_voice(voice)
    with pytest.raises(ConfigError, match="computed by another model"):
        xtts.speak("the cat", reference=dataclasses.replace(voice, speaker=np.ones(11, np.float32)))
    voice.save(tmp_path / "voice.safetensors")
    with pytest.raises(ConfigError, match=r"voice\.safetensors was computed by another model"):
        XTTSSynthesizer(random_xtts(CONFIG, 1), CONFIG, xtts.tokenizer).speak(
            "the", reference=tmp_path / "voice.safetensors"
        )
    with pytest.raises(ConfigError, match=r"XTTSVoice\.speaker contains NaN or infinity"):
        dataclasses.replace(voice, speaker=np.full(12, np.nan, np.float32))
    with pytest.raises(ConfigError, match=r"XTTSVoice\.conditioning has shape \(3,\)"):
        dataclasses.replace(voice, conditioning=np.ones(3, np.float32))
    with pytest.raises(ConfigError, match=r"should end in \.safetensors"):
        voice.save(tmp_path / "voice.json")
    write_small_xtts(tmp_path)
    with pytest.raises(CheckpointError, match="contains no voice of an XTTS"):
        XTTSVoice.load(tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"gone\.safetensors is missing"):
        xtts.speak("the cat", reference=tmp_path / "gone.safetensors")


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        (np.zeros(RATE * 4, np.float32), "The audio is silent"),
        (np.zeros(0, np.float32), "The audio is empty"),
        (np.full(RATE * 4, np.nan, np.float32), "is NaN or infinite"),
        (tone(0.2), r"reference is 0.20 s long; it should be at least 0.33 s"),
        (np.concatenate([np.zeros(RATE * 30, np.float32), tone(1)]), "The first 30 s of reference, .* are silent"),
        (np.concatenate([np.full(RATE * 30, 1e-5, np.float32), tone(1)]), "The first 30 s of reference, .* are silent"),
        ("gone.wav", "gone.wav"),
    ],
)
def test_unusable_references_raise_errors(xtts, audio, message):
    rate = None if isinstance(audio, str) else RATE
    with pytest.raises(AudioError, match=message):
        xtts.speak("the cat", reference=audio, sample_rate=rate)


def test_short_references_give_a_warning_and_long_ones_are_cut(xtts):
    with pytest.warns(JaxvoiceWarning, match=r"The reference is 1.00 s long; voices of less than 3 s are unreliable"):
        xtts.voice(tone(1), sample_rate=RATE)
    long = np.concatenate([tone(3), tone(2, frequency=100)])
    kept, cut = xtts.voice(long, sample_rate=RATE, seconds=3), xtts.voice(tone(3), sample_rate=RATE)
    np.testing.assert_array_equal(kept.conditioning, cut.conditioning)
    np.testing.assert_array_equal(kept.speaker, cut.speaker)
    assert kept.seconds == 3
    for name, value in (("seconds", 0), ("part", 0.5), ("part", "4")):
        with pytest.raises(ConfigError, match=f"{name} "):
            xtts.voice(tone(3), sample_rate=RATE, **{name: value})
    for reference in ([], cut, "me.safetensors", "me.json"):
        with pytest.raises(ConfigError, match=r"reference|voice file"):
            xtts.voice(reference)


@pytest.mark.parametrize(
    ("text", "options", "error", "message"),
    [
        ("the cat", {"language": "xx", "speaker": "Ann"}, ConfigError, "language is 'xx'; .*'en'"),
        ("the cat", {"language": None, "speaker": "Ann"}, ConfigError, "language is None; .*'en', 'pt'"),
        ("", {"speaker": "Ann"}, TextError, "contains nothing to read"),
        (["yes", "..."], {"speaker": "Ann"}, TextError, "text 2: .*contains nothing to read"),
        (["yes", 3], {"speaker": "Ann"}, TextError, "text 2: The text has type int"),
        (5, {"speaker": "Ann"}, TextError, "text has type int"),
        ("the \N{SNOWMAN}", {"speaker": "Ann"}, TextError, "SNOWMAN"),
        ("the cat", {"speaker": "Anne"}, ConfigError, "speaker is 'Anne'; the nearest known name is 'Ann'"),
        ("the cat", {"speaker": 3}, ConfigError, "speaker is 3; .*'Ann', 'Ben'"),
        ("the cat", {}, ConfigError, "needs a voice. Pass the name of a stored voice .*'Ann', 'Ben'"),
        ("the cat", {"speaker": "Ann", "reference": "a.wav"}, ConfigError, "both given"),
        ("the cat", {"speaker": ["Ann"]}, ConfigError, "speaker is a list of 1 voices for 1 text"),
        (["a", "b"], {"speaker": ["Ann"]}, ConfigError, "speaker is a list of 1 voices for 2 texts"),
        (["a"], {"speaker": "Ann", "stream": True}, ConfigError, "text is a list and stream is true"),
        ("the cat", {"speaker": "Ann", "speed": 0}, ConfigError, "speed is 0"),
        ("the cat", {"speaker": "Ann", "stream": "yes"}, ConfigError, "stream is 'yes'; it should be True or False"),
        ("the cat", {"speaker": "Ann", "seed": 0.5}, ConfigError, "seed is 0.5"),
        ("the cat", {"speaker": "Ann", "temperature": 0}, ConfigError, "^temperature is 0"),
        ("the cat", {"speaker": "Ann", "temperature": 1e-50}, ConfigError, "^temperature is 1e-50"),
        ("the cat", {"speaker": "Ann", "top_k": 10**30}, ConfigError, "^top_k is 1000"),
        ("the cat", {"speaker": "Ann", "repetition_penalty": 1e300}, ConfigError, r"^repetition_penalty is 1e\+300"),
        ("the cat", {"speaker": "Ann", "top_p": 1e-50}, ConfigError, "^top_p is 1e-50"),
        ("the cat", {"speaker": "Ann", "top_p": 1.5}, ConfigError, "^top_p is 1.5"),
        ("the cat", {"speaker": "Ann", "top_k": -1}, ConfigError, "^top_k is -1"),
        ("the cat", {"speaker": "Ann", "repetition_penalty": "2"}, ConfigError, "^repetition_penalty is '2'"),
        ("the cat", {"speaker": "Ann", "length_penalty": np.nan}, ConfigError, "length_penalty is nan"),
        ("the cat", {"speaker": "Ann", "length_penalty": 10**30}, ConfigError, "from -1,000,000 to 1,000,000"),
        ("the cat", {"speaker": "Ann", "max_codes": 46}, ConfigError, "max_codes is 46; .* from 1 to 45"),
    ],
)
def test_wrong_arguments_raise_errors(xtts, text, options, error, message):
    with pytest.raises(error, match=message):
        xtts.speak(text, **options)


def test_voices_of_other_families_raise_an_error(xtts):
    voice = Voice(np.ones(12, np.float32), None, 3.0, 1, "model")
    with pytest.raises(ConfigError, match="is a Voice, not a recording"):
        xtts.speak("the cat", reference=voice)


def test_models_are_loaded_from_folders(tmp_path, xtts):
    write_small_xtts(tmp_path)
    loaded = jaxvoice.Synthesizer.load(tmp_path)
    assert type(jaxvoice.load(tmp_path)) is type(loaded) is XTTSSynthesizer
    assert repr(loaded) == "XTTSSynthesizer(24000 Hz, 2 languages, 2 voices)" and loaded.speakers == ("Ann", "Ben")
    found = loaded.speak("the cat", speaker="Ann", max_codes=20)
    np.testing.assert_array_equal(found.codes, xtts.speak("the cat", speaker="Ann", max_codes=20).codes)
    half = XTTSSynthesizer.load(tmp_path, precision="bfloat16")
    assert half.network.gpt.gpt.h[0].mlp.c_fc.weight.dtype == jnp.bfloat16
    speech = half.speak("the cat", speaker="Ann", max_codes=20, top_k=1)
    exact = xtts.speak("the cat", speaker="Ann", max_codes=20, top_k=1)
    np.testing.assert_allclose(speech.latents[0], exact.latents[0], rtol=0, atol=0.05 * np.abs(exact.latents).max())
    with pytest.raises(ConfigError, match="precision is 'int8'"):
        XTTSSynthesizer.load(tmp_path, precision="int8")
    with pytest.raises(ConfigError, match=r"'vocoder'.*precision, batch_size"):
        jaxvoice.Synthesizer.load(tmp_path, vocoder="x")


def test_imported_bundles_speak(tmp_path, xtts):
    """The model, exported to the files of the release and imported again, has the same speech."""
    for folder in ("model", "bundle"):
        (tmp_path / folder).mkdir()
    write_small_xtts(tmp_path / "model")
    jaxvoice.export_model(tmp_path / "model", tmp_path / "bundle" / "model.pth")
    jaxvoice.import_model(tmp_path / "bundle", tmp_path / "again")
    speech, again = (one.speak("a dog", speaker="Ben") for one in (xtts, jaxvoice.load(tmp_path / "again")))
    np.testing.assert_array_equal(again.audio, speech.audio)


def test_models_without_a_vocabulary_or_with_another_one(tmp_path):
    write_small_xtts(tmp_path)
    (tmp_path / "vocab.json").unlink()
    loaded = XTTSSynthesizer.load(tmp_path)
    assert len(loaded.voice(tone(3), sample_rate=RATE).conditioning) == 3
    with pytest.raises(CheckpointError, match=r"no vocabulary.*vocab\.json"):
        loaded.speak("the cat", speaker="Ann")
    other = vocabulary().replace('"[START]"', '"[BEGIN]"')
    (tmp_path / "vocab.json").write_text(other, encoding="utf-8")
    with pytest.raises((CheckpointError, ConfigError), match=r"vocab\.json"):
        XTTSSynthesizer.load(tmp_path)
    with pytest.raises(ConfigError, match="batch is 5; it should be a whole number from 1 to 4"):
        loaded.warm_up(batch=5)
    with pytest.raises(ConfigError, match="batch_size is 0"):
        small_synthesizer(batch_size=0)
    with pytest.raises(ConfigError, match="another configuration"):
        XTTSSynthesizer(random_xtts(CONFIG), XTTSConfig())


def test_damaged_weights_raise_an_error(xtts):
    path = lambda network: network.gpt.final_norm.bias  # noqa: E731
    network = eqx.tree_at(path, xtts.network, path(xtts.network) * jnp.nan)
    damaged = XTTSSynthesizer(network, CONFIG, xtts.tokenizer, stored_voices())
    with pytest.raises(CheckpointError, match="language model returned NaN or infinity"):
        damaged.speak("the cat", speaker="Ann")


@pytest.mark.slow
def test_models_without_a_perceiver_speak():
    """XTTS v1.1: a vector for each frame of the reference."""
    conditioning = dataclasses.replace(
        CONFIG.gpt.conditioning, latents=0, mel=dataclasses.replace(CONFIG.gpt.conditioning.mel, hop_length=1024)
    )
    config = dataclasses.replace(CONFIG, gpt=dataclasses.replace(CONFIG.gpt, conditioning=conditioning))
    xtts = small_synthesizer(config)
    voice = xtts.voice(tone(3.2), sample_rate=RATE, part=1)
    assert voice.conditioning.shape == (3.2 * RATE // 1024 + 1, 16)
    expected = eqx.filter_jit(lambda network, audio: network.condition(audio))(xtts.network, tone(3.2))
    np.testing.assert_allclose(voice.conditioning, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    # The vectors are padded in the generation, which has no influence on the result.
    piece = xtts.speak("yes", reference=voice).pieces[0]
    ids = [config.gpt.start_text, *piece.tokens, config.gpt.stop_text]
    codes = np.array([*piece.codes, config.gpt.stop_audio], np.int32)[: len(piece.latents)]
    latents = eqx.filter_jit(lambda gpt, *inputs: gpt.latents(*inputs))(
        xtts.network.gpt, voice.conditioning, np.array(ids, np.int32), codes
    )
    np.testing.assert_allclose(piece.latents, latents, rtol=0, atol=1e-5 * np.abs(latents).max())


def test_model_without_a_trained_decoder_does_not_speak(tmp_path):
    write_small_xtts(tmp_path)
    info = {"step": 1000, "untrained": ["hifigan_decoder"]}
    FAMILY.save_network(tmp_path, random_xtts(CONFIG), CONFIG, info=info)
    loaded = XTTSSynthesizer.load(tmp_path)
    with pytest.raises(CheckpointError, match=r"hifigan_decoder are random, .* -m experiments\.xtts_decoder"):
        loaded.speak("the cat", speaker="Ann")
