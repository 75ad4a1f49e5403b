"""Teacher-forced pairs, compared with one call of the networks without padding and read for fine-tuning."""

import dataclasses
import json
from pathlib import Path

import equinox as eqx
import numpy as np
import pytest
import soundfile
from jax import numpy as jnp

from jaxvoice.data import (
    Corpus,
    Loader,
    RandomCrops,
    Store,
    Utterance,
    UtteranceBatch,
    find_aligned,
    find_corpus,
    load_aligned,
    load_store,
    preflight,
)
from jaxvoice.errors import CheckpointError, ConfigError, DataError, JaxvoiceWarning, MelError
from jaxvoice.models import gaussian_tts
from jaxvoice.models.gaussian_tts import Statistics
from jaxvoice.models.gaussian_tts.batch_synthesis import BatchResult, teacher_forced_mels
from jaxvoice.models.hifigan.family import FAMILY
from jaxvoice.pipelines import Synthesizer, teacher_force, teacher_forcing
from jaxvoice.text import ALIGNED, ARPABET
from tests.models.gaussian_tts.small import save_model
from tests.pipelines import test_synthesizer
from tests.pipelines.aligned_small import HOP, PHONES, RATE, small_corpus, sound, write_corpus
from tests.pipelines.conftest import loud_generator, small_config
from tests.pipelines.test_synthesizer import MEL

FRAMES = {"long": 225, "short": 118, "tiny": 50}


def trained():
    """Networks whose mels are within the range of audio."""
    model, norms, config = test_synthesizer.trained()
    return model, norms, dataclasses.replace(config, statistics=Statistics(mel_mean=-6.0, mel_std=1.5, mel_max=-1.5))


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    model, norms, config = trained()
    save_model(root / "scaled", model, norms, config)
    save_model(root / "plain", model, norms, dataclasses.replace(config, peak_normalize=False))
    centred = dataclasses.replace(config, mel=dataclasses.replace(MEL, center=True, magnitude_floor=0.0))
    save_model(root / "centred", model, norms, centred)
    FAMILY.save_network(root / "vocoder", loud_generator(small_config()), small_config())
    return root


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return small_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def made(models, corpus, tmp_path_factory):
    return teacher_force(corpus, tmp_path_factory.mktemp("made") / "pairs", models / "scaled")


@pytest.fixture
def quick(monkeypatch):
    """Replace the networks by a cheap function, for tests that do not depend on the mels."""

    monkeypatch.setattr(gaussian_tts.batch_synthesis, "synthesize_batch", lambda acoustic, norms, batch: nothing(batch))


def nothing(batch: UtteranceBatch) -> BatchResult:
    zeros = np.zeros(batch.mel.swapaxes(1, 2).shape, np.float32)
    return BatchResult(zeros, zeros, None)  # pyright: ignore[reportArgumentType]


@eqx.filter_jit
def alone(acoustic, norms, ids, durations, frames: int):
    phone_count, frame_count = jnp.full((1,), ids.shape[1], jnp.int32), jnp.full((1,), frames, jnp.int32)
    counts = {"phone_count": phone_count, "frame_count": frame_count, "frames": frames}
    hidden, _ = acoustic.encode(ids, norms, phone_count=phone_count, inference=True)
    return acoustic.decode(hidden, durations, norms, **counts, inference=True).mel[0]


def directly(store, number, *, longer=0) -> np.ndarray:
    """The mel of an utterance without padding; the first phone is `longer` frames longer, the last one shorter."""
    model, norms, config = trained()
    durations = store["durations"][number].astype(np.float32)
    durations[0], durations[-1] = durations[0] + longer, durations[-1] - longer
    ids = jnp.asarray(store["phonemes"][number][None])
    normalised = np.asarray(alone(model.acoustic, norms, ids, jnp.asarray(durations[None]), int(durations.sum())))
    mel = normalised.T * config.statistics.mel_std + config.statistics.mel_mean
    return np.clip(mel, store.mel.floor, config.statistics.mel_max)


