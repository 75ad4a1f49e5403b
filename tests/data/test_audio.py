import errno
import io
import itertools
import os
import re
import struct
import tracemalloc

import librosa
import numpy as np
import pytest
import scipy.io.wavfile
import scipy.signal
import soundfile
from jax import numpy as jnp

from jaxvoice.data import Corpus, Utterance, audio as audio_module, preflight, read_audio, resample, write_wav
from jaxvoice.data.audio import audio_info, read_blocks, read_channels, stream_wav, write_wav_parts
from jaxvoice.data.audio_headers import wav_header
from jaxvoice.errors import AudioError, CheckpointError, ShapeError

FORMATS = {"wav": "PCM_16", "flac": "PCM_16", "ogg": "VORBIS", "mp3": "MPEG_LAYER_III"}


def dominant_frequency(samples, rate):
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), 8 * len(samples)))
    return np.argmax(spectrum) * rate / (8 * len(samples))


@pytest.mark.parametrize("suffix", FORMATS)
def test_read_audio_reads_every_format(tmp_path, speech, suffix):
    path = tmp_path / f"clip.{suffix}"
    soundfile.write(path, speech(), 22050)
    audio = read_audio(path)
    assert audio.sample_rate == 22050 and audio.samples.dtype == np.float32 and audio.samples.ndim == 1
    assert audio.source is not None and audio.source.subtype == FORMATS[suffix]
    assert audio.seconds == pytest.approx(1.0)
    assert dominant_frequency(audio.samples, 22050) == pytest.approx(440, abs=0.5)
    assert np.abs(audio.samples[4000:-4000]).max() == pytest.approx(0.5, abs=0.02)


def test_read_audio_reads_16_bit_samples_exactly(tmp_path):
    written = np.array([-32768, -1, 0, 1, 32767] * 100, np.int16)
    scipy.io.wavfile.write(tmp_path / "clip.wav", 22050, written)
    np.testing.assert_array_equal(read_audio(tmp_path / "clip.wav").samples, written.astype(np.float32) / 32768)


def test_read_audio_reads_8_bit_stereo_at_96_khz(tmp_path, speech):
    left, right = speech(rate=96000), speech(rate=96000, frequency=1000.0)
    soundfile.write(tmp_path / "clip.wav", np.stack([left, right], axis=1), 96000, subtype="PCM_U8")
    audio = read_audio(tmp_path / "clip.wav", 22050)
    assert audio.source is not None
    assert (audio.source.subtype, audio.source.channels, audio.source.sample_rate) == ("PCM_U8", 2, 96000)
    expected = (speech() + speech(frequency=1000.0)) / 2
    np.testing.assert_allclose(audio.samples[1000:-1000], expected[1000:-1000], atol=0.01)


