"""Aligned corpora on disk: finding, checking, splitting and loading."""

import json
import re

import numpy as np
import pytest
import soundfile

from jaxvoice.data import Store, find_aligned, load_aligned, measure_statistics, split
from jaxvoice.dsp import bucketed_log_mel
from jaxvoice.dsp.mel_config import WAVEGLOW_MEL, MelConfig, mel_filterbank
from jaxvoice.errors import AudioError, DataError
from jaxvoice.text.phonemes import ALIGNED, ARPABET

RATE, HOP = 22050, 256
PHONES = (("sil", 0.1), ("HH", 0.2), ("AH0", 0.3), ("L", 0.4), ("OW1", 0.7), ("", 0.8))


def csv(phones=PHONES):
    starts = [0.0, *(end for _, end in phones)]
    rows = [f"{phone},{start},{end}" for (phone, end), start in zip(phones, starts, strict=False)]
    return "\n".join(["phone,start_s,end_s", *rows]) + "\n"


def noise(seconds=0.8, seed=0, level=0.1):
    return np.random.default_rng(seed).normal(0, level, round(seconds * RATE)).astype(np.float32)


@pytest.fixture
def corpus_of(tmp_path):
    """Write `name: (text of the alignment, audio)`; returns the folder."""

    def write(**utterances):
        (tmp_path / "wavs").mkdir()
        for name, (text, audio) in utterances.items():
            (tmp_path / f"{name}.csv").write_text(text)
            if audio is not None:
                soundfile.write(tmp_path / "wavs" / f"{name}.wav", audio, RATE)
        return tmp_path

    return write


def reference_mel(audio, center, floor):
    """The mel by its definition, frame by frame."""
    pad = 512 if center else 384
    padded = np.pad(audio.astype(np.float64), pad, mode="reflect")
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(1024) / 1024)
    count = (len(padded) - 1024) // HOP + 1
    spectra = np.fft.rfft([padded[m * HOP : m * HOP + 1024] * window for m in range(count)])
    magnitude = np.sqrt(np.abs(spectra) ** 2 + floor)
    return np.log(np.maximum(mel_filterbank(MelConfig()).astype(np.float64) @ magnitude.T, 1e-5))