def test_mels_equal_the_decoder(made, corpus):
    store = load_aligned(find_aligned(corpus), MEL, peak_normalize=True)
    distance = []
    for number, utterance in enumerate(store.corpus.utterances):
        mel, expected = np.load(made.folder / "mels" / f"{utterance.id}.npy"), directly(store, number)
        assert mel.dtype == np.float32 and mel.shape == (8, FRAMES[utterance.id])
        np.testing.assert_allclose(mel, expected, atol=3e-5)
        assert np.abs(directly(store, number, longer=2) - mel).max() > 1e-2, "other durations change the mel"
        distance.append(np.abs(expected - store["mel"][number]).ravel())
    assert made.mel_l1 == pytest.approx(np.concatenate(distance).mean(), rel=1e-4)
    assert made.utterances == 3 and made.seconds == pytest.approx(sum(FRAMES.values()) * HOP / RATE)


def test_recordings_are_scaled_and_cut_to_their_mels(made, models, corpus, tmp_path):
    plain = teacher_force(corpus, tmp_path / "plain", models / "plain")
    for name, frames in FRAMES.items():
        source, _ = soundfile.read(corpus / "wavs" / f"{name}.wav", dtype="int16")
        samples = {}
        for folder in (made.folder, plain.folder):
            file = folder / "wavs" / f"{name}.wav"
            assert soundfile.info(file).samplerate == RATE and soundfile.info(file).subtype == "PCM_16"
            samples[folder], _ = soundfile.read(file, dtype="int16")
            assert len(samples[folder]) == frames * HOP and len(source) > frames * HOP
        np.testing.assert_array_equal(samples[plain.folder], source[: frames * HOP])
        scaled = source.astype(np.float64) * 0.95 * 32768 / np.abs(source.astype(int)).max()
        assert np.abs(samples[made.folder] - scaled[: frames * HOP]).max() <= 0.51
    assert plain.mel_l1 != pytest.approx(made.mel_l1, rel=1e-3), "the recordings' mels have another level"


def test_pairs_are_valid_for_fine_tuning(made):
    found = find_corpus(made.folder, "pairs")
    checked = preflight(found, RATE, 512, mel=MEL)
    assert checked.rejected == () and len(checked.corpus) == 3
    store = load_store(checked.corpus, RATE, peak_normalize=False)
    with Loader(store, RandomCrops(3, 512, HOP), workers=0) as loader:
        batch = next(loader)
    assert batch.mel is not None and batch.mel.shape == (3, 8, 32) and batch.audio.shape == (3, 512)
    np.testing.assert_array_equal(batch.gain, np.float32(1 / 32768))
    assert all(len(clip) == mel.shape[1] * HOP for clip, mel in zip(store["audio"], store["mel"], strict=True))


def test_folder_contains_only_pairs(made):
    assert {path.name for path in made.folder.iterdir()} == {"mels", "wavs"}
    names = {path.relative_to(made.folder).as_posix() for path in made.folder.rglob("*") if path.is_file()}
    assert names == {f"mels/{name}.npy" for name in FRAMES} | {f"wavs/{name}.wav" for name in FRAMES}


def test_many_lengths_compile_few_programs(models, monkeypatch):
    _, config = gaussian_tts.FAMILY.load_network(models / "scaled")
    store, shapes = store_of_lengths(40), set()

    def watched(acoustic, norms, batch):
        shapes.add((batch.phonemes.shape, batch.mel.shape[2]))
        return nothing(batch)

    monkeypatch.setattr(gaussian_tts.batch_synthesis, "synthesize_batch", watched)
    model, norms, _ = trained()
    found = list(teacher_forced_mels(model.acoustic, norms, config, store, batch_size=3))
    assert sorted(number for number, _ in found) == list(range(40)) and 1 < len(shapes) <= 4
    assert all(mel.shape == store["mel"][number].shape for number, mel in found)
    assert max(frames for _, frames in shapes) <= 256 and max(shape[1] for shape, _ in shapes) <= 64