@pytest.mark.parametrize(("from_rate", "to_rate"), [(44100, 22050), (48000, 22050), (96000, 24000), (16000, 22050)])
def test_resampling_keeps_tones_and_matches_librosa_and_scipy(speech, from_rate, to_rate):
    samples = speech(rate=from_rate)
    result = resample(samples, from_rate, to_rate)
    assert result.dtype == np.float32 and len(result) == to_rate
    assert dominant_frequency(result, to_rate) == pytest.approx(440, abs=0.5)
    np.testing.assert_allclose(result, librosa.resample(samples, orig_sr=from_rate, target_sr=to_rate), atol=1e-6)
    common = np.gcd(from_rate, to_rate)
    truth = scipy.signal.resample_poly(samples.astype(np.float64), to_rate // common, from_rate // common)
    np.testing.assert_allclose(result[500:-500], truth[500:-500], atol=2e-3)


def test_resampling_removes_frequencies_above_nyquist(speech):
    result = resample(speech(rate=48000, frequency=15000.0), 48000, 22050)
    assert np.abs(result[200:-200]).max() < 1e-4


@pytest.mark.parametrize("bad", [0, -1, 0.5, 44100.5, np.nan, np.inf, "44100", None, np.array([22050]), True])
def test_resample_raises_for_impossible_rates(speech, bad):
    for name, rates in (("to_rate", (22050, bad)), ("from_rate", (bad, 22050))):
        with pytest.raises(AudioError, match=re.escape(f"{name} is {bad!r}; it should be a positive whole number")):
            resample(speech(), *rates)


@pytest.mark.parametrize("rate", [44100.0, np.float32(44100), np.int64(44100), np.array(44100), jnp.asarray(44100)])
def test_rates_may_be_whole_numbers_of_any_type(speech, rate, tmp_path):
    np.testing.assert_array_equal(resample(speech(rate=44100), rate, 16000), resample(speech(rate=44100), 44100, 16000))
    write_wav(tmp_path / "a.wav", speech(rate=44100), rate)
    audio = read_audio(tmp_path / "a.wav", rate)
    assert (
        audio.sample_rate == 44100 and type(audio.sample_rate) is int and len(audio.samples) == len(speech(rate=44100))
    )


def test_files_raise_for_an_impossible_rate(speech, tmp_path):
    with pytest.raises(AudioError, match=r"sample_rate is 22050\.5; it should be"):
        write_wav(tmp_path / "a.wav", speech(), 22050.5)
    for flag in (True, np.bool_(True), np.array(True), jnp.asarray(True)):
        with pytest.raises(AudioError, match=r"sample_rate is .*True.*; it should be a positive whole number"):
            write_wav(tmp_path / "a.wav", speech(), flag)
    assert not (tmp_path / "a.wav").exists()
    write_wav(tmp_path / "a.wav", speech(), 22050)
    with pytest.raises(AudioError, match="sample_rate is 0; it should be"):
        read_audio(tmp_path / "a.wav", 0)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("empty", "is empty"),
        ("truncated", "is truncated: at least its last 24144 bytes"),
        ("nan", "NaN or infinity in 1 of 22050"),
        ("zero-length", "a header but no samples"),
        ("non-audio", "not audio"),
    ],
)
def test_errors_state_the_file_and_the_reason(bad_files, kind, said):
    with pytest.raises(AudioError, match=said) as failure:
        read_audio(bad_files[kind])
    assert str(bad_files[kind]) in str(failure.value)


def test_error_for_one_missing_byte_is_in_the_singular(tmp_path, speech):
    write_wav(tmp_path / "a.wav", speech(), 22050)
    (tmp_path / "a.wav").write_bytes((tmp_path / "a.wav").read_bytes()[:-1])
    with pytest.raises(AudioError, match="at least its last byte is missing; copy it again"):
        read_audio(tmp_path / "a.wav")


def test_missing_files_and_folders_raise_an_error(tmp_path):
    for path in (tmp_path / "nowhere.wav", tmp_path):
        with pytest.raises(AudioError, match="missing or is not a file"):
            read_audio(path)


@pytest.mark.parametrize("suffix", ["wav", "aiff", "flac", "ogg", "mp3"])
@pytest.mark.parametrize("part", [0.5, 0.97])
@pytest.mark.filterwarnings("ignore")
def test_truncation_is_detected_in_every_format(tmp_path, suffix, part):
    noise = np.random.default_rng(0).normal(0, 0.1, 44100).astype(np.float32)
    path = tmp_path / f"clip.{suffix}"
    soundfile.write(path, noise, 22050)
    read_audio(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(part * len(whole))])
    with pytest.raises(AudioError, match=r"truncated|damaged"):
        read_audio(path)


def test_wav_of_unknown_length_is_read_completely(tmp_path, speech):
    path = tmp_path / "streamed.wav"
    soundfile.write(path, speech(), 22050)
    content = bytearray(path.read_bytes())
    at = content.index(b"data") + 4
    content[at : at + 4] = struct.pack("<I", 0xFFFFFFFF)
    path.write_bytes(content)
    assert len(read_audio(path).samples) == 22050


def test_write_wav_rounds_and_clips_integers(tmp_path):
    path = tmp_path / "clip.wav"
    write_wav(path, np.array([0.0, 1.0, 1.5, -1.0, -2.0, 0.5, 0.6 / 32768], np.float32), 22050)
    rate, samples = scipy.io.wavfile.read(path)
    assert rate == 22050 and samples.tolist() == [0, 32767, 32767, -32768, -32768, 16384, 1]


