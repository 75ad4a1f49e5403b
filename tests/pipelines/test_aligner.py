"""Forced alignment of recordings whose times are known exactly."""

import itertools
from dataclasses import replace
from typing import Any

import equinox as eqx
import numpy as np
import pytest

import jaxvoice
from jaxvoice.data import (
    Alignment,
    AlignmentError,
    durations_in_frames,
    find_aligned,
    read_textgrid,
    write_textgrid,
)
from jaxvoice.data.alignments.alignment import Interval
from jaxvoice.data.audio import resample, write_wav
from jaxvoice.dsp import log_mel
from jaxvoice.dsp.dtw import WarpedBoundaries
from jaxvoice.errors import AudioError, CheckpointError, DataError, TextError
from jaxvoice.models.gaussian_tts import forced_alignment as module
from jaxvoice.models.gaussian_tts.forced_alignment import PhonemeSequence, adjust_inner_pauses
from jaxvoice.pipelines import Aligner, Synthesizer
from jaxvoice.text import ALIGNED, pronounce
from tests.models.gaussian_tts.small import save_model
from tests.pipelines.test_synthesizer import trained
from tests.pipelines.tone_synthesizer import HOP, MEL, tone_audio, tone_synthesizer

HELLO = ["HH", "AH0", "L", "OW1"]
WORLD = ["W", "EU1", "R", "L", "D"]
LINE = ["pau", *HELLO, "pau", *WORLD, *["AH0", "N", "D", "S", "AH1", "M", "AO1", "R", "pau"]]
FRAMES = 3 + np.random.default_rng(1).integers(0, 17, len(LINE)) + 0.0


@pytest.fixture(scope="module")
def aligner() -> Aligner:
    return Aligner(tone_synthesizer())


def assert_true(found, frames) -> None:
    """Check that all boundaries are within two frames of the true ones, `frames` per phoneme, and most within one."""
    errors = np.abs(found.alignment.boundaries * MEL.sample_rate / HOP - np.concatenate([[0], np.cumsum(frames)]))
    assert errors.max() <= 2 and np.mean(errors <= 1) >= 0.8, errors


def test_aligner_finds_boundaries(aligner):
    found = aligner.align_phonemes(tone_audio(LINE, FRAMES, noise=3e-3), MEL.sample_rate, LINE, name="one")
    assert_true(found, FRAMES)
    assert found.alignment.id == "one" and found.alignment.phones == tuple(LINE)
    assert found.durations.min() >= 1 and found.durations.sum() == found.mel.shape[1] == FRAMES.sum()
    np.testing.assert_allclose(np.diff(found.alignment.boundaries), found.durations * HOP / MEL.sample_rate)
    spoken = np.array([code != "pau" for code in LINE])
    usual = 6 + np.array(ALIGNED.ids(LINE)) % 5
    assert found.speed == pytest.approx(usual[spoken].sum() / found.durations[spoken].sum())
    assert found.mel.shape[0] == MEL.num_mels and found.cost < 0.6


def test_voice_rate_and_loudness_change_boundaries_little(aligner):
    audio = 0.05 * tone_audio(LINE, FRAMES, pitch=1.06, noise=3e-3)
    assert_true(aligner.align_phonemes(audio, MEL.sample_rate, " ".join(LINE)), FRAMES)
    assert_true(aligner.align_phonemes(resample(audio, 8000, 16000), 16000, LINE), FRAMES)


@pytest.mark.parametrize("damage", ["no warping", "late", "phoneme lost"])
def test_wrong_boundaries_exceed_the_tolerance(aligner, monkeypatch, damage):
    good = module.warp_boundaries

    def bad(edges, spoken, recorded):
        if damage == "no warping":
            return WarpedBoundaries(edges * (recorded.shape[1] / spoken.shape[1]), 0.0)
        edges, cost = good(edges, spoken, recorded)
        return WarpedBoundaries(edges + 3 * (damage == "late"), cost)

    monkeypatch.setattr(module, "warp_boundaries", bad)
    audio = tone_audio(LINE, FRAMES)
    if damage == "phoneme lost":
        audio = np.delete(audio, slice(round(FRAMES[:7].sum()) * HOP, round(FRAMES[:8].sum()) * HOP))
    found = aligner.align_phonemes(audio, MEL.sample_rate, LINE)
    with pytest.raises(AssertionError):
        assert_true(found, FRAMES)


def test_cost_is_higher_for_another_text(aligner):
    audio = tone_audio(LINE, FRAMES, noise=3e-3)
    right = aligner.align_phonemes(audio, MEL.sample_rate, LINE)
    others = ["pau", *reversed(LINE[1:-1]), "pau"]
    assert aligner.align_phonemes(audio, MEL.sample_rate, others).cost > 1.5 * right.cost