@pytest.mark.parametrize("samples", [1500, 16384, 17000, 22050])
@pytest.mark.parametrize(("config", "more"), [(WAVEGLOW_MEL, 1), (MelConfig(), 0)])
def test_load_aligned_computes_exact_mels_up_to_the_last_frame(samples, config, more):
    audio = noise(samples / RATE)
    mel = bucketed_log_mel(audio, config)
    assert mel.shape == (80, samples // HOP + more) and mel.dtype == np.float32
    np.testing.assert_allclose(mel, reference_mel(audio, config.center, config.magnitude_floor), atol=2e-4)


def test_preemphasis_precedes_the_reflection():
    audio = noise(0.7)
    emphasised = np.concatenate([audio[:1], audio[1:] - np.float32(0.9) * audio[:-1]])
    mel = bucketed_log_mel(audio, MelConfig(preemphasis=0.9))
    np.testing.assert_allclose(mel, reference_mel(emphasised, False, 1e-9), atol=2e-4)


def test_audio_shorter_than_a_frame_raises_an_error():
    with pytest.raises(AudioError, match="100 samples"):
        bucketed_log_mel(noise(1)[:100], MelConfig())


def test_load_aligned_loads_a_corpus_from_files(corpus_of):
    root = corpus_of(b=(csv(), noise()), a=(csv(), noise(seed=1)))
    corpus = find_aligned(root)
    assert corpus.kind == "table" and [item.id for item in corpus.utterances] == ["a", "b"]
    assert corpus.rejected == () and corpus.mel is None
    store = load_aligned(corpus)
    assert store.mel == MelConfig() and len(store) == 2 and store.counts == {}
    # Boundaries in frames: 8.61, 17.23, 25.84, 34.45, 60.29, and 17640 // 256 = 68.
    assert store["durations"][0].tolist() == [9, 8, 9, 8, 26, 8] and store["durations"][0].dtype == np.int32
    assert store.phones(0) == ("pau", "HH", "AH0", "L", "OW1", "pau")
    assert [ALIGNED.codes[number - 1] for number in store["phonemes"][0]] == list(store.phones(0))
    np.testing.assert_allclose(
        store["mel"][1], reference_mel(soundfile.read(root / "wavs" / "b.wav")[0], False, 1e-9), atol=2e-4
    )
    centred = load_aligned(corpus, WAVEGLOW_MEL)
    assert centred["mel"][0].shape[1] == 69 and centred["durations"][0].tolist() == [9, 8, 9, 8, 26, 9]
    assert store.frames == 136 and abs(store.seconds - 136 * HOP / RATE) < 1e-9


def test_table_counts_rejected_utterances(corpus_of):
    gap = csv().replace("AH0,0.2,", "AH0,0.25,")
    root = corpus_of(
        fine=(csv(), noise()),
        gap=(gap, noise()),
        gap2=(gap, noise()),
        overlap=(csv().replace("L,0.3", "L,0.22"), noise()),
        unknown=(csv().replace("HH", "QQ"), noise()),
        broken=("phone\n", noise()),
        longer=(csv(), noise(1.2)),
        shorter=(csv(), noise(0.6)),
        mute=(csv(), None),
        silent=(csv(), np.zeros(round(0.8 * RATE), np.float32)),
        fast=(csv([("HH", 0.001 * i) for i in range(1, 60)]), noise(0.06)),
        long=(csv((*PHONES[:-1], ("", 3.0))), noise(3.0)),
    )
    (root / "wavs" / "fine.txt").write_text("no audio")
    (root / "cut.csv").write_text(csv())
    (root / "wavs" / "cut.wav").write_bytes((root / "wavs" / "fine.wav").read_bytes()[:5000])
    corpus = find_aligned(root)
    assert corpus.counts == {"gap": 2, "overlap": 1, "unknown phone": 1, "broken": 1} and len(corpus) == 8
    store = load_aligned(corpus, max_frames=200)
    assert [item.id for item in store.corpus.utterances] == ["fine"] and len(store["mel"]) == 1
    more = {"length": 2, "no audio": 1, "audio": 2, "too fast": 1, "too long": 1}
    assert store.counts == corpus.counts | more
    lines = str(store).splitlines()
    assert max(map(len, lines)) <= 80 and "rejected      12" in lines and "  gap: 2" in lines
    text = " ".join(str(store).split())
    for part in (
        "overlap by 0.080 s",
        "'QQ'",
        "cut.wav is truncated",
        "silent.wav is silent",
        "258 frames; it should have at most 200",
    ):
        assert part in text
    assert str(root) not in text.split("usable")[1]
    assert load_aligned(corpus, max_phones=100).counts["length"] == 2
    with pytest.raises(DataError, match=r"None of the 13 utterance\(s\)(.|\n)*too long: 2"):
        load_aligned(corpus, max_phones=3)


def test_corpora_without_usable_utterances_raise_an_error(corpus_of, tmp_path):
    root = corpus_of(broken=("phone\n", None))
    with pytest.raises(DataError, match=r"None of the 1 alignment\(s\)(.|\n)*lacks the column"):
        find_aligned(root)
    with pytest.raises(DataError, match="no such file or folder"):
        find_aligned(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"folder of audio .* does not exist"):
        find_aligned(root, audio_dir=tmp_path / "nowhere")
    with pytest.raises(DataError, match="kind is 'mfa'; it should be 'auto' or one of lj_aligned, textgrid"):
        find_aligned(root, "mfa")  # pyright: ignore[reportArgumentType]
    with pytest.raises(DataError, match="contains no files of an aligned corpus of kind 'textgrid'"):
        find_aligned(root, "textgrid")
    with pytest.raises(DataError, match="is not a folder"):
        find_aligned(root / "broken.csv", "table")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="No alignments in"):
        find_aligned(tmp_path / "empty")