@pytest.mark.filterwarnings("ignore:Chunk")
def test_written_floats_are_read_exactly(tmp_path, speech):
    path = tmp_path / "clip.wav"
    write_wav(path, 1.5 * speech(), 48000, "FLOAT")
    rate, samples = scipy.io.wavfile.read(path)
    assert rate == 48000 and samples.dtype == np.float32
    np.testing.assert_array_equal(samples, 1.5 * speech())


def test_write_wav_writes_long_audio_in_blocks(tmp_path):
    """The file equals that of soundfile, and no copy of the whole audio is made."""
    for samples in (1, 65535, 65536, 65537, 200_001):
        audio = np.random.default_rng(samples).uniform(-1.1, 1.1, samples)
        integers = np.clip(np.rint(audio.astype(np.float32) * 32768), -32768, 32767).astype(np.int16)
        soundfile.write(tmp_path / "whole.wav", integers, 22050, "PCM_16")
        write_wav(tmp_path / "blocks.wav", audio, 22050)
        assert (tmp_path / "blocks.wav").read_bytes() == (tmp_path / "whole.wav").read_bytes()
        write_wav(tmp_path / "floats.wav", audio, 22050, "FLOAT")
        np.testing.assert_array_equal(soundfile.read(tmp_path / "floats.wav", dtype="float32")[0], np.float32(audio))
    audio = np.zeros(2_000_000, np.float32)
    for subtype in ("PCM_16", "FLOAT"):
        tracemalloc.start()
        try:
            write_wav(tmp_path / "long.wav", audio, 22050, subtype)
            assert tracemalloc.get_traced_memory()[1] < audio.nbytes / 4
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT"])
def test_parts_are_written_as_their_concatenation(tmp_path, speech, subtype):
    audio = speech(4.0)
    write_wav(tmp_path / "whole.wav", audio, 22050, subtype)
    parts = iter(np.split(audio, [1, 1, 70_001, 80_000]))
    assert write_wav_parts(tmp_path / "parts.wav", parts, 22050, subtype) == len(audio)
    assert (tmp_path / "parts.wav").read_bytes() == (tmp_path / "whole.wav").read_bytes()


def test_failed_parts_leave_the_file_as_it_is(tmp_path, speech):
    path = tmp_path / "clip.wav"
    write_wav(path, speech(), 22050)
    before = path.read_bytes()

    def failing():
        yield speech()
        raise CheckpointError("The model returned NaN.")

    for parts, error, message in [
        (failing(), CheckpointError, "The model returned NaN"),
        ([speech(), np.array([0.0, np.nan])], AudioError, "contains NaN or infinity; .* was not written"),
        ([speech(), speech()[None]], ShapeError, r"has shape \(1, 22050\)"),
        ([], AudioError, "is empty"),
        ([np.zeros(0)], AudioError, "is empty"),
        ([np.broadcast_to(np.float32(0), (2**31,))], AudioError, "would have 2147483648 samples"),
    ]:
        with pytest.raises(error, match=message):
            write_wav_parts(path, parts, 22050)
        assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("subtype", "highest"), [("PCM_16", 2**31 - 1), ("FLOAT", 2**30 - 1)])
def test_write_wav_states_the_highest_rate(tmp_path, speech, subtype, highest):
    path = tmp_path / "clip.wav"
    for rate in (highest + 1, 2**31, 2**40):
        with pytest.raises(AudioError, match=f"sample_rate is {rate}; it should be at most {highest} Hz"):
            write_wav(path, speech(), rate, subtype)
        assert not path.exists()
    write_wav(path, speech(), highest, subtype)
    assert soundfile.info(path).samplerate == highest


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_write_wav_raises_for_nan(tmp_path, speech, bad):
    path = tmp_path / "clip.wav"
    write_wav(path, speech(), 22050)
    before = path.read_bytes()
    broken = speech()
    broken[7] = bad
    with pytest.raises(AudioError, match="1 of 22050 samples"):
        write_wav(path, broken, 22050)
    assert path.read_bytes() == before


