"""Text to speech with a tiny random model, compared with one call of the networks without padding."""

import dataclasses
import re
import tracemalloc
from functools import cache

import equinox as eqx
import jax
import numpy as np
import pytest
from jax import numpy as jnp

import jaxvoice
from jaxvoice.dsp import MelConfig, log_mel
from jaxvoice.errors import (
    AudioError,
    CheckpointError,
    ConfigError,
    JaxvoiceError,
    JaxvoiceWarning,
    MelError,
    ShapeError,
    TextError,
)
from jaxvoice.models.gaussian_tts import BatchNormStates, GaussianTTS, GaussianTTSConfig, Statistics, inference
from jaxvoice.models.hifigan.family import FAMILY
from jaxvoice.pipelines import Synthesizer, Vocoder
from jaxvoice.pipelines.mel_to_audio import shift_half_hop
from jaxvoice.text import ALIGNED
from tests.models.gaussian_tts.small import changed, filled, networks, save_model
from tests.pipelines.conftest import loud_generator, small_config

MEL = small_config().mel_contract
HELLO = ["HH", "AH0", "L", "OW1", "pau"]
LONGER = ["W", "EU1", "R", "L", "D", "Z", "AH0", "V", "S", "AW1", "N", "D", "pau"]


@cache
def trained() -> tuple[GaussianTTS, BatchNormStates, GaussianTTSConfig]:
    """Networks, running statistics and configuration."""
    config = dataclasses.replace(
        changed(encoder={"max_phones": 64}, decoder={"max_frames": 256}),
        codes=ALIGNED.codes,
        mel=MEL,
        statistics=Statistics(duration_mean=1.5, duration_std=3.0, duration_scale=1.1),
    )
    model = networks(config)
    return model, filled_norms(model), config


def filled_norms(model: GaussianTTS) -> BatchNormStates:
    """Running statistics with positive variances."""
    return jax.tree.map(lambda x: np.abs(np.asarray(x)) + np.asarray(0.5).astype(x.dtype), filled(model.init_state()))


def hum(mel: np.ndarray) -> np.ndarray:
    """A vocoder whose every sample depends on its frame only."""
    return np.repeat(mel.mean(axis=0), MEL.hop_length).astype(np.float32) / 20


def synthesizer(vocoder=hum, **limits) -> Synthesizer:
    return Synthesizer(*trained(), vocoder, **limits)


@pytest.fixture(scope="module")
def voice() -> Synthesizer:
    return synthesizer()


@eqx.filter_jit
def whole(model: GaussianTTS, norms, ids, counts, frames: int):
    hidden, _ = model.acoustic.encode(ids, norms, phone_count=counts, inference=True)
    statistics = model.config.statistics
    logs = (
        model.durations(hidden, phone_count=counts, inference=True) * statistics.duration_std + statistics.duration_mean
    )
    durations = jnp.maximum(jnp.round((jnp.exp(logs) - 1) * statistics.duration_scale), 1.0)
    lengths = {"phone_count": counts, "frame_count": jnp.full((1,), frames), "frames": frames}
    decoded = model.acoustic.decode(hidden, durations, norms, **lengths, inference=True)
    return durations, decoded.mel, decoded.weights


def test_speech_equals_networks_without_padding(voice):
    model, norms, config = trained()
    found = voice.speak_phonemes(HELLO)
    frames = int(found.durations.sum())
    ids = jnp.asarray([ALIGNED.ids(HELLO)], jnp.int32)
    durations, normalised, weights = map(np.asarray, whole(model, norms, ids, jnp.asarray([5]), frames))
    assert len(set(found.durations)) > 1 and frames < 128, "unequal durations, and padded frames"
    np.testing.assert_array_equal(found.durations, durations[0])
    expected = np.clip(normalised[0].T * config.statistics.mel_std + config.statistics.mel_mean, MEL.floor, 3.08)
    np.testing.assert_allclose(found.mel, expected, atol=3e-5)
    assert found.mel.std() > 0.5
    np.testing.assert_allclose(found.alignment, weights[0], atol=1e-6)
    assert found.phonemes == tuple(HELLO) and found.sample_rate == 8000
    np.testing.assert_array_equal(found.audio, hum(found.mel))