def test_find_aligned_reads_textgrids_in_folders_of_speakers(tmp_path):
    grid = '"ooTextFile"\n"TextGrid"\n0 0.4 <exists> 1 "IntervalTier" "phones" 0 0.4 2 0 0.1 "" 0.1 0.4 "ER1"\n'
    for speaker in ("ann", "bob"):
        (tmp_path / "grids" / speaker).mkdir(parents=True)
        (tmp_path / "grids" / speaker / "one.TextGrid").write_text(grid)
        (tmp_path / "grids" / speaker / "one.lab").write_text("HER\n")  # a transcript, as the aligner is given
        (tmp_path / "sound" / speaker).mkdir(parents=True)
        soundfile.write(tmp_path / "sound" / speaker / "one.flac", noise(0.4), RATE)
    corpus = find_aligned(tmp_path / "grids", audio_dir=tmp_path / "sound")
    assert corpus.kind == "textgrid" and [item.id for item in corpus.utterances] == ["ann/one", "bob/one"]
    assert [item.speaker for item in corpus.utterances] == ["ann", "bob"]
    assert corpus.utterances[1].audio == tmp_path / "sound" / "bob" / "one.flac"
    assert load_aligned(corpus)["durations"][0].tolist() == [9, 10, 15]  # 0.1, 0.226, 0.4 s: 8.61, 19.47, 34.45
    kept = find_aligned(tmp_path / "grids", phone_set=ARPABET)
    assert kept.utterances[0].alignment.phones == ("pau", "ER1") and kept.utterances[0].audio is None


def test_find_aligned_reads_labels_of_hts(tmp_path):
    (tmp_path / "a.lab").write_text("0 1000000 x-sil+hh\n1000000 4000000 sil-hh+x\n")
    corpus = find_aligned(tmp_path)
    assert corpus.kind == "labels" and corpus.utterances[0].alignment.phones == ("pau", "HH")


def test_find_aligned_reads_a_list(tmp_path):
    (tmp_path / "wavs").mkdir()
    for name in ("a", "b"):
        soundfile.write(tmp_path / "wavs" / f"{name}.wav", noise(0.6), RATE)
    lines = [
        "Hi.|0 9 21|9 12 30|HH AY1 pau|wavs/a.wav",
        "Hi.|0 9|9 12|HH AY1|/data/b.wav",
        "Hi.|0 1|HH",
        "",
        "x|0|9|T|a.wav",
    ]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    corpus = find_aligned(tmp_path / "list.txt")
    assert corpus.kind == "filelist" and [item.text for item in corpus.utterances] == ["Hi.", "Hi."]
    assert corpus.counts == {"broken": 1, "repeated": 1}
    store = load_aligned(corpus)
    assert store["durations"][0].tolist() == [9, 12, 30] and store.counts["length"] == 1


def listed(folder, *names):
    """The corpus of a list in `folder` with one line for each of `names`."""
    path = folder / "list.txt"
    path.write_text("".join(f"Hi.|0 9|9 12|HH AY1|{name}\n" for name in names))
    return find_aligned(path)


@pytest.mark.parametrize(
    ("names", "ids"),
    [
        (("p225/001.wav", "p226/001.wav"), ("p225/001", "p226/001")),
        (("wavs/p225/001.wav", "wavs/p226/001.wav"), ("p225/001", "p226/001")),
        (("p225/wavs/001.wav", "p226/wavs/001.wav"), ("p225/wavs/001", "p226/wavs/001")),
        (("C:\\x\\p225\\001.wav", "C:\\x\\p226\\001.flac"), ("p225/001", "p226/001")),
        (("/data/x/wavs/a.wav", "/data/x/wavs/b.wav"), ("a", "b")),
        (("LJ/wavs/a.wav", "LJ/wavs/b.wav"), ("a", "b")),
        (("./p225/001.wav", "../../p226/x/../1.5"), ("p225/001", "p226/1.5")),
        (("p225/001.wav",), ("p225/001",)),
        (("",), ("line 1",)),
    ],
)
def test_ids_of_a_list_contain_the_folders(tmp_path, names, ids):
    corpus = listed(tmp_path, *names)
    assert corpus.rejected == () and tuple(item.id for item in corpus.utterances) == ids
    assert [item.speaker for item in corpus.utterances] == [name.split("/")[0] if "/" in name else "" for name in ids]