def test_write_wav_raises_for_bad_arguments(tmp_path, speech):
    with pytest.raises(ShapeError, match=r"\(1, 22050\)"):
        write_wav(tmp_path / "clip.wav", speech()[None], 22050)
    with pytest.raises(AudioError, match="samples is empty"):
        write_wav(tmp_path / "clip.wav", speech()[:0], 22050)
    with pytest.raises(AudioError, match="PCM_12"):
        write_wav(tmp_path / "clip.wav", speech(), 22050, "PCM_12")  # pyright: ignore[reportArgumentType]
    with pytest.raises(AudioError, match="cannot be written"):
        write_wav(tmp_path / "no" / "folder" / "clip.wav", speech(), 22050)
    (tmp_path / "folder").mkdir()
    with pytest.raises(AudioError, match="is a folder"):
        write_wav(tmp_path / "folder", speech(), 22050)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder"]


def test_read_audio_reads_real_recordings(real_clips):
    path = real_clips / "LJSpeech-1.1" / "wavs" / "LJ001-0002.wav"
    rate, samples = scipy.io.wavfile.read(path)
    audio = read_audio(path)
    assert rate == audio.sample_rate == 22050
    np.testing.assert_array_equal(audio.samples, samples.astype(np.float32) / 32768)
    flac = read_audio(next((real_clips / "vctk").rglob("*.flac")), 22050)
    assert flac.source is not None and flac.source.sample_rate == 24000
    assert 0.01 < np.abs(flac.samples).max() <= 1.1


@pytest.mark.parametrize("subtype", ["GSM610", "G721_32", "NMS_ADPCM_16", "IMA_ADPCM", "MS_ADPCM", "ALAW"])
def test_read_audio_reads_compressed_wav_files(tmp_path, speech, subtype):
    soundfile.write(tmp_path / "clip.wav", speech(rate=8000), 8000, subtype=subtype)
    audio = read_audio(tmp_path / "clip.wav", 16000)
    assert audio.source is not None and audio.source.subtype == subtype
    assert audio_info(tmp_path / "clip.wav") == audio.source
    assert dominant_frequency(audio.samples, 16000) == pytest.approx(440, abs=2)


@pytest.mark.parametrize("subtype", ["PCM_16", "GSM610", "G721_32"])  # libsndfile cannot seek in the last two
def test_read_channels_reads_the_first_seconds(tmp_path, speech, subtype):
    path = tmp_path / "clip.wav"
    soundfile.write(path, speech(rate=8000), 8000, subtype=subtype)
    whole, _ = read_channels(path)
    for seconds, samples in ((0.25, 2000), (1e-9, 1), (1e308, whole.shape[1])):
        part, rate = read_channels(path, seconds=seconds)
        np.testing.assert_array_equal(part, whole[:, :samples])
        assert part.shape == (1, samples) and rate == 8000
    for seconds in (0, -1.0, float("nan"), float("inf")):
        with pytest.raises(AudioError, match="should be a positive number"):
            read_channels(path, seconds=seconds)


@pytest.mark.parametrize(
    ("suffix", "subtype"), [("wav", "PCM_16"), ("ogg", "VORBIS"), ("mp3", "MPEG_LAYER_III"), ("wav", "GSM610")]
)
def test_blocks_are_those_of_the_whole_file(tmp_path, speech, suffix, subtype, monkeypatch):
    monkeypatch.setattr(audio_module, "_READ", 1000)
    path = tmp_path / f"clip.{suffix}"
    first = speech(rate=8000)
    samples = first if subtype == "GSM610" else np.stack([first, -0.5 * first[::-1]], 1)
    soundfile.write(path, samples, 8000, subtype=subtype)
    for rate in (None, 8000, 22050, 7000):
        whole, wanted = read_channels(path, rate)
        file = read_blocks(path, rate)
        assert (file.channels, file.samples, file.sample_rate) == (*whole.shape, wanted)
        blocks = list(file.blocks)
        assert (len(blocks) > 5) == (subtype not in ("GSM610", "MPEG_LAYER_III"))
        assert all(block.dtype == np.float32 for block in blocks)
        np.testing.assert_allclose(np.concatenate(blocks, 1), whole, rtol=0, atol=1e-6)