@pytest.mark.parametrize("lost", ["phone_count", "frame_count"])
def test_ignored_lengths_change_speech(voice, monkeypatch, lost):
    encode, decode = inference.encode, inference.decode
    if lost == "phone_count":
        monkeypatch.setattr(inference, "encode", lambda *given, **_: encode(*given, phone_count=given[3].shape[1]))
    else:
        monkeypatch.setattr(
            inference,
            "decode",
            lambda *given, frames, **counts: decode(*given, **{**counts, "frame_count": frames}, frames=frames),
        )
    durations = [9, 3, 5, 12, 7]
    wrong = voice.speak_phonemes(HELLO, durations).mel
    monkeypatch.undo()
    assert np.abs(wrong - voice.speak_phonemes(HELLO, durations).mel).max() > 1e-2


def test_batch_equals_single_calls(voice):
    lines = [HELLO, LONGER, ["AY1"], HELLO[:3], LONGER + HELLO]
    for found, line in zip(voice.speak_phonemes(lines), lines, strict=True):
        alone = voice.speak_phonemes(line)
        np.testing.assert_array_equal(found.durations, alone.durations)
        for name in ("mel", "audio", "alignment"):
            np.testing.assert_allclose(getattr(found, name), getattr(alone, name), atol=1e-5)
    mixed = voice.speak_phonemes([HELLO, HELLO], [None, [2, 3, 4, 5, 6]])
    assert mixed[1].durations.tolist() == [2, 3, 4, 5, 6] and mixed[0].durations.tolist() != [2, 3, 4, 5, 6]


def test_speech_of_a_text_equals_speech_of_its_phonemes(voice):
    text = voice.speak("Hello.")
    assert text.phonemes == tuple(HELLO)
    np.testing.assert_array_equal(text.mel, voice.speak_phonemes("HH AH0 L OW1 pau").mel)
    several = voice.speak(["Hello.", "Jaxen {AY1}"], custom_words={"jaxen": "JH AE1 K S"})
    assert several[1].phonemes == ("JH", "AE1", "K", "S", "AY1", "pau")
    assert voice.speak("don't", mode="compat").phonemes != voice.speak("don't").phonemes
    assert voice.speak([]) == []


def test_speed_divides_durations_before_rounding(voice):
    usual, fast, slow = (voice.speak_phonemes(LONGER, speed=speed).durations for speed in (1, 2, 0.5))
    assert abs(fast - usual / 2).max() <= 0.75 and abs(slow - usual * 2).max() <= 1, "half a frame of rounding each"
    assert fast.min() >= 1 and usual.sum() > 1.8 * fast.sum()


def test_given_durations_are_used(voice):
    for durations in ([9, 3, 5, 12, 7], np.array([1, 1, 1, 1, 1], np.uint8)):
        said = voice.speak_phonemes(HELLO, durations)
        assert said.durations.tolist() == list(durations)
        assert said.mel.shape == (8, sum(durations)) and len(said.audio) == sum(durations) * 16
        np.testing.assert_allclose(said.alignment.sum(axis=1), 1, atol=1e-6)
        middles = (np.cumsum(said.durations) - said.durations / 2).astype(int)
        assert said.alignment[middles].argmax(axis=1).tolist() == [0, 1, 2, 3, 4]


