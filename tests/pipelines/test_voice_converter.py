"""Voice conversion: its results against the networks, and every kind of invalid recording."""

import dataclasses
import json
import warnings
from concurrent.futures import ThreadPoolExecutor

import equinox as eqx
import jax
import librosa
import numpy as np
import pytest
import soundfile
from jax import numpy as jnp

import jaxvoice
from jaxvoice.data import Audio
from jaxvoice.dsp import PitchConfig, bucketed_log_mel, bucketed_nemo_log_mel, pitch_features, pitch_statistics
from jaxvoice.dsp.pitch import match_pitch, shift_pitch, track_pitch
from jaxvoice.errors import AudioError, CheckpointError, ConfigError, JaxvoiceWarning
from jaxvoice.models.hifivc import FAMILY, HiFiVC, PitchEncoderConfig
from jaxvoice.pipelines import Voice, VoiceConverter
from tests.models.hifivc.small import SMALL, random_network

PITCH = PitchConfig(tracker="autocorrelation")
CONFIG = dataclasses.replace(SMALL, pitch=PITCH, pitch_encoder=PitchEncoderConfig(channels=4, instance_norm=False))
WINDOW = 48


@pytest.fixture(scope="module")
def network() -> HiFiVC:
    return random_network(CONFIG)


@pytest.fixture(scope="module")
def converter(network) -> VoiceConverter:
    return VoiceConverter(network, CONFIG, window=WINDOW)


def tone(seconds: float, rate: int = 16000, f0: float = 140.0, level: float = 0.5) -> np.ndarray:
    """A vowel-like sound with a wandering F0."""
    time = np.arange(round(seconds * rate)) / rate
    phase = 2 * np.pi * np.cumsum(f0 * (1 + 0.1 * np.sin(3 * time))) / rate
    waves = sum(np.sin(n * phase) / n for n in range(1, 6))
    samples = waves * (1.2 + np.sin(2 * np.pi * 3 * time))
    return (level * samples / np.abs(samples).max()).astype(np.float32)


def noise(seconds: float, rate: int = 16000) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, round(seconds * rate)).astype(np.float32)


@pytest.fixture(scope="module")
def voice(converter) -> Voice:
    return converter.encode_voice(tone(0.6, 24000, 220.0), 24000)


run = eqx.filter_jit(
    lambda network, features, pitch, speaker: network.decode(network.encode_content(features), pitch, speaker)
)