def test_errors_in_blocks_state_the_file_and_the_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(audio_module, "_READ", 1000)
    samples = np.zeros((4000, 2), np.float32)
    samples[2500, 1] = np.nan
    soundfile.write(tmp_path / "nan.wav", samples, 1000, subtype="FLOAT")
    blocks = read_blocks(tmp_path / "nan.wav").blocks
    assert next(blocks).shape == next(blocks).shape == (2, 1000)
    with pytest.raises(AudioError, match=r"nan\.wav contains NaN or infinity in 1 of 2000 samples from 2\.0 s on"):
        next(blocks)
    for path in (tmp_path / "missing.wav", tmp_path):
        with pytest.raises(AudioError, match="missing or is not a file"):
            read_blocks(path)
    soundfile.write(tmp_path / "cut.flac", np.random.default_rng(0).uniform(-1, 1, 20000), 8000)
    whole = (tmp_path / "cut.flac").read_bytes()
    (tmp_path / "cut.flac").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(AudioError, match=r"cut\.flac is (truncated|.*damaged)"):
        list(read_blocks(tmp_path / "cut.flac").blocks)


def test_read_audio_reads_mpeg_in_a_wav_file(tmp_path, speech):
    soundfile.write(tmp_path / "clip.mp3", speech(rate=16000), 16000)
    data = (tmp_path / "clip.mp3").read_bytes()
    form = struct.pack("<HHIIHHHHIHHH", 0x55, 1, 16000, 4000, 1, 0, 12, 1, 2, 576, 1, 1393)
    chunks = ((b"fmt ", form), (b"fact", struct.pack("<I", 16000)), (b"data", data))
    body = b"WAVE" + b"".join(name + struct.pack("<I", len(chunk)) + chunk for name, chunk in chunks)
    (tmp_path / "clip.wav").write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    audio = read_audio(tmp_path / "clip.wav")
    assert audio.source is not None and audio.source.subtype == "MPEG_LAYER_III"
    assert dominant_frequency(audio.samples, 16000) == pytest.approx(440, abs=0.5)


@pytest.mark.parametrize("failure", [ValueError("no frames"), RuntimeError("state"), MemoryError(), AssertionError()])
def test_any_error_of_the_decoder_is_a_counted_rejection(tmp_path, speech, monkeypatch, failure):
    for name in ("a", "b"):
        soundfile.write(tmp_path / f"{name}.wav", speech(), 22050)
    read = soundfile.SoundFile.read

    def fail(file, *arguments, **options):
        if b"b.wav" in file.name:
            raise failure
        return read(file, *arguments, **options)

    monkeypatch.setattr(soundfile.SoundFile, "read", fail)
    utterances = tuple(Utterance(name, tmp_path / f"{name}.wav") for name in ("a", "b"))
    checked = preflight(Corpus("folder", tmp_path, utterances), 22050, 8192)
    assert [item.id for item in checked.rejected] == ["b"] and checked.corpus.counts == {"audio": 1}
    assert str(tmp_path / "b.wav") in checked.rejected[0].reason


@pytest.mark.parametrize(
    "size", [0, 0x7FFFFF00, 0x7FFFF000, 0x7FFFFFDB, 0x7FFFFFFF, 0x80000000, 2_000_000_000, 0xFFFFFFDB, 0xFFFFFFFF]
)
@pytest.mark.parametrize("whole", ["kept", "same", "with header"])
def test_wav_files_written_as_streams_are_read_to_their_end(tmp_path, speech, size, whole):
    path = tmp_path / "clip.wav"
    soundfile.write(path, speech(), 22050)
    expected = read_audio(path)
    data = bytearray(path.read_bytes())
    place = data.index(b"data") + 4
    data[place : place + 4] = struct.pack("<I", size)
    if whole != "kept":
        data[4:8] = struct.pack("<I", size if whole == "same" else min(size + 36, 0xFFFFFFFF))
    path.write_bytes(data)
    audio = read_audio(path)
    np.testing.assert_array_equal(audio.samples, expected.samples)
    assert audio_info(path) == audio.source == expected.source