def test_long_texts_are_split_in_the_middle_of_a_pause():
    """A text that is split equals its pieces spoken separately, each up to the middle of the pause."""
    short, long = synthesizer(max_phones=16), HELLO + LONGER + HELLO
    durations = [4, 3, 5, 6, 7, *range(2, 15), 3, 3, 4, 4, 5]
    said = short.speak_phonemes(long, durations)
    parts = [(0, 5), (4, 18), (17, 23)]
    mels = [short.speak_phonemes(long[a:b], durations[a:b]).mel for a, b in parts]
    first, second = durations[4], durations[17]
    expected = [mels[0][:, : -(first // 2)], mels[1][:, (first + 1) // 2 : -(second // 2)], mels[2][:, second // 2 :]]
    np.testing.assert_allclose(said.mel, np.concatenate(expected, axis=1), atol=1e-5)
    assert [block.phone for block in said.blocks] == [0, 4, 17]
    np.testing.assert_allclose(said.alignment.sum(axis=1), 1, atol=1e-6)
    crossing = np.array([said.alignment[end - 1].argmax() for end in np.cumsum(durations)])
    assert (np.abs(crossing - np.arange(len(long))) <= 1).all()


def test_pieces_with_too_many_frames_are_split():
    short = synthesizer(max_frames=150)
    said = short.speak_phonemes(3 * HELLO, speed=0.4)
    assert len(said.blocks) > 1 and said.durations.sum() > 150
    expected = synthesizer().speak_phonemes(3 * HELLO, speed=0.4).durations
    np.testing.assert_array_equal(said.durations, expected)


def test_texts_without_pauses_are_split_before_a_word_with_a_warning():
    with pytest.warns(JaxvoiceWarning, match=r"too few pauses\. It was split .* at 1 place, .* commas"):
        said = synthesizer(max_phones=16).speak("sound of a world of sounds again")
    cut = said.blocks[1].phone
    assert "".join(said.phonemes[:cut]) in {"SAW1NDAH1VAH0WEU1RLD", "SAW1NDAH1VAH0WEU1RLDAH1V"}
    np.testing.assert_allclose(said.alignment.sum(axis=1), 1, atol=1e-6)


def test_text_of_ten_thousand_words_is_spoken(monkeypatch):
    """The networks are replaced by a cheap function, so that only splitting and joining take time."""

    def encode(acoustic, norms, durations, ids, *, phone_count):
        return np.repeat(np.asarray(ids, np.float32)[..., None], 16, axis=-1), np.zeros(ids.shape, np.float32)

    def decode(acoustic, norms, hidden, durations, *, phone_count, frame_count, frames):
        ends = np.cumsum(np.asarray(durations), axis=1)
        owner = (ends[:, None] <= np.arange(frames)[:, None]).sum(-1).clip(max=ends.shape[1] - 1)
        weights = np.eye(ends.shape[1], dtype=np.float32)[owner]
        return weights @ np.asarray(hidden)[..., :8] / 54, weights

    monkeypatch.setattr(inference, "encode", encode)
    monkeypatch.setattr(inference, "decode", decode)
    said = synthesizer().speak("Oh you. " * 5000, speed=2)
    statistics = trained()[2].statistics
    assert len(said.phonemes) == 20_000 and len(said.blocks) > 310
    assert len(said.audio) == said.durations.sum() * 16
    ids = np.repeat(np.array(ALIGNED.ids(said.phonemes)), said.durations)
    np.testing.assert_allclose((said.mel[0] - statistics.mel_mean) / statistics.mel_std * 54, ids, atol=1e-3)
    owners = np.concatenate([block.phone + block.weights.argmax(axis=1) for block in said.blocks])
    np.testing.assert_array_equal(owners, np.repeat(np.arange(20_000), said.durations))


def test_memory_grows_with_the_speech_only(monkeypatch):
    """Long speech is held in memory once, without the padding of its pieces."""

    def decode(acoustic, norms, hidden, durations, *, phone_count, frame_count, frames):
        return np.zeros((len(hidden), frames, 8), np.float32), np.zeros(
            (len(hidden), frames, hidden.shape[1]), np.float32
        )

    monkeypatch.setattr(inference, "decode", decode)
    made = synthesizer(lambda mel: np.zeros(mel.shape[1] * 16, np.float32))
    frames = [5, 6, 7, 8, 9] * 2000
    made.speak_phonemes(HELLO * 20, frames[:100])
    tracemalloc.start()
    try:
        said = made.speak_phonemes(HELLO * 2000, frames)
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    speech = said.audio.nbytes + said.mel.nbytes + sum(block.weights.nbytes for block in said.blocks)
    assert len(said.blocks) > 250 and speech > 10e6
    # The audio of the vocoder is copied once; phonemes and hidden states need little memory.
    assert held < 1.2 * speech and peak < 1.2 * speech + said.audio.nbytes + 4e6
    assert all(block.weights.base is None for block in said.blocks)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "nothing to pronounce"),
        (" \n\t ", "nothing to pronounce"),
        ("... --- !?", "nothing to pronounce"),
        ("Привет", "П|Cyrillic|Привет"),
        ("今日は", "今"),
        ("ab\0cd ☃", r"☃|x00"),
        ("say {HH QQ}", "QQ"),
        ("{}", "no phonemes"),
        (b"hello", "string"),
    ],
)
def test_invalid_texts_raise(voice, text, message):
    if isinstance(text, str):
        with pytest.raises(TextError, match=message):
            voice.speak(text)
    with pytest.raises(TextError, match=message):
        voice.speak(["Hello.", text])


