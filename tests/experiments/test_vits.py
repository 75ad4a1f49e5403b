"""The experiments of VITS and YourTTS: flags, errors, and runs from audio files to speech."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest

from experiments import (
    common,
    small_speaker_encoder,
    speaker_encoder,
    vits,
    vits_ljspeech,
    voice_conversion,
    yourtts_vctk,
)
from jaxvoice.config import to_dict
from jaxvoice.data import Corpus, Utterance, read_audio, write_wav
from jaxvoice.errors import CheckpointError, ConfigError, DataError, JaxvoiceError, TextError
from jaxvoice.models import vits as models
from jaxvoice.models.speaker_encoder import FAMILY as ENCODER_FAMILY, build
from jaxvoice.models.vits.config import DurationConfig
from jaxvoice.models.vits.training import VITSTask
from jaxvoice.pipelines import VITSSynthesizer
from jaxvoice.pipelines.synthesizer import BLANK
from jaxvoice.text.symbol_table import VITS_SYMBOLS
from jaxvoice.training import parallel
from jaxvoice.training.loop import TrainingResult
from jaxvoice.training.run_folder import RunFolder
from jaxvoice.weights import named_arrays
from tests.experiments import command_lines
from tests.models.speaker_encoder.small import SMALL as ENCODER
from tests.models.vits.small import SHALLOW
from tests.random_networks import random_network

pytestmark = pytest.mark.usefixtures("own_cache")
RATE = 16000
# The gradient of splines doubles the time to compile a step, so that only one run has them.
MODEL = replace(
    SHALLOW,
    mel=replace(SHALLOW.mel, sample_rate=RATE),
    durations=DurationConfig("deterministic", channels=6),
    speaker_channels=ENCODER.dim,
    decoder=replace(SHALLOW.decoder, cond_channels=ENCODER.dim),
    languages=("en",),
    segment_frames=8,
)
ONE_VOICE = replace(
    MODEL,
    symbols=VITS_SYMBOLS,
    durations=SHALLOW.durations,
    speaker_channels=0,
    decoder=replace(MODEL.decoder, cond_channels=0),
    languages=(),
)


@pytest.fixture
def one_device_of_experiments(one_device, monkeypatch):
    """Train on one device, also in `experiments.common`."""
    monkeypatch.setattr(common, "data_mesh", parallel.data_mesh)


@pytest.fixture
def tones(tmp_path):
    """Recordings of two speakers with texts, one of which is too long for its recording."""
    folder = tmp_path / "tones"
    folder.mkdir()
    time = np.arange(RATE) / RATE
    lines = []
    for i in range(6):
        write_wav(folder / f"t{i}.wav", (0.3 * np.sin(2 * np.pi * (150 + 70 * i) * time)).astype(np.float32), RATE)
        lines.append(f"t{i}.wav\t{'ab'[i % 2]}\t{'word ' * (40 if i == 2 else 2)}and {i % 3 * 'a'}.\n")
    (folder / "list.tsv").write_text("path\tspeaker\ttext\n" + "".join(lines), encoding="utf-8")
    return folder / "list.tsv"


def small(given, model, data, run_dir, **options):
    training = replace(given.training, model=model, reconstruction_steps=1, speaker_steps=1)
    loop = replace(given.loop, steps=3, log_every=1, minutes=None, tensorboard=False)
    return replace(
        given,
        data=data,
        run_dir=run_dir,
        batch_size=jax.device_count(),
        workers=0,
        validation=1,
        text="one word.",
        training=training,
        loop=loop,
        **options,
    )


def test_defaults_depend_on_the_device(monkeypatch):
    tiny = vits_ljspeech.parse([])
    assert tiny == vits_ljspeech.default_experiment("tiny", "ipa") and (tiny.loop.minutes or 99) < 15
    assert tiny.training.model == replace(models.preset("tiny"), symbols=VITS_SYMBOLS)
    spoken = yourtts_vctk.parse([])
    assert spoken == yourtts_vctk.default_experiment("tiny", "ipa") and spoken.training.loss_weights.speaker == 9
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    full = vits_ljspeech.parse([])
    assert full.preset == "ljspeech" and full.batch_size == 64 and full.training.precision == "bfloat16"
    full = yourtts_vctk.parse([])
    assert full.preset == "yourtts" and full.training.speaker_steps == 200_000 and full.loop.steps == 250_000
    assert full.training.model.speaker_channels == 512 and full.training.model.mel.sample_rate == 16000


def test_the_help_shows_the_flags_that_an_experiment_uses(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")

    def shown(experiment):
        with pytest.raises(SystemExit):
            experiment.parse(["--help"])
        text = capsys.readouterr().out
        assert "--discriminator-optimizer.learning-rate" in text and "--encoder-identity" not in text
        return text

    unused = ("--speaker-steps", "--loss-weights.speaker", "--model.languages", "--model.speaker-channels")
    both = shown(yourtts_vctk), shown(vits_ljspeech)
    assert [[flag in text for flag in unused] for text in both] == [[True] * 4, [False] * 4]


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"max_seconds": 0.0}, ConfigError, "max-seconds is 0"),
        ({"buckets": 0}, ConfigError, "buckets is 0"),
        ({"text": "\u03a9"}, TextError, "\u03a9"),
    ],
)
def test_impossible_settings_raise_errors(changes, error, text):
    with pytest.raises(error, match=text):
        replace(vits_ljspeech.default_experiment("tiny"), **changes)


def test_models_read_characters_or_the_ipa(capsys):
    flags = ("--data", "x")
    given = vits_ljspeech.parse([*flags, "--alphabet", "characters"])
    assert vits_ljspeech.parse(flags).training == given.training and given.training.model == models.preset("tiny")
    found = vits_ljspeech.parse(["--alphabet", "ipa", "--text", "42 \u03a9"])
    assert found.training.model == replace(models.preset("tiny"), symbols=VITS_SYMBOLS) and found.alphabet == "ipa"
    assert "--alphabet is 'x'; it should be one of" in command_lines.refused(
        capsys, vits_ljspeech.main, "--alphabet", "x"
    )
    flags = ("--alphabet", "ipa", "--model.symbols.alphabet", "characters")
    assert "--alphabet is 'ipa', but the model reads 'char" in command_lines.refused(capsys, vits_ljspeech.main, *flags)


def test_resumed_runs_keep_their_alphabet(tmp_path, monkeypatch, capsys):
    stored = vits_ljspeech.default_experiment("tiny", "ipa")
    table = {"config": to_dict(stored.training), "loop": None}
    monkeypatch.setattr(RunFolder, "has_progress", lambda folder: True)
    monkeypatch.setattr(RunFolder, "read_config", lambda folder: table)
    monkeypatch.setattr(RunFolder, "read_data_description", lambda folder: {})
    for flags in ((), ("--alphabet", "ipa")):
        assert vits_ljspeech.parse(["--run-dir", str(tmp_path), *flags]).training == stored.training
    flags = ("--run-dir", str(tmp_path), "--alphabet", "characters")
    assert "--alphabet is 'characters', but the model reads" in command_lines.refused(
        capsys, vits_ljspeech.main, *flags
    )


def write_run(experiment):
    """The files that a started run of `experiment` has before its first checkpoint, and a model."""
    config, loop = to_dict(experiment.training), to_dict(experiment.loop)
    data = {"settings": common.kept_settings(experiment)}
    RunFolder(experiment.run_dir).begin({"config": config, "loop": loop, "data": data})
    (experiment.run_dir / "model").mkdir()


def test_resumed_runs_keep_the_settings_of_their_data(tmp_path):
    run = ("--run-dir", str(tmp_path / "run"))
    flags = "--max-seconds 8 --buckets 2 --validation 3 --language pt --unseen b c --balance speaker --adapted a"
    given = yourtts_vctk.parse([*run, *flags.split(), "--adapted-share", "0.5", "--speaker-encoder", "encoder"])
    write_run(given)
    assert replace(yourtts_vctk.parse(run), preset=given.preset) == given
    changed = yourtts_vctk.parse([*run, "--max-seconds", "7", "--balance", "language"])
    assert replace(changed, preset=given.preset) == replace(given, max_seconds=7.0, balance=("language",))
    usual = yourtts_vctk.parse([*run, "--preset", "tiny"])
    assert (usual.max_seconds, usual.unseen, usual.adapted) == (5.5, None, ())


def test_unseen_speakers_of_a_run_stay_unseen(tones, tmp_path, monkeypatch):
    given = small(yourtts_vctk.default_experiment("tiny"), MODEL, tones, tmp_path / "run", unseen=("b",))
    write_run(given)
    for unseen in (None, ("b",)):
        train, rest, names = yourtts_vctk.find_speakers(replace(given, unseen=unseen))
        assert (train.speakers, rest.speakers, names) == (("a",), ("b",), ("b",))
    monkeypatch.setattr(vits, "checked", lambda *_, **__: pytest.fail("recordings were decoded"))
    # Parsing restores the names, which the next corpus may not have.
    others = replace(train, utterances=tuple(replace(one, speaker="x") for one in train.utterances))
    assert voice_conversion.chosen_unseen(tmp_path / "run", ("b",), others) is None
    for unseen, shown in ((("a",), "'a'"), ((), "empty")):
        with pytest.raises(ConfigError, match=rf"--unseen is {shown}; it should be 'b', the speakers on which the run"):
            yourtts_vctk.find_speakers(replace(given, unseen=unseen))


def test_texts_are_checked_before_the_corpus_is_read(tmp_path):
    pytest.importorskip("espeakng_loader", reason="the extra demo is not installed")
    given = vits_ljspeech.default_experiment("tiny", "ipa")
    vits.check_text(replace(given, text="42 words"))
    with pytest.raises(TextError, match="contains nothing to read"):
        vits_ljspeech.run(replace(given, text="...", data=tmp_path / "missing", run_dir=tmp_path / "run"))


def test_languages_that_the_model_does_not_have_are_refused(tones, tmp_path):
    given = small(yourtts_vctk.default_experiment("tiny"), MODEL, tones, tmp_path / "run")
    for language, advice in (
        ("", "it should be one of the known names: 'en'"),
        ("eng", "the nearest known name is 'en'"),
    ):
        with pytest.raises(ConfigError, match=f"--language is '{language}'; {advice}"):
            yourtts_vctk.find_speakers(replace(given, language=language))


def test_languages_of_the_corpus_are_checked_before_recordings_are_decoded(tones, tmp_path):
    given = small(yourtts_vctk.default_experiment("tiny"), MODEL, tones, tmp_path / "run")
    utterances = [Utterance(f"u{i}", tmp_path / "missing.wav", speaker="a", language="en-us" * i) for i in range(2)]
    with pytest.raises(DataError, match=r"'u1' is 'en-us'; the model has 'en'\. .* --model\.languages"):
        corpus = Corpus("filelist", tmp_path, tuple(utterances))
        voice_conversion.with_languages(corpus, given.training.model.languages, given.language)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"unseen": ("c",)}, r"--unseen contains 'c'; it should be one of the known names: 'a', 'b'"),
        ({"adapted": ("bb",), "unseen": ()}, "--adapted contains 'bb'; the nearest known names? (are|is) 'b'"),
        ({"adapted": ("b",), "unseen": ("b",)}, "--adapted contains 'b', which is held out"),
    ],
)
def test_speakers_of_flags_are_checked_before_recordings_are_decoded(tones, tmp_path, monkeypatch, changes, text):
    monkeypatch.setattr(vits, "checked", lambda *_, **__: pytest.fail("recordings were decoded"))
    given = small(yourtts_vctk.default_experiment("tiny"), MODEL, tones, tmp_path / "run", **changes)
    with pytest.raises(ConfigError, match=text):
        yourtts_vctk.find_speakers(given)


def test_wrong_speaker_encoders_are_reported_before_the_corpus_is_read(tones, tmp_path):
    given = small(yourtts_vctk.default_experiment("tiny"), MODEL, tmp_path / "missing", tmp_path / "run")
    with pytest.raises(JaxvoiceError, match=r"^--speaker-encoder: .*nothing"):
        yourtts_vctk.run(replace(given, data=tones, speaker_encoder=tmp_path / "nothing"))
    with pytest.raises(ConfigError, match=r"--adapted-share is 1\.5"):
        replace(given, adapted_share=1.5)


def test_weights_of_the_speaker_loss_need_a_speaker_encoder(tones, tmp_path):
    given = small(vits_ljspeech.default_experiment("tiny"), MODEL, tones, tmp_path / "run")
    training = replace(given.training, loss_weights=replace(given.training.loss_weights, speaker=9.0))
    with pytest.raises(ConfigError, match=r"loss_weights\.speaker is 9\.0, so the run in .* experiments\.yourtts_vctk"):
        vits_ljspeech.run(replace(given, training=training))


def test_recordings_that_are_too_long_are_not_held_out(tones, tmp_path):
    write_wav(tones.parent / "t0.wav", np.full(3 * RATE, 0.3, np.float32) * (-1.0) ** np.arange(3 * RATE), RATE)
    given = small(vits_ljspeech.default_experiment("tiny"), MODEL, tones, tmp_path / "run", max_seconds=2.0)
    corpus = vits.checked(vits_ljspeech.find_texts(given), given)
    assert [one.id for one in corpus.utterances] == ["t1", "t2", "t3", "t4", "t5"]
    assert "t0.wav is too long, 3.000 s; it should last at most 2 s" in corpus.rejected[0].reason


def test_large_models_need_a_speaker_encoder(tmp_path, capsys):
    flags = ("--preset", "yourtts", "--run-dir", str(tmp_path / "run"), "--data", str(tmp_path / "missing"))
    printed = command_lines.refused(capsys, yourtts_vctk.main, *flags)
    assert "--speaker-encoder is not set" in printed and "--preset tiny" in printed
    assert "have 64 components; the model reads 512, --model.speaker-channels" in printed
    yourtts_vctk.check_small_encoder(yourtts_vctk.default_experiment("tiny"))
    given = replace(yourtts_vctk.default_experiment("yourtts"), speaker_encoder=tmp_path)
    yourtts_vctk.check_small_encoder(given)  # of any size, which is known when it is loaded


def test_the_test_sentence_and_the_next_command_have_the_language():
    several = replace(MODEL, languages=("en", "fr-fr", "pt-br"))
    given = yourtts_vctk.default_experiment("tiny")
    given = replace(given, training=replace(given.training, model=several), language="fr-fr")
    assert yourtts_vctk.sentence_language(given) == "fr-fr"
    assert yourtts_vctk.voice_flags(given, "Anne Marie") == " --speaker 'Anne Marie' --language fr-fr"
    # The utterances of a corpus may all name another language.
    assert yourtts_vctk.sentence_language(replace(given, language="de")) == "en"
    one = replace(given, training=replace(given.training, model=MODEL))
    assert yourtts_vctk.voice_flags(one, "a") == " --speaker a"


def test_recordings_that_are_too_short_for_the_encoder_are_rejected(tones, tmp_path, capsys):
    write_wav(tones.parent / "t4.wav", np.full(2400, 0.3, np.float32) * (-1.0) ** np.arange(2400), RATE)
    given = small(yourtts_vctk.default_experiment("tiny"), MODEL, tones, tmp_path / "run", unseen=())
    corpus, _, _ = yourtts_vctk.find_speakers(given)
    assert [one.id for one in corpus.utterances] == ["t0", "t1", "t2", "t3", "t5"]
    assert [one.id for one in corpus.rejected] == ["t4"] and "t4.wav" in corpus.rejected[0].reason
    printed = "".join(capsys.readouterr().out.split())  # lines are broken inside long paths
    assert "0.2" in corpus.rejected[0].reason and "t4.wav" in printed


def test_the_small_encoder_is_trained_on_the_same_corpus(tones, tmp_path):
    listed = tmp_path / "lists" / "list.tsv"
    listed.parent.mkdir()
    tones.rename(listed)
    given = yourtts_vctk.default_experiment("tiny")
    given = replace(given, data=listed, corpus="filelist", audio_dir=tones.parent, unseen=("b",))
    given = replace(given, run_dir=tmp_path / "run")
    encoder = small_speaker_encoder.experiment(given, 0.15)
    assert encoder.run_dir == tmp_path / "run_speaker_encoder" and encoder.corpus == "filelist"
    train, held_out, names = speaker_encoder.find_speakers(encoder)
    assert [one.id for one in train.utterances] == ["t0", "t2", "t4"] and held_out.speakers == names == ("b",)


def test_the_interrupted_training_of_the_small_encoder_is_resumed(tmp_path, monkeypatch):
    stops = iter(("interrupted", "minutes"))

    def train(given, started):
        assert given.loop.validate_every == 0  # so that a validation is the end of the training
        stop, folder = next(stops), RunFolder(given.run_dir)
        folder.model.mkdir(parents=True, exist_ok=True)
        (folder.model / "config.json").write_text("{}", encoding="utf-8")
        kind = "train" if stop == "interrupted" else "validation"
        folder.metrics.write_text(json.dumps({"step": 1, "kind": kind}) + "\n", encoding="utf-8")
        return TrainingResult(stop, 1, {}, None, given.run_dir, 0.0, 0.0, 0.0, 0)

    monkeypatch.setattr(speaker_encoder, "run", train)
    given = replace(yourtts_vctk.default_experiment("tiny"), run_dir=tmp_path / "run")

    def run():
        return small_speaker_encoder.train(given, 0.15, 0.0, reason="No encoder.", flag="--speaker-encoder")

    with pytest.raises(KeyboardInterrupt):
        run()
    assert not small_speaker_encoder.is_trained(given)
    assert run() == run() == tmp_path / "run_speaker_encoder" and next(stops, None) is None


def test_tables_have_a_row_for_each_speaker_of_the_corpus(tones, tmp_path):
    given = vits_ljspeech.parse(["--preset", "vctk", "--data", str(tones)])
    assert given.training.model.num_speakers == 109 and given.training.precision == "bfloat16"
    corpus = vits_ljspeech.find_texts(given)
    config = vits_ljspeech.with_speakers(given.training, corpus)
    assert config == replace(given.training, model=replace(given.training.model, num_speakers=2))
    one_voice = vits_ljspeech.parse(["--data", str(tones)]).training
    assert vits_ljspeech.with_speakers(one_voice, corpus) == one_voice
    rows = [line.split("\t") for line in tones.read_text(encoding="utf-8").splitlines()]
    tones.write_text("".join(f"{path}\t{text}\n" for path, _, text in rows), encoding="utf-8")
    with pytest.raises(DataError, match="have no speaker"):
        vits_ljspeech.find_texts(given)


def test_initial_models_of_other_speakers_give_rows_by_name(tmp_path, capsys, monkeypatch):
    # Neither optimisers nor discriminators are made.
    monkeypatch.setattr(VITSTask, "state_of", lambda task, generator, discriminators: generator)
    monkeypatch.setattr(vits, "load_discriminators", lambda folder, model: "those of the model")
    stored, model = (replace(MODEL, num_speakers=number, languages=()) for number in (3, 2))
    network = random_network(models.VITS, stored)
    arrays = {name: np.asarray(array) for name, array in named_arrays(network).items()}
    models.FAMILY.save_network(tmp_path / "model", network, stored)
    (tmp_path / "model" / "speakers.json").write_text('{"c": 0, "b": 1, "x": 2}', encoding="utf-8")
    given = small(vits_ljspeech.default_experiment("tiny"), model, None, tmp_path / "run")
    given = replace(given, init_from=tmp_path / "model")

    def table(speakers):
        config = replace(given.training, model=replace(model, num_speakers=len(speakers)))
        task = VITSTask(config, steps_per_epoch=1, speakers=speakers)
        make = vits.initial_state(given, task)
        assert make is not None
        generator = make()
        assert generator.config == config.model
        for name, array in named_arrays(generator).items():
            if name != "emb_g.weight":
                np.testing.assert_array_equal(array, arrays[name])
        return np.asarray(generator.emb_g.weight)

    rows = arrays["emb_g.weight"]
    found = table({"a": 0, "b": 1})
    np.testing.assert_array_equal(found[1], rows[1])
    assert not np.isclose(found[0], rows).any()
    printed = capsys.readouterr().out
    assert "keep their rows: 1 of 3; speakers with new, random rows: 'a'\n" in printed
    # The same number of speakers, in another order.
    np.testing.assert_array_equal(table({"b": 0, "c": 1, "x": 2}), rows[[1, 0, 2]])
    assert "keep their rows: 3 of 3\n" in capsys.readouterr().out
    np.testing.assert_array_equal(table({"c": 0, "b": 1, "x": 2}), rows)
    assert "keep their rows" not in capsys.readouterr().out
    with pytest.raises(CheckpointError, match=r"--model.speaker_channels: 12 != 0.*Set these flags"):
        vits.initial_state(given, VITSTask(replace(given.training, model=ONE_VOICE), steps_per_epoch=1))


def test_presets_of_other_models_are_refused(capsys):
    assert "--preset is 'yourtts'" in command_lines.refused(capsys, vits_ljspeech.main, "--preset", "yourtts")
    assert "--preset is 'vctk'" in command_lines.refused(capsys, yourtts_vctk.main, "--preset", "vctk")


@pytest.mark.slow
@pytest.mark.usefixtures("one_device_of_experiments")
def test_one_voice_of_the_ipa_from_files_to_speech(tones, tmp_path, capsys):
    pytest.importorskip("espeakng_loader", reason="the extra demo is not installed")
    experiment = small(vits_ljspeech.default_experiment("tiny"), ONE_VOICE, tones, tmp_path / "run")
    result = vits_ljspeech.run(experiment)
    assert result.stopped == "steps" and np.isfinite(result.metrics["mel_l1"])
    assert "more tokens than frames: 1" in capsys.readouterr().out
    path = vits.speak(result, experiment.text)
    assert path is not None and len(read_audio(path).samples) > 0
    assert "jaxvoice speak" in vits.summary(result, experiment, 1.0, path)
    speech = VITSSynthesizer.load(result.folder).speak("2 words.")
    assert "".join(speech.phonemes).replace(BLANK, "") == "t\u02c8u\u02d0 w\u02c8\u025c\u02d0dz."


@pytest.mark.slow
@pytest.mark.usefixtures("one_device_of_experiments")
def test_a_table_of_speakers_from_files_to_speech(tones, tmp_path, capsys):
    model = replace(MODEL, num_speakers=109, languages=())
    experiment = small(vits_ljspeech.default_experiment("tiny"), model, tones, tmp_path / "run")
    result = vits_ljspeech.run(experiment)
    assert result.step == 3 and np.isfinite(result.metrics["mel_l1"])
    assert "more tokens than frames: 1" in capsys.readouterr().out
    assert "--speaker a" in vits_ljspeech.close(result, experiment, 1.0)
    assert len(read_audio(result.folder / "spoken.wav").samples) > 0
    trained = VITSSynthesizer.load(result.folder)
    assert trained.config.num_speakers == 2 and trained.speakers == ("a", "b")
    assert len(trained.speak("one word.", speaker="b").audio)


@pytest.mark.slow
@pytest.mark.usefixtures("one_device_of_experiments")
def test_many_voices_from_files_to_speech(tones, tmp_path, capsys):
    folder = tmp_path / "encoder"
    ENCODER_FAMILY.save_network(folder, build(ENCODER, key=jax.random.key(0)), ENCODER)
    given = yourtts_vctk.default_experiment("tiny")
    experiment = small(given, MODEL, tones, tmp_path / "run", speaker_encoder=folder, unseen=("b",))
    experiment = replace(experiment, balance=("language", "speaker"))
    result = yourtts_vctk.run(experiment)
    assert result.step == 3 and "more tokens than frames: 1" in capsys.readouterr().out
    assert yourtts_vctk.last_speaker(result, experiment) == "b"
    model = VITSSynthesizer.load(result.folder)
    assert set(model.speakers) == {"a", "b"}
    assert len(model.speak("one word.", speaker="b", language="en").audio)
    # Another encoder has other vectors.
    ENCODER_FAMILY.save_network(tmp_path / "other", build(ENCODER, key=jax.random.key(1)), ENCODER)
    stored = replace(experiment.training, encoder_identity="0" * 64)
    with pytest.raises(ConfigError, match="with whose vectors the run was trained"):
        yourtts_vctk.run(replace(experiment, training=stored, run_dir=tmp_path / "new"))