def test_a_wav_file_of_zero_samples_with_a_chunk_after_them_is_empty(tmp_path):
    soundfile.write(tmp_path / "clip.wav", np.zeros(0), 22050)
    with (tmp_path / "clip.wav").open("ab") as file:
        file.write(b"LIST" + struct.pack("<I", 4) + b"INFO")
    with pytest.raises(AudioError, match="zero-length"):
        read_audio(tmp_path / "clip.wav")


@pytest.mark.parametrize(("gain", "offset"), [(-1.0, 0.0), (-0.9, 0.0), (-1.0, 0.2)])
def test_channels_that_cancel_each_other_are_an_error(tmp_path, speech, gain, offset):
    left = speech() * 0.5
    soundfile.write(tmp_path / "clip.wav", np.stack([left, gain * left + offset], axis=1), 22050)
    with pytest.raises(AudioError, match=r"2 channels that cancel each other in their mean.*export one channel"):
        read_audio(tmp_path / "clip.wav")


def test_channels_that_do_not_cancel_are_averaged(tmp_path, speech):
    left, quiet = speech(), np.zeros(22050)
    for right in (left, quiet, speech(frequency=1000.0)):
        soundfile.write(tmp_path / "clip.wav", np.stack([left, right, *[quiet] * 10], axis=1), 22050)
        source = read_audio(tmp_path / "clip.wav").source
        assert source is not None and source.channels == 12
    soundfile.write(tmp_path / "clip.wav", np.zeros((22050, 2)), 22050)
    assert not read_audio(tmp_path / "clip.wav").samples.any()


@pytest.mark.parametrize(("subtype", "dtype"), [("PCM_16", np.int16), ("FLOAT", np.float32)])
def test_wav_files_are_read_by_other_programs(tmp_path, speech, subtype, dtype):
    path = tmp_path / "clip.wav"
    write_wav(path, speech(), 22050, subtype)
    rate, samples = scipy.io.wavfile.read(path)
    assert rate == 22050 and samples.dtype == dtype and len(samples) == 22050
    info = soundfile.info(path)
    assert (info.format, info.subtype, info.channels, info.frames) == ("WAV", subtype, 1, 22050)
    assert "Error" not in info.extra_info and "should be" not in info.extra_info


def test_headers_of_more_than_4_gib_are_not_written():
    assert wav_header(2**31 - 100, 22050, np.dtype("<i2")) is not None
    assert wav_header(2**31, 22050, np.dtype("<i2")) is None


def test_streams_contain_each_part_before_the_next_is_computed(speech):
    file, whole = io.BytesIO(), speech()
    ends = (0, 700, 701, len(whole))

    def parts():
        for first, last in itertools.pairwise(ends):
            assert len(file.getvalue()) == (44 + 2 * first if first else 0)
            yield whole[first:last]

    assert stream_wav(file, parts(), 22050) == len(whole)
    samples, rate = soundfile.read(io.BytesIO(file.getvalue()), dtype="int16")
    assert rate == 22050
    np.testing.assert_array_equal(samples, np.clip(np.rint(whole * np.float32(32768)), -32768, 32767))
    with pytest.raises(AudioError, match="contains NaN or infinity after 5 samples"):
        stream_wav(io.BytesIO(), [whole[:5], np.full(3, np.nan, np.float32)], 22050)


class _FullDisk(io.BytesIO):
    """A file on a disk with space for 64 KiB."""

    def write(self, data, /):
        if self.tell() + len(data) > 2**16:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(data)


def test_a_full_disk_while_writing_is_an_audio_error(tmp_path, speech, monkeypatch, capfd):
    path = tmp_path / "clip.wav"
    write_wav(path, speech(), 22050)
    before = path.read_bytes()
    monkeypatch.setattr("pathlib.Path.open", lambda *_, **__: _FullDisk())
    with pytest.raises(AudioError, match=r"clip\.wav cannot be written \(No space left on device\); check"):
        write_wav(path, speech(4.0), 22050)
    monkeypatch.undo()
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
    assert capfd.readouterr().err == ""