@pytest.mark.parametrize(
    ("phonemes", "durations", "error", "message"),
    [
        ([], None, TextError, "phonemes is empty"),
        (" ", None, TextError, "phonemes is empty"),
        ([HELLO, []], None, TextError, "phonemes is empty"),
        (["HH", "AE3"], None, TextError, r"'AE3' \(phoneme 2\).*did you mean AE"),
        (["<pad>"], None, TextError, "'<pad>'"),
        (HELLO, [3, 3, 3, 3], ShapeError, r"durations has shape \(4,\); it should have shape \(5,\)"),
        (HELLO, [], ShapeError, r"shape \(0,\)"),
        (HELLO, [[3] * 5], ShapeError, r"shape \(1, 5\)"),
        (HELLO, [3, [3, 3], 3, 3, 3], ShapeError, "whole numbers"),
        (HELLO, [3, 3, 0, 3, 3], ShapeError, "phoneme 3 is 0"),
        (HELLO, [3, 3, 3, 3, -1], ShapeError, "phoneme 5 is -1"),
        (HELLO, [3.5] * 5, ShapeError, "whole numbers"),
        (HELLO, [3, 3, np.nan, 3, 3], ShapeError, "whole numbers"),
        (HELLO, [True] * 5, ShapeError, "whole numbers"),
        (HELLO, [3, 3, 257, 3, 3], TextError, r"duration of L \(phoneme 3\) is 257 frames; it should be at most 256"),
        (
            [HELLO, HELLO],
            [[3] * 5],
            ShapeError,
            "durations has 1 items; it should have one for each of the 2 sequences",
        ),
    ],
)
def test_invalid_phonemes_and_durations_raise(voice, phonemes, durations, error, message):
    with pytest.raises(error, match=message):
        voice.speak_phonemes(phonemes, durations)


@pytest.mark.parametrize("speed", [0, -1, 0.09, 11, float("nan"), float("inf"), "fast", None, True])
def test_speeds_out_of_range_raise(voice, speed):
    with pytest.raises(ConfigError, match=r"^speed is .*; it should be a number from 0\.1 to 10"):
        voice.speak("Hello.", speed=speed)


def test_contradictory_settings_raise(voice):
    with pytest.raises(ConfigError, match="durations are given"):
        voice.speak_phonemes(HELLO, [3] * 5, speed=2)
    with pytest.raises(
        ConfigError, match="max_phones is 65; it should be from 1 to 64, the number of positions of the model"
    ):
        synthesizer(max_phones=65)
    with pytest.raises(ConfigError, match="max_frames is 0; it should be from 1 to"):
        synthesizer(max_frames=0)
    with pytest.raises(ConfigError, match="vocoder has type int"):
        synthesizer(vocoder=3)
    with pytest.raises(TextError, match="mode is"):
        voice.speak("Hello.", mode="strict")


def test_damaged_weights_raise():
    model, norms, config = trained()
    broken = eqx.tree_at(lambda tts: tts.durations.linear.bias, model, jnp.full((1,), jnp.nan))
    with pytest.raises(CheckpointError, match="damaged"):
        Synthesizer(broken, norms, config, hum).speak_phonemes(HELLO)