def expected(network, source, voice, change) -> np.ndarray:
    """The network on a source at 16 kHz with whole frames, step by step."""
    speech = source / np.abs(source).max()
    features = bucketed_nemo_log_mel(speech, CONFIG.content.mel)
    f0 = change(track_pitch(speech, 16000, PITCH))
    pitch = pitch_features(f0, 4 * -(-features.shape[1] // 4))
    audio = np.asarray(run(network, *map(jnp.asarray, (features.T, pitch.T, voice.embedding))))[:, 0]
    return audio[: len(source) * 3 // 2] * np.abs(source).max()


def test_conversion_equals_the_network(converter, network, voice):
    source = tone(0.64, level=0.3)
    own = pitch_statistics([track_pitch(source, 16000, PITCH)])
    changes = {
        "match": lambda f0: match_pitch(f0, own, voice.pitch, PITCH),
        "keep": lambda f0: f0,
        -3.5: lambda f0: shift_pitch(f0, -3.5),
    }
    found = {}
    for pitch, change in changes.items():
        found[pitch] = converter.convert(source, voice, sample_rate=16000, pitch=pitch)
        assert found[pitch].dtype == np.float32 and found[pitch].shape == (15360,)
        np.testing.assert_allclose(found[pitch], expected(network, source, voice, change), rtol=0, atol=1e-5)
    assert np.abs(found["match"] - found["keep"]).max() > 1e-4 < np.abs(found[-3.5] - found["keep"]).max()
    np.testing.assert_array_equal(converter.convert(source, voice, sample_rate=16000), found["match"])
    assert np.array_equal(converter.convert(source, voice, sample_rate=16000, pitch=0.0), found["keep"])


def test_voice_equals_the_speaker_encoder(converter, network):
    reference = np.concatenate([np.zeros(9000), tone(0.5, 24000, level=0.2), np.zeros(9000)]).astype(np.float32)
    voice = converter.encode_voice(reference, 24000)
    trimmed, _ = librosa.effects.trim(reference, top_db=10)
    assert len(trimmed) < 14000 and voice.seconds == len(trimmed) / 24000 and voice.references == 1
    mel = bucketed_log_mel(trimmed / np.abs(trimmed).max(), CONFIG.mel)
    mean = eqx.filter_jit(lambda network, mel: network.encode_speaker(mel).mean)(network, jnp.asarray(mel.T))
    np.testing.assert_allclose(voice.embedding, mean, rtol=0, atol=1e-5)
    f0 = track_pitch(trimmed, 24000, PITCH)
    assert voice.pitch is not None
    np.testing.assert_allclose(voice.pitch.median, np.median(np.log(f0[f0 > 0])), atol=0.01)
    whole = converter.encode_voice(reference, 24000, top_db=None)
    assert whole.seconds == len(reference) / 24000 and np.abs(whole.embedding - voice.embedding).max() > 1e-4


def test_voice_of_several_references_is_the_mean(converter, tmp_path):
    long, short = tone(0.9, 24000, 200.0), tone(0.4, 16000, 250.0)
    soundfile.write(tmp_path / "short.wav", short, 16000, subtype="FLOAT")
    parts = [converter.encode_voice(long, 24000), converter.encode_voice(tmp_path / "short.wav")]
    together = converter.encode_voice([Audio(long, 24000), str(tmp_path / "short.wav")])
    np.testing.assert_allclose(together.embedding, (parts[0].embedding + parts[1].embedding) / 2, atol=1e-6)
    assert together.references == 2 and together.seconds == pytest.approx(parts[0].seconds + parts[1].seconds)
    assert parts[0].pitch.median < together.pitch.median < parts[1].pitch.median


@pytest.mark.parametrize("release", ["2.6", "1.7"])
def test_durations_and_level_are_kept(release, tmp_path):
    config = dataclasses.replace(
        CONFIG, content=dataclasses.replace(CONFIG.content, nemo_release=release), pitch_encoder=None
    )
    converter = VoiceConverter(random_network(config), config, window=WINDOW)
    voice = Voice(np.ones(CONFIG.speaker.size, np.float32), None, 1.0, 1, converter.identity)
    for rate, samples in [(16000, 10240), (16000, 10241), (16000, 10399), (44100, 23456), (8000, 5119), (24000, 9601)]:
        source = tone(samples / rate, rate)
        found = converter.convert(source, voice, sample_rate=rate)
        assert len(found) == int(samples * 24000 / rate + 0.5)
        quiet = converter.convert(source * np.float32(0.125), voice, sample_rate=rate)
        np.testing.assert_allclose(quiet, found / 8, rtol=0, atol=1e-4)
    loud = converter.convert(4 * source, voice, sample_rate=rate)
    np.testing.assert_allclose(loud, 2 * found, rtol=0, atol=1e-4)  # scaled by 1, not by a peak of 2
    assert np.abs(loud).max() <= 1


def test_lists_are_batches(converter, voice, tmp_path):
    arrays = [tone(seconds, f0=100 + 50 * seconds) for seconds in (0.3, 0.62, 0.31, 2.4)]
    soundfile.write(tmp_path / "file.wav", np.stack([arrays[1], arrays[1]], axis=1), 16000, subtype="FLOAT")
    together = converter.convert(
        [arrays[0], tmp_path / "file.wav", Audio(arrays[2], 16000), arrays[3]], voice, sample_rate=16000
    )
    assert isinstance(together, list)
    for found, source in zip(together, arrays, strict=True):
        np.testing.assert_allclose(found, converter.convert(source, voice, sample_rate=16000), rtol=0, atol=1e-5)
    assert converter.convert([], voice) == []


def test_voice_may_be_a_recording_or_a_file(converter, tmp_path):
    source, reference = tone(0.5), tone(0.7, f0=180.0)
    voice = converter.encode_voice(reference, 16000)
    voice.save(tmp_path / "voice.json")
    expected = converter.convert(source, voice, sample_rate=16000)
    for given in (
        reference,
        [reference],
        Audio(reference, 16000),
        tmp_path / "voice.json",
        str(tmp_path / "voice.json"),
    ):
        np.testing.assert_array_equal(converter.convert(source, given, sample_rate=16000), expected)


def test_chunks_of_long_recordings(network, voice):
    converter = VoiceConverter(network, CONFIG, piece=2.0, overlap=0.2, window=WINDOW)
    source = tone(5.123)
    parts = list(converter.convert_chunks(source, voice, sample_rate=16000))
    whole = converter.convert(source, voice, sample_rate=16000)
    assert len(parts) == 3 and len(whole) == round(5.123 * 24000)
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    with pytest.raises(ConfigError, match="source is a list; it should be one recording"):
        converter.convert_chunks([source], voice)
    with pytest.raises(AudioError, match="sample_rate is None"):
        converter.convert_chunks(source, voice)


def test_voices_are_saved_exactly(voice, tmp_path):
    voice.save(tmp_path / "voice.json")
    again = Voice.load(tmp_path / "voice.json")
    np.testing.assert_array_equal(again.embedding, voice.embedding)
    assert again.embedding.dtype == np.float32 and not again.embedding.flags.writeable
    fields = ("pitch", "seconds", "references", "model")
    assert [getattr(again, name) for name in fields] == [getattr(voice, name) for name in fields]
    assert json.loads((tmp_path / "voice.json").read_text())["schema"] == 3
    # Earlier files had the name of one family, also those of other families.
    earlier = json.loads((tmp_path / "voice.json").read_text()) | {"voice": "hifivc", "schema": 2}
    (tmp_path / "earlier.json").write_text(json.dumps(earlier))
    np.testing.assert_array_equal(Voice.load(tmp_path / "earlier.json").embedding, voice.embedding)
    without = dataclasses.replace(voice, pitch=None)
    without.save(str(tmp_path / "without.json"))
    assert Voice.load(tmp_path / "without.json").pitch is None
    assert repr(without) == f"Voice(1 recording, {voice.seconds:.2f} s, no F0, model {voice.model[:12]})"
    assert "median F0 2" in repr(voice)


def test_invalid_voice_files(voice, tmp_path):
    with pytest.raises(ConfigError, match=r"voice.npz; it should end in \.json"):
        voice.save(tmp_path / "voice.npz")
    with pytest.raises(CheckpointError, match="cannot be written"):
        voice.save(tmp_path / "nowhere" / "voice.json")
    with pytest.raises(CheckpointError, match="is missing or is not a file"):
        Voice.load(tmp_path / "voice.json")
    path = tmp_path / "voice.json"
    voice.save(path)
    table = json.loads(path.read_text())
    for change, error, message in [
        ({"voice": None}, CheckpointError, "contains no voice"),
        ({"schema": 99}, CheckpointError, "the schema of .* is 99; it should be at most 3"),
        ({"schema": 1}, CheckpointError, "written by an older version, .* write it again from the recordings"),
        ({"embedding": [10**400]}, ConfigError, "is not a complete voice"),
        ({"embedding": [True, 1.0]}, ConfigError, "it should be a list of numbers"),
        ({"references": float("inf")}, ConfigError, r"Voice\.references is inf; it should be a whole number"),
        ({"references": -3}, ConfigError, r"Voice\.references is -3; it should be a whole number of at least 1"),
        ({"seconds": float("nan")}, ConfigError, r"Voice\.seconds is nan; it should be a finite number of at least 0"),
        ({"seconds": 10**400}, ConfigError, r"Voice\.seconds is a number of 1329 bits; it should be a finite number"),
        ({"embedding": "abc"}, ConfigError, "embedding is 'abc'; it should be a list of numbers"),
        ({"embedding": [1.0, float("nan")]}, ConfigError, "NaN"),
        ({"embedding": []}, ConfigError, r"shape \(0,\)"),
        ({"pitch": {"median": 5.0}}, ConfigError, "lacks 'spread'"),
        ({"seconds": None}, ConfigError, r"Voice\.seconds is None"),
    ]:
        path.write_text(json.dumps(table | change))
        with pytest.raises(error, match=message) as raised:
            Voice.load(path)
        assert "Error:" not in str(raised.value) or "embedding" in change
    path.write_text(json.dumps({name: value for name, value in table.items() if name != "model"}))
    with pytest.raises(ConfigError, match=r"KeyError: 'model'"):
        Voice.load(path)


def test_voices_of_other_models_are_refused(converter, network, voice):
    other = eqx.tree_at(lambda one: one.speaker_encoder.pre_conv.bias, network, replace_fn=lambda bias: bias + 1)
    with pytest.raises(ConfigError, match=r"The voice was computed by the model .*; it should be of this model"):
        VoiceConverter(other, CONFIG, window=WINDOW).convert(tone(0.5), voice, sample_rate=16000)
    with pytest.raises(ConfigError, match="The voice was computed by the model"):
        converter.convert(tone(0.5), dataclasses.replace(voice, embedding=voice.embedding[:2]), sample_rate=16000)


BROKEN = np.r_[tone(0.5)[:-1], np.nan].astype(np.float32)


@pytest.mark.parametrize(
    ("audio", "rate", "message"),
    [
        (np.zeros(8000, np.float32), 16000, r"The audio is silent \(its peak is 0.0e\+00\)"),
        (1e-5 * tone(0.5), 16000, "The audio is silent"),
        (np.zeros(0, np.float32), 16000, "The audio is empty"),
        (BROKEN, 16000, "NaN or infinite in 1 of 8000 samples"),
        (tone(0.5).astype(np.float64) * np.inf, 16000, "NaN or infinite"),
        ((tone(0.5) * 32767).astype(np.int16), 16000, "divide 16-bit integers by 32768"),
        (np.stack([tone(0.5)] * 2), 16000, r"has shape \(2, 8000\) .* Average the channels"),
        (tone(0.5), None, "sample_rate is None; it should be the sample rate of the array"),
        (tone(0.5), 16, "sample_rate is 16; it should be in Hz and at least 2000"),
        (tone(0.5), 0, "sample_rate is 0; it should be a positive whole number"),
        (tone(0.5), "16k", "sample_rate is '16k'"),
        (Audio(tone(0.5), 1600), None, "sample_rate is 1600; it should be in Hz and at least 2000"),
        (Audio(tone(0.5), 16000), 22050, "sample_rate is 22050; it should be 16000, that of the recording"),
    ],
)
def test_invalid_recordings(converter, voice, audio, rate, message):
    with pytest.raises(AudioError, match=f"^source: .*{message}"), np.errstate(invalid="ignore"):
        converter.convert(audio, voice, sample_rate=rate)
    with pytest.raises(AudioError, match=f"^reference: .*{message}"):
        converter.encode_voice(audio, rate)


def test_invalid_recordings_of_a_list_are_numbered(converter, voice):
    with pytest.raises(AudioError, match=r"^source 2: .*NaN"):
        converter.convert([tone(0.5), BROKEN], voice, sample_rate=16000)
    with pytest.raises(AudioError, match=r"^reference 2: .*NaN"):
        converter.encode_voice([tone(0.5), BROKEN], 16000)


def test_short_recordings(converter, voice):
    with pytest.raises(AudioError, match=r"^source is 0.030 s long; it should be at least 0.040 s"):
        converter.convert(tone(0.03), voice, sample_rate=16000)
    full = dataclasses.replace(
        CONFIG, speaker=dataclasses.replace(CONFIG.speaker, widths=(2, 2, 2, 2, 2, 2)), pitch_encoder=None
    )
    other = VoiceConverter(random_network(full), full, window=WINDOW)
    with pytest.raises(
        AudioError, match=r"^reference is 0.10 s long after trimming at 10 dB; it should be at least 0.34 s"
    ):
        other.encode_voice(tone(0.1, 24000), 24000)
    with pytest.raises(AudioError, match=r"^reference 2 is 0.10 s long; it should be at least 0.34 s"):
        other.encode_voice([tone(0.5, 24000), tone(0.1, 24000)], 24000, top_db=None)
    assert other.encode_voice(tone(0.341, 24000), 24000, top_db=None).references == 1
    assert converter.convert(tone(0.05), voice, sample_rate=16000).shape == (1200,)


def test_clipped_recordings_warn(converter, voice):
    clipped = np.clip(3 * tone(0.5), -1, 1)
    with pytest.warns(JaxvoiceWarning, match="^source: .* at the peak in runs of 3 or more, .* probably clipped"):
        converter.convert(clipped, voice, sample_rate=16000)
    with pytest.warns(JaxvoiceWarning, match="^reference: .* probably clipped"):
        converter.encode_voice(0.3 * clipped, 16000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for clean in (tone(0.5, level=1.0), tone(0.5, 48000, 90.0, level=1.0)):
            converter.convert(clean, voice, sample_rate=16000 if len(clean) == 8000 else 48000)


def test_sound_without_voiced_frames_keeps_its_pitch(converter, voice):
    with pytest.warns(JaxvoiceWarning, match="^No frame of source is voiced, .* Its F0 is kept"):
        found = converter.convert(noise(0.5), voice, sample_rate=16000)
    np.testing.assert_array_equal(found, converter.convert(noise(0.5), voice, sample_rate=16000, pitch="keep"))
    with pytest.warns(JaxvoiceWarning, match="^No frame of reference is voiced"):
        unvoiced = converter.encode_voice(noise(0.5), 16000)
    assert unvoiced.pitch is None
    with pytest.warns(JaxvoiceWarning, match="^The voice has no F0, so that of source is kept"):
        found = converter.convert(tone(0.5), unvoiced, sample_rate=16000)
    np.testing.assert_array_equal(found, converter.convert(tone(0.5), unvoiced, sample_rate=16000, pitch="keep"))


def test_music_is_converted_as_speech(converter, voice):
    """Several notes at once are not detected; a rhythm without notes has no voiced frame."""
    chord = sum(tone(0.6, f0=f0) for f0 in (220.0, 277.2, 329.6)) / 3
    found = converter.convert(chord, voice, sample_rate=16000)
    assert found.shape == (14400,) and np.isfinite(found).all() and 0 < np.abs(found).max() <= 1
    strokes = noise(0.6) * np.exp(-20 * (np.arange(9600) % 2400) / 2400).astype(np.float32)
    with pytest.warns(JaxvoiceWarning, match="^No frame of source is voiced"):
        converter.convert(strokes, voice, sample_rate=16000)


@pytest.mark.parametrize("pitch", ["higher", 49, -48.5, float("nan"), True, None, [1]])
def test_invalid_pitch(converter, voice, pitch):
    with pytest.raises(ConfigError, match=r'^pitch is .*; it should be "match", "keep", or a number of semitones'):
        converter.convert(tone(0.5), voice, sample_rate=16000, pitch=pitch)


def test_shifts_that_the_model_removes_warn(voice):
    config = dataclasses.replace(CONFIG, pitch_encoder=PitchEncoderConfig(channels=4))
    converter = VoiceConverter(random_network(config), config, window=WINDOW)
    voice = dataclasses.replace(voice, model=converter.identity)
    with pytest.warns(JaxvoiceWarning, match="pitch is 5 semitones, but .* has little effect"):
        converter.convert(tone(0.5), voice, sample_rate=16000, pitch=5)
    without = dataclasses.replace(config, pitch_encoder=None)
    converter = VoiceConverter(random_network(without), without, window=WINDOW)
    with pytest.raises(ConfigError, match='pitch is 5; it should be "keep", because the model has no pitch encoder'):
        converter.convert(tone(0.5), tone(0.5), sample_rate=16000, pitch=5)
    assert converter.encode_voice(tone(0.5), 16000).pitch is None


def test_invalid_arguments(converter, voice):
    with pytest.raises(ConfigError, match="reference is an empty list"):
        converter.encode_voice([])
    for top_db in (0, -3, float("inf"), "10"):
        with pytest.raises(ConfigError, match=r"^top_db is .*; it should be a positive number"):
            converter.encode_voice(tone(0.5), 16000, top_db=top_db)
    with pytest.raises(ConfigError, match="longest is 0; it should be positive"):
        converter.warm_up(longest=0)
    with pytest.raises(AudioError, match="missing"):
        converter.convert("missing.wav", voice)


def test_models_are_loaded_and_identified(network, converter, voice, tmp_path):
    FAMILY.save_network(tmp_path / "model", network, CONFIG, info={"licence": "test"})
    loaded = jaxvoice.load(tmp_path / "model", window=WINDOW)
    assert isinstance(loaded, VoiceConverter) and loaded.identity == converter.identity
    assert repr(loaded) == "VoiceConverter(24000 Hz, 8 content channels, F0 by autocorrelation)"
    source = tone(0.5)
    np.testing.assert_allclose(
        loaded.convert(source, voice, sample_rate=16000), converter.convert(source, voice, sample_rate=16000), atol=1e-6
    )


def test_threads_share_a_converter(converter, voice):
    sources = [tone(0.3 + 0.05 * number, f0=120 + 10 * number) for number in range(6)]
    expected = [converter.convert(source, voice, sample_rate=16000) for source in sources]
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda source: converter.convert(source, voice, sample_rate=16000), sources))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_conversion_after_warm_up_compiles_nothing(network, voice):
    converter = VoiceConverter(network, CONFIG, window=WINDOW + 2)
    compiled = []

    def listen(event, *_, **__):
        if event.endswith("backend_compile_duration"):
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        converter.warm_up(longest=1.0)
        programs = len(compiled)
        assert programs > 0
        for seconds in (0.1, 0.5, 0.7, 1.0):
            converter.convert(tone(seconds), voice, sample_rate=16000, pitch="keep")
        assert len(compiled) == programs
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