def test_audio_of_a_list_belongs_to_the_speaker(tmp_path):
    for speaker in ("p225", "p226"):
        (tmp_path / speaker).mkdir()
        (tmp_path / speaker / "001.wav").touch()
    (tmp_path / "001.wav").touch()
    for start in ("", "wavs/", "/elsewhere/"):  # found where the list lies, however its lines begin
        corpus = listed(tmp_path, *(f"{start}{speaker}/001.wav" for speaker in ("p225", "p226")))
        assert [item.audio for item in corpus.utterances] == [tmp_path / f"{name}/001.wav" for name in ("p225", "p226")]
    repeated = listed(tmp_path, "p225/001.wav", "p225/001.wav").rejected
    assert [item.kind for item in repeated] == ["repeated"]
    assert re.search(r"line 2 has the same id as .*, line 1, 'p225/001', and was skipped", repeated[0].reason)


def test_error_for_a_folder_without_alignments_states_the_remedy(tmp_path):
    def told():
        with pytest.raises(DataError, match="No alignments in") as caught:
            find_aligned(tmp_path)
        return str(caught.value)

    assert "check the path" in told()
    (tmp_path / "wavs").mkdir()
    (tmp_path / "wavs" / "a.WAV").touch()
    assert "check the path" in told(), "no texts, nothing to align"
    (tmp_path / "wavs" / "a.txt").write_text("Hi.")
    assert "`jaxvoice align` (docs/aligning.md)" in told()
    (tmp_path / "wavs" / "a.txt").unlink()
    (tmp_path / "metadata.csv").write_text("a|Hi.|Hi.\n")
    assert "`jaxvoice align` (docs/aligning.md)" in told()
    (tmp_path / "binary.txt").write_bytes(bytes(range(256)))
    (tmp_path / "five.txt").write_text("a|b|c|d|e\n")
    assert "jaxvoice align" in told(), "five fields alone make no list of frames"
    (tmp_path / "train.txt").write_text("\nHi.|0 9|9 12|HH AY1|a.wav\n")
    assert "it contains the list train.txt" in told() and str(tmp_path / "train.txt") in told()
    assert len(find_aligned(tmp_path / "train.txt")) == 1
    with pytest.raises(DataError, match="jaxvoice align"):
        find_aligned(tmp_path / "metadata.csv")


@pytest.mark.parametrize(
    ("label", "told", "hinted"),
    [
        ("ʃ", "'ʃ' is not in the phone set 'aligned'", True),
        ("aj", "'aj' is not in the phone set 'aligned'; did you mean", True),
        ("QQ", "'QQ' is not in the phone set 'aligned'; the codes are", False),
    ],
)
def test_errors_state_labels_as_in_the_file(corpus_of, label, told, hinted):
    root = corpus_of(fine=(csv(), None))
    (root / "other.csv").write_text(csv().replace("HH", label), encoding="utf-8")
    (rejected,) = find_aligned(root).rejected
    assert rejected.kind == "unknown phone" and told in rejected.reason
    assert ("english_us_arpa" in rejected.reason) == hinted


@pytest.fixture
def lj_aligned(tmp_path):
    """Three utterances with mels under the contract of the corpus, a broken one, and audio."""
    (tmp_path / "audio").mkdir()
    for number in range(4):
        name = f"LJ001-000{number}"
        words = [{"phones": [{"phone": "HH", "onset": 0, "duration": 80}]}]
        words += [{"phones": [{"phone": "pau", "onset": 80, "duration": 420}]}]
        content = {"ID": name, "text": "Ha."} | ({"utterance": {"words": words}} if number != 2 else {})
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
        audio = noise(0.5, number) * np.linspace(0, 1, round(0.5 * RATE), dtype=np.float32) ** 4
        soundfile.write(tmp_path / "audio" / f"{name}.wav", audio, RATE, subtype="FLOAT")
        np.save(tmp_path / f"{name}.mel.npy", reference_mel(audio, True, 0).astype(np.float32))
    return tmp_path