def test_griffin_lim_returns_one_hop_per_frame(monkeypatch):
    spoken, again, other = (synthesizer(None).speak_phonemes(HELLO, [3, 5, 7, 9, 4], seed=seed) for seed in (0, 0, 1))
    assert spoken.audio.shape == (28 * 16,) and spoken.audio.dtype == np.float32 and np.abs(spoken.audio).max() > 0
    np.testing.assert_array_equal(spoken.audio, again.audio)
    assert np.abs(spoken.audio - other.audio).max() > 1e-6
    monkeypatch.setattr("jaxvoice.pipelines.mel_to_audio._WINDOW", 200)
    sine = (0.4 * np.sin(2 * np.pi * 440 / 8000 * np.arange(16 * 500))).astype(np.float32)
    mel = np.asarray(log_mel(sine, MEL))
    (audio,) = synthesizer(None).mel_to_audio([mel])
    assert audio.shape == (500 * 16,)
    # Windows with other phases are cross-faded, so the tone never disappears.
    assert np.abs(np.asarray(log_mel(audio, MEL)) - mel).max(axis=0).mean() < 3
    level = np.sqrt(np.square(audio[800:-800]).reshape(-1, 64).mean(axis=1))
    assert level.min() > 0.2 * np.median(level)


def test_audio_of_a_function_is_cut_or_padded():
    for made in (lambda mel: hum(mel)[None], lambda mel: hum(mel)[:-16], lambda mel: np.pad(hum(mel), (0, 64))):
        said = synthesizer(made).speak_phonemes(HELLO, [3] * 5)
        assert said.audio.shape == (240,) and said.audio.dtype == np.float32
    for made, error in [
        (lambda mel: mel, ShapeError),
        (lambda mel: hum(mel)[:100], ShapeError),
        (lambda mel: np.nan * hum(mel), AudioError),
    ]:
        with pytest.raises(error, match=r"audio (that|of) the vocoder"):
            synthesizer(made).speak_phonemes(HELLO, [3] * 5)


def test_audio_is_clipped_to_full_scale(monkeypatch):
    """Audio is clipped for functions, whose own arrays are not changed, and for Griffin-Lim of loud mels."""
    own = np.linspace(-3, 3, 240).astype(np.float32)
    said = synthesizer(lambda mel: own).speak_phonemes(HELLO, [3] * 5)
    np.testing.assert_array_equal(said.audio, np.clip(own, -1, 1))
    assert own[0] == -3
    loud = np.full((8, 50), 3.0, np.float32)
    (audio,) = synthesizer(None).mel_to_audio([loud])
    assert np.abs(audio).max() == 1 and audio.shape == (800,)
    monkeypatch.setattr("jaxvoice.pipelines.mel_to_audio._clipped", lambda audio: audio)
    (beyond,) = synthesizer(None).mel_to_audio([loud])
    assert np.abs(beyond).max() > 1.5
    np.testing.assert_array_equal(audio, np.clip(beyond, -1, 1))


class Reads:
    """A vocoder with a mel contract that records its inputs."""

    def __init__(self, mel: MelConfig):
        self.mel = mel

    def __call__(self, mel: np.ndarray) -> np.ndarray:
        self.given = mel
        return hum(mel)


def of_flavour(vocoder, **changes) -> Synthesizer:
    model, norms, config = trained()
    return Synthesizer(model, norms, dataclasses.replace(config, mel=dataclasses.replace(MEL, **changes)), vocoder)


def test_frames_are_averaged_for_uncentred_vocoders_with_a_warning():
    vocoder = Reads(MEL)
    with pytest.warns(JaxvoiceWarning, match=r"half a hop later.*magnitude_floor: 0.0 != 1e-09; center: True != False"):
        waveglow = of_flavour(vocoder, center=True, magnitude_floor=0.0)
    said = waveglow.speak_phonemes(HELLO, [3] * 5)
    np.testing.assert_allclose(vocoder.given[:, :-1], (said.mel[:, :-1] + said.mel[:, 1:]) / 2, atol=1e-6)
    np.testing.assert_array_equal(vocoder.given[:, -1], said.mel[:, -1])
    assert said.audio.shape == (240,)