def store_of_lengths(count: int) -> Store:
    """A store of `count` utterances of all lengths up to the positions of the model."""
    frames = np.linspace(5, 256, count).astype(int)
    phones = np.minimum(frames // 4, 64)
    utterances = tuple(Utterance(f"u{number}") for number in range(count))
    pairs = zip(phones, frames, strict=True)
    columns = {
        "mel": [np.zeros((8, length), np.float32) for length in frames],
        "phonemes": [np.ones(number, np.int32) for number in phones],
        "durations": [np.diff(np.arange(n + 1) * length // n).astype(np.int32) for n, length in pairs],
    }
    return Store(Corpus("table", Path("nowhere"), utterances, phone_set=ALIGNED), columns, RATE, MEL)


def test_rejected_utterances_are_counted_and_listed(models, quick, tmp_path):
    good, long = PHONES["short"], (("AH0", 0.3), ("L", 0.6))
    root = write_corpus(
        tmp_path / "corpus",
        fine=(good, sound(0.236)),
        mute=(good, None),
        gap=((("W", 0.1), ("L", 0.15)), sound(0.15)),
        unlike=(good, sound(0.5)),
        long=(long, sound(0.6)),
        silent=(good, np.zeros(1888, np.float32)),
    )
    gap = root / "gap.csv"
    gap.write_text(gap.read_text().replace("L,0.1", "L,0.12"))
    made = teacher_force(root, tmp_path / "pairs", models / "scaled")
    assert made.utterances == 1
    assert made.counts == {"no audio": 1, "gap": 1, "length": 1, "too long": 1, "audio": 1}
    message = " ".join(str(made).split())
    for part in (
        "pairs 1 in",
        "rejected 5",
        "mute has no recording",
        "gap of 0.020 s",
        "300 frames; it should have at most 256",
        "silent",
    ):
        assert part in message, part
    assert max(map(len, str(made).splitlines())) <= 80


def test_recordings_that_fail_later_are_counted(models, corpus, quick, tmp_path, monkeypatch):
    """Recordings are read when the pairs are written; missing ones and those of another length are rejected then."""
    found = find_aligned(corpus)
    store = load_aligned(found, MEL, peak_normalize=True)
    broken, other = tmp_path / "broken.wav", tmp_path / "other.wav"
    broken.write_bytes(b"RIFF")
    soundfile.write(other, sound(0.3), RATE)
    files = {"long": broken, "short": other}
    utterances = tuple(dataclasses.replace(item, audio=files.get(item.id, item.audio)) for item in found.utterances)
    given = dataclasses.replace(store, corpus=dataclasses.replace(found, utterances=utterances))
    monkeypatch.setattr(teacher_forcing, "load_aligned", lambda *_, **__: given)
    made = teacher_force(found, tmp_path / "pairs", models / "scaled")
    assert made.utterances == 1 and made.counts == {"audio": 1, "length": 1}
    message = "".join(str(made).split())  # lines are broken inside long paths, too
    assert "other.wavis0.300slong;itshouldbe0.236slong,likethemelspectrogramofshort" in message
    assert [path.stem for path in (made.folder / "mels").iterdir()] == ["tiny"]


def test_ids_become_unique_file_names_inside_the_folder(models, corpus, quick, tmp_path):
    found = find_aligned(corpus)
    ids = ["../../evil", "/etc/evil", "..", ".hidden", "a/b", "a%2Fb", "clip.wav", "C:\\x", "ж" * 90, "x\0\n", "\udcff"]
    ids += ["Clip", "clip", "CLIP"]
    tiny = next(item for item in found.utterances if item.id == "tiny")
    utterances = tuple(dataclasses.replace(tiny, id=name) for name in ids)
    given = dataclasses.replace(found, utterances=utterances)
    made = teacher_force(given, tmp_path / "deep" / "down" / "pairs", models / "scaled")
    assert made.utterances == 12 and made.counts == {"file name": 2}
    assert "clip and Clip would have the same file name" in " ".join(str(made).split())
    assert [path.name for path in tmp_path.iterdir()] == ["deep"]
    assert [path.name for path in (tmp_path / "deep" / "down").iterdir()] == ["pairs"]
    written = [path for path in made.folder.rglob("*") if path.is_file()]
    assert len(written) == 24 and all(path.name.isascii() and len(path.name) < 130 for path in written)
    checked = preflight(find_corpus(made.folder, "pairs"), RATE, 512, mel=MEL)
    assert checked.rejected == () and len(checked.corpus) == 12, "each mel has its recording"


def test_folders_with_files_raise_and_are_not_changed(models, corpus, quick, tmp_path):
    (tmp_path / "held").mkdir()
    (tmp_path / "held" / "notes.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ConfigError, match=r"held contains 'notes.txt'"):
        teacher_force(corpus, tmp_path / "held", models / "scaled")
    with pytest.raises(ConfigError, match="is not a folder"):
        teacher_force(corpus, tmp_path / "file", models / "scaled")
    with pytest.raises(DataError, match="cannot be written"):
        teacher_force(corpus, tmp_path / "file" / "pairs", models / "scaled")
    (tmp_path / "empty").mkdir()
    assert teacher_force(corpus, tmp_path / "empty", models / "scaled").folder == tmp_path / "empty"
    with pytest.raises(ConfigError, match="it should be empty"):
        teacher_force(corpus, tmp_path / "empty", models / "scaled")
    assert (tmp_path / "held" / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("bad", [np.nan, -np.inf])
def test_failures_leave_no_files(corpus, tmp_path, bad):
    model, norms, config = trained()
    broken = eqx.tree_at(lambda tts: tts.acoustic.linear.bias, model, jnp.full((8,), bad))
    save_model(tmp_path / "broken", broken, norms, config)
    with pytest.raises(CheckpointError, match="damaged"):
        teacher_force(corpus, tmp_path / "pairs", tmp_path / "broken")
    assert [path.name for path in tmp_path.iterdir()] == ["broken"]


def test_corpora_without_recordings_raise(models, corpus, tmp_path):
    found = find_aligned(corpus)
    mute = tuple(dataclasses.replace(item, audio=None, mel=corpus / f"{item.id}.mel.npy") for item in found.utterances)
    brought = dataclasses.replace(found, utterances=mute, mel=MEL)
    with pytest.raises(DataError, match=r"has no recordings for its 3 .*--audio-dir"):
        teacher_force(brought, tmp_path / "pairs", models / "scaled")
    with pytest.raises(DataError, match="has no recordings"):
        teacher_force(dataclasses.replace(brought, mel=None), tmp_path / "pairs", models / "scaled")


def test_corpora_of_another_phone_set_raise(models, corpus, tmp_path):
    with pytest.raises(ConfigError, match=r"phonemes of 'arpabet'.*'aligned'"):
        teacher_force(find_aligned(corpus, phone_set=ARPABET), tmp_path / "pairs", models / "scaled")
    with pytest.raises(ConfigError, match="batch_size"):
        teacher_force(corpus, tmp_path / "pairs", models / "scaled", batch_size=0)


def test_mels_are_converted_to_the_contract_of_the_vocoder(models, corpus, tmp_path):
    """A vocoder is fine-tuned on the same inputs that the synthesizer passes to it."""
    own = teacher_force(corpus, tmp_path / "own", models / "centred")
    with pytest.warns(JaxvoiceWarning, match="half a hop later"):
        read = teacher_force(corpus, tmp_path / "read", models / "centred", vocoder=models / "vocoder")
    assert read.mel_l1 == own.mel_l1
    for name, frames in FRAMES.items():
        mel, given = (np.load(made.folder / "mels" / f"{name}.npy") for made in (own, read))
        assert mel.shape == (8, frames + 1) == given.shape
        np.testing.assert_allclose(given[:, :-1], (mel[:, 1:] + mel[:, :-1]) / 2, atol=1e-6)
        samples, _ = soundfile.read(read.folder / "wavs" / f"{name}.wav")
        source, _ = soundfile.read(corpus / "wavs" / f"{name}.wav")
        assert len(samples) == (frames + 1) * HOP > len(source) and not samples[len(source) :].any()
    with pytest.warns(JaxvoiceWarning):
        voice = Synthesizer.load(models / "centred", models / "vocoder").mel_to_audio
    np.testing.assert_array_equal(voice.vocoder_input(mel), given)
    FAMILY.save_network(tmp_path / "other", loud_generator(small_config()), other_mel())
    with pytest.raises(MelError, match=r"fmax: 4000\.0 != 3000\.0"):
        teacher_force(corpus, tmp_path / "none", models / "scaled", vocoder=tmp_path / "other")


def other_mel():
    return dataclasses.replace(small_config(), mel=dataclasses.replace(MEL, fmax=3000.0))


def test_scaling_of_recordings_is_saved_with_the_model(models, tmp_path):
    assert gaussian_tts.FAMILY.load_network(models / "scaled")[1].peak_normalize
    assert not gaussian_tts.FAMILY.load_network(models / "plain")[1].peak_normalize
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((models / "plain" / name).read_bytes())
    about = json.loads((tmp_path / "config.json").read_text())
    assert about["config"].pop("peak_normalize") is False
    (tmp_path / "config.json").write_text(json.dumps(about))
    assert gaussian_tts.FAMILY.load_network(tmp_path)[1].peak_normalize, "the default of the experiment"