def test_load_aligned_reads_the_mels_of_lj_aligned(lj_aligned):
    corpus = find_aligned(lj_aligned)
    assert corpus.kind == "lj_aligned" and corpus.mel == WAVEGLOW_MEL and corpus.counts == {"no alignment": 1}
    store = load_aligned(corpus)
    assert store.mel == WAVEGLOW_MEL and store["durations"][0].tolist() == [7, 37]  # 44 = 1 + 11025 // 256 frames
    np.testing.assert_array_equal(store["mel"][0], np.load(lj_aligned / "LJ001-0000.mel.npy"))
    assert store.corpus.utterances[0].text == "Ha."


def test_mels_of_another_contract_are_computed(lj_aligned):
    """Under another contract, mels are computed from audio, and utterances without audio are rejected."""
    corpus = find_aligned(lj_aligned)
    store = load_aligned(corpus, MelConfig())
    audio = soundfile.read(lj_aligned / "audio" / "LJ001-0000.wav")[0]
    np.testing.assert_allclose(store["mel"][0], reference_mel(audio, False, 1e-9), atol=2e-4)
    assert store["durations"][0].tolist() == [7, 36]
    for path in (lj_aligned / "audio").iterdir():
        path.unlink()
    with pytest.raises(DataError, match=r"follows\s+another contract"):
        load_aligned(find_aligned(lj_aligned), MelConfig())


def test_bad_mels_are_rejected(lj_aligned):
    np.save(lj_aligned / "LJ001-0000.mel.npy", np.zeros((44, 80), np.float32))
    np.save(lj_aligned / "LJ001-0001.mel.npy", np.full((80, 44), 0.7, np.float32))
    store = load_aligned(find_aligned(lj_aligned))
    assert [item.id for item in store.corpus.utterances] == ["LJ001-0003"] and store.counts["mel"] == 2
    assert "transposed" in " ".join(store.table().split())


def test_peak_normalize_scales_recordings(corpus_of):
    audio = noise()
    corpus = find_aligned(corpus_of(a=(csv(), audio)))
    plain, scaled = load_aligned(corpus), load_aligned(corpus, peak_normalize=True)
    read = soundfile.read(corpus.utterances[0].audio)[0]
    np.testing.assert_allclose(scaled["mel"][0] - plain["mel"][0], np.log(0.95 / np.abs(read).max()), atol=1e-3)


@pytest.mark.parametrize("peak_normalize", [False, True])
def test_load_aligned_loads_audio(corpus_of, peak_normalize):
    corpus = find_aligned(corpus_of(a=(csv(), noise()), b=(csv(), noise(seed=3, level=0.01))))
    plain = load_aligned(corpus, peak_normalize=peak_normalize)
    store = load_aligned(corpus, peak_normalize=peak_normalize, audio=True)
    assert "audio" not in plain and store["gain"].shape == (2,)  # pyright: ignore
    for index, utterance in enumerate(store.corpus.utterances):
        read = soundfile.read(utterance.audio, dtype="float32")[0]
        read = read * (0.95 / np.abs(read).max() if peak_normalize else 1)
        np.testing.assert_allclose(store.waveform(index), read, atol=0.6 / 32768)
        np.testing.assert_array_equal(store["mel"][index], plain["mel"][index])


def test_load_aligned_loads_audio_beside_mels_of_the_corpus(lj_aligned):
    store = load_aligned(find_aligned(lj_aligned), audio=True)
    given = load_aligned(find_aligned(lj_aligned))
    for index, utterance in enumerate(store.corpus.utterances):
        np.testing.assert_array_equal(store["mel"][index], np.load(lj_aligned / f"{utterance.id}.mel.npy"))
        assert len(store["audio"][index]) == len(soundfile.read(utterance.audio)[0])
    without = {utterance.id for utterance in given.corpus.utterances if utterance.audio is None}
    assert {item.id for item in store.rejected if item.kind == "no audio"} >= without


def folder_of(path, count):
    for number in range(count):
        content = {"utterance": {"words": [{"phones": [{"phone": "HH", "onset": 0, "duration": 80}]}]}}
        (path / f"LJ{number:04d}.json").write_text(json.dumps(content))
    (path / "LJ0000.mel.npy").touch()