def said(codes, frames: float = 9.0) -> np.ndarray:
    return tone_audio(codes, [25.0 if code == "pau" else frames for code in codes], noise=1e-4)


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("Hello, world.", ["pau", *HELLO, "pau", *WORLD, "pau"]),
        ("Hello, world.", [*HELLO, *WORLD]),
        ("Hello, world.", ["pau", *HELLO, *WORLD, "pau"]),
        ("Hello world", [*HELLO, "pau", *WORLD]),
        ("Hello world", ["pau", *HELLO, *WORLD]),
        ("Hello {pau AA1 pau pau} world!", [*HELLO, "pau", "AA1", "pau", *WORLD, "pau"]),
    ],
)
def test_pauses_follow_the_recording(aligner, text, codes):
    found = aligner.align(said(codes), MEL.sample_rate, text)
    assert found.alignment.phones == tuple(codes)
    assert_true(found, [25.0 if code == "pau" else 9.0 for code in codes])


def test_given_phonemes_are_not_changed(aligner):
    codes = ["pau", *HELLO, "pau", *WORLD, "pau"]
    found = aligner.align_phonemes(said([*HELLO, *WORLD]), MEL.sample_rate, codes)
    assert found.alignment.phones == tuple(codes) and found.durations[[0, 5, -1]].max() <= 4


def test_custom_words_and_stops_are_aligned(aligner):
    found = aligner.align(said(["W", "EU1", "R"]), MEL.sample_rate, "blorf", custom_words={"blorf": "W ER1"})
    assert found.alignment.phones == ("W", "EU1", "R")
    # A silence of 80 ms before a stop is its closure, and before another phoneme a pause.
    quiet = np.zeros(60, bool)
    quiet[25:35] = True
    for stop, expected in (("T", ("AA1", "T", "AA1")), ("M", ("AA1", "pau", "M", "AA1"))):
        row = PhonemeSequence(("AA1", stop, "AA1"), np.array([True, True, False]))
        row, durations = adjust_inner_pauses(row, np.array([27, 13, 20]), quiet, 125.0)
        assert row.codes == expected and durations.sum() == 60
    assert durations.tolist() == [25, 10, 5, 20]


def test_silence_between_two_words_becomes_one_pause(aligner):
    quiet = np.zeros(60, bool)
    quiet[25:40] = True
    words = PhonemeSequence(("AA1", "M", "AA1"), np.ones(3, bool))
    row, _ = adjust_inner_pauses(words, np.array([26, 7, 27]), quiet, 125.0)
    assert row.codes == ("AA1", "pau", "M", "pau", "AA1"), "pauses are inserted before silence is detected"
    row, _ = adjust_inner_pauses(row, np.array([25, 15, 8, 1, 11]), quiet, 125.0)
    assert row.codes == ("AA1", "pau", "M", "AA1")
    row, durations = adjust_inner_pauses(row, np.array([25, 15, 8, 12]), quiet, 125.0)
    assert row.codes == ("AA1", "pau", "M", "AA1") and durations.tolist() == [25, 15, 8, 12]
    codes, frames = ["AA1", "M", "pau", "L", "D"], [30.0, 3.0, 24.0, 9.0, 9.0]
    found = aligner.align(tone_audio(codes, frames, noise=1e-4), MEL.sample_rate, "{AA1 M} {L D}")
    assert found.alignment.phones == tuple(codes)


def test_aligner_loads_a_network_and_a_folder(tmp_path):
    networks: Any = trained()
    save_model(tmp_path, *networks)
    one = Aligner(tmp_path)
    audio = np.random.default_rng(0).normal(0, 0.1, 960)
    found = one.align(audio, 16000, "Hello, world.")
    frames = log_mel(np.zeros(480, np.float32), one.mel).shape[1]
    assert found.durations.sum() == frames == found.mel.shape[1] and found.durations.min() >= 1
    assert jaxvoice.Aligner is Aligner and np.isfinite(found.cost)
    with pytest.raises(CheckpointError):
        Aligner(tmp_path / "none")


def test_damaged_weights_raise():
    model, norms, config = trained()
    bias = model.acoustic.postnet.linear.bias
    broken = eqx.tree_at(lambda tts: tts.acoustic.postnet.linear.bias, model, np.full(bias.shape, np.nan, np.float32))
    audio = np.random.default_rng(0).normal(0, 0.1, 960)
    with pytest.raises(CheckpointError, match=r"its weights are damaged\.$"):
        Aligner(Synthesizer(broken, norms, config)).align(audio, 16000, "Hello, world.")