def test_averaging_reduces_the_difference_of_the_contracts():
    random = np.random.default_rng(0)
    envelope = np.repeat(random.uniform(0, 1, 80), 400) ** 3
    audio = (0.3 * envelope * np.sin(np.cumsum(np.repeat(random.uniform(0.05, 1.5, 160), 200)))).astype(np.float32)
    audio += random.normal(0, 1e-4, len(audio)).astype(np.float32)
    hifigan = MelConfig(sample_rate=8000, n_fft=512, win_length=512, hop_length=128, num_mels=40, fmax=4000.0)
    waveglow = dataclasses.replace(hifigan, center=True, magnitude_floor=0.0)
    wanted, made = np.asarray(log_mel(audio, hifigan)), np.asarray(log_mel(audio, waveglow))
    as_is = np.abs(made[:, : wanted.shape[1]] - wanted).mean()
    averaged = np.abs(shift_half_hop(made)[:, : wanted.shape[1]] - wanted).mean()
    earlier = np.abs(shift_half_hop(made[:, ::-1])[:, ::-1][:, : wanted.shape[1]] - wanted).mean()
    assert averaged < 0.7 * as_is and earlier > as_is, (
        "the average with the next frame is closer, not with the previous one"
    )


@pytest.mark.parametrize(
    ("made", "reads", "message"),
    [
        ({}, {"center": True}, "center: False != True"),
        ({}, {"fmax": 3000.0}, "fmax: 4000.0 != 3000.0"),
        ({"center": True, "magnitude_floor": 0.0}, {"log": "log10"}, "log: 'ln' != 'log10'"),
        ({}, {"sample_rate": 16000}, "sample_rate: 8000 != 16000"),
    ],
)
def test_other_contracts_raise_with_their_differences(made, reads, message):
    with pytest.raises(MelError, match=re.escape(message)):
        of_flavour(Reads(dataclasses.replace(MEL, **reads)), **made)


def test_magnitude_floor_may_differ():
    vocoder = Reads(MEL)
    said = of_flavour(vocoder, magnitude_floor=0.0).speak_phonemes(HELLO, [3] * 5)
    np.testing.assert_array_equal(vocoder.given, said.mel)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    save_model(folder / "run" / "model", *trained(), info={"licence": "CC-BY"})
    FAMILY.save_network(folder / "vocoder", loud_generator(small_config()), small_config())
    return folder


def test_synthesizer_loads_from_folders(folders, capsys):
    speech = jaxvoice.Synthesizer.load(folders / "run", folders / "vocoder")
    assert "CC-BY" in capsys.readouterr().err
    texts = ["Hello.", "Hello, world."]
    batch = speech.speak(texts)
    vocoder = Vocoder.load(folders / "vocoder")
    for said, text in zip(batch, texts, strict=True):
        alone = speech.speak(text)
        np.testing.assert_allclose(said.audio, alone.audio, atol=1e-5)
        assert alone.audio[None].shape == (1, said.durations.sum() * speech.hop_length)
        np.testing.assert_allclose(alone.audio, vocoder.synthesize(alone.mel, check=False), atol=1e-6)
        assert alone.audio.std() > 0.01
    given = Synthesizer.load(folders / "run" / "model", vocoder)
    np.testing.assert_allclose(given.speak(texts[0]).audio, batch[0].audio, atol=1e-5)
    assert (speech.sample_rate, speech.phone_set.codes) == (8000, ALIGNED.codes)


def test_folders_without_a_synthesizer_raise(folders):
    for model, vocoder in [
        (folders / "vocoder", None),
        (folders / "run", folders / "run"),
        (folders, None),
        (folders / "nothing", None),
        (folders / "run", folders / "nothing"),
    ]:
        with pytest.raises((CheckpointError, ConfigError)) as failure:
            Synthesizer.load(model, vocoder)
        assert isinstance(failure.value, JaxvoiceError) and str(folders) in str(failure.value)