def test_first_hundred_utterances_are_for_validation(tmp_path):
    folder_of(tmp_path, 203)
    train, validation = split(find_aligned(tmp_path))
    assert [item.id for item in validation.utterances] == [f"LJ{number:04d}" for number in range(100)]
    assert len(train) == 103 and train.utterances[0].id == "LJ0100" and train.mel == WAVEGLOW_MEL


def test_aligned_corpora_are_split(tmp_path):
    folder_of(tmp_path, 40)
    corpus = find_aligned(tmp_path)
    assert [item.id for item in split(corpus)[1].utterances] == ["LJ0000", "LJ0001"]
    assert [item.id for item in split(corpus, 3)[1].utterances] == ["LJ0037", "LJ0038", "LJ0039"]
    train, validation = split(corpus, 0.5, seed=1, how="random")
    assert {item.id for item in (*train.utterances, *validation.utterances)} == {item.id for item in corpus.utterances}
    with pytest.raises(DataError, match="none to train on"):
        split(corpus, 40)


def test_statistics_equal_those_of_all_values(corpus_of):
    corpus = find_aligned(corpus_of(a=(csv(), noise()), b=(csv(), noise(0.85, 3, 0.01))))
    store = load_aligned(corpus)
    values = np.concatenate([mel.ravel() for mel in store["mel"]]).astype(np.float64)
    logs = np.log(1 + np.array([9, 8, 9, 8, 26, 8, 9, 8, 9, 8, 26, 13.0]))
    found = measure_statistics(store)
    np.testing.assert_allclose(found, [values.mean(), values.std(), logs.mean(), logs.std()], rtol=1e-6)


def test_deviation_of_zero_is_replaced_by_one(corpus_of):
    corpus = find_aligned(corpus_of(a=(csv(), noise())))
    columns = {"mel": [np.full((80, 4), -3, np.float32)], "phonemes": [np.ones(1, np.int32)]}
    flat = Store(corpus, columns | {"durations": [np.full(1, 4, np.int32)]}, RATE, MelConfig())
    assert measure_statistics(flat) == pytest.approx((-3, 1, np.log(5), 1))


@pytest.mark.parametrize("kind", ["table", "json"])
def test_find_aligned_reads_files_of_the_montreal_forced_aligner(tmp_path, kind):
    phones = [("HH", 0.1, 0.2), ("IY1", 0.2, 0.4)]
    if kind == "table":
        lines = [f"{start},{end},{phone},phones,ann" for phone, start, end in phones]
        (tmp_path / "one.csv").write_text("\n".join(["Begin,End,Label,Type,Speaker", *lines]), encoding="utf-8")
        (tmp_path / "alignment_analysis.csv").write_text("file,begin,end,speaker\n", encoding="utf-8")
    else:
        entries = [[start, end, phone] for phone, start, end in phones]
        content = {"start": 0, "end": 0.8, "tiers": {"phones": {"type": "interval", "entries": entries}}}
        (tmp_path / "one.json").write_text(json.dumps(content, indent=4), encoding="utf-8")
        (tmp_path / "alignment_analysis.csv").write_text("file,begin,end,speaker\n", encoding="utf-8")
    soundfile.write(tmp_path / "one.wav", noise(), RATE)
    corpus = find_aligned(tmp_path)
    assert corpus.kind == kind and [item.id for item in corpus.utterances] == ["one"] and not corpus.rejected
    store = load_aligned(corpus)
    assert store.phones(0) == ("pau", "HH", "IY1", "pau") and not store.rejected


def test_audio_of_alignments_may_have_a_suffix_in_upper_case(corpus_of):
    root = corpus_of(a=(csv(), noise()))
    (root / "wavs" / "a.wav").rename(root / "wavs" / "a.WAV")
    assert find_aligned(root).utterances[0].audio == root / "wavs" / "a.WAV"


def test_a_recording_is_not_an_aligned_corpus(corpus_of):
    root = corpus_of(a=(csv(), noise()))
    with pytest.raises(DataError, match=r"a\.wav is a recording without an alignment; pass the folder"):
        find_aligned(root / "wavs" / "a.wav")