@pytest.mark.parametrize(
    ("audio", "text", "error", "message"),
    [
        (np.zeros(8000), "Hello.", AudioError, "mine is silent"),
        (np.zeros(0), "Hello.", AudioError, "audio is empty"),
        (np.full(8000, np.nan), "Hello.", AudioError, "NaN"),
        (np.ones(50), "Hello.", AudioError, "too short.*one mel frame"),
        (np.ones((2, 8000)), "Hello.", AudioError, "Average the channels"),
        (tone_audio(HELLO, [9] * 4), "", TextError, "nothing to pronounce"),
        (tone_audio(HELLO, [9] * 4), "\u4f60\u597d", TextError, "\u4f60"),
        (tone_audio(HELLO, [9] * 4), "Hello, world. " * 9, AlignmentError, r"number of phonemes in .* at most 36"),
        (tone_audio(HELLO, [9] * 4), "Hello, world, and more.", AlignmentError, "times the speed of the model"),
        (tone_audio(HELLO, [40] * 4), "Hello.", AlignmentError, "times the speed of the model"),
        (tone_audio(HELLO, [1001] * 4), "Hello.", AlignmentError, "4004 frames"),
    ],
)
def test_invalid_recordings_and_texts_raise(aligner, audio, text, error, message):
    with pytest.raises(error, match=message):
        aligner.align(audio, MEL.sample_rate, text, name="mine")


def test_invalid_phonemes_raise(aligner):
    for phonemes, message in (([], "phonemes is empty"), ("HH AE3", "AE1 or AE0|AE0 or AE1")):
        with pytest.raises(TextError, match=message):
            aligner.align_phonemes(said(HELLO), MEL.sample_rate, phonemes)


def test_textgrids_keep_durations(aligner, tmp_path):
    found = aligner.align_phonemes(tone_audio(LINE, FRAMES), MEL.sample_rate, LINE, name="a.b/one.two")
    (tmp_path / "grids" / "a.b").mkdir(parents=True)
    (tmp_path / "audio").mkdir()
    write_wav(tmp_path / "audio" / "one.two.wav", tone_audio(LINE, FRAMES), MEL.sample_rate)
    path = tmp_path / "grids" / "a.b" / "one.two.TextGrid"
    write_textgrid(path, found.alignment)
    (utterance,) = find_aligned(tmp_path / "grids", audio_dir=tmp_path / "audio").utterances
    assert utterance.id == "a.b/one.two" and utterance.audio == tmp_path / "audio" / "one.two.wav"
    read = durations_in_frames(utterance.alignment, found.mel.shape[1], sample_rate=8000, hop_length=HOP)
    assert read.phones == found.alignment.phones
    np.testing.assert_array_equal(read.frames, found.durations)
    later = replace(
        found.alignment, boundaries=found.alignment.boundaries + HOP / 8000 * (np.arange(len(LINE) + 1) > 0)
    )
    write_textgrid(path, later)
    (utterance,) = find_aligned(tmp_path / "grids").utterances
    moved = durations_in_frames(utterance.alignment, found.mel.shape[1], sample_rate=8000, hop_length=HOP)
    assert moved.frames.tolist() != found.durations.tolist()
    with pytest.raises(DataError, match="cannot be written"):
        write_textgrid(tmp_path / "none" / "one.TextGrid", found.alignment)


def test_words_span_their_phonemes_and_are_written(aligner, tmp_path):
    text = "Hello, world {AH0 N D} some more."
    found = aligner.align(said(["pau", *HELLO, *WORLD, *LINE[10:]]), MEL.sample_rate, text)
    phones, boundaries = found.alignment.phones, found.alignment.boundaries.tolist()
    words = [word.text for word in pronounce(text).words if word.source != "punctuation"]
    assert [word.label for word in found.words] == words and len(words) == 5
    inside = []
    for label, start, end in found.words:
        first, last = boundaries.index(start), boundaries.index(end)
        codes = [code for word in pronounce(text).words if word.text == label for code in word.codes]
        assert list(phones[first:last]) == codes
        inside += range(first, last)
    assert {phones[place] for place in set(range(len(phones))) - set(inside)} <= {"pau"}
    write_textgrid(tmp_path / "a.TextGrid", found.alignment, words=found.words)
    read = read_textgrid(tmp_path / "a.TextGrid", "words")
    assert [word.label for word in read if word.label] == words
    assert read[0].start == 0 and read[-1].end == pytest.approx(found.alignment.seconds, abs=1e-6)
    assert all(before.end == after.start for before, after in itertools.pairwise(read))
    assert [phone.label for phone in read_textgrid(tmp_path / "a.TextGrid")] == list(phones)
    assert aligner.align_phonemes(said(HELLO), MEL.sample_rate, HELLO).words == ()


@pytest.mark.parametrize("words", [[("a", 0.0, 0.3), ("b", 0.2, 0.4)], [("a", 0.0, 9.0)], [("a", 0.2, 0.1)]])
def test_words_out_of_order_are_not_written(tmp_path, words):
    alignment = Alignment("one", ("HH",), np.array([0.0, 0.5]))
    with pytest.raises(DataError, match=r"words should be in order and end before 0\.500 s"):
        write_textgrid(tmp_path / "a.TextGrid", alignment, words=[Interval(*word) for word in words])
    assert not list(tmp_path.iterdir())
